"""Strengths that change during training: a number, a 0-d tensor, a ``Schedule`` or ``Auto``.

>>> strength_at(Exponential(2.0, 0.01), progress=0.5)
0.2
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar

from torch import Tensor

from .auto import Auto
from .errors import SteadyganError, unknown


@dataclass(frozen=True)
class Schedule:
    """A strength that runs from ``start`` (progress 0) to ``start * factor`` (progress 1)."""

    start: float
    factor: float
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and self.start >= 0):
            raise SteadyganError(f"a schedule starts at a finite number >= 0, not {self.start}")
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise SteadyganError(
                "anneal is the fraction of the start that remains at the end: a number > 0, not"
                f" {self.factor}"
            )

    def __call__(self, progress: float) -> float:
        """Return the strength at progress t/T in [0, 1]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential annealing: start * factor**(t/T).

    Reference: Roth et al. 2017, the authors' published code (factor 0.01).
    """

    name: ClassVar[str] = "exponential"

    def __call__(self, progress: float) -> float:
        """Return start * factor**progress."""
        return float(self.start * self.factor**progress)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine annealing: start * (factor + (1 - factor)(1 + cos(pi t/T))/2).

    Reference: Loshchilov and Hutter 2017.
    """

    name: ClassVar[str] = "cosine"

    def __call__(self, progress: float) -> float:
        """Return the strength on the half cosine."""
        return self.start * (
            self.factor + (1 - self.factor) * (1 + math.cos(math.pi * progress)) / 2
        )


SCHEDULES: dict[str, type[Schedule]] = {cls.name: cls for cls in (Exponential, Cosine)}

Strength = float | Tensor | Schedule | Auto
"""What gamma and sigma may be; ``Auto`` the gamma of a penalty that pulls towards 0 only."""


def strength(value: Strength, anneal: float | None, schedule: str, what: str) -> Strength:
    """Return a strength, checked, with ``anneal`` and ``schedule`` folded into it.

    Args:
        value: a number >= 0, a 0-d tensor or a schedule.
        anneal: the share of it that is left at the end.
        schedule: the name of the way there.
        what: how messages call it.

    Raises:
        SteadyganError: for a negative or non-finite number, and for what cannot be annealed.
    """
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if isinstance(value, Auto):
        raise SteadyganError(
            f"{what}=auto is for gradient penalties that pull towards 0 (js, r1, r2, r1r2, gp0,"
            " f-gan), and is not annealed: give a number, or leave anneal out"
        )
    if isinstance(value, Schedule):
        if anneal is not None:
            raise SteadyganError(f"{what} is already a schedule: leave anneal out")
        return value
    if isinstance(value, Tensor):
        if value.ndim:
            raise SteadyganError(
                f"{what} as a tensor must be 0-d, not of shape {tuple(value.shape)}"
            )
        if anneal is not None:
            raise SteadyganError(
                f"{what} as a tensor cannot be annealed: give a number or a Schedule"
            )
        return value
    value = float(value)
    if not (math.isfinite(value) and value >= 0):
        raise SteadyganError(f"{what} must be a finite number >= 0, not {value:g}")
    return value if anneal is None else SCHEDULES[schedule](value, float(anneal))


def scaled(value: Strength, factor: float) -> Strength:
    """Return a strength times a constant, at every progress."""
    if isinstance(value, Auto):
        return replace(value, every=factor * value.every)
    return (
        replace(value, start=factor * value.start)
        if isinstance(value, Schedule)
        else factor * value
    )


def strength_at(value: Strength, progress: float | None) -> float | Tensor:
    """Return a strength now.

    Raises:
        SteadyganError: for a schedule without progress: any would be wrong; for gamma=auto.
    """
    if isinstance(value, Auto):
        raise SteadyganError(
            "gamma=auto is found while a GAN trains: give a number here, such as the gamma at which"
            " a run has settled"
        )
    if not isinstance(value, Schedule):
        return value
    if progress is None:
        raise SteadyganError(
            "this strength is annealed: pass at=Context(progress=t / T) with the share of the"
            " training that is done"
        )
    if not 0 <= progress <= 1:
        raise SteadyganError(f"progress is t/T in [0, 1], not {progress}")
    return value(progress)


def told(value: Strength, progress: float | None) -> float | Tensor:
    """Return the one number that a strength is told from outside, now: of ``Auto`` its start."""
    return value.start if isinstance(value, Auto) else strength_at(value, progress)


def telling(value: Strength, number: Strength) -> Strength:
    """Return a strength that is told another: ``Auto`` with a number as its start, else that."""
    if isinstance(value, Auto) and isinstance(number, float | Tensor):
        return replace(value, start=number)
    return number


def strengths_of(part: object) -> list[str]:
    """Return the names of a dataclass's fields that are strengths."""
    # A module of a third party may not postpone its annotations, and then they are types instead of
    # strings.
    kinds = ("Strength", Strength)
    return [f.name for f in fields(part) if f.type in kinds] if is_dataclass(part) else []
