"""Constraints on the critic's parameters, applied after each of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .errors import SteadyganError
from .registry import base, register


@base("constraint")
class Constraint:
    """Base of every constraint; a subclass is a registered frozen dataclass."""

    def project(self, parameter: Tensor) -> Tensor:
        """Return the nearest admissible value of one parameter tensor."""
        raise NotImplementedError


@register("constraint", "clip")
@dataclass(frozen=True)
class Clip(Constraint):
    """Weight clipping: every parameter of the critic is kept in [-c, c].

    c: in units of the parameters. Reference: Arjovsky et al. 2017, Algorithm 1.

    >>> build("constraint", "clip:c=0.01").project(torch.tensor([-1.0, 0.005]))
    tensor([-0.0100,  0.0050])
    """

    c: float = 0.01

    def __post_init__(self) -> None:
        if not (math.isfinite(self.c) and self.c > 0):
            raise SteadyganError(f"c must be a finite number > 0, not {self.c:g}")

    def project(self, parameter: Tensor) -> Tensor:
        """Return the parameter cut to [-c, c]."""
        return parameter.clamp(-self.c, self.c)
