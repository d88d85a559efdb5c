"""The command that says how good samples are: evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from ..core.errors import SteadyganError
from ..evaluation.cache import Measured
from ..evaluation.extractors.inception import download
from ..evaluation.features import Features, build_features, fingerprint, to_bytes
from ..evaluation.metrics import (
    METRICS,
    NUMBERS,
    Evaluator,
    Pair,
    check_metrics,
    check_possible,
    compute,
    number_name,
    take,
)
from ..evaluation.result import Evaluation, Protocol, ranking, store
from ..evaluation.samples import Event, Loaded, read_samples, samples_event
from ..problems import Problem
from ..problems.images import Images
from ..problems.readers import Reading
from ..runs import checkpoint
from ..runs.config import Config
from ..runs.folder import RunFolder
from ..runs.format import BEST, CHECKPOINTS, is_run
from ..runs.models import load_sampler
from .arguments import Broken, Limit, Modules, ValueRange, arg

_VECTORS = "vectors"  # what the features of samples that are no images are called
_FEWEST = 20  # so that ten subsets have two samples each


class Subject(NamedTuple):
    """What is evaluated: its name, the step and the folder of a run, the shape of a sample, and n
    samples of it."""

    name: str
    step: int | None
    folder: Path | None
    event: Event
    draw: Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Evaluate:
    """Say how good samples are: distances to real images, precision and recall, diversity; each
    number with its 95 % interval.

    A RUN is a run folder, or generated samples from anywhere: a folder or zip of images, an .npz.
    What runs are compared with each other is taken of equally many samples. Real features are kept
    in the cache, results in the run's evaluation.json and report.

    Examples:
      steadygan evaluate runs/plain runs/js --data cifar10/test.zip --samples 5000
      steadygan evaluate runs/js --data photos.zip --metrics fd,lpips,memorisation --checkpoints all
      steadygan evaluate their-samples.zip --data test.zip --features inception-2015 --download
      --json steadygan evaluate runs/js --data test.zip --features my_features.py:extractor
    """

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="run folders, or generated samples"),
    ]
    data: Annotated[
        str | None,
        arg(
            "PATH",
            "real samples, best held back from training; what 'train images' takes",
            "a toy's own",
        ),
    ] = None
    metrics: Annotated[str, tyro.conf.arg(metavar="NAMES", help=", ".join(METRICS))] = (
        "fd,kid,precision-recall,density-coverage"
    )
    features: Annotated[
        str,
        tyro.conf.arg(
            metavar="SPEC",
            help="what images are compared in; see 'steadygan list features', or FILE.py:FUNCTION",
        ),
    ] = "effnet-lite0"
    samples: Annotated[
        int, tyro.conf.arg(metavar="N", help="how many, real and generated alike")
    ] = 5000
    checkpoints: Annotated[
        Literal["newest", "all", "best"],
        tyro.conf.arg(help="of each run; best: kept by train --metrics"),
    ] = "newest"
    seed: Annotated[
        int,
        tyro.conf.arg(metavar="N", help="of the latents and of the choice among the real samples"),
    ] = 0
    download: Annotated[
        bool,
        tyro.conf.arg(help="fetch the weights of inception-2015 (91 MB) if they are not there"),
    ] = False
    broken: Broken = "refuse"
    value_range: ValueRange = "auto"
    limit: Limit = 1.0
    json: Annotated[bool, tyro.conf.arg(help="for programs")] = False
    modules: Modules = ()

    def run(self) -> int:
        """Evaluate."""
        if not self.runs:
            raise SteadyganError("evaluate needs at least one run folder, or generated samples.")
        if self.samples < _FEWEST:
            raise SteadyganError(f"--samples must be at least {_FEWEST}, not {self.samples}.")
        metrics = _metrics(self.metrics)
        subjects = [subject for run in self.runs for subject in self._subjects(run)]
        event = subjects[0].event
        for other in subjects[1:]:
            if other.event != event:
                raise SteadyganError(
                    f"{subjects[0].name} has samples of shape {event}, {other.name} of"
                    f" {other.event}: numbers at different resolutions say "
                    "nothing about each other. Evaluate them one by one."
                )
        if self.download and not self.features.startswith("inception-2015"):
            raise SteadyganError(
                "--download fetches the weights of inception-2015, and the features are"
                f" {self.features}: leave one of them out."
            )
        if self.download:
            with bar("weights") as tell:
                download(progress=tell)
        features = build_features(self.features)
        check_possible(metrics, features, event)
        if len(event) == 3:
            features.check()
        with bar("reading data") as tell:
            real, fitted = self._real(event, tell)
        with bar("features of the real samples") as tell:
            x = take(real, features, tell)
        protocol = Protocol(
            features=features.name if len(event) == 3 else _VECTORS,
            preparation=_preparation(features, fitted, event),
            data=self.data or "the problem's own",
            fingerprint=fingerprint(real),
            event=event,
            samples=self.samples,
            seed=self.seed,
        )
        found = [
            self._evaluate(subject, real, x, features, metrics, protocol) for subject in subjects
        ]
        if self.json:
            print(json.dumps([evaluation.to_json() for evaluation in found], indent=2))
        else:
            _show(found)
        return 0

    def _subjects(self, run: str) -> Iterator[Subject]:
        folder = Path(run)
        if not is_run(folder):
            if folder.is_dir() and (folder / CHECKPOINTS).is_dir():
                RunFolder.open(
                    folder
                )  # refuses it as a run that lost its configuration, rather than as images
            name = folder.stem if folder.is_file() else folder.name

            def read(n: int) -> np.ndarray:
                with bar(f"reading {name}") as tell:
                    return read_samples(run, n, None, self.seed, tell, self._reading).x

            yield Subject(name, None, None, samples_event(run, self._reading), read)
            return
        event = RunFolder.open(folder).describe().event
        chosen = {
            "newest": [checkpoint.latest(folder)],
            "all": checkpoint.checkpoints(folder),
            "best": [folder / BEST],
        }
        for path in chosen[self.checkpoints]:
            sample, step = load_sampler(folder, path)

            def draw(n: int, sample: Callable[[int, int], Tensor] = sample) -> np.ndarray:
                x = sample(n, self.seed)
                return (to_bytes(x) if x.ndim == 4 else x.double()).numpy()

            yield Subject(folder.resolve().name, step, folder, event, draw)

    @property
    def _reading(self) -> Reading:
        return Reading(self.broken, value_range=self.value_range, limit=self.limit)

    def _real(self, event: Event, tell: Callable[[int, int], None]) -> Loaded:
        if self.data is not None:
            return read_samples(self.data, self.samples, event, self.seed, tell, self._reading)
        run = Path(self.runs[0])
        problem = RunFolder.open(run).describe().problem() if is_run(run) else None
        if problem is None or len(event) == 3:
            raise SteadyganError(
                "evaluate needs --data PATH: real samples to compare with, best some that the"
                " run was not trained on."
            )
        return Loaded(problem.stream(self.seed).draw(self.samples).x.double().numpy(), "")

    def _evaluate(
        self,
        subject: Subject,
        real: np.ndarray,
        x: Measured,
        features: Features,
        metrics: Sequence[str],
        protocol: Protocol,
    ) -> Evaluation:
        title = subject.name if subject.step is None else f"{subject.name} at {subject.step}"
        generated = subject.draw(self.samples)
        with bar(f"features of {title}") as tell:
            y = take(generated, features, tell)
        with bar(f"numbers of {title}") as tell:
            numbers, records = compute(Pair(real, generated, x, y), metrics, tell)
        plain = {key: record.to_json() for key, record in records.items()}
        evaluation = Evaluation(
            subject.name, subject.step, protocol, numbers, plain, self._notes(subject)
        )
        if subject.folder is not None:
            store(subject.folder, evaluation)
        return evaluation

    def _notes(self, subject: Subject) -> tuple[str, ...]:
        if subject.folder is None or self.data is None:
            return ()
        trained = RunFolder.open(subject.folder).describe().setting.get("data")
        if (
            trained
            and Path(trained).exists()
            and Path(self.data).exists()
            and Path(trained).samefile(self.data)
        ):
            return (
                f"{subject.name} was trained on these very images: a run that memorises them"
                " looks better than it is.",
            )
        return ()


def _preparation(features: Features, fitted: str, event: Event) -> str:
    if len(event) != 3:
        return "none"
    return "; ".join(filter(None, (fitted and f"real images: {fitted}", features.preparation)))


def judge(problem: Problem, config: Config) -> Evaluator | None:
    """Return what measures samples while a run trains, as its configuration says; None where it
    says nothing.

    Raises SteadyganError for metrics, features and data that cannot be had, before anything is
    trained.
    """
    if not config.metrics:
        return None
    metrics = _metrics(config.metrics)
    features = build_features(config.features)
    check_possible(metrics, features, problem.event)
    n, data = config.metrics_samples, config.metrics_data or getattr(problem, "data", None)
    if n < _FEWEST:
        raise SteadyganError(f"--metrics-samples must be at least {_FEWEST}, not {n}.")
    if len(problem.event) == 3:
        features.check()
        with bar("reading data") as tell:
            reading = problem.reading if isinstance(problem, Images) else None
            real = read_samples(str(data), n, problem.event, config.seed, tell, reading).x
    else:
        real = problem.stream(config.seed).draw(n).x.double().numpy()
    with bar("features of the real samples") as tell:
        return Evaluator(real, features, metrics, tell)


def _metrics(text: str) -> tuple[str, ...]:
    return check_metrics([name.strip() for name in text.split(",") if name.strip()])


def _show(found: Sequence[Evaluation]) -> None:
    """Print a table of numbers by run, and who is better where the intervals say so."""
    console = Console(highlight=False)
    first = found[0]
    about = (
        f"{first.protocol.samples:,} samples each against {first.protocol.data}; features"
        f" {first.protocol.features}"
    )
    console.print(
        f"{about}, resizing: {first.protocol.preparation}. In brackets 95 % intervals.",
        soft_wrap=True,
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for evaluation in found:
        table.add_column(
            evaluation.name + ("" if evaluation.step is None else f"\nstep {evaluation.step:,}"),
            overflow="fold",
        )
    for key in first.numbers:
        arrow = {"less": " ↓", "more": " ↑", None: ""}[NUMBERS[key][1]]
        cells = (str(evaluation.numbers[key]).replace(" ", "\n", 1) for evaluation in found)
        table.add_row(number_name(key, first.protocol.features) + arrow, *cells)
    console.print(table)
    if len(found) > 1:
        for key in first.numbers:
            if (better := NUMBERS[key][1]) is not None:
                console.print(
                    f"{number_name(key, first.protocol.features)}: {ranking(found, key, better)}",
                    soft_wrap=True,
                )
    for note in dict.fromkeys(note for evaluation in found for note in evaluation.notes):
        console.print(f"[yellow]{note}[/yellow]", soft_wrap=True)


@contextmanager
def bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error while something takes its time; it is gone afterwards."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
