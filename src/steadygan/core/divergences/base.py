r"""f-divergences as data: the function f, its dual f*, the activation g, the regularizer's weight.

Every row satisfies :math:`f^{*\prime\prime}(f'(r)) = 1/f''(r)` and :math:`w(v) = g'(v)^2
f^{*\prime\prime}(g(v))`; the tests hold each against the numeric supremum :math:`f^*(t) = \sup_u ut
- f(u)` and against automatic differentiation. Raw outputs v are what networks return; nothing is
ever differentiated after the activation.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..errors import SteadyganError
from ..registry import base


@base("divergence")
class Divergence:
    """An f-divergence D_f(P||Q) = E_Q[f(p/q)].

    u = p/q is the density ratio, t the dual variable, v a raw network output. coupling, curvature:
    g'(0) and (f* g)''(0), for the closed forms; None where they are not declared.
    """

    coupling: ClassVar[float | None] = None
    curvature: ClassVar[float | None] = None

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

    def root(self, v: Tensor) -> Tensor:
        """Return the square root of the weight, in closed form: its derivatives stay finite."""
        raise SteadyganError(
            f"{type(self).__name__} declares no root, the square root of its weight, which critics"
            " of many logits need: add root(v), or penalize the mean logit of each output,"
            " outputs='mean'"
        )
