"""The command that runs the papers' experiments: reproduce."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..core.errors import SteadyganError
from .arguments import Json, Modules, arg, flag, house, whole
from .show import say, table
from .sweep import follow

if TYPE_CHECKING:
    from ..sweeps import Ended, Task

_HOLDS = {True: ("yes", "green"), False: ("no", "red"), None: ("undecided", "yellow")}


@dataclass(frozen=True)
class Reproduce:
    """Run an experiment of the two papers: what they claim beside what is measured.

    Without a name it lists all. A scale is quick (minutes on two CPU cores), long (hours on one
    core, at the papers' length or as near as that comes) or paper (the papers' own size, for a GPU
    where it is images); tiny is a smoke test, whose verdicts mean nothing. Interrupted or killed,
    the same command goes on where it stopped; with more --seeds or --steps only what is missing is
    trained.

    Examples:
      steadygan reproduce
      steadygan reproduce mescheder-dirac
      steadygan reproduce roth-fig6 --scale long --seeds 8 --out results/fig6
      steadygan reproduce roth-fig4 --data train.zip test.zip
      steadygan reproduce roth-fig4 --scale long --only variances=0.1,1
      steadygan reproduce mescheder-2d --scheduler tcp://HOST:8786 --out /shared/2d
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
    only: Annotated[
        tuple[str, ...],
        arg("SETTING=VALUE,VALUE", "a part of it, with a result of its own", "all of it"),
    ] = ()
    out: Annotated[
        Path | None,
        arg(
            "DIR",
            "where result.json, figure.png and figure.csv go",
            "a folder of its name, scale and part under runs/reproduction",
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
    workers: Annotated[
        int | None, whole("N", "processes here that train its runs", "none but this one")
    ] = None
    scheduler: Annotated[
        str | None, arg("ADDRESS", "of a dask cluster that trains them, tcp://HOST:8786", "none")
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
        from ..training.allocator import keep_memory

        keep_memory()
        spec = experiment(name)
        settings = spec.settings(self.scale, self.data, self.steps, self.only)
        seeds = spec.seeds(self.scale, self.seeds)
        # A part has its own result, and its trainings lie with those of the rest.
        out = self.out or RUNS / folder_name(name, self.scale, spec.part(self.scale, settings))
        fleets = house(self.out or RUNS / folder_name(name, self.scale))
        start = time.perf_counter()
        with self._workers():
            findings = spec.run(settings, seeds, fleets / "fleets")
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

    @contextmanager
    def _workers(self) -> Iterator[None]:
        """Let the cluster that was asked for train what is trained meanwhile."""
        from ..experiments.workers import Workers, trained_by
        from ..sweeps import Cluster
        from ..sweeps.plan import TOGETHER

        if self.workers is not None and self.workers < 1:
            raise SteadyganError(f"--workers must be at least 1, not {self.workers}.")
        if self.workers and self.scheduler:
            raise SteadyganError("--workers and --scheduler are two places: give one of them.")
        if self.scheduler is None and (self.workers or 1) == 1:
            yield
            return
        # How many a scheduler has is for it to say, from one moment to the next.
        count = self.workers or TOGETHER
        with Cluster(count, self.scheduler).opened() as train:

            def each(tasks: Sequence[Task]) -> Iterator[Ended]:
                return follow(train(tasks), len(tasks))

            with trained_by(Workers(each, count)):
                yield


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
