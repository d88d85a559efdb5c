"""Runs, or generated samples from anywhere, measured against real samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from ..core.errors import SteadyganError
from ..problems.images import Images
from ..problems.problem import Problem
from ..problems.readers import Reading
from ..runs import checkpoint, exported
from ..runs.config import Config
from ..runs.files import Unwritable
from ..runs.folder import RunFolder
from ..runs.format import CHECKPOINTS, EVALUATION, is_run
from ..runs.models import Which, describe, load_sampler
from ..runs.reading import read_evaluations
from .cache import Measured
from .evaluator import Evaluator
from .features import Features, Progress, build_features, fingerprint, to_bytes
from .metrics import Metric, Pair, build_metrics, compute, take
from .result import Evaluation, Protocol, store, titled
from .samples import FEWEST, Event, Loaded, read_samples, samples_event

METRICS = ("fd", "kid", "precision-recall", "density-coverage")
_VECTORS = "vectors"  # what the features of samples that are no images are called

Bar = Callable[[str], AbstractContextManager[Progress]]
"""Shows that something is being done: ``with bar("features") as tell: tell(done, total)``."""


@contextmanager
def silent(name: str) -> Iterator[Progress]:
    """Show nothing.

    Args:
        name: What is being done.

    Yields:
        A function that is told ``(done, total)``, to no effect.
    """
    yield lambda done, total: None


class Subject(NamedTuple):
    """What is evaluated: name, step and folder of a run, shape of a sample, and n samples of it."""

    name: str
    step: int | None
    folder: Path | None
    event: Event
    draw: Callable[[int], np.ndarray]
    average: str = "kept"


def evaluate(
    runs: Sequence[Path | str],
    data: str | None = None,
    *,
    metrics: Sequence[str] | str = METRICS,
    features: str | Features = "effnet-lite0",
    samples: int = 5000,
    checkpoints: Literal["newest", "all", "best"] = "newest",
    ema: Sequence[str] | str = "kept",
    seed: int = 0,
    reading: Reading = Reading(),
    bar: Bar = silent,
) -> list[Evaluation]:
    """Measure how good samples are: each number with its 95 % interval.

    What is compared is taken of equally many samples. Features of real images are kept in the
    cache, the results of a run in its evaluation.json, or a note says why they are not.

    Args:
        runs: Run folders, exported ones, ``hub:USER/NAME``, or generated samples: a folder or zip
            of images, an .npz.
        data: Real samples, best held back from training; what 'train images' takes. None: those
            that a run's problem makes itself.
        metrics: Names of metrics, ``names("metric")``, in a sequence or with commas between them.
        features: What images are compared in, ``names("features")`` or FILE.py:FUNCTION.
        samples: How many, real and generated alike.
        checkpoints: Which of each run; best is the one that ``Config.metrics`` kept.
        ema: Which averages of each run's generator: ``kept``, ``none``, or ``sigma=S``, one made
            now of a run with ``ema=power``.
        seed: Of the latents and of the choice among the real samples.
        reading: How files of images are read, where there is a choice.
        bar: Shows progress.

    Returns:
        One evaluation for each run, checkpoint and average.

    Raises:
        SteadyganError: For too few samples, for shapes and metrics that do not fit, and for what
            cannot be read; before features are taken.

    >>> import numpy, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> for name in ("ours", "real"):
    ...     numpy.savez(f"{folder}/{name}.npz", samples=torch.randn(64, 2).numpy())
    >>> ours, real = f"{folder}/ours.npz", f"{folder}/real.npz"
    >>> (found,) = evaluate([ours], real, metrics=["energy"], samples=64)
    >>> abs(found.numbers["energy"].value) < 0.5
    True
    """
    if not runs:
        raise SteadyganError("evaluate needs at least one run folder, or generated samples.")
    enough(samples, "samples")
    chosen = build_metrics(metrics)
    averages = dict.fromkeys(Which.of(each) for each in ([ema] if isinstance(ema, str) else ema))
    places = [str(run) for run in runs]
    subjects = [
        each
        for run, name in zip(places, called(places), strict=True)
        for each in _subjects(run, name, checkpoints, list(averages), seed, reading, bar)
    ]
    event = subjects[0].event
    for other in subjects[1:]:
        if other.event != event:
            raise SteadyganError(
                f"{subjects[0].name} has samples of shape {event}, {other.name} of"
                f" {other.event}: numbers at different resolutions say "
                "nothing about each other. Evaluate them one by one."
            )
    extractor = build_features(features)
    for metric in chosen:
        metric.check(extractor, event)
    if len(event) == 3:
        extractor.check()
    with bar("reading data") as tell:
        if data is not None:
            loaded = read_samples(data, samples, event, seed, tell, reading)
        else:
            loaded = Loaded(_own(places, samples, event, seed), "")
    with bar("features of the real samples") as tell:
        x = take(loaded.x, extractor, tell)
    protocol = Protocol(
        features=extractor.name if len(event) == 3 else _VECTORS,
        identity=extractor.identity if len(event) == 3 else _VECTORS,
        preparation=_preparation(extractor, loaded, event),
        data=data or "the problem's own",
        fingerprint=fingerprint(loaded.x),
        event=event,
        samples=samples,
        seed=seed,
    )
    return [_one(each, data, loaded.x, x, extractor, chosen, protocol, bar) for each in subjects]


def judge(problem: Problem, config: Config, bar: Bar = silent) -> Evaluator | None:
    """Return what measures samples while a run trains, as its configuration says.

    Args:
        problem: Whose samples are real, unless ``metrics_data`` names others.
        config: ``metrics``, ``metrics_data``, ``metrics_samples`` and ``features`` of it count.
        bar: Shows progress.

    Returns:
        The evaluator; None where the configuration names no metrics.

    Raises:
        SteadyganError: For metrics, features and data that cannot be had, before anything is
            trained.
    """
    if not config.metrics:
        return None
    features = build_features(config.features)
    for metric in build_metrics(config.metrics):
        metric.check(features, problem.event)
    n, data = config.metrics_samples, config.metrics_data or getattr(problem, "data", None)
    enough(n, "metrics_samples")
    if len(problem.event) == 3:
        features.check()
    if data is not None:
        with bar("reading data") as tell:
            reading = problem.reading if isinstance(problem, Images) else None
            real = read_samples(str(data), n, problem.event, config.seed, tell, reading).x
    else:
        real = _plain(problem.stream(config.seed).draw(n).x)
    with bar("features of the real samples") as tell:
        return Evaluator(real, features, config.metrics, tell)


def enough(n: int, name: str) -> None:
    """Refuse too few samples for an interval.

    Args:
        n: How many.
        name: The setting that says so.

    Raises:
        SteadyganError: For fewer than 20.
    """
    if n < FEWEST:
        raise SteadyganError(f"{name} must be at least {FEWEST}, not {n}.")


def called(runs: Sequence[str]) -> list[str]:
    """Return what runs are called: the last names of their paths, or all where two share one."""
    names = [
        run
        if run.startswith(exported.HUB)
        else Path(run).stem
        if Path(run).is_file()
        else Path(run).resolve().name
        for run in runs
    ]
    return names if len(set(names)) == len(names) else list(runs)


def _subjects(
    run: str,
    name: str,
    checkpoints: Literal["newest", "all", "best"],
    averages: Sequence[Which],
    seed: int,
    reading: Reading,
    bar: Bar,
) -> Iterator[Subject]:
    folder = exported.locate(run)
    if exported.is_exported(folder):
        # Its results have no place there: what is pushed is what was exported.
        for which in averages:
            yield _generated(run, None, name, exported.describe(folder).event, seed, which)
        return
    if not is_run(folder):
        if folder.is_dir() and (folder / CHECKPOINTS).is_dir():
            # Refuses it as a run that lost its configuration, rather than as images.
            RunFolder.open(folder)

        def read(n: int) -> np.ndarray:
            with bar(f"reading {name}") as tell:
                return read_samples(run, n, None, seed, tell, reading).x

        yield Subject(name, None, None, samples_event(run, reading), read)
        return
    about = RunFolder.open(folder).describe()
    about.check_alone()
    read_evaluations(folder / EVALUATION)  # refused while nothing is lost by it
    if checkpoints == "all":
        chosen = checkpoint.checkpoints(folder)
    else:
        chosen = [checkpoint.named(folder, "best" if checkpoints == "best" else None)]
    for path in chosen:
        for which in averages:
            yield _generated(folder, path, name, about.event, seed, which)._replace(folder=folder)


def _generated(
    run: Path | str, path: Path | None, name: str, event: Event, seed: int, which: Which
) -> Subject:
    """Return what a generator makes of a seed."""
    sample, step = load_sampler(run, path, averaged=which.averaged, sigma=which.sigma)

    def draw(n: int) -> np.ndarray:
        return _plain(sample(n, seed))

    return Subject(name, step, None, event, draw, str(which))


def _plain(x: Tensor) -> np.ndarray:
    """Return samples as files of them are read: images uint8, or vectors float64."""
    return (to_bytes(x) if x.ndim == 4 else x.double()).numpy()


def _own(runs: Sequence[str], samples: int, event: Event, seed: int) -> np.ndarray:
    """Return real samples (n, D) of the problem that all runs share."""
    described = {
        run: describe(run)
        for run, folder in ((run, exported.locate(run)) for run in runs)
        if is_run(folder) or exported.is_exported(folder)
    }
    first = described.get(runs[0])
    if len(event) == 3 or first is None:
        raise SteadyganError(
            "evaluate needs --data PATH: real samples to compare with, best some that the run was"
            " not trained on."
        )
    for run, other in described.items():
        here, there = first.setting, other.setting
        if differing := next((k for k in {**here, **there} if here.get(k) != there.get(k)), None):
            raise SteadyganError(
                f"{runs[0]} and {run} have problems that differ ({differing}:"
                f" {here.get(differing)!r} and {there.get(differing)!r}), and neither's own samples"
                " are real ones to both. Give --data PATH, or evaluate them one by one."
            )
    return first.problem().stream(seed).draw(samples).x.double().numpy()


def _preparation(features: Features, real: Loaded, event: Event) -> str:
    if len(event) != 3:
        return "none"
    fitted = real.preparation and f"real images: {real.preparation}"
    return "; ".join(filter(None, (fitted, features.preparation)))


def _one(
    subject: Subject,
    data: str | None,
    real: np.ndarray,
    x: Measured,
    features: Features,
    metrics: Sequence[Metric],
    protocol: Protocol,
    bar: Bar,
) -> Evaluation:
    title = titled(subject.name, subject.step, subject.average)
    generated = subject.draw(protocol.samples)
    with bar(f"features of {title}") as tell:
        y = take(generated, features, tell)
    with bar(f"numbers of {title}") as tell:
        numbers, records = compute(Pair(real, generated, x, y), metrics, tell)
    plain = {key: record.to_json() for key, record in records.items()}
    notes = _notes(subject, data)
    evaluation = Evaluation(
        subject.name, subject.step, protocol, numbers, plain, notes, subject.average
    )
    if subject.folder is not None:
        try:
            store(subject.folder, evaluation)
        except Unwritable as error:  # somebody else's run, or a full disk
            return replace(evaluation, notes=(*notes, f"the numbers are not kept: {error}"))
    return evaluation


def _notes(subject: Subject, data: str | None) -> tuple[str, ...]:
    if subject.folder is None or data is None:
        return ()
    trained = RunFolder.open(subject.folder).describe().setting.get("data")
    if not trained or not Path(trained).exists() or not Path(data).exists():
        return ()
    if Path(trained).samefile(data):
        return (
            f"{subject.name} was trained on these very images: a run that memorises them looks"
            " better than it is.",
        )
    return ()
