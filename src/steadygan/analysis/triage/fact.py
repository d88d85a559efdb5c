"""One thing that was looked at, with its figure, its threshold and changes against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..trials.change import Change
from .seen import Seen


@dataclass(frozen=True)
class Fact:
    """Something that was looked at.

    Attributes:
        name: Such as "critic-won".
        figure: What was measured; None where there was nothing to measure.
        threshold: From where on it is wrong.
        wrong: Whether it is.
        sentence: What it says, with the figure.
        certain: Whether it is a cause that was itself seen, and no symptom that has several.
        cures: Changes against it, the most likely first; none where it is not wrong.
    """

    name: str
    figure: float | None
    threshold: float
    wrong: bool
    sentence: str
    certain: bool = False
    cures: tuple[Change, ...] = field(default=())


Look = Callable[[Seen], Fact | None]
"""Looks at what was seen and returns a fact, or None where there is nothing to look at."""

__all__ = ["Fact", "Look"]
