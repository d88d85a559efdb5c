"""What a person sees while training: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..problems.problem import Problem
from ..runs.monitor import Warning

Row = dict[str, float | None]


Show = bool | Literal["lines"]
"""What a run shows on standard error: a bar (lines where there is no terminal), lines in any case,
or nothing."""


def _console(show: Show) -> Console:
    return Console(
        stderr=True,
        quiet=not show,
        highlight=False,
        force_terminal=False if show == "lines" else None,
    )


def load(problem: Problem, show: Show = True) -> None:
    """Read a problem's data with a bar."""
    with Progress(console=_console(show), transient=True) as bar:
        task = bar.add_task("reading data", total=None)
        problem.load(lambda done, total: bar.update(task, completed=done, total=total))


class Display:
    """Shows steps, losses, penalty, gradient norm, iterations a second and the time left; on
    standard error."""

    def __init__(self, name: str, total: int, step: int, show: Show = True) -> None:
        self._console = _console(show)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("[cyan]{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not (show and self._console.is_terminal),
        )
        self._name, self._total, self._first = name, total, step
        self._task = self._bar.add_task(name, total=total, completed=step, figures="", speed="")
        self._started = time.perf_counter()

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def update(self, step: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=step)

    def figures(self, step: int, row: Row, metrics: Row | None) -> None:
        """Show the figures of a logged step; off a terminal only those with metrics, so that a log
        file stays short."""
        words = [
            f"{label} {value:.3g}"
            for label, value in (
                ("D", row["critic_loss"]),
                ("penalty", row["penalty"]),
                ("G", row["generator_loss"]),
                ("‖∇D‖", row["gradient_norm_real"]),
                *(metrics or {}).items(),
            )
            if value is not None
        ]
        speed = (step - self._first) / max(time.perf_counter() - self._started, 1e-9)
        self._bar.update(
            self._task, completed=step, figures="  ".join(words), speed=f"{speed:.1f} it/s"
        )
        if metrics is not None and not self._console.is_terminal:
            left = (self._total - step) / speed if speed else 0.0
            self._console.print(
                f"{self._name} {step}/{self._total}  {'  '.join(words)}  {speed:.1f} it/s "
                f" {left:.0f} s left",
                soft_wrap=True,
            )

    def warn(self, warning: Warning) -> None:
        """Show a warning above the bar."""
        self._console.print(
            f"[yellow]step {warning.step}: {warning.kind}:[/yellow] {warning.message}",
            soft_wrap=True,
        )
