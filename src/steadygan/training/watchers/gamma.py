"""The watcher that tells how gamma moves where training finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.auto import Auto
from ...runs.monitor import MOVED
from . import Watcher

if TYPE_CHECKING:
    from ..loop import Training


class GammaWatcher(Watcher):
    """Tells every move of every member, with its reason."""

    def __init__(self) -> None:
        self._before: list[float] = []

    def began(self, training: Training) -> None:
        """Take up where gammas are."""
        self._before = _numbers(training, "gamma")

    def stepped(self, training: Training) -> None:
        """Compare gammas with where they were."""
        gammas = _numbers(training, "gamma")
        if gammas != self._before and self._before:
            shares = _numbers(training, "gamma.share")
            for i, (before, now) in enumerate(zip(self._before, gammas, strict=True)):
                if now != before and i not in training.trained.stopped:
                    training.warn(i, MOVED, Auto.why(before, now, shares[i]))
        self._before = gammas


def _numbers(training: Training, key: str) -> list[float]:
    # A number a member; none before the first step, and where no gamma is found.
    held = training.trained.players.context.memory.get(key)
    return [] if held is None else held.reshape(-1).tolist()
