"""Strengths that change during training: a number, a 0-d tensor, a ``Schedule`` or ``Auto``.

>>> strength_at(Exponential(2.0, 0.01), progress=0.5)
0.2
>>> strength_at(Ramp(0.9, 0.99, until=0.5), progress=0.25)
0.945
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar, TypeVar

from torch import Tensor

from .auto import Auto
from .errors import SteadyganError, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """A number that changes with progress, from ``start`` at progress 0 on."""

    start: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and self.start >= 0):
            raise SteadyganError(f"a schedule starts at a finite number >= 0, not {self.start}")

    def __call__(self, progress: float) -> float:
        """Return the number at progress t/T in [0, 1]."""
        raise NotImplementedError

    def scaled(self, factor: float) -> Schedule:
        """Return this times a constant."""
        return replace(self, start=factor * self.start)


def half_cosine(x: float) -> float:
    """Return (1 - cos(pi x))/2, from 0 at 0 to 1 at 1."""
    return (1 - math.cos(math.pi * x)) / 2


@dataclass(frozen=True)
class Ramp(Schedule):
    """From ``start`` to ``end`` until a progress, and constant from there: spelled START..END.

    Attributes:
        end: What is reached.
        until: The progress at which it is, which may lie behind the end of the training.
        way: From the part of the way's time to the part of the way; a half cosine.
    """

    end: float
    until: float = 1.0
    way: Callable[[float], float] = half_cosine

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.end) and self.end >= 0):
            raise SteadyganError(f"a ramp ends at a finite number >= 0, not {self.end}")

    def __call__(self, progress: float) -> float:
        """Return start + way(progress/until) (end - start)."""
        part = self.way(min(1.0, progress / self.until))
        return (1 - part) * self.start + part * self.end

    def scaled(self, factor: float) -> Schedule:
        """Return this times a constant."""
        return replace(self, start=factor * self.start, end=factor * self.end)


@dataclass(frozen=True)
class Annealing(Schedule):
    """A strength that runs from ``start`` (progress 0) to ``start * factor`` (progress 1)."""

    factor: float
    name: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise SteadyganError(
                "anneal is the fraction of the start that remains at the end: a number > 0, not"
                f" {self.factor}"
            )


@dataclass(frozen=True)
class Exponential(Annealing):
    """Exponential annealing: start * factor**(t/T).

    Reference: Roth et al. 2017, the authors' published code (factor 0.01).
    """

    name: ClassVar[str] = "exponential"

    def __call__(self, progress: float) -> float:
        """Return start * factor**progress."""
        return float(self.start * self.factor**progress)


@dataclass(frozen=True)
class Cosine(Annealing):
    """Cosine annealing: start * (factor + (1 - factor)(1 + cos(pi t/T))/2).

    Reference: Loshchilov and Hutter 2017.
    """

    name: ClassVar[str] = "cosine"

    def __call__(self, progress: float) -> float:
        """Return the strength on the half cosine."""
        return self.start * (
            self.factor + (1 - self.factor) * (1 + math.cos(math.pi * progress)) / 2
        )


SCHEDULES: dict[str, type[Annealing]] = {cls.name: cls for cls in (Exponential, Cosine)}

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
    return value.scaled(factor) if isinstance(value, Schedule) else factor * value


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


def ends(value: float | Schedule) -> tuple[float, ...]:
    """Return a number, or the two at the beginning and at the end of a schedule."""
    return (value(0.0), value(1.0)) if isinstance(value, Schedule) else (value,)


def changes(part: object) -> bool:
    """Return whether a field of a dataclass is a schedule."""
    return any(isinstance(value, Schedule) for value in vars(part).values())


def ramped(part: T, until: float, way: Callable[[float], float]) -> T:
    """Return a dataclass whose ramps take so much of the training, on such a way."""
    found = {
        name: replace(value, until=until, way=way)
        for name, value in vars(part).items()
        if isinstance(value, Ramp)
    }
    return replace(part, **found) if found else part  # type: ignore[type-var]


def settled(part: T, progress: float) -> T:
    """Return a dataclass with the numbers that its schedules are now.

    >>> from steadygan import build
    >>> settled(build("optimizer", "adam:lr=0.2..0.1,beta2=0.5..0.9"), progress=1.0).beta2
    0.9
    """
    found = {
        name: value(progress) for name, value in vars(part).items() if isinstance(value, Schedule)
    }
    return replace(part, **found) if found else part  # type: ignore[type-var]


def strengths_of(part: object) -> list[str]:
    """Return the names of a dataclass's fields that are strengths."""
    # A module of a third party may not postpone its annotations, and then they are types instead of
    # strings.
    kinds = ("Strength", Strength)
    return [f.name for f in fields(part) if f.type in kinds] if is_dataclass(part) else []
