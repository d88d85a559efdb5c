"""The command that writes a page about runs, report; and the demo, which makes two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..core.errors import SteadyganError
from .arguments import arg, fresh, house
from .show import say, table


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about one run or several, or about all in a folder.

    Of a folder that holds runs, such as a sweep's: every run a row, what each setting does, the
    best and its neighbours, what fell and why.

    Examples:
      steadygan report runs/unregularized runs/regularized --out comparison.html
      steadygan report runs/sweep
    """

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        arg("RUN", "run folders, or a folder that holds some"),
    ]
    out: Annotated[
        Path | None, arg("FILE", "where", "report.html in the run, or beside the runs")
    ] = None

    def run(self) -> int:
        """Return the exit status."""
        from ..report import write_report
        from ..report.sweep import write_sweep
        from ..runs.format import is_run
        from ..runs.table import runs_below

        if not self.paths:
            raise SteadyganError("report needs at least one run folder.")
        first = self.paths[0]
        if len(self.paths) == 1 and not is_run(first) and runs_below(first):
            say(str(write_sweep(first, self.out)))
        else:
            say(str(write_report(list(self.paths), self.out)))
        return 0


@dataclass(frozen=True)
class Demo:
    """Watch an unregularized GAN fall and a regularized one stand, in a few minutes.

    Both play the 3-D mixture of Roth et al. 2017 from the same seed.

    Example:
      steadygan demo --steps 3000
    """

    steps: Annotated[int, arg("N", "iterations of each run")] = 2500
    seed: Annotated[int, arg("N", "of both runs")] = 0
    out: Annotated[
        Path | None,
        arg("DIR", "where the runs, the picture and the report go", "a new one under runs/"),
    ] = None

    def run(self) -> int:
        """Return the exit status."""
        from ..experiments.demo import EXPECTED, demo
        from ..report import Run, comparison_picture, write_report

        if self.steps < 1:
            raise SteadyganError(f"--steps must be at least 1, not {self.steps}.")
        out = house(self.out or fresh(Path("runs"), "demo"))
        heads = {
            "modes": "modes of 7",
            "hq10": "high-quality share",
            "sw1": "sliced Wasserstein",
            "critic_loss": "D loss (no penalty)",
        }
        made, cells = demo(out, self.steps, self.seed), []
        for row in made:
            cells.append([row.name, *(f"{row.figures[name]:.3g}" for name in heads)])
            cells.append(["  expected", *(EXPECTED[row.name].get(name, "") for name in heads)])
        table(
            ("run", *heads.values()),
            cells,
            title=f"3-D mixture after {self.steps} iterations, medians over the last third",
        )
        runs = [row.outcome.path for row in made]
        say(
            f"picture: {comparison_picture([Run.read(run) for run in runs], out / 'demo.png')}",
            f"report:  {write_report(runs, out / 'report.html')}",
        )
        return 0
