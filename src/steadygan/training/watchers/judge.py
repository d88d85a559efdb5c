"""The watcher that measures samples while a run trains, and says which step was the best yet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from ...runs.checkpoint import Tree
from ...runs.files import finite
from . import Record, Watcher

if TYPE_CHECKING:
    from ..loop import Training
    from ..trained import Trained


class Judge(Protocol):
    """Measures ``size`` samples (size, *event) on the CPU, and says whether it is the best so far.

    ``steadygan.evaluation.Evaluator`` is one.
    """

    @property
    def size(self) -> int:
        """How many samples it wants."""

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Return numbers by name."""

    def improves(self, found: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
        """Return whether these numbers are better than the best so far.

        Anything is better than None.
        """


class JudgeWatcher(Watcher):
    """Has a judge measure every member at each evaluation, always from the same latents."""

    def __init__(self, judge: Judge, trained: Trained) -> None:
        self._judge, self._many = judge, trained.many
        self._latents = trained.fixed_latents(judge.size)
        self._best: list[dict[str, float] | None] = [None for _ in trained.members]

    def logged(self, training: Training, record: Record) -> None:
        """Add the numbers to the record."""
        if record.metrics is None:
            return
        samples = training.trained.generate(*self._latents)
        for i, metrics in enumerate(record.metrics):
            if training.trained.lost(i):
                continue
            found = self._judge(samples[i])
            metrics |= found
            if self._judge.improves(found, self._best[i]):
                self._best[i] = found
                record.improved += (i,)

    def forget(self, members: Iterable[int]) -> None:
        """Let the next step be the best of members whose best one is not kept any more."""
        for member in members:
            self._best[member] = None

    def state(self) -> Tree:
        """Return the best numbers so far."""
        best = [{k: finite(v) for k, v in (each or {}).items()} for each in self._best]
        return {"best": best if self._many else best[0]}

    def restore(self, tree: Tree) -> None:
        """Take up the best numbers; a run that was not judged before has none."""
        held = tree.get("best") or {}
        self._best = [
            {name: math.inf if value is None else value for name, value in each.items()} or None
            for each in (held if self._many and held else [held] * len(self._best))
        ]
