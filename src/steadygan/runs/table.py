"""Many runs as one table: every GAN a row, with what differs between them and how it ended."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar, NamedTuple

from scipy.stats import t as student

from ..core.errors import SteadyganError
from ..core.registry import KINDS
from ..core.shown import Shown
from .format import is_run
from .reading import Run

_IDLE = {
    *("device", "log_every", "evaluate_every", "checkpoint_every", "keep_checkpoints"),
    *("steadygan", "git", "gradient_path", "track"),
}
"""Settings that are no part of what is played."""

_ABOUT = ("run", "member", "seed", "state", "step", "reason")


# How the names of metrics begin of which more is better, and of which less is; a best value of
# another would be a guess.
_MORE = (
    "modes",
    "hq",
    "near",
    "coverage",
    "inception",
    "precision",
    "recall",
    "accuracy",
)
_LESS = ("sw1", "kl", "fid", "kid", "fd", "distance", "radius", "sliced", "energy", "copied")


def better(name: str) -> Callable[[Iterable[float]], float] | None:
    """Return which side of a number is better, ``max`` or ``min``; None where that is not known.

    >>> better("modes")([1.0, 2.0]), better("sw1")([1.0, 2.0])
    (2.0, 1.0)
    """
    return max if name.startswith(_MORE) else min if name.startswith(_LESS) else None


class Interval(NamedTuple):
    """The mean over seeds, its 95 % interval by Student's t, and how many seeds there are."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class Row:
    """A GAN that was trained.

    Attributes:
        run: Its folder, as one says it.
        folder: Where that is.
        member: Which one of many in that folder; None for one GAN.
        seed: Its seed.
        settings: All others; those of a spec one by one, ``regularizer.gamma``.
        state: How it ended, ``damaged`` where its folder cannot be read.
        step: Its last step.
        reason: Why it ended there, where it is not the last one.
        metrics: Its numbers at the last evaluation; NaN where it had ended before.
        warnings: The kinds of trouble that were named, of one GAN.
    """

    run: str
    folder: Path
    member: int | None = None
    seed: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: str = "running"
    step: int | None = None
    reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table(Shown):
    """The rows of runs."""

    _page: ClassVar[str] = "report.notebook:table"

    rows: Sequence[Row]

    @cached_property
    def shown(self) -> dict[str, str]:
        """The differing settings by how a person is told them: in short where that is clear."""
        short = [name.rpartition(".")[2] for name in self.differing]
        return {
            name if short.count(end) > 1 or end in self.metrics else end: name
            for name, end in zip(self.differing, short, strict=True)
        }

    @cached_property
    def differing(self) -> list[str]:
        """The settings that are not the same in all rows, the seed left out."""
        whole = [row.settings for row in self.rows if row.state != "damaged"]
        names = dict.fromkeys(name for settings in whole for name in settings)

        def values(name: str) -> set[str]:
            # A spec's setting is compared where the spec has it: that others have none is said by
            # their names.
            return {_key(s.get(name)) for s in whole if "." not in name or name in s}

        return [name for name in names if len(values(name)) > 1]

    @cached_property
    def metrics(self) -> list[str]:
        """The names of all numbers."""
        return list(dict.fromkeys(name for row in self.rows for name in row.metrics))

    @cached_property
    def groups(self) -> list[list[Row]]:
        """The rows that differ by the seed only, together."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(_key(dict(row.settings) or str(row.folder)), []).append(row)
        return list(found.values())

    def interval(self, group: Sequence[Row], name: str) -> Interval | None:
        """Return a number over the seeds of a group, None for fewer than two that have one."""
        values = over_seeds(group, name)
        if len(values) < 2:
            return None
        mean, count = fmean(values), len(values)
        half = float(student.ppf(0.975, count - 1)) * stdev(values) / math.sqrt(count)
        return Interval(mean, mean - half, mean + half, count)

    def records(self) -> list[dict[str, Any]]:
        """Return every row as plain data: numbers that are not finite are None.

        Where runs differ by the seed only, ``NAME.mean``, ``NAME.low``, ``NAME.high`` and
        ``NAME.seeds`` stand beside each number.
        """
        over = {id(row): group for group in self.groups for row in group}
        many = any(len(by_seed(group)) > 1 for group in self.groups)
        found = []
        for row in self.rows:
            record: dict[str, Any] = {name: getattr(row, name) for name in _ABOUT[:2]}
            record |= {name: row.settings.get(name) for name in self.differing}
            record |= {name: getattr(row, name) for name in _ABOUT[2:]}
            for name in self.metrics:
                column = name if name not in record else f"metric.{name}"
                value = row.metrics.get(name, math.nan)
                record[column] = value if math.isfinite(value) else None
                if many:
                    interval = self.interval(over[id(row)], name)
                    for i, part in enumerate(Interval._fields):
                        record[f"{column}.{part}"] = None if interval is None else interval[i]
            found.append(record)
        return found


def by_seed(group: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each seed together, and those without one each for itself."""
    found: dict[Any, list[Row]] = {}
    for i, row in enumerate(group):
        found.setdefault((i,) if row.seed is None else row.seed, []).append(row)
    return list(found.values())


def over_seeds(group: Sequence[Row], name: str) -> list[float]:
    """Return a number of each seed that has a finite one; of one trained again, the mean."""
    values = [[row.metrics.get(name, math.nan) for row in rows] for rows in by_seed(group)]
    return [fmean(held) for each in values if (held := list(filter(math.isfinite, each)))]


def read_table(places: Iterable[Path | str]) -> Table:
    """Return the table of run folders, and of all runs below other folders, each of them once.

    Args:
        places: Run folders, or folders that hold some, at any depth.

    Raises:
        SteadyganError: For a place without runs, and for a damaged run that was named itself.
    """
    rows: list[Row] = []
    seen: set[Path] = set()  # a run that counted twice would narrow the intervals over seeds
    for place in map(Path, places):
        named = is_run(place)
        found = [place] if named else runs_below(place)
        if not found:
            why = "holds no run folder" if place.is_dir() else "is no folder"
            raise SteadyganError(
                f"{place} {why}: give run folders that 'steadygan train' made, or a folder that"
                " holds some."
            )
        for folder in found:
            if folder.resolve() in seen:
                continue
            seen.add(folder.resolve())
            name = str(place) if named else folder.relative_to(place).as_posix()
            try:
                rows += _rows(Run.read(folder), name)
            except SteadyganError as error:
                if named:
                    raise
                rows.append(Row(name, folder, state="damaged", reason=str(error)))
    return Table(rows)


def runs_below(place: Path) -> list[Path]:
    """Return the run folders below a folder, by name; links are not followed."""
    found = []
    for at, folders, _ in os.walk(place):
        # One that may be listed and not entered holds nothing that could be read.
        with suppress(PermissionError):
            if is_run(Path(at)):
                found.append(Path(at))
                folders.clear()
        folders.sort()
    return found


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of a spec one by one.

    >>> flat({"regularizer": ["r1:gamma=0.1"], "optimizer": "adam:lr=0.001", "batch": 8})
    {'regularizer': 'r1', 'regularizer.gamma': 0.1, 'optimizer': 'adam', 'optimizer.lr': 0.001, 'batch': 8}
    """  # noqa: E501 - what is printed
    found: dict[str, Any] = {}
    for name, value in settings.items():
        parts = value if isinstance(value, list) else [value]
        if name.removeprefix("critic_") not in KINDS or len(parts) != 1 or not parts[0]:
            empty = value in (None, [], "")
            plain = value if isinstance(value, int | float | str) else _spoken(value)
            found[name] = "none" if empty else plain
            continue
        head, _, rest = str(parts[0]).partition(":")
        found[name] = head
        for each in filter(None, rest.split(",")):
            key, _, text = each.partition("=")
            found[f"{name}.{key}"] = _number(text)
    return found


def _rows(run: Run, name: str) -> list[Row]:
    about = {
        key: value for key, value in run.settings.items() if not key.startswith("environment.")
    }
    warned = tuple(dict.fromkeys(warning.kind for warning in run.warnings))
    if not run.members:
        last = {key: float(series.values[-1]) for key, series in run.metrics.items()}
        return [_row(run, name, None, about, run.status, last, warned)]
    told = run.status.get("members")
    rows = []
    for i, member in enumerate(run.members):
        ending = told[i] if isinstance(told, list) and i < len(told) else run.status
        last = {key: float(series.values[-1, i]) for key, series in run.metrics.items()}
        ending = ending if isinstance(ending, dict) else {}
        rows.append(_row(run, name, i, {**about, **member}, ending, last, ()))
    return rows


def _row(
    run: Run,
    name: str,
    member: int | None,
    settings: dict[str, Any],
    ending: Mapping[str, Any],
    metrics: dict[str, float],
    warnings: tuple[str, ...],
) -> Row:
    if settings.get("critic_optimizer") == settings.get("optimizer"):
        settings = {key: v for key, v in settings.items() if key != "critic_optimizer"}
    seed = settings.get("seed")
    played = {key: v for key, v in settings.items() if key not in _IDLE and key != "seed"}
    state, step, reason = (ending.get(key) for key in ("state", "step", "reason"))
    logged = next((series.steps for series in run.logged.values() if len(series.steps)), None)
    if logged is not None and state in (None, "running"):
        step = int(logged[-1])
    return Row(
        name,
        run.folder,
        member,
        seed if isinstance(seed, int) else None,
        flat(played),
        state if isinstance(state, str) else "running",
        step if isinstance(step, int) else None,
        reason if isinstance(reason, str) else None,
        metrics,
        warnings,
    )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _spoken(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value))
    return json.dumps(value, default=str)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
