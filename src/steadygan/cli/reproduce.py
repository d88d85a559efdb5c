"""The command that runs the papers' experiments: reproduce."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from ..core.errors import SteadyganError
from .arguments import arg

_HOLDS = {True: "[green]yes[/green]", False: "[red]no[/red]", None: "[yellow]undecided[/yellow]"}


@dataclass(frozen=True)
class Reproduce:
    """Run an experiment of the two papers: what they claim beside what is measured, with the
    figure. Without a name it lists all.

    A scale is quick (minutes on two CPU cores), long (the papers' length, hours on one core) or
    paper (the papers' own size, for a GPU where it is images); tiny is a smoke test, whose verdicts
    mean nothing. Interrupted or killed, the same command goes on where it stopped; with more
    --seeds or --steps only what is missing is trained.

    Examples:
      steadygan reproduce
      steadygan reproduce mescheder-dirac
      steadygan reproduce roth-fig6 --scale long --seeds 8 --out results/fig6
      steadygan reproduce roth-fig4 --data train.zip test.zip
      steadygan reproduce --index docs/results
    """

    name: Annotated[str | None, tyro.conf.Positional, arg("NAME", "see --list", "list all")] = None
    scale: Annotated[str, tyro.conf.arg(metavar="SCALE", help="quick, long or paper")] = "quick"
    seeds: Annotated[
        int | None, arg("N", "how many, where anything is random", "the experiment's own")
    ] = None
    steps: Annotated[
        int | None,
        arg("N", "at least so many iterations, where anything is trained", "the scale's own"),
    ] = None
    out: Annotated[
        Path | None,
        arg(
            "DIR",
            "where result.json and figure.png go",
            "a folder of that name under runs/reproduction",
        ),
    ] = None
    data: Annotated[
        tuple[str, str] | None,
        arg(
            "TRAIN TEST",
            "images, for the experiments on images; what 'train images' takes",
            "in $STEADYGAN_DATA",
        ),
    ] = None
    list: Annotated[bool, tyro.conf.arg(help="names, cost and latest verdicts")] = False
    index: Annotated[
        Path | None,
        arg("DIR", "gather the latest results there and write index.md about them", "no"),
    ] = None
    json: Annotated[bool, tyro.conf.arg(help="for programs")] = False

    def run(self) -> int:
        """Run, list or gather."""
        from ..experiments.index import write
        from ..experiments.results import listed

        if self.index is not None:
            if self.name or self.list:
                raise SteadyganError(
                    "--index gathers what was run before: give no NAME and no --list with it."
                )
            print(write(self.index))
        elif self.name is None or self.list:
            found = listed()
            if self.json:
                print(json.dumps(found, indent=2))
            else:
                _show_list(found)
        else:
            self._reproduce(self.name)
        return 0

    def _reproduce(self, name: str) -> None:
        from ..experiments.registry import experiment
        from ..experiments.results import FIGURE, RESULT, RUNS, folder_name, record
        from ..report.reproduction import draw, save_small

        spec = experiment(name)
        settings = spec.settings(self.scale, self.data, self.steps)
        seeds = spec.seeds(self.scale, self.seeds)
        out = self.out or RUNS / folder_name(name, self.scale)
        start = time.perf_counter()
        findings = spec.run(settings, seeds, out / "fleets")
        took = time.perf_counter() - start
        result = record(spec, self.scale, settings, seeds, findings, took, self.steps)
        try:
            out.mkdir(parents=True, exist_ok=True)
            save_small(draw(findings.picture, findings.data), out / FIGURE)
            (out / RESULT).write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise SteadyganError(
                f"{out} cannot be written: {error.strerror or error}. Choose another folder with"
                " --out."
            ) from error
        if self.json:
            print(json.dumps(result, indent=2))
        else:
            _show(result, out)


def _show_list(found: list[dict[str, Any]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("name", style="cyan", no_wrap=True)
    for column in ("what", "source", "cost", "verdict"):
        table.add_column(column, overflow="fold")
    for each in found:
        table.add_row(
            *(
                each[column] or "not run yet"
                for column in ("name", "what", "source", "cost", "verdict")
            )
        )
    Console(highlight=False).print(table)


def _show(result: dict[str, Any], out: Path) -> None:
    console = Console(highlight=False)
    table = Table(
        title=f"{result['name']}: {result['what']}",
        box=None,
        padding=(0, 2, 0, 0),
        title_justify="left",
    )
    for column in ("claim", "expected", "measured", "holds?"):
        table.add_column(column, overflow="fold")
    for row in result["rows"]:
        why = f" ({row['why']})" if row["why"] else ""
        table.add_row(row["claim"], row["expected"], row["measured"], _HOLDS[row["holds"]] + why)
    console.print(table)
    for note in result["notes"]:
        console.print(f"* {note}", markup=False)
    console.print(
        f"verdict: {result['verdict']}", f"result and picture: {out}", sep="\n", markup=False
    )
