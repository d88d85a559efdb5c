r"""Activations as curves with their first and second derivative, for chains (chain.py).

A curve is applied elementwise to what a linear layer returns. What chains ask of it are the two
products that autograd would form, each in as few passes over memory as there is a kernel for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

aten = torch.ops.aten
_MINUS_ONE = torch.tensor(-1.0)


@dataclass(frozen=True)
class Curve:
    r"""An activation :math:`h = \varphi(a)`; this one is the identity.

    straight: whether the second derivative is 0 wherever there is one. of_value: whether h alone
    says what the derivatives are, so that a need not be kept. gain: what ``value`` takes a times.
    """

    straight: ClassVar[bool] = True
    of_value: ClassVar[bool] = True
    gain: ClassVar[float] = 1.0

    def value(self, a: Tensor) -> Tensor:
        """Return h, of gain times a; where ``of_value`` holds it may take the memory of a."""
        return a

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        r"""Return :math:`\varphi'(a) g`, from h instead of a where ``of_value`` holds.

        In the memory of g, unless it is to be kept.
        """
        return g

    def second(self, q: Tensor, r: Tensor, a: Tensor) -> Tensor:
        r"""Return :math:`\varphi'(a) q + \varphi''(a) r`; q and r are overwritten."""
        return self.first(q, a)


def _pulled(backward: Any, g: Tensor, keep: bool, *rest: Any, **settings: Any) -> Tensor:
    """Return what torch's own backward of an activation makes of g."""
    if keep:
        return backward(g, *rest, **settings)  # type: ignore[no-any-return]
    return backward.grad_input(g, *rest, **settings, grad_input=g)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Leaky(Curve):
    """max(a, slope a), 0 <= slope: ReLU with slope 0."""

    slope: float = 0.0

    def value(self, a: Tensor) -> Tensor:
        """Return h."""
        return F.leaky_relu_(a, self.slope) if self.slope else a.relu_()

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return the masked g."""
        if not self.slope:
            return _pulled(aten.threshold_backward, g, keep, a, 0)
        return _pulled(aten.leaky_relu_backward, g, keep, a, self.slope, True)


@dataclass(frozen=True)
class Clipped(Curve):
    """a between two bounds, as hardtanh and ReLU6 have it."""

    low: float
    high: float

    def value(self, a: Tensor) -> Tensor:
        """Return h."""
        return a.clamp_(self.low, self.high)

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return g between the bounds, 0 at and beyond them."""
        return _pulled(aten.hardtanh_backward, g, keep, a, self.low, self.high)


@dataclass(frozen=True)
class Tanh(Curve):
    r"""h' = 1 - h², h'' = -2 h h'."""

    straight = False
    gain = 2.0

    def value(self, a: Tensor) -> Tensor:
        r"""Return :math:`2 \sigma(2a) - 1`: four times as fast as tanh, and 2e-7 from it."""
        return torch.add(_MINUS_ONE, a.sigmoid_(), alpha=2, out=a)

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return (1 - h²) g."""
        return _pulled(aten.tanh_backward, g, keep, a)

    def second(self, q: Tensor, r: Tensor, a: Tensor) -> Tensor:
        """Return (1 - h²)(q - 2 h r)."""
        return self.first(q.addcmul_(a, r, value=-2), a)


@dataclass(frozen=True)
class Sigmoid(Curve):
    r"""h' = h (1 - h), h'' = h' (1 - 2h)."""

    straight = False

    def value(self, a: Tensor) -> Tensor:
        """Return h."""
        return a.sigmoid_()

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return h (1 - h) g."""
        return _pulled(aten.sigmoid_backward, g, keep, a)

    def second(self, q: Tensor, r: Tensor, a: Tensor) -> Tensor:
        """Return h (1 - h)(q + (1 - 2h) r)."""
        return self.first(q.add_(r).addcmul_(a, r, value=-2), a)


@dataclass(frozen=True)
class Softplus(Curve):
    r"""log(1 + exp(βa))/β, straight above a threshold; h' = σ(βa), h'' = β σ(βa)(1 - σ(βa))."""

    straight = False
    of_value = False
    beta: float = 1.0
    threshold: float = 20.0

    def value(self, a: Tensor) -> Tensor:
        """Return h."""
        return F.softplus(a, self.beta, self.threshold)

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return σ(βa) g."""
        return _pulled(aten.softplus_backward, g, keep, a, self.beta, self.threshold)

    def second(self, q: Tensor, r: Tensor, a: Tensor) -> Tensor:
        """Return σ q + β σ (1 - σ) r."""
        falls = torch.where(self.beta * a > self.threshold, 0.0, (-self.beta * a).sigmoid_())
        return self.first(q.addcmul_(falls, r, value=self.beta), a)


@dataclass(frozen=True)
class SiLU(Curve):
    r"""a σ(a); h'' = s (2 + a (1 - 2 σ)), s = σ (1 - σ)."""

    straight = False
    of_value = False

    def value(self, a: Tensor) -> Tensor:
        """Return h."""
        return F.silu(a)

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return h' g."""
        return _pulled(aten.silu_backward, g, keep, a)

    def second(self, q: Tensor, r: Tensor, a: Tensor) -> Tensor:
        """Return h' q + h'' r."""
        s = a.sigmoid()
        bend = torch.addcmul(a + 2, a, s, value=-2)
        return self.first(q, a).addcmul_(aten.sigmoid_backward(r, s), bend)


@dataclass(frozen=True)
class GELU(Curve):
    r"""a Φ(a); h'' = (2 - a²) φ(a) for the exact one, φ the normal density."""

    straight = False
    of_value = False
    approximate: str = "none"

    def value(self, a: Tensor) -> Tensor:
        """Return h."""
        return F.gelu(a, approximate=self.approximate)

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return h' g."""
        return _pulled(aten.gelu_backward, g, keep, a, approximate=self.approximate)

    def second(self, q: Tensor, r: Tensor, a: Tensor) -> Tensor:
        """Return h' q + h'' r."""
        square = a.square()
        if self.approximate == "none":
            bend = (2 - square) * (square / -2).exp_() / math.sqrt(2 * math.pi)
        else:
            # h = a (1 + tanh u)/2, u = c (a + k a³)
            c, k = math.sqrt(2 / math.pi), 0.044715
            t = (c * a * (1 + k * square)).tanh_()
            steep = c * (1 + 3 * k * square)
            bend = (1 - t * t) * (steep - a * t * steep.square() + 3 * c * k * square)
        return self.first(q, a).addcmul_(bend, r)


@dataclass(frozen=True)
class ELU(Curve):
    r"""a above 0, α (exp(a) - 1) below it; there h' = h'' = h + α."""

    straight = False
    alpha: float = 1.0

    def value(self, a: Tensor) -> Tensor:
        """Return h."""
        return F.elu_(a, self.alpha)

    def first(self, g: Tensor, a: Tensor, keep: bool = False) -> Tensor:
        """Return h' g."""
        return _pulled(aten.elu_backward, g, keep, self.alpha, 1, 1, True, a)

    def second(self, q: Tensor, r: Tensor, a: Tensor) -> Tensor:
        """Return h' q, and below 0 h' r as well."""
        return self.first(q.add_(r.masked_fill_(a > 0, 0)), a)


STRAIGHT = Curve()
CURVES: dict[type[nn.Module], Callable[[Any], Curve | None]] = {
    nn.ReLU: lambda m: Leaky(),
    nn.LeakyReLU: lambda m: Leaky(m.negative_slope) if m.negative_slope >= 0 else None,
    nn.ReLU6: lambda m: Clipped(m.min_val, m.max_val),
    nn.Hardtanh: lambda m: Clipped(m.min_val, m.max_val),
    nn.Tanh: lambda m: Tanh(),
    nn.Sigmoid: lambda m: Sigmoid(),
    nn.Softplus: lambda m: Softplus(m.beta, m.threshold),
    nn.SiLU: lambda m: SiLU(),
    nn.GELU: lambda m: GELU(m.approximate),
    nn.ELU: lambda m: ELU(m.alpha) if m.alpha >= 0 else None,
}
"""The curve of an activation layer, by its type; None for settings that have none."""
