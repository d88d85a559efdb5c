"""One run folder, looked at again and again while it grows, restarts or goes."""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import SteadyganError, foreign
from ..report.evaluation import protocol
from ..report.fleet import groups, quartiles
from ..report.page import number
from ..runs.cures import cures
from ..runs.files import Row, finite, read_lines
from ..runs.format import (
    CHECKPOINTS,
    CONFIG,
    EVALUATION,
    LOCK,
    LOGGED,
    METRICS,
    SAMPLES,
    STATUS,
    WARNINGS,
    is_run,
)
from ..runs.lock import left
from ..runs.monitor import MOVED, Warning
from ..runs.reading import Run, part, read_evaluations, step_of, warning
from .curves import Curve

_BLOCK = 1 << 22  # bytes of lines read in one look, about
_NEWEST = 100  # warnings that the page shows
_TOLD = 3  # settings of many GANs whose last medians are told in words
_SPEED = 50  # lines that the speed is taken from
_HEAD = (CONFIG, STATUS, SAMPLES, CHECKPOINTS)
_LOOKED_AT = (*_HEAD, METRICS, WARNINGS, EVALUATION, LOCK)
_MOODS = {"finished": "good", "running": "busy", "failed": "bad", "killed": "bad", "gone": "bad"}

METRIC, EVALUATED = "metric ", "evaluated "
"""How the names of curves begin that are not among the logged quantities."""

_stories = itertools.count(1)


class _Mark(NamedTuple):
    """What tells whether a file is another one than before."""

    file: int = 0
    size: int = 0
    changed: int = 0


class Followed:
    """A run folder, or a place where one may come to be.

    Attributes:
        folder: Where it is.
        name: What the page calls it.
        story: A number that changes where what was told no longer stands: another run in the same
            folder, or one that was resumed from an earlier step.
        run: What the folder holds, but for its lines; None before there is any.
        curves: By quantity and by line: one for one GAN, one a setting for many.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.run: Run | None = None
        self._forget()

    def _forget(self) -> None:
        self.story = next(_stories)
        self.curves: dict[tuple[str, str], Curve] = {}
        self._marks: dict[str, _Mark] = {}
        self._file, self._end, self._step = 0, 0, -1
        self._warnings: list[dict[str, Any]] = []
        self._kinds: Counter[str] = Counter()
        self._speed: deque[tuple[int, float]] = deque(maxlen=_SPEED)
        self._trouble: str | None = None
        self._lines: dict[str, list[int]] = {"": []}

    def look(self) -> bool:
        """Read what is new.

        Returns:
            Whether there is more to read at once.
        """
        if not there(self.folder):
            return False
        marks = {name: _mark(self.folder / name) for name in _LOOKED_AT}
        if marks == self._marks:
            return False
        if self._trouble is not None:
            self._marks = {}  # what was damaged may not be what has changed
        try:
            with foreign(f"{self.folder} cannot be shown", "it is damaged"):
                self._refuse_links()
                more = self._read(marks)
            self._trouble = None
        except SteadyganError as error:
            self._trouble, more = str(error), False
        self._marks = {**marks, METRICS: _Mark()} if more else marks
        return more

    def _refuse_links(self) -> None:
        home = self.folder.resolve()
        for name in _LOOKED_AT:
            if not (self.folder / name).resolve().is_relative_to(home):
                raise SteadyganError(f"{name} is a link out of the run folder, and not followed")

    def _read(self, marks: dict[str, _Mark]) -> bool:
        lines, before = marks[METRICS], self.run
        if self._changed(marks, *_HEAD):
            self.run = _sound(Run.read(self.folder, lines=False))
            if before is not None and before.config != self.run.config:
                self._forget()
        # Resumed from an earlier step, it is another file.
        if self._end and (lines.size < self._end or lines.file != self._file):
            self._forget()
        self._file = lines.file
        self._lines = groups(self.run) or {"": []} if self.run else {"": []}
        found = read_lines(self.folder / METRICS, self._end, _BLOCK)
        for row in found.rows:
            step = step_of(row, self.folder / METRICS)
            if step > self._step:  # a run of before could write a step twice, to the same bits
                self._add(step, row)
        self._end = found.end
        if self._changed(marks, WARNINGS):
            self._read_warnings()
        if self._changed(marks, EVALUATION):
            self._read_evaluations()
        return bool(found.rows) and self._end < lines.size

    def _changed(self, marks: dict[str, _Mark], *names: str) -> bool:
        return any(marks[name] != self._marks.get(name) for name in names)

    def _add(self, step: int, row: Row) -> None:
        self._step = step
        if math.isfinite(seconds := _float(row.get("seconds"))):
            self._speed.append((step, seconds))
        found = {name: row[name] for name in LOGGED if name in row and name != "seconds"}
        found |= {METRIC + name: value for name, value in part(row, "metrics").items()}
        many, intervals = bool(self.run and self.run.members), part(row, "intervals")
        for name, value in found.items():
            measured = name.startswith(METRIC)
            for line, members in self._lines.items():
                curve = self.curves.get((name, line))
                if curve is None:
                    curve = self.curves[name, line] = Curve(band=many or measured)
                if not many:
                    ends = intervals.get(name.removeprefix(METRIC)) if measured else None
                    curve.add(step, *_around(value, ends, measured))
                elif isinstance(value, list) and len(value) > max(members):
                    held = np.array([[_float(value[i]) for i in members]])
                    curve.add(step, *map(float, quartiles(held)[:, 0]))

    def _read_warnings(self) -> None:
        place = self.folder / WARNINGS
        rows = [warning(row, place) for row in read_lines(place).rows]
        self._kinds = Counter(each.kind for each in rows if each.kind != MOVED)
        self._warnings = [
            {
                "step": each.step,
                "kind": each.kind,
                "message": each.message,
                "advice": _advice(each),
            }
            for each in rows[: -_NEWEST - 1 : -1]
        ]

    def _read_evaluations(self) -> None:
        for key in [key for key in self.curves if key[0].startswith(EVALUATED)]:
            del self.curves[key]
        read = read_evaluations(self.folder / EVALUATION)
        kept = [each for each in read if each["average"] == "kept" and each["step"] is not None]
        named: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        for each in sorted(kept, key=lambda each: each["step"]):
            for held in each["numbers"].values():
                named.setdefault(held["name"], []).append((each, held))
        for name, found in named.items():
            apart = _apart([each for each, _ in found])
            for each, held in found:
                key = f"{EVALUATED}{name}{apart[protocol(each)]}", self.lines[0]
                curve = self.curves.setdefault(key, Curve(band=True))
                curve.add(each["step"], held["low"], held["value"], held["high"])

    @property
    def lines(self) -> list[str]:
        """What is drawn of it: one line, or one a setting of many GANs."""
        return list(self._lines)

    def told(self) -> dict[str, Any]:
        """Return what the page shows beside the curves, in parts that change at different times."""
        run = self.run
        samples = {} if run is None else {s.step: version(s.path) for s in run.samples}
        return {
            "state": self._state(),
            "samples": {
                "steps": list(samples),
                "versions": list(samples.values()),
                "real": None if run is None or run.real is None else version(run.real),
                "drawn": run is not None and len(run.config.get("event", [])) != 3,
            },
            "warnings": self._warnings,
        }

    def _state(self) -> dict[str, Any]:
        status = {} if self.run is None else self.run.status
        state, found = status.get("state"), there(self.folder)
        if not found:
            state = "waiting" if self.run is None else "gone"
        elif state == "running" and left(self.folder):
            state = "killed"
        state = state if isinstance(state, str) else "no status"
        steps = None if self.run is None else self.run.settings.get("steps")
        steps = steps if isinstance(steps, int) and steps > 0 else None
        step = max(self._step, 0)
        if state not in ("running", "killed", "gone") and isinstance(status.get("step"), int):
            step = status["step"]
        speed = finite(self._rate())
        return {
            "state": state,
            "mood": _MOODS.get(state, "idle"),
            "reason": self._trouble or status.get("reason"),
            "trouble": self._trouble is not None,
            "title": "" if self.run is None else self.run.title,
            "members": 0 if self.run is None else len(self.run.members),
            "step": step,
            "steps": steps,
            "seconds": self._speed[-1][1] if self._speed else None,
            "speed": speed,
            "left": finite(
                (steps - step) / speed if state == "running" and steps and speed else None
            ),
            "heard": version(self.folder / METRICS) / 1000 if state == "running" else None,
            "metrics": self._last_metrics(),
            "alarms": self._kinds.most_common(),
        }

    def _rate(self) -> float | None:
        if len(self._speed) < 2:
            return None
        (first, began), (last, now) = self._speed[0], self._speed[-1]
        return (last - first) / (now - began) if now > began else None

    def _last_metrics(self) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for (name, line), curve in self.curves.items():
            if name.startswith(METRIC) and line in self.lines[:_TOLD] and len(curve):
                found.setdefault(name.removeprefix(METRIC), []).append(number(curve.last))
        return {name: " · ".join(values) for name, values in found.items()}


def there(folder: Path) -> bool:
    """Return whether there is a run in a folder, as far as one may look."""
    try:
        return is_run(folder)
    except OSError:
        return False


def _sound(run: Run) -> Run:
    """Return a run whose parts that are shown as they stand are what they must be.

    Raises:
        SteadyganError: Where one is not.
    """
    if not isinstance(run.config.get("event", []), list):
        raise SteadyganError(f"{run.folder / CONFIG}: event must be a list: restore the file.")
    if not isinstance(run.status.get("reason"), str | None):
        raise SteadyganError(f"{run.folder / STATUS}: reason must be a text: restore the file.")
    return run


def _float(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    return float(value) if math.isfinite(value) else math.nan


def _around(value: Any, ends: Any, measured: bool) -> tuple[float, ...]:
    """Return a number, and of a measured one its interval around it, where there is one."""
    middle = _float(value)
    if not measured:
        return (middle,)
    low, high = ends if isinstance(ends, list) and len(ends) == 2 else (middle, middle)
    return _float(low), middle, _float(high)


def _advice(seen: Warning) -> str | None:
    """Return what to try, where the warning does not say it itself."""
    said = any(cures(seen.kind, penalized=there) in seen.message for there in (False, True))
    return None if said else cures(seen.kind)


def _apart(evaluations: Sequence[dict[str, Any]]) -> dict[tuple[Any, ...], str]:
    """Return by protocol what tells it from the others, in as few words as do; '' for one alone."""
    known = {protocol(each): each for each in evaluations}
    said = [""] * len(known)
    words = [
        (
            f"{each['samples']:,} samples",
            Path(each["data"]).name,
            f"seed {each['seed']}",
            each["preparation"],
            f"images {each['fingerprint'][:8]}",
            f"features {each['identity'][-8:]}",
        )
        for each in known.values()
    ]
    for column in zip(*words, strict=True):
        if len(set(said)) < len(said) and len(set(column)) > 1:
            said = [f"{start}, {word}" for start, word in zip(said, column, strict=True)]
    return dict(zip(known, said, strict=True))


def _mark(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return _Mark()
    return _Mark(found.st_ino, found.st_size, found.st_mtime_ns)


def version(path: Path) -> int:
    """Return what tells two pictures of one name apart, small enough for a browser's numbers."""
    return _mark(path).changed // 1_000_000
