"""The command that runs the papers' experiments: reproduce."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..core.errors import SteadyganError
from .arguments import Json, Modules, arg, flag, whole
from .show import say, table

_HOLDS = {True: ("yes", "green"), False: ("no", "red"), None: ("undecided", "yellow")}


@dataclass(frozen=True)
class Reproduce:
    """Run an experiment of the two papers: what they claim beside what is measured.

    Without a name it lists all. A scale is quick (minutes on two CPU cores), long (the papers'
    length, hours on one core) or paper (the papers' own size, for a GPU where it is images); tiny
    is a smoke test, whose verdicts mean nothing. Interrupted or killed, the same command goes on
    where it stopped; with more --seeds or --steps only what is missing is trained.

    Examples:
      steadygan reproduce
      steadygan reproduce mescheder-dirac
      steadygan reproduce roth-fig6 --scale long --seeds 8 --out results/fig6
      steadygan reproduce roth-fig4 --data train.zip test.zip
      steadygan reproduce --index docs/results
    """

    name: Annotated[str | None, tyro.conf.Positional, arg("NAME", "see --list", "list all")] = None
    scale: Annotated[str, arg("SCALE", "quick, long or paper")] = "quick"
    seeds: Annotated[
        int | None, whole("N", "how many, where anything is random", "the experiment's own")
    ] = None
    steps: Annotated[
        int | None,
        whole("N", "at least so many iterations, where anything is trained", "the scale's own"),
    ] = None
    out: Annotated[
        Path | None,
        arg(
            "DIR",
            "where result.json, figure.png and figure.csv go",
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
    list: Annotated[bool, flag("names, cost and latest verdicts")] = False
    index: Annotated[
        Path | None,
        arg("DIR", "gather the latest results there and write index.md about them", "no"),
    ] = None
    json: Json = False
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..experiments.index import write
        from ..experiments.results import listed

        if self.index is not None:
            if self.name or self.list:
                raise SteadyganError(
                    "--index gathers what was run before: give no NAME and no --list with it."
                )
            say(str(write(self.index)))
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
        from ..experiments.results import FIGURE, NUMBERS, RESULT, RUNS, folder_name, record, text
        from ..report.numbers import numbers, to_csv
        from ..report.reproduction import draw, save_small
        from ..runs.files import make_folder, write_text

        spec = experiment(name)
        settings = spec.settings(self.scale, self.data, self.steps)
        seeds = spec.seeds(self.scale, self.seeds)
        out = self.out or RUNS / folder_name(name, self.scale)
        start = time.perf_counter()
        findings = spec.run(settings, seeds, out / "fleets")
        took = time.perf_counter() - start
        series = numbers(findings.picture, findings.data)
        result = {
            **record(spec, self.scale, settings, seeds, findings, took, self.steps),
            "series": series,
        }
        make_folder(out)
        save_small(draw(findings.picture, findings.data), out / FIGURE)
        write_text(out / NUMBERS, to_csv(series))
        write_text(out / RESULT, text(result))
        if self.json:
            print(json.dumps(result, indent=2))
        else:
            _show(result, out)


def _show_list(found: list[dict[str, Any]]) -> None:
    heads = ("name", "what", "source", "cost", "verdict")
    table(heads, [[each[head] or "not run yet" for head in heads] for each in found])


def _show(result: dict[str, Any], out: Path) -> None:
    rows = [
        (
            row["claim"],
            row["expected"],
            row["measured"],
            _HOLDS[row["holds"]][0] + (f" ({row['why']})" if row["why"] else ""),
        )
        for row in result["rows"]
    ]
    table(
        ("claim", "expected", "measured", "holds?"),
        rows,
        title=f"{result['name']}: {result['what']}",
        colours=[_HOLDS[row["holds"]][1] for row in result["rows"]],
    )
    say(*(f"* {note}" for note in result["notes"]))
    say(f"verdict: {result['verdict']}", f"result and picture: {out}")
