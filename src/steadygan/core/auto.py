"""A gamma that training finds by itself: what is looked at, when it moves and how far."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from .errors import SteadyganError

if TYPE_CHECKING:
    from .objectives import Objective


@dataclass(frozen=True)
class Auto:
    r"""A gamma that training finds: it keeps the penalty's share of the critic's pull in a band.

    .. math:: s = \frac{4 \cdot \gamma/2 \cdot S}{|E D(x) - E D(G)|}

    gamma/2 S is the penalty. Both are averaged over ``INTERVAL`` updates of the critic, which make
    one look. Where s then lies outside of (``LOW``, ``HIGH``), gamma moves to where it would be in
    their middle if nothing else changed, by a factor of at most ``STEP``, within ``BOUNDS`` times
    the data's variance. Nothing here has a unit, so that gamma follows the square of the data's
    scale. A critic of small logits that is at its best under a logistic loss has s = P/(P + Q): P
    is the penalty, Q = (E D(x)^2 + E D(G)^2)/8 what the loss itself holds logits back by.

    start: the first gamma, in units of the mean variance of a component of the data. every: how
    often gamma counts where penalties are lazy.

    Reference: docs/auto-gamma.md; Karras et al. 2020 (ADA), on such a loop for augmentation.

    >>> Auto().observe({}, *torch.tensor([4.0, 1.0, 0.5]))["gamma"]
    tensor(0.4000)
    """

    start: float | Tensor = 0.1
    every: float = 1.0

    LOW: ClassVar[float] = 0.35
    HIGH: ClassVar[float] = 0.65
    STEP: ClassVar[float] = 2.0
    INTERVAL: ClassVar[int] = 50
    BOUNDS: ClassVar[tuple[float, float]] = (1e-6, 1e2)

    def __post_init__(self) -> None:
        if not isinstance(self.start, Tensor) and not (
            math.isfinite(self.start) and self.start >= 0
        ):
            raise SteadyganError(
                "start is the first gamma in units of the data's variance, a finite number >= 0,"
                f" not {self.start:g}"
            )

    def now(self, memory: Mapping[str, Tensor], unit: Tensor) -> Tensor:
        """Return gamma as it counts now, 0-d; ``unit`` is the data's variance."""
        return self.every * self._gamma(memory, unit)

    def observe(
        self, memory: Mapping[str, Tensor], unit: Tensor, size: Tensor, gap: Tensor
    ) -> dict[str, Tensor]:
        """Return what to remember after an update of the critic, all 0-d.

        Args:
            memory: what was remembered before.
            unit: the mean variance of a component of the data; the first one counts.
            size: S, twice the penalty over gamma.
            gap: the mean logit of real minus that of generated samples.

        Returns:
            'gamma', which is the next one, 'gamma.share', the s of the latest look, and what the
            next look is made of.
        """
        none = torch.zeros_like(unit)
        gamma, unit = self._gamma(memory, unit), memory.get("gamma.unit", unit)
        seen, sizes, gaps = (
            memory.get(f"gamma.{name}", none) + value
            for name, value in (("seen", torch.ones_like(unit)), ("size", size), ("gap", gap))
        )
        # Where the generator is ahead of its critic the gap is negative; its size still says how
        # much of it the penalty is.
        share = 2 * gamma * sizes / gaps.abs()
        due = seen >= self.INTERVAL
        wanted = math.sqrt(self.LOW * self.HIGH) / share
        low, high = (bound * unit for bound in self.BOUNDS)
        moved = (gamma * wanted.clamp(1 / self.STEP, self.STEP)).clamp(low, high)
        # A constant critic has a share of 0/0, which says nothing and moves nothing.
        outside = (share < self.LOW) | (share > self.HIGH)
        return {
            "gamma": torch.where(due & outside, moved, gamma),
            "gamma.unit": unit,
            "gamma.share": torch.where(due, share, memory.get("gamma.share", none)),
            "gamma.seen": torch.where(due, none, seen),
            "gamma.size": torch.where(due, none, sizes),
            "gamma.gap": torch.where(due, none, gaps),
        }

    @classmethod
    def why(cls, before: float, after: float, share: float) -> str:
        """Return in words why gamma has moved."""
        side, edge = ("above", cls.HIGH) if after < before else ("below", cls.LOW)
        return (
            f"gamma {before:.3g} -> {after:.3g}: the penalty's share of the critic's pull was"
            f" {share:.2g}, {side} {edge:g}"
        )

    def _gamma(self, memory: Mapping[str, Tensor], unit: Tensor) -> Tensor:
        return memory["gamma"] if "gamma" in memory else (self.start * unit).to(unit)


def finds_gamma(strengths: Iterable[object]) -> bool:
    """Return whether training finds one of a game's strengths."""
    return any(isinstance(value, Auto) for value in strengths)


def refuse_auto(strengths: Sequence[object], objective: Objective) -> None:
    """Refuse a game with several of them, and one whose objective gives them nothing to go by.

    Args:
        strengths: all of a game.
        objective: the game's.

    Raises:
        SteadyganError: with what to do instead.
    """
    found = [value for value in strengths if isinstance(value, Auto)]
    if len(found) > 1:
        raise SteadyganError(
            "one gamma=auto a game, because two would answer each other: give the others numbers,"
            " or take r1r2 for r1 and r2"
        )
    bend = objective.curvature if found else None
    if bend is not None and bend.critic == 0 == objective.indifferent:
        raise SteadyganError(
            "gamma=auto needs an objective that holds logits back; where it is linear in them, as"
            " wasserstein, gamma only scales the critic: give gamma a number"
        )
