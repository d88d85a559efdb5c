"""Moving averages of a generator: how quickly they follow, and the average itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.errors import SteadyganError
from ..core.registry import base, build, register, spec
from ..core.schedules import Schedule, ends
from .profiles import exponent

if TYPE_CHECKING:
    from .config import Config


@base("ema")
class EMA:
    """Base of every rule, a <- a + w (m - a) after each step, m the parameters, w the share."""

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The profiles of power functions that are kept, by sigma_rel; empty for one other."""
        return ()

    def shares(self, step: int, batch: int, progress: float = 0.0) -> tuple[float, ...]:
        """Return w of each average after step number ``step`` >= 1, of ``batch`` images.

        ``progress`` in [0, 1] is where schedules are taken.
        """
        raise NotImplementedError


@register("ema", "decay")
@dataclass(frozen=True)
class Decay(EMA):
    """w = 1 - min(decay, (1 + t)/(10 + t)) at step t; a number stands for it, 0 for no average.

    The young average follows quickly, so that it does not drag its random start along.

    >>> build("ema", "decay:decay=0.999").shares(10**6, 64)[0] - 0.001 < 1e-15
    True

    Reference: Tarvainen and Valpola 2017; the warm-up is TensorFlow's ``num_updates``.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise SteadyganError(
                f"ema is the decay of a moving average, in [0, 1), not {self.decay:g}."
            )

    def shares(self, step: int, batch: int, progress: float = 0.0) -> tuple[float, ...]:
        """Return w after a step."""
        return (1 - min(self.decay, (1 + step) / (10 + step)),)


@register("ema", "halflife")
@dataclass(frozen=True)
class HalfLife(EMA):
    """w = 1 - 2^(-B/h) for batches of B: after h = ``images`` images an old value counts a half.

    With ``ramp`` h is at most that share of the images seen so far, as StyleGAN's warm-up;
    ``images=0..5e6`` lets h itself grow (``train --ramp``).

    >>> build("ema", "halflife:images=10000").shares(1, 10000)
    (0.5,)

    Reference: Karras et al. 2020 (StyleGAN2; ``ema_kimg``, ``ema_rampup`` of the authors' code).
    """

    images: float | Schedule = 10_000
    ramp: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("images", ends(self.images)[-1]), ("ramp", self.ramp)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise SteadyganError(f"{name} must be a finite number above 0, not {value:g}")

    def shares(self, step: int, batch: int, progress: float = 0.0) -> tuple[float, ...]:
        """Return w after a step; 1 where h is 0."""
        h = self.images(progress) if isinstance(self.images, Schedule) else self.images
        h = h if self.ramp is None else min(h, self.ramp * step * batch)
        return (1 - 0.5 ** (batch / h) if h else 1.0,)


@register("ema", "power")
@dataclass(frozen=True)
class Power(EMA):
    r"""Power functions, (s/t)^g of the age of training, one for each ``sigma``, joined by '/'.

    w = 1 - (1 - 1/t)^(g+1) at step t. sigma is the standard deviation of the weights in units of
    the training's length, sigma^2 = (g+1)/((g+2)^2 (g+3)). Each checkpoint leaves a snapshot, and
    from two profiles any other is made afterwards, ``steadygan sample --ema sigma=0.15``.

    >>> build("ema", "power:sigma=0.05/0.1").shares(1, 64)
    (1.0, 1.0)

    Reference: Karras et al. 2024, Analyzing and Improving the Training Dynamics of Diffusion
    Models, section 3.
    """

    sigma: tuple[float, ...] = (0.05, 0.1)

    def __post_init__(self) -> None:
        for sigma in self.sigma:
            exponent(sigma)
        if not self.sigma or len({*self.sigma}) < len(self.sigma):
            raise SteadyganError("sigma are different numbers, joined by '/', such as 0.05/0.1")

    @property
    def sigmas(self) -> tuple[float, ...]:
        """The profiles that are kept."""
        return self.sigma

    def shares(self, step: int, batch: int, progress: float = 0.0) -> tuple[float, ...]:
        """Return w after a step."""
        return tuple(1 - (1 - 1 / step) ** (exponent(sigma) + 1) for sigma in self.sigma)


def canonical(given: float | str) -> float | str:
    """Return how an average is written down: the decay as a number, all others as a spec.

    >>> canonical("0.999"), canonical("halflife:images=5e3")
    (0.999, 'halflife:images=5000')
    """
    try:
        return float(given)
    except ValueError:
        rule = build("ema", given)
    return rule.decay if isinstance(rule, Decay) else spec(rule)


class Average:
    """The moving averages of a module's parameters and buffers, one for each profile of a rule.

    Attributes:
        module: The first, which is sampled.
        rule: How quickly they follow.
    """

    def __init__(self, module: nn.Module, rule: EMA, batch: int = 1, steps: int = 1) -> None:
        self.rule, self._batch, self._steps = rule, batch, steps
        self._modules = [
            copy.deepcopy(module).requires_grad_(False) for _ in range(max(1, len(rule.sigmas)))
        ]

    @classmethod
    def of(cls, module: nn.Module, config: Config) -> Average | None:
        """Return those that a resolved configuration asks for, None where there is none.

        Args:
            module: The generator.
            config: Of its run.
        """
        if not config.ema:
            return None
        rule = Decay(config.ema) if isinstance(config.ema, float | int) else config.ema
        ramped = config.ramped(build("ema", rule))
        return cls(module, ramped, config.batch or 1, config.steps or 1)

    @property
    def module(self) -> nn.Module:
        """The average that is sampled."""
        return self._modules[0]

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards a module after its step number ``step``; integer buffers are copied."""
        theirs = module.state_dict().values()
        shares = self.rule.shares(step, self._batch, (step - 1) / self._steps)
        for average, share in zip(self._modules, shares, strict=True):
            for mine, their in zip(average.state_dict().values(), theirs, strict=True):
                if mine.is_floating_point():
                    mine.lerp_(their, share)
                else:
                    mine.copy_(their)

    def begin(self, module: nn.Module) -> None:
        """Start from a module."""
        for average in self._modules:
            average.load_state_dict(module.state_dict())

    def more(self) -> dict[str, dict[str, Tensor]]:
        """Return the state of every average but the first, by its place; for a checkpoint."""
        return {str(k): each.state_dict() for k, each in enumerate(self._modules) if k}

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Continue from a checkpoint's 'ema' and 'averages'."""
        states = [tree["ema"], *tree.get("averages", {}).values()]
        for average, state in zip(self._modules, states, strict=True):
            average.load_state_dict(state)

    def snapshot(self, step: int) -> dict[str, Any] | None:
        """Return what any profile can be made of afterwards, None for rules without."""
        if not self.rule.sigmas or not step:
            return None
        states = {str(k): each.state_dict() for k, each in enumerate(self._modules)}
        return {"step": step, "sigma": list(self.rule.sigmas), "states": states}


__all__ = ["EMA", "Average", "Decay", "HalfLife", "Power", "canonical"]
