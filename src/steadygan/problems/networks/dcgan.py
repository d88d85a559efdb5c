"""Convolutional networks that double the resolution stage by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from ...core.errors import SteadyganError
from ...core.registry import register
from . import blocks
from .blocks import Activation, Critic, CriticNorm, Generator, Norm


@register("network", "dcgan")
@dataclass(frozen=True)
class DCGAN:
    """5x5 convolutions of stride 2 between 4x4 maps and images, ``width`` channels at the finest.

    Sides are 8 to 256 and may differ (``pyramid`` in blocks.py says which); channels double at
    every halving up to 16·width. With w = width, at side 64 G: (B, latent) -> linear to 4·4·8w,
    transposed convolutions 8w-4w-2w-w-C, tanh -> (B, C, 64, 64) in [-1, 1], ``norm`` on all but
    the output; D: convolutions w-2w-4w-8w, linear -> (B,) logits, ``critic_norm`` on all but the
    first. Where batch or layer normalisation sets the scale, weights start as N(0, 0.02²) and the
    scales of the norms as N(1, 0.02²); where nothing does (none, spectral) weights start as N(0,
    g²/fan_in), He's rule for the activation, because under 0.02 (which Roth et al.'s code keeps
    there) the signal of narrow networks fades. ``weight_std`` sets the standard deviation of all
    weights instead. ``dcgan:norm=none,critic_norm=none`` has no normalisation,
    ``dcgan:activation=tanh,critic_activation=tanh`` is the tanh variant.

    Raises:
        SteadyganError: for width < 1 and images that doubled maps do not reach.

    >>> import torch
    >>> network = DCGAN(width=8)
    >>> G, D = network.generator((3, 32, 32), latent=16), network.critic((3, 32, 32))
    >>> D(G(torch.randn(5, 16))).shape
    torch.Size([5])

    Reference: Radford et al. 2016; the 64x64 experiments of Roth et al. 2017.
    """

    width: int = 64
    activation: Activation = "relu"
    critic_activation: Activation = "leaky-relu"
    norm: Norm = "batch"
    critic_norm: CriticNorm = "batch"
    weight_std: float | None = None

    def __post_init__(self) -> None:
        blocks.check_choices(self)
        blocks.check_count("width", self.width, 1)
        if self.weight_std is not None and not (
            math.isfinite(self.weight_std) and self.weight_std > 0
        ):
            raise SteadyganError(f"weight_std must be a finite number > 0, not {self.weight_std}")

    def generator(self, event: tuple[int, ...], latent: int, classes: int = 0) -> nn.Module:
        """Return G: (B, latent) -> (B, *event) in [-1, 1]; with classes, called as G(z, y)."""
        channels, (_, height, width) = self._channels(event)[::-1], blocks.pyramid(event)
        size, bias = blocks.latent_size(latent, classes), self.norm != "batch"
        layers: list[nn.Module] = [
            nn.Linear(size, channels[0] * height * width, bias=bias),
            nn.Unflatten(1, (channels[0], height, width)),
        ]
        for before, after in pairwise(channels):
            layers += [*_after(self.norm, before, self.activation), _up(before, after, bias)]
        layers += [
            *_after(self.norm, channels[-1], self.activation),
            _up(channels[-1], event[0], True),
            nn.Tanh(),
        ]
        generator = Generator(nn.Sequential(*layers), latent, classes)
        _initialise(generator, self.activation, self.weight_std)
        return generator

    def critic(self, event: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return D: (B, *event) -> (B,) logits; with classes, called as D(x, y)."""
        channels, (_, height, width) = self._channels(event), blocks.pyramid(event)
        blocks.check_count("classes", classes, 0)
        layers: list[nn.Module] = [
            _down(event[0], channels[0], True),
            blocks.activation(self.critic_activation),
        ]
        for before, after in pairwise(channels):
            layers += [
                _down(before, after, self.critic_norm != "batch"),
                *_after(self.critic_norm, after, self.critic_activation),
            ]
        size = channels[-1] * height * width
        critic = Critic(nn.Sequential(*layers, nn.Flatten()), size, event, classes)
        _initialise(critic, self.critic_activation, self.weight_std)
        return blocks.spectral(critic) if self.critic_norm == "spectral" else critic

    def _channels(self, event: tuple[int, ...]) -> list[int]:
        return [self.width * min(2**stage, 16) for stage in range(blocks.pyramid(event).stages)]


def _after(norm: CriticNorm, channels: int, activation: Activation) -> list[nn.Module]:
    return [*blocks.map_norm(norm, channels), blocks.activation(activation)]


# Batch normalisation subtracts the mean, and a bias with it: before one, ``bias`` is off.
def _up(before: int, after: int, bias: bool) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 5, stride=2, padding=2, output_padding=1, bias=bias)


def _down(before: int, after: int, bias: bool) -> nn.Module:
    return nn.Conv2d(before, after, 5, stride=2, padding=2, bias=bias)


def _initialise(module: nn.Module, activation: Activation, std: float | None) -> None:
    if std is not None:
        blocks.dcgan_init(module, std)
    # Asked of the module, not of the setting: at side 8 the critic's only convolution is the first,
    # which is never normalised.
    elif any(isinstance(layer, nn.BatchNorm2d | nn.GroupNorm) for layer in module.modules()):
        blocks.dcgan_init(module)
    else:
        blocks.scaled_init(module, activation)


__all__ = ["DCGAN"]
