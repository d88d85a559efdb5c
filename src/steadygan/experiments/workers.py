"""Who trains the runs of an experiment: this process, or workers here or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import SteadyganError
from ..problems.problem import Problem
from ..runs.config import Config, problem_to_json
from ..sweeps import Ended, Task


@dataclass(frozen=True)
class Workers:
    """Processes that train tasks, such as those of a sweep.

    Attributes:
        each: Trains tasks, and tells how each ended.
        count: How many there are, as far as is known, to cut fleets for.
    """

    each: Callable[[Sequence[Task]], Iterable[Ended]]
    count: int

    def train(self, tasks: Sequence[Task]) -> None:
        """Train tasks; what is there is gone on with.

        Raises:
            SteadyganError: Where some failed, after all others have ended.
        """
        failed = [ended for ended in self.each(tasks) if ended.state == "failed"]
        if failed:
            each = "; ".join(f"{Path(ended.folder).name}: {ended.reason}" for ended in failed)
            raise SteadyganError(
                f"{len(failed)} of {len(tasks)} runs failed ({each}). The same command goes on with"
                " them."
            )


_workers: ContextVar[Workers | None] = ContextVar("workers", default=None)


@contextmanager
def trained_by(workers: Workers) -> Iterator[None]:
    """Let workers train what experiments train meanwhile."""
    token = _workers.set(workers)
    try:
        yield
    finally:
        _workers.reset(token)


def current() -> Workers | None:
    """Return who trains; None for this process."""
    return _workers.get()


def task(
    problem: Problem,
    members: Sequence[Config],
    folder: Path,
    *,
    steps: int | None = None,
    fleet: bool = False,
    compiled: bool = False,
) -> Task:
    """Return what a worker is told to train in a folder, or to go on with up to so many steps."""
    return Task(
        str(folder.resolve()),
        problem_to_json(problem),
        tuple(m.to_json() for m in members),
        steps=steps,
        fleet=fleet,
        compiled=compiled,
    )
