"""f-divergences whose dual takes numerics: the Lambert function, a guarded domain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SteadyganError
from ..registry import register
from .base import Divergence


@register("divergence", "jeffrey")
@dataclass(frozen=True)
class Jeffrey(Divergence):
    """Jeffrey: f(u) = (u - 1) log u, f*(t) = W + 1/W + t - 2, g(v) = v, w(v) = 1/(W(1 + W)).

    W = LambertW(exp(1 - t)).

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "jeffrey").weight(torch.zeros(1))
    tensor([0.5000])
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[float] = 1 / 2

    def f(self, u: Tensor) -> Tensor:
        """Return (u - 1) log u."""
        return (u - 1) * u.log()

    def slope(self, u: Tensor) -> Tensor:
        """Return log u + 1 - 1/u."""
        return u.log() + 1 - 1 / u

    def conjugate(self, t: Tensor) -> Tensor:
        """Return W + 1/W + t - 2, W = LambertW(exp(1 - t))."""
        log_w = log_lambert(1 - t)
        return log_w.exp() + (-log_w).exp() + t - 2

    def weight(self, v: Tensor) -> Tensor:
        """Return 1/(W(1 + W))."""
        log_w = log_lambert(1 - v)
        return (-log_w - F.softplus(log_w)).exp()

    def root(self, v: Tensor) -> Tensor:
        """Return 1/sqrt(W(1 + W))."""
        log_w = log_lambert(1 - v)
        return (-(log_w + F.softplus(log_w)) / 2).exp()


@register("divergence", "alpha")
@dataclass(frozen=True)
class Alpha(Divergence):
    """Alpha: f(u) = (u^a - 1 - a(u - 1))/(a(a - 1)), g(v) = v, w(v) = r^(2 - a).

    f*(t) = (1 + t(a - 1))^(a/(a - 1))/a - 1/a.

    a is any number but 0 and 1. Outside density ratios r of 1e-4 to 1e4, f* continues as its
    tangent.

    u is a density ratio and v a raw output, both without unit. Reference: Cichocki and Amari 2010;
    Roth et al. 2017, Eq. 19.

    >>> build("divergence", "alpha").weight(torch.zeros(1))
    tensor([1.])
    """

    coupling: ClassVar[float] = 1.0
    curvature: ClassVar[float] = 1.0

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not math.isfinite(self.alpha) or self.alpha in (0.0, 1.0):
            raise SteadyganError(
                "alpha is any finite number but 0 and 1 (those limits are reverse-kl and kl),"
                f" not {self.alpha:g}"
            )

    def f(self, u: Tensor) -> Tensor:
        """Return (u^a - 1 - a(u - 1)) / (a(a - 1))."""
        a = self.alpha
        return (u.pow(a) - 1 - a * (u - 1)) / (a * (a - 1))

    def slope(self, u: Tensor) -> Tensor:
        """Return (u^(a - 1) - 1)/(a - 1)."""
        return (u.pow(self.alpha - 1) - 1) / (self.alpha - 1)

    def conjugate(self, t: Tensor) -> Tensor:
        """Return (1 + t(a - 1))^(a/(a - 1))/a - 1/a, and its tangent outside the guarded ratios."""
        a, ratio = self.alpha, self._ratio(t)
        return (ratio.pow(a) - 1) / a + ratio * (t - self.slope(ratio))

    def weight(self, v: Tensor) -> Tensor:
        """Return r^(2 - a), r the density ratio whose optimal output is v."""
        return self._ratio(v).pow(2 - self.alpha)

    def root(self, v: Tensor) -> Tensor:
        """Return r^(1 - a/2)."""
        return self._ratio(v).pow(1 - self.alpha / 2)

    def _ratio(self, t: Tensor) -> Tensor:
        a = self.alpha
        low, high = sorted((_RATIO_GUARD ** (a - 1), _RATIO_GUARD ** (1 - a)))
        return (1 + t * (a - 1)).clamp(low, high).pow(1 / (a - 1))


# A critic in training can leave the domain of f*; beyond these density ratios the tangent keeps its
# gradient finite and pointing back.
_RATIO_GUARD = 1e4


def log_lambert(y: Tensor) -> Tensor:
    """Return x = log W(exp(y)), the root of exp(x) + x = y; three times differentiable.

    >>> x = log_lambert(torch.tensor([-800.0, 1.0, 800.0]))
    >>> torch.allclose(x.exp() + x, torch.tensor([-800.0, 1.0, 800.0]))
    True
    """
    fixed = y.detach()
    x = torch.where(fixed > 1, fixed.clamp(min=1).log(), fixed)
    # In this variable the function is convex and increasing; from these starts Newton's method is
    # at rounding after 8 steps.
    for _ in range(8):
        x = x - (x.exp() + x - fixed) / (x.exp() + 1)
    # A Newton step that keeps the graph doubles the order to which derivatives are right: the
    # first, then the first three.
    for _ in range(2):
        x = x - (x.exp() + x - y) / (x.exp() + 1)
    return x
