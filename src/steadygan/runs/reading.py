"""Run folders read as plain values: what was written, and nothing of the code that wrote it.

Everything that looks at a run afterwards reads it here: reports, experiments, evaluations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..core.errors import SteadyganError
from ..core.shown import Shown
from .files import read_json, read_lines
from .format import (
    CONFIG,
    CROSSTEST,
    LOGGED,
    METRICS,
    REAL,
    SAMPLES,
    STATUS,
    WARNINGS,
    by_step,
    checkpoint_path,
    is_run,
)
from .monitor import Warning
from .samples import read_picture, read_samples

_EVALUATION: dict[str, type | UnionType] = {
    **dict.fromkeys(("features", "identity", "preparation", "fingerprint"), str),
    **dict.fromkeys(("data", "average"), str),
    **dict.fromkeys(("samples", "seed"), int),
    **dict.fromkeys(("numbers", "records"), dict),
    "step": int | None,
    "notes": list,
}
_NUMBER: dict[str, type | UnionType] = {
    **dict.fromkeys(("value", "low", "high"), int | float),
    "name": str,
    "better": str | None,
}


class Series(NamedTuple):
    """A quantity over training: its ``values`` at the increasing ``steps`` (n,) int64.

    Values are (n,) float64 or, of many GANs at once, (n, K); NaN where none was written.
    """

    steps: np.ndarray
    values: np.ndarray

    def thinned(self, limit: int = 2000) -> Series:
        """Return at most ``limit`` points: the lowest and the highest of every stretch.

        So no burst is lost.

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
        """Return the means of ``blocks`` stretches of equal length.

        NaN where one holds a value that is not finite.
        """
        with np.errstate(invalid="ignore"):  # inf - inf
            means = [stretch.mean() for stretch in np.array_split(self.values, blocks)]
        steps = [stretch[len(stretch) // 2] for stretch in np.array_split(self.steps, blocks)]
        return Series(np.array(steps), np.where(np.isfinite(means), means, np.nan))

    def last_half(self) -> np.ndarray:
        """Return the values of the last half of the points, rounded up.

        What a run has come to, without the luck of one evaluation.
        """
        return self.values[len(self.values) // 2 :]


class Snapshot(NamedTuple):
    """A file of generated samples and the training step that it was taken at."""

    step: int
    path: Path


@dataclass(frozen=True)
class Run(Shown):
    """A run folder.

    Only ``config`` is always there: a run that has just started has empty everything else.

    Attributes:
        folder: Where it is.
        config: The JSON object of config.json, as written.
        status: That of status.json; a run that was killed between its last checkpoint and its
            status has finished.
        members: What each of many GANs that were trained at once is; empty for one GAN.
        logged: The quantities named in ``LOGGED``.
        metrics: Those of the problem, and what was asked for by ``--metrics``.
        warnings: What the monitor named.
        samples: Files of generated samples, by increasing step.
        real: The file of real samples.
    """

    _page: ClassVar[str] = "report.notebook:run"

    folder: Path
    config: dict[str, Any]
    status: dict[str, Any]
    members: tuple[dict[str, Any], ...]
    logged: dict[str, Series]
    metrics: dict[str, Series]
    warnings: tuple[Warning, ...]
    samples: tuple[Snapshot, ...]
    real: Path | None

    @classmethod
    def read(cls, folder: str | Path, lines: bool = True) -> Run:
        """Return what a run folder holds; parts that are not there yet are empty.

        What a crash has cut off, or is just being written, is left out: half a last line, an
        unreadable last file of samples. So are samples behind a link out of the folder.

        Args:
            folder: The run folder.
            lines: Without, what grows by lines is left empty (``logged``, ``metrics`` and
                ``warnings``), for who follows those as they grow.

        Raises:
            SteadyganError: For a folder that is no run, and for any other damaged file.

        >>> Run.read("no/such/folder")
        Traceback (most recent call last):
        steadygan.core.errors.SteadyganError: no/such/folder is no run folder: there is no such
        folder; give one that `steadygan train` made
        """
        folder = Path(folder)
        if not is_run(folder):
            why = f"it has no {CONFIG}" if folder.is_dir() else "there is no such folder"
            raise SteadyganError(
                f"{folder} is no run folder: {why}; give one that `steadygan train` made"
            )
        config = read_json(folder / CONFIG)
        members = _members(config, folder)
        # A run that resumed may have written a step twice: the later line stands.
        rows = read_lines(folder / METRICS).rows if lines else []
        written = {step_of(row, folder / METRICS): row for row in rows}
        by = {step: written[step] for step in sorted(written)}
        there = by_step(folder / SAMPLES, ".png", ".npz")
        samples = {step: path for step, path in there.items() if _inside(path, folder)}
        if samples and not _readable(samples[max(samples)]):
            del samples[max(samples)]
        named = {
            step: {name: row[name] for name in LOGGED if name in row} for step, row in by.items()
        }
        measured = {step: part(row, "metrics") for step, row in by.items()}
        many = 0 if members is None else len(members)
        real = (folder / SAMPLES / f"{REAL}{ending}" for ending in (".npz", ".png"))
        return cls(
            folder=folder,
            config=config,
            status=_status(folder, config),
            members=members or (),
            logged=_series(folder, named, many),
            metrics=_series(folder, measured, many),
            warnings=tuple(
                warning(row, folder / WARNINGS)
                for row in (read_lines(folder / WARNINGS).rows if lines else ())
            ),
            samples=tuple(Snapshot(step, path) for step, path in samples.items()),
            real=next((path for path in real if path.is_file() and _inside(path, folder)), None),
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
        """Everything that shapes the run, under one name each.

        The training's, the problem's, then the versions it ran with.
        """
        about: dict[str, Any] = {
            name: self.config[name] for name in ("steadygan", "git") if name in self.config
        }
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


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Return what ``steadygan evaluate`` kept in a file, none where there is no file.

    Raises:
        SteadyganError: Where it is damaged.
    """
    if not path.is_file():
        return []
    try:
        found = read_json(path)["evaluations"]
        for evaluation in found:
            evaluation.setdefault("average", "kept")  # once there was no other
            evaluation.setdefault("identity", evaluation.get("features"))  # nor a word of its file
            _complete(evaluation, _EVALUATION)
            for number in evaluation["numbers"].values():
                _complete(number, _NUMBER)
    except (SteadyganError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SteadyganError(
            f"{path} cannot be read as evaluations ({error}): remove it and evaluate again."
        ) from error
    return list(found)


def crosstest(folder: Path) -> dict[str, Any] | None:
    """Return what ``steadygan crosstest`` kept in a run folder, None where it kept nothing.

    Raises:
        SteadyganError: Where it is damaged.
    """
    path = folder / CROSSTEST
    if not path.is_file():
        return None
    matrices = ("confusion", "false_positives", "auc", "scores")
    lists = ("names", "places", "samples", *matrices)
    try:
        kept = read_json(path)
        _complete(kept, {"verdict": str, "data": str, **dict.fromkeys(lists, list)})
        if any(len(kept[matrix]) != len(kept["names"]) for matrix in matrices):
            raise ValueError("a matrix is not complete")
    except (SteadyganError, ValueError, TypeError) as error:
        raise SteadyganError(
            f"{path} cannot be read as a cross-test ({error}): remove it and cross-test again."
        ) from error
    return kept


def part(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the object that ``whole`` holds under a name, empty where there is none."""
    held = whole.get(name)
    return held if isinstance(held, dict) else {}


def step_of(row: Mapping[str, Any], place: Path) -> int:
    """Return a line's step.

    Raises:
        SteadyganError: For a line without, saying where it stands.
    """
    step = row.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**63:
        raise SteadyganError(
            f"{place}: a line needs a whole number as its step, not {step!r}; the file is damaged:"
            " remove that line."
        )
    return step


def warning(row: Mapping[str, Any], place: Path) -> Warning:
    """Return a line of warnings.jsonl as a warning.

    Raises:
        SteadyganError: For a line without a step, saying where it stands.
    """
    return Warning(
        step_of(row, place), str(row.get("kind", "warning")), str(row.get("message", ""))
    )


def _complete(record: Mapping[str, Any], kinds: Mapping[str, type | UnionType]) -> None:
    for name, kind in kinds.items():
        if name not in record:
            raise ValueError(f"there is no {name}")
        if not isinstance(record[name], kind):
            raise ValueError(f"{name} is {record[name]!r}")


def _members(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], ...] | None:
    if "fleet" not in config:
        return None
    members = part(config, "fleet").get("members")
    if (
        not isinstance(members, list)
        or not members
        or not all(isinstance(m, dict) for m in members)
    ):
        raise SteadyganError(
            f"{folder / CONFIG} names no members of its fleet: restore it, or train the fleet"
            " again."
        )
    return tuple(members)


def _status(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    status = read_json(folder / STATUS) if (folder / STATUS).is_file() else {}
    for name, kind in (("state", str), ("step", int)):
        if not isinstance(status.get(name), kind | None):
            raise SteadyganError(
                f"{folder / STATUS}: {name} must be {'a text' if kind is str else 'a whole number'}"
                f", not {status[name]!r}: restore the file, or remove it."
            )
    steps = part(config, "config").get("steps")
    if (
        status.get("state") == "running"
        and isinstance(steps, int)
        and checkpoint_path(folder, steps).is_file()
    ):
        return {**status, "state": "finished", "step": steps}
    return status


def _inside(path: Path, folder: Path) -> bool:
    """Return whether a file lies in a folder; a link may be to a picture of the reader's own."""
    return path.resolve().is_relative_to(folder.resolve())


def _readable(path: Path) -> bool:
    try:
        (read_picture if path.suffix == ".png" else read_samples)(path)
    except SteadyganError:
        return False
    return True


def _series(folder: Path, lines: Mapping[int, Mapping[str, Any]], many: int) -> dict[str, Series]:
    """Return {name: series} of {step: {name: value}}; of ``many`` GANs a value each, but the time.

    null and non-finite values are kept as what they are, NaN or infinite.
    """
    series = {}
    for name in dict.fromkeys(name for line in lines.values() for name in line):
        held = {step: line[name] for step, line in lines.items() if name in line}
        count = 0 if name == "seconds" else many
        for step, value in held.items():
            _check(value, count, f"{folder / METRICS}, step {step}: {name}")
        steps, values = np.array(list(held), np.int64), np.array(list(held.values()), np.float64)
        series[name] = Series(steps, values)
    return series


def _check(value: Any, count: int, what: str) -> None:
    values = value if count else [value]
    if (
        isinstance(values, list)
        and len(values) == (count or 1)
        and all(v is None or isinstance(v, int | float) for v in values)
    ):
        return
    each = f"hold a number or null for each of the {count} members" if count else None
    raise SteadyganError(
        f"{what} must {each or 'be a number or null'}, not {value!r}; the file is damaged: remove"
        " that line."
    )
