"""What a training loop does, as events."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ...core.players import Name
from .marks import Mark


@dataclass
class Call:
    """One call of the critic: the kinds of its rows, and its inputs while they live.

    And whether real and generated samples were mixed in them.
    """

    rows: tuple[tuple[str, int], ...]
    inputs: list[weakref.ref[Tensor]]
    mixed: bool

    def saw(self, x: Tensor) -> bool:
        """Return whether a tensor, or the numbers that it is a view of, was an input."""
        return any(seen is not None and same(x, seen) for seen in (r() for r in self.inputs))


@dataclass
class Slope:
    """One gradient of logits: of which calls, with respect to what, and how it was asked for."""

    calls: frozenset[int]
    variable: Literal["input", "parameters", "other"]
    graph: bool
    batch: int


@dataclass
class Backward:
    """One backward: the loss's mark, whom it gave gradients, and its pull on logits by kind of row.

    A pull is the mean of the loss's gradient in the logits: positive where the loss wants them
    smaller. purpose: whose loss it was, known once somebody stepped. weighed: whether it was given
    cotangents, so that nothing is known of its scale.
    """

    mark: Mark
    wrote: set[Name] = field(default_factory=set)
    pulls: dict[str, list[float]] = field(default_factory=dict)
    purpose: Name | None = None
    weighed: bool = False

    def pull(self, kind: str) -> float:
        """Return the whole pull on a kind of rows."""
        return sum(self.pulls.get(kind, []))


@dataclass
class Step:
    """One step of an optimizer, or one that a scaler skipped.

    used: the backwards, by index, whose gradients it used. since: how many backwards there had been
    at this player's previous step. unscaled: whether a scaler's factor was taken out. owned: how
    many of the player's parameters the optimizer holds.
    """

    player: Name
    used: frozenset[int]
    since: int
    until: int
    unscaled: bool
    owned: int
    skipped: bool = False


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are the same numbers in the same place."""
    return a is b or (
        a.numel() == b.numel() and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    )
