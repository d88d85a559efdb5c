r"""f-divergences as data: the function f, its dual f*, the activation g, the regularizer's weight.

Every row satisfies :math:`f^{*\prime\prime}(f'(r)) = 1/f''(r)` and :math:`w(v) = g'(v)^2
f^{*\prime\prime}(g(v))`; the tests hold each against the numeric supremum :math:`f^*(t) = \sup_u ut
- f(u)` and against automatic differentiation. Raw outputs v are what networks return; nothing is
ever differentiated after the activation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import SteadyganError
from .registry import register


class Divergence:
    """An f-divergence D_f(P||Q) = E_Q[f(p/q)].

    u = p/q is the density ratio, t the dual variable, v a raw network output.
    """

    def f(self, u: Tensor) -> Tensor:
        """Return f(u) for u > 0, convex with f(1) = 0."""
        raise NotImplementedError

    def slope(self, u: Tensor) -> Tensor:
        """Return f'(u): the optimal dual variable where the density ratio is u."""
        raise NotImplementedError

    def conjugate(self, t: Tensor) -> Tensor:
        """Return the Fenchel dual f*(t) on its domain."""
        raise NotImplementedError

    def activation(self, v: Tensor) -> Tensor:
        """Return g(v): raw outputs to the domain of f*."""
        return v

    def fake_score(self, v: Tensor) -> Tensor:
        """Return f*(g(v)) in one stable expression."""
        return self.conjugate(self.activation(v))

    def weight(self, v: Tensor) -> Tensor:
        """Return g'(v)^2 f*''(g(v)), the raw output's weight in Eq. 19."""
        raise NotImplementedError


@register("divergence", "kl")
@dataclass(frozen=True)
class KullbackLeibler(Divergence):
    """Kullback-Leibler: f(u) = u log u, f*(t) = exp(t - 1), g(v) = v + 1, w(v) = exp(v).

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "kl").weight(torch.zeros(1))
    tensor([1.])
    """

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


@register("divergence", "pearson")
@dataclass(frozen=True)
class Pearson(Divergence):
    """Pearson chi-squared: f(u) = (u - 1)^2, f*(t) = t^2/4 + t, g(v) = v, w(v) = 1/2.

    u is a density ratio and v a raw output, both without unit. Reference: Nowozin et al. 2016,
    Table 1; Roth et al. 2017, Eq. 19.

    >>> build("divergence", "pearson").weight(torch.zeros(1))
    tensor([0.5000])
    """

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
