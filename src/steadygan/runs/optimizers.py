"""Optimizers of torch, by spec."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import torch
from torch import nn

from ..core.errors import SteadyganError
from ..core.registry import base, register
from ..core.schedules import Schedule, ends

Number = float | Schedule


@base("optimizer")
class OptimizerSpec:
    """Base of every optimizer's settings.

    Calling one makes the ``torch.optim`` optimizer over parameters. Settings that are spelled
    START..END change while training (``Config.optimizers`` has them at a step); called as they are
    they are taken where they start.
    """

    lr: Number

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            for value in ends(getattr(self, field.name)):
                if not (math.isfinite(value) and value >= 0):
                    raise SteadyganError(
                        f"{field.name} must be a finite number >= 0, not {value:g}"
                    )
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

    lr: Number = 2e-4
    beta1: Number = 0.5
    beta2: Number = 0.999
    eps: float = 1e-8
    fused: bool = False

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's Adam."""
        return torch.optim.Adam(
            parameters,
            ends(self.lr)[0],
            (ends(self.beta1)[0], ends(self.beta2)[0]),
            self.eps,
            fused=self.fused,
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

    lr: Number = 0.01
    momentum: Number = 0.0

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's SGD."""
        return torch.optim.SGD(parameters, ends(self.lr)[0], ends(self.momentum)[0])


@register("optimizer", "rmsprop")
@dataclass(frozen=True)
class RMSProp(OptimizerSpec):
    """RMSProp: lr, alpha (decay of the squared average), eps. Reference: Tieleman and Hinton 2012.

    >>> build("optimizer", "rmsprop:lr=0.0001").alpha
    0.99
    """

    lr: Number = 1e-4
    alpha: Number = 0.99
    eps: float = 1e-8

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's RMSprop."""
        return torch.optim.RMSprop(parameters, ends(self.lr)[0], ends(self.alpha)[0], self.eps)
