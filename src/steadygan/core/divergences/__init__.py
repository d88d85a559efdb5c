"""f-divergences as data."""

from .base import Divergence
from .named import (
    GAN,
    JensenShannonDivergence,
    KullbackLeibler,
    Neyman,
    Pearson,
    ReverseKullbackLeibler,
    SquaredHellinger,
)
from .numeric import Alpha, Jeffrey, log_lambert

__all__ = [
    "GAN",
    "Alpha",
    "Divergence",
    "Jeffrey",
    "JensenShannonDivergence",
    "KullbackLeibler",
    "Neyman",
    "Pearson",
    "ReverseKullbackLeibler",
    "SquaredHellinger",
    "log_lambert",
]
