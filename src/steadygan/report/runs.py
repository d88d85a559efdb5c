"""Run folders, read as plain values: what `steadygan train` wrote, and nothing of the code that
wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..core.errors import SteadyganError

LOGGED = (
    "seconds",
    "critic_loss",
    "penalty",
    "generator_loss",
    "gradient_norm_real",
    "gradient_norm_fake",
    "logit_real",
    "logit_fake",
)
"""What every line of metrics.jsonl may hold beside its step and the problem's own metrics."""

_SAMPLE = re.compile(r"step-(\d+)\.(npz|png)")


class Series(NamedTuple):
    """A quantity over training: its ``values`` (n,) float64, NaN where none was written, at the
    increasing ``steps`` (n,) int64."""

    steps: np.ndarray
    values: np.ndarray

    def thinned(self, limit: int = 2000) -> Series:
        """Return at most ``limit`` points: the lowest and the highest of every stretch, so that no
        burst is lost.

        >>> import numpy as np
        >>> burst = Series(np.arange(10_000), np.where(np.arange(10_000) == 4321, 50.0, 1.0))
        >>> len(burst.thinned(100).values) <= 100, 50 in burst.thinned(100).values
        (True, True)
        """
        if len(self.steps) <= limit:
            return self
        stretches = np.array_split(np.arange(len(self.steps)), limit // 2)
        # argmin and argmax both answer with the first NaN, so a curve that has left the finite
        # numbers still shows it.
        keep = np.unique(
            [
                stretch[pick(self.values[stretch])]
                for stretch in stretches
                for pick in (np.argmin, np.argmax)
            ]
        )
        return Series(self.steps[keep], self.values[keep])

    def averaged(self, blocks: int) -> Series:
        """Return the means of ``blocks`` stretches of equal length, NaN where one holds a value
        that is not finite."""
        with np.errstate(invalid="ignore"):  # inf - inf
            means = [stretch.mean() for stretch in np.array_split(self.values, blocks)]
        steps = [stretch[len(stretch) // 2] for stretch in np.array_split(self.steps, blocks)]
        return Series(np.array(steps), np.where(np.isfinite(means), means, np.nan))

    def last_half(self) -> np.ndarray:
        """Return the values of the last half of the points, rounded up: what a run has come to,
        without the luck of one evaluation."""
        return self.values[len(self.values) // 2 :]


class Warn(NamedTuple):
    """A line of warnings.jsonl."""

    step: int
    kind: str
    message: str


class Snapshot(NamedTuple):
    """A file of generated samples and the training step that it was taken at."""

    step: int
    path: Path


@dataclass(frozen=True)
class Run:
    """A run folder. Only ``config`` is always there: a run that has just started has empty
    everything else.

    ``config`` and ``status`` are the JSON objects as written. ``logged`` holds the quantities named
    in ``LOGGED``, ``metrics`` those of the problem. ``samples`` are by increasing step; ``real`` is
    the file of real samples.
    """

    folder: Path
    config: dict[str, Any]
    status: dict[str, Any]
    logged: dict[str, Series]
    metrics: dict[str, Series]
    warnings: tuple[Warn, ...]
    samples: tuple[Snapshot, ...]
    real: Path | None

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Read a run folder; parts that are not there yet are empty.

        What a crash has cut off, or is just being written, is left out: a broken last line, an
        unreadable last file of samples. Raises SteadyganError for a folder that is no run, and for
        any other damaged file.

        >>> Run.read("no/such/folder")
        Traceback (most recent call last):
        steadygan.core.errors.SteadyganError: no/such/folder is no run folder: there is no such
        folder; give one that `steadygan train` made
        """
        folder = Path(folder)
        reason = "there is no such folder" if not folder.is_dir() else "it has no config.json"
        if not (folder / "config.json").is_file():
            raise SteadyganError(
                f"{folder} is no run folder: {reason}; give one that `steadygan train` made"
            )
        # A run that resumed may have written a step twice: the later line stands.
        written = {step_of(line, at): line for at, line in json_lines(folder / "metrics.jsonl")}
        lines = {step: written[step] for step in sorted(written)}
        samples = {
            int(found[1]): path
            for path in sorted(folder.glob("samples/*"))
            if (found := _SAMPLE.fullmatch(path.name))
        }
        if samples and not _readable(samples[max(samples)]):
            del samples[max(samples)]
        return cls(
            folder=folder,
            config=json_object(folder / "config.json"),
            status=json_object(folder / "status.json"),
            logged=_series(
                folder,
                {
                    step: {name: line[name] for name in LOGGED if name in line}
                    for step, line in lines.items()
                },
            ),
            metrics=_series(folder, {step: part(line, "metrics") for step, line in lines.items()}),
            warnings=tuple(
                Warn(
                    step_of(line, at),
                    str(line.get("kind", "warning")),
                    str(line.get("message", "")),
                )
                for at, line in json_lines(folder / "warnings.jsonl")
            ),
            samples=tuple(Snapshot(step, samples[step]) for step in sorted(samples)),
            real=next(
                (
                    path
                    for end in ("npz", "png")
                    if (path := folder / f"samples/real.{end}").is_file()
                ),
                None,
            ),
        )

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def title(self) -> str:
        """The regularizers of the run as specs, or 'unregularized'."""
        given = self.settings.get("regularizer")
        return (
            " + ".join(map(str, given if isinstance(given, list) else [given]))
            if given
            else "unregularized"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that shapes the run, under one name each: the training's, the problem's, then
        the versions it ran with."""
        about = {name: self.config[name] for name in ("steadygan", "git") if name in self.config}
        return {
            **{
                "problem" if name == "name" else f"problem.{name}": value
                for name, value in part(self.config, "problem").items()
            },
            **part(self.config, "config"),
            **about,
            **{
                f"environment.{name}": value
                for name, value in part(self.config, "environment").items()
                if name not in about
            },
        }


def load(path: Path) -> np.ndarray | Image.Image:
    """Return the samples of a file: points (N, d) of an .npz, the picture of a .png. Raises
    SteadyganError for a damaged file."""
    if path.suffix == ".npz":
        return points(path)
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise SteadyganError(
            f"{path} cannot be read as a picture ({error}); remove the file to report the rest"
            " of the run"
        ) from error


def points(path: Path) -> np.ndarray:
    """Return the samples (N, d) of an .npz file, float64; raises SteadyganError for a file that
    does not hold them."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            samples = np.asarray(held["samples"], dtype=np.float64)
    except Exception as error:  # numpy, zipfile and the file system each have their own
        raise SteadyganError(
            f"{path} cannot be read as samples ({error}); remove the file to report the rest of"
            " the run"
        ) from error
    if samples.ndim != 2 or not samples.size:
        raise SteadyganError(
            f"{path} must hold `samples` of shape (N, d), not {samples.shape}; remove the file"
            " to report the rest of the run"
        )
    return samples


def _readable(path: Path) -> bool:
    try:
        load(path)
    except SteadyganError:
        return False
    return True


def json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSON-lines file, each with where it stands; no file has none."""
    lines = (
        path.read_text(encoding="utf-8", errors="replace").rstrip().split("\n")
        if path.is_file()
        else []
    )
    for number, text in enumerate(lines, start=1):
        at = f"{path}, line {number}"
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            if number == len(lines):  # the process was killed while it wrote
                return
            raise SteadyganError(
                f"{at} is not JSON ({error}); the file is damaged: remove that line"
            ) from error
        if not isinstance(line, dict):
            raise SteadyganError(
                f"{at} must be a JSON object, not {text[:40]!r}; the file is damaged: remove"
                " that line"
            )
        yield at, line


def json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; no file is an empty one."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SteadyganError(
            f"{path} is not JSON ({error}); the file is damaged: restore it or train the run again"
        ) from error
    if not isinstance(value, dict):
        raise SteadyganError(
            f"{path} must hold a JSON object, not {type(value).__name__}; restore it or train"
            " the run again"
        )
    return value


def part(whole: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object that ``whole`` holds under a name, empty where there is none."""
    held = whole.get(name)
    return held if isinstance(held, dict) else {}


def step_of(line: dict[str, Any], at: str) -> int:
    """Return a line's step; raises SteadyganError, saying where it stands, for one without."""
    step = line.get("step")
    if not isinstance(step, int) or isinstance(step, bool):
        raise SteadyganError(
            f"{at} needs a whole number as its step, not {step!r}; the file is damaged: remove"
            " that line"
        )
    return step


def _series(folder: Path, lines: dict[int, dict[str, Any]]) -> dict[str, Series]:
    """Turn {step: {name: value}} into {name: series}; null and non-finite values are kept as what
    they are, NaN or infinite."""
    names = dict.fromkeys(name for line in lines.values() for name in line)
    series = {}
    for name in names:
        held = {
            step: np.nan if line[name] is None else line[name]
            for step, line in lines.items()
            if name in line
        }
        for step, value in held.items():
            if not isinstance(value, int | float):
                raise SteadyganError(
                    f"{folder / 'metrics.jsonl'}, step {step}: {name} must be a number or null,"
                    f" not {value!r}"
                )
        series[name] = Series(
            np.array(list(held), dtype=np.int64), np.array(list(held.values()), dtype=np.float64)
        )
    return series
