"""The watcher that names trouble: a monitor for each member."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...core.registry import build
from ...runs.checkpoint import Tree
from ...runs.monitor import Monitor
from . import Record, Watcher

if TYPE_CHECKING:
    from ..loop import Training
    from ..trained import Trained


class MonitorWatcher(Watcher):
    """Looks at every logged step of every member that goes on."""

    def __init__(self, trained: Trained) -> None:
        indifferent = build("objective", trained.config.objective).indifferent
        self._many = trained.many
        augment = trained.players.game.augment
        most = augment.strongest if augment is not None else math.inf
        self._monitors = [Monitor(indifferent, most) for _ in trained.members]

    def logged(self, training: Training, record: Record) -> None:
        """Name what is newly wrong."""
        for i, (monitor, row) in enumerate(zip(self._monitors, record.rows, strict=True)):
            if row is None or i in training.trained.stopped:
                continue
            figures = {**row, **(record.metrics[i] if record.metrics else {})}
            for warning in monitor.observe(record.step, figures):
                training.warn(i, warning.kind, warning.message)

    def state(self) -> Tree:
        """Return what every monitor has seen."""
        states = [monitor.state() for monitor in self._monitors]
        return {"monitors": states} if self._many else {"monitor": states[0]}

    def restore(self, tree: Tree) -> None:
        """Take up what was seen."""
        states = tree["monitors"] if self._many else [tree["monitor"]]
        for monitor, state in zip(self._monitors, states, strict=True):
            monitor.restore(state)
