"""f-divergences whose dual, activation and weight are elementary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..registry import register
from .base import Divergence


@register("divergence", "kl")
@dataclass(frozen=True)
class KullbackLeibler(Divergence):
    """Kullback-Leibler: f(u) = u log u, f*(t) = exp(t - 1), g(v) = v + 1, w(v) = exp(v).

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "kl").weight(torch.zeros(1))
    tensor([1.])
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[float] = 1.0

    def f(self, u: Tensor) -> Tensor:
        """Return u log u."""
        return u * u.log()

    def slope(self, u: Tensor) -> Tensor:
        """Return 1 + log u."""
        return 1 + u.log()

    def conjugate(self, t: Tensor) -> Tensor:
        """Return exp(t - 1)."""
        return (t - 1).exp()

    def activation(self, v: Tensor) -> Tensor:
        """Return v + 1, so that a raw output of 0 is optimal where p = q."""
        return v + 1

    def weight(self, v: Tensor) -> Tensor:
        """Return exp(v)."""
        return v.exp()

    def root(self, v: Tensor) -> Tensor:
        """Return exp(v/2)."""
        return (v / 2).exp()


@register("divergence", "reverse-kl")
@dataclass(frozen=True)
class ReverseKullbackLeibler(Divergence):
    """Reverse KL: f(u) = -log u, f*(t) = -1 - log(-t) for t < 0, g(v) = -exp(-v), w(v) = 1.

    Its regularizer is exactly R2.

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "reverse-kl").weight(torch.zeros(1))
    tensor([1.])
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[float] = 0.0

    def f(self, u: Tensor) -> Tensor:
        """Return -log u."""
        return -u.log()

    def slope(self, u: Tensor) -> Tensor:
        """Return -1/u."""
        return -1 / u

    def conjugate(self, t: Tensor) -> Tensor:
        """Return -1 - log(-t), t < 0."""
        return -1 - (-t).log()

    def activation(self, v: Tensor) -> Tensor:
        """Return -exp(-v)."""
        return -(-v).exp()

    def fake_score(self, v: Tensor) -> Tensor:
        """Return v - 1."""
        return v - 1

    def weight(self, v: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(v)

    def root(self, v: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(v)


@register("divergence", "pearson")
@dataclass(frozen=True)
class Pearson(Divergence):
    """Pearson chi-squared: f(u) = (u - 1)^2, f*(t) = t^2/4 + t, g(v) = v, w(v) = 1/2.

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "pearson").weight(torch.zeros(1))
    tensor([0.5000])
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[float] = 1 / 2

    def f(self, u: Tensor) -> Tensor:
        """Return (u - 1)^2."""
        return (u - 1).square()

    def slope(self, u: Tensor) -> Tensor:
        """Return 2(u - 1)."""
        return 2 * (u - 1)

    def conjugate(self, t: Tensor) -> Tensor:
        """Return t^2/4 + t.

        The supremum over u >= 0 is reached for t >= -2; the parabola continues it.
        """
        return t.square() / 4 + t

    def weight(self, v: Tensor) -> Tensor:
        """Return 1/2."""
        return torch.full_like(v, 0.5)

    def root(self, v: Tensor) -> Tensor:
        """Return sqrt(1/2)."""
        return torch.full_like(v, math.sqrt(0.5))


@register("divergence", "neyman")
@dataclass(frozen=True)
class Neyman(Divergence):
    """Neyman chi-squared: f(u) = (1 - u)^2/u, f*(t) = 2 - 2 sqrt(1 - t), t < 1, w(v) = exp(-v/2)/2.

    g(v) = 1 - exp(-v).

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "neyman").weight(torch.zeros(1))
    tensor([0.5000])
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[float] = -1 / 2

    def f(self, u: Tensor) -> Tensor:
        """Return (1 - u)^2 / u."""
        return (1 - u).square() / u

    def slope(self, u: Tensor) -> Tensor:
        """Return 1 - 1/u^2."""
        return 1 - u.pow(-2)

    def conjugate(self, t: Tensor) -> Tensor:
        """Return 2 - 2 sqrt(1 - t), t < 1."""
        return 2 - 2 * (1 - t).sqrt()

    def activation(self, v: Tensor) -> Tensor:
        """Return 1 - exp(-v)."""
        return -torch.expm1(-v)

    def fake_score(self, v: Tensor) -> Tensor:
        """Return 2 - 2 exp(-v/2)."""
        return -2 * torch.expm1(-v / 2)

    def weight(self, v: Tensor) -> Tensor:
        """Return exp(-v/2)/2."""
        return (-v / 2).exp() / 2

    def root(self, v: Tensor) -> Tensor:
        """Return exp(-v/4)/sqrt(2)."""
        return (-v / 4).exp() * math.sqrt(0.5)


@register("divergence", "squared-hellinger")
@dataclass(frozen=True)
class SquaredHellinger(Divergence):
    """Squared Hellinger: f(u) = (sqrt(u) - 1)^2, f*(t) = t/(1 - t) for t < 1, w(v) = 2 exp(v).

    g(v) = 1 - exp(-v).

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "squared-hellinger").weight(torch.zeros(1))
    tensor([2.])
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[float] = 1.0

    def f(self, u: Tensor) -> Tensor:
        """Return (sqrt(u) - 1)^2."""
        return (u.sqrt() - 1).square()

    def slope(self, u: Tensor) -> Tensor:
        """Return 1 - 1/sqrt(u)."""
        return 1 - u.rsqrt()

    def conjugate(self, t: Tensor) -> Tensor:
        """Return t/(1 - t), t < 1."""
        return t / (1 - t)

    def activation(self, v: Tensor) -> Tensor:
        """Return 1 - exp(-v)."""
        return -torch.expm1(-v)

    def fake_score(self, v: Tensor) -> Tensor:
        """Return exp(v) - 1."""
        return torch.expm1(v)

    def weight(self, v: Tensor) -> Tensor:
        """Return 2 exp(v)."""
        return 2 * v.exp()

    def root(self, v: Tensor) -> Tensor:
        """Return sqrt(2) exp(v/2)."""
        return math.sqrt(2) * (v / 2).exp()


@register("divergence", "js")
@dataclass(frozen=True)
class JensenShannonDivergence(Divergence):
    """Jensen-Shannon, twice the JSD: f(u) = u log u - (u + 1) log((1 + u)/2), w(v) = sigmoid(v).

    f*(t) = -log(2 - exp(t)) for t < log 2.

    g(v) = log 2 - log(1 + exp(-v)).

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "js").weight(torch.zeros(1))
    tensor([0.5000])
    """

    coupling: ClassVar[float] = 1 / 2
    curvature: ClassVar[float] = 1 / 4

    def f(self, u: Tensor) -> Tensor:
        """Return u log u - (u + 1) log((1 + u)/2)."""
        return u * u.log() - (u + 1) * ((1 + u) / 2).log()

    def slope(self, u: Tensor) -> Tensor:
        """Return log(2u / (1 + u))."""
        return (2 * u / (1 + u)).log()

    def conjugate(self, t: Tensor) -> Tensor:
        """Return -log(2 - exp(t)), t < log 2."""
        return -(2 - t.exp()).log()

    def activation(self, v: Tensor) -> Tensor:
        """Return log 2 - log(1 + exp(-v))."""
        return math.log(2) - F.softplus(-v)

    def fake_score(self, v: Tensor) -> Tensor:
        """Return log(1 + exp(v)) - log 2."""
        return F.softplus(v) - math.log(2)

    def weight(self, v: Tensor) -> Tensor:
        """Return sigmoid(v)."""
        return v.sigmoid()

    def root(self, v: Tensor) -> Tensor:
        """Return sqrt(sigmoid(v))."""
        return (F.logsigmoid(v) / 2).exp()


@register("divergence", "gan")
@dataclass(frozen=True)
class GAN(Divergence):
    """The original GAN's: f(u) = u log u - (u + 1) log(u + 1), w(v) = sigmoid(v).

    f*(t) = -log(1 - exp(t)) for t < 0.

    g(v) = -log(1 + exp(-v)); f(1) = -2 log 2, so it is the Jensen-Shannon divergence up to a
    constant.

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "gan").weight(torch.zeros(1))
    tensor([0.5000])
    """

    coupling: ClassVar[float] = 1 / 2
    curvature: ClassVar[float] = 1 / 4

    def f(self, u: Tensor) -> Tensor:
        """Return u log u - (u + 1) log(u + 1)."""
        return u * u.log() - (u + 1) * (u + 1).log()

    def slope(self, u: Tensor) -> Tensor:
        """Return log(u / (1 + u))."""
        return (u / (1 + u)).log()

    def conjugate(self, t: Tensor) -> Tensor:
        """Return -log(1 - exp(t)), t < 0."""
        return -(-torch.expm1(t)).log()

    def activation(self, v: Tensor) -> Tensor:
        """Return -log(1 + exp(-v))."""
        return -F.softplus(-v)

    def fake_score(self, v: Tensor) -> Tensor:
        """Return log(1 + exp(v))."""
        return F.softplus(v)

    def weight(self, v: Tensor) -> Tensor:
        """Return sigmoid(v)."""
        return v.sigmoid()

    def root(self, v: Tensor) -> Tensor:
        """Return sqrt(sigmoid(v))."""
        return (F.logsigmoid(v) / 2).exp()
