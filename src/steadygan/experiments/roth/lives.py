"""When a GAN on the 3-D submanifold mixture had learned it, and when it collapsed after that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...runs.monitor import Monitor
from ..fleets import Member
from ..lifetimes import Lifetimes
from ..mixture import FALLS, STANDS

WINDOW = 3
"""Evaluations in a row of which most must agree: one snapshot can mislead."""


class Life(NamedTuple):
    """When a run had learned all modes, and when it lost them, in iterations.

    Attributes:
        learned: None where it had not until it was last seen.
        collapsed: None where it had not.
        seen: The last evaluation that can be judged.
    """

    learned: int | None
    collapsed: int | None
    seen: int


def life(member: Member) -> Life:
    """Return when a run had learned, and when it collapsed after that.

    It has learned from the first evaluation with all modes on, and has collapsed at the first one
    after that with at most ``FALLS``, with a critic that has won or with numbers that are not
    finite, each if that is so in most of the ``WINDOW`` evaluations from there on. What comes after
    does not count: a run that recovers has collapsed.
    """
    modes, loss = member.series("modes"), member.series("critic_loss")
    seen = int(member.steps[-WINDOW]) if len(member.steps) >= WINDOW else 0
    start = onset(modes == STANDS)
    if start is None:
        return Life(None, None, seen)
    won = Monitor.WON * member.indifferent
    end = onset((~(modes > FALLS) | ~(loss >= won))[start:])
    collapsed = None if end is None else int(member.steps[start + end])
    return Life(int(member.steps[start]), collapsed, seen)


def onset(there: np.ndarray) -> int | None:
    """Return the first place of (T,) at which something is there, and mostly from there on.

    >>> onset(np.array([0, 1, 0, 0, 1, 1, 0, 0]) > 0), onset(np.array([0, 0, 1, 1]) > 0)
    (4, None)
    """
    for i in np.flatnonzero(there[: max(0, len(there) - WINDOW + 1)]):
        if 2 * there[i : i + WINDOW].sum() > WINDOW:
            return int(i)
    return None


def learning(lives: Sequence[Life]) -> Lifetimes:
    """Return the times until runs had learned, censored where they had not.

    A run that blew up before stays among those that have not until the end.
    """
    times = [run.seen if run.learned is None else run.learned for run in lives]
    return Lifetimes(np.array(times), np.array([run.learned is not None for run in lives]))


def standing(lives: Sequence[Life]) -> Lifetimes:
    """Return the times between learning and collapse of the runs that learned.

    Censored where they stand at the end.
    """
    runs = [(run.learned, run.collapsed, run.seen) for run in lives if run.learned is not None]
    times = [(seen if lost is None else lost) - start for start, lost, seen in runs]
    return Lifetimes(
        np.array(times, dtype=int), np.array([lost is not None for _, lost, _ in runs], dtype=bool)
    )
