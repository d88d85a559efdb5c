"""Optimizers of torch, by spec."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import nn

from ..core.errors import SteadyganError
from ..core.registry import base, register


@base("optimizer")
class OptimizerSpec:
    """Base of every optimizer's settings.

    Calling one makes the ``torch.optim`` optimizer over parameters.
    """

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise SteadyganError(f"{field.name} must be a finite number >= 0, not {value:g}")
            if field.name in ("beta1", "beta2", "alpha", "momentum") and value >= 1:
                raise SteadyganError(f"{field.name} must be below 1, not {value:g}")

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer over these parameters."""
        raise NotImplementedError


@register("optimizer", "adam")
@dataclass(frozen=True)
class Adam(OptimizerSpec):
    """Adam: lr, beta1, beta2, eps; fused=true takes torch's fused kernel.

    >>> build("optimizer", "adam:lr=0.001,beta1=0.5").beta1
    0.5

    Reference: Kingma and Ba 2015.
    """

    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    eps: float = 1e-8
    fused: bool = False

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's Adam."""
        return torch.optim.Adam(
            parameters, self.lr, (self.beta1, self.beta2), self.eps, fused=self.fused
        )


def quick(optimizer: OptimizerSpec) -> OptimizerSpec:
    """Return an optimizer with torch's fused kernel, where it is Adam.

    That passes over the parameters once, the others a dozen times: it counts where there are very
    many, as in a fleet, and where the gradients cost as little as those of a chain.
    """
    return replace(optimizer, fused=True) if isinstance(optimizer, Adam) else optimizer


@register("optimizer", "sgd")
@dataclass(frozen=True)
class SGD(OptimizerSpec):
    """Gradient descent: lr, momentum. Reference: Robbins and Monro 1951.

    >>> build("optimizer", "sgd:lr=0.2").lr
    0.2
    """

    lr: float = 0.01
    momentum: float = 0.0

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's SGD."""
        return torch.optim.SGD(parameters, self.lr, self.momentum)


@register("optimizer", "rmsprop")
@dataclass(frozen=True)
class RMSProp(OptimizerSpec):
    """RMSProp: lr, alpha (decay of the squared average), eps. Reference: Tieleman and Hinton 2012.

    >>> build("optimizer", "rmsprop:lr=0.0001").alpha
    0.99
    """

    lr: float = 1e-4
    alpha: float = 0.99
    eps: float = 1e-8

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's RMSprop."""
        return torch.optim.RMSprop(parameters, self.lr, self.alpha, self.eps)
