"""Pairs of architectures that serve every resolution: ``build("network", "dcgan:width=32")``."""

from .blocks import Critic, Generator, count_parameters
from .dcgan import DCGAN
from .mlp import MLP
from .point import Point, PointCritic, PointGenerator
from .r3gan import R3GAN
from .resnet import Residual, ResNet

__all__ = [
    "DCGAN",
    "MLP",
    "R3GAN",
    "Critic",
    "Generator",
    "Point",
    "PointCritic",
    "PointGenerator",
    "ResNet",
    "Residual",
    "count_parameters",
]
