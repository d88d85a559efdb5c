"""The watcher that a person sees, on standard error.

A bar on a terminal, a line now and then elsewhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from statistics import median
from typing import TYPE_CHECKING, Literal

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from ...core.errors import printable
from ...problems.problem import Problem
from ...runs.monitor import MOVED, Warning
from . import Ending, Record, Watcher
from .folder import named

if TYPE_CHECKING:
    from ..loop import Training

Show = bool | Literal["lines", "notebook"]
"""What a run shows: a bar on standard error (lines where there is no terminal), lines in any case,
curves and samples in a notebook, or nothing."""

_FRAME = 0.1  # seconds between moves of the bar
_LINES = {True: 10.0, False: 60.0}  # between lines, in seconds: where a person looks, and in a file
_SHOWN = {
    "critic_loss": "D",
    "penalty": "penalty",
    "generator_loss": "G",
    "gradient_norm_real": "‖∇D‖",
    "gamma": "γ",
    "augment": "p",
    "learning_rate_generator": "lr",
}


class TerminalWatcher(Watcher):
    """Shows steps, losses, penalty, gradient norm, metrics, iterations a second and the time left.

    Of many GANs the medians.
    """

    def __init__(self, name: str, show: Show = True) -> None:
        self._name, self._console = printable(name), console(show)
        self._bar = _Bar(self._console, show)
        self._task: TaskID | None = None
        self._metrics: dict[str, float] = {}
        self._said = self._moved = -float("inf")

    def began(self, training: Training) -> None:
        """Start the bar."""
        self._first, self._started = training.step, time.perf_counter()
        if training.trained.many:
            self._name = f"{len(training.trained.members)} × {self._name}"
        self._task = self._bar.add_task(
            self._name, total=training.config.steps, completed=training.step, speed=""
        )
        with _open_or_not():
            self._bar.start()

    def stepped(self, training: Training) -> None:
        """Move the bar, ten times a second."""
        now = time.perf_counter()
        if self._task is not None and now - self._moved > _FRAME:
            self._moved = now
            with _open_or_not():
                self._bar.update(self._task, completed=training.step, refresh=True)

    def logged(self, training: Training, record: Record) -> None:
        """Show the figures of a logged step; off a terminal seldom, so that a file stays short."""
        rows = [row for row in record.rows if row is not None]
        if record.metrics is not None:
            self._metrics = middle(record.metrics)
        figures = {_SHOWN[name]: value for name, value in middle(rows).items() if name in _SHOWN}
        words = [f"{name} {value:.3g}" for name, value in {**figures, **self._metrics}.items()]
        now, total = time.perf_counter(), training.config.steps or 0
        speed = (training.step - self._first) / max(now - self._started, 1e-9)
        self._bar.figures = words
        if self._task is not None:
            with _open_or_not():
                self._bar.update(self._task, completed=training.step, speed=f"{speed:.1f} it/s")
        pace = _LINES[sys.stderr.isatty()]
        if not self._console.is_terminal and (now - self._said > pace or training.step == total):
            self._said = now
            left = (total - training.step) / speed if speed else 0.0
            with _open_or_not():
                self._console.print(
                    f"{self._name} {training.step}/{total}  {'  '.join(words)}  {speed:.1f} it/s "
                    f" {left:.0f} s left",
                    soft_wrap=True,
                    markup=False,
                )

    def warned(self, training: Training, member: int, warning: Warning) -> None:
        """Show a warning above the bar; how gammas of many GANs move is in the folder."""
        if training.trained.many and warning.kind == MOVED:
            return
        said = named(training, member, warning)
        with _open_or_not():
            self._console.print(
                Text.assemble((f"step {said.step}: {said.kind}:", "yellow"), f" {said.message}"),
                soft_wrap=True,
            )

    def ended(self, training: Training, ending: Ending) -> None:
        """Take the bar away."""
        if self._task is not None:
            with _open_or_not():
                self._bar.update(self._task, completed=training.step, refresh=True)
                self._bar.stop()


def _open_or_not() -> AbstractContextManager[None]:
    """Return a context to show something in; a closed terminal is no reason to end a run."""
    return suppress(OSError)


class _Bar(Progress):
    """A bar with the time left, and under it the figures, in as many lines as they take."""

    def __init__(self, console: Console, show: Show) -> None:
        self.figures: list[str] = []
        super().__init__(
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=28),
            ),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=6)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("[cyan]{task.fields[speed]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            auto_refresh=False,
            disable=not (show and console.is_terminal),
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bar and the figures."""
        yield self.make_tasks_table(self.tasks)
        line = ""
        for figure in self.figures:
            if line and len(line) + 2 + len(figure) > self.console.width:
                yield Text(line)
                line = ""
            line += ("  " if line else "") + figure
        if line:
            yield Text(line)


def middle(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the medians over members of what they have.

    >>> middle([{"a": 1.0}, {"a": 3.0, "b": 5.0}])
    {'a': 2.0, 'b': 5.0}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: median(row[name] for row in rows if name in row) for name in names}


def console(show: Show) -> Console:
    """Return the console on standard error, silent where nothing is to be shown."""
    return Console(
        stderr=True,
        quiet=not show or show == "notebook",
        highlight=False,
        force_terminal=False if show == "lines" else None,
    )


@contextmanager
def bar(what: str, show: Show = True) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while something takes its time; it is gone afterwards.

    Yields:
        What is told ``(done, total)``.
    """
    with Progress(console=console(show), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def load(problem: Problem, show: Show = True) -> None:
    """Read a problem's data with a bar."""
    with bar("reading data", show) as tell:
        problem.load(tell)
