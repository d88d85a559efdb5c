"""Everything that is watched, and what a page that looks on has not been told yet."""

from __future__ import annotations

import itertools
import re
import shlex
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..report.figures import PANELS, colours
from ..report.page import differing, shared, words
from ..runs.format import LOGGED
from ..runs.table import runs_below
from .curves import BUCKETS
from .following import EVALUATED, METRIC, Followed, there
from .pictures import Pictures

_AGAIN, _SEARCH = 0.4, 5.0  # seconds between two looks at the runs, and at what runs there are
_LINES = 8  # on the page, that have all their buckets; more share them
_LEAST = 50  # buckets

_PANELS = {**PANELS, "gamma": ("gamma",)}


class Page:
    """A page that looks on: what it was told."""

    def __init__(self) -> None:
        self.told: dict[Any, Any] = {}

    def news(self, key: Any, value: Any) -> bool:
        """Return whether a value is another one than was told; from now on it was told."""
        if key in self.told and self.told[key] == value:
            return False
        self.told[key] = value
        return True


class Hub:
    """Looks at runs, for any number of pages.

    Args:
        places: Run folders, or folders that hold some; none of them need be there yet.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self.places = list(dict.fromkeys(Path(place) for place in places))
        self.runs: dict[int, Followed] = {}
        self.ended = False
        self._ids: dict[Path, int] = {}
        self._next = itertools.count()
        self._searched = self._looked = float("-inf")
        self._more = False
        self._lock, self._pictures = threading.Lock(), Pictures()

    def news(self, page: Page) -> tuple[dict[str, Any], bool]:
        """Return what a page does not know yet, and whether there is more to come at once."""
        with self._lock:
            self._look()
            return self._news(page), self._more

    def picture(self, run: int, step: int | None) -> bytes | None:
        """Return the samples of a run at a step, or real ones without, as a PNG."""
        with self._lock:
            found = self.runs.get(run)
            if found is None or found.run is None:
                return None
            colour = colours(run + 1)[run]
            return self._pictures.of(found.run, found.story, step, colour)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._searched > _SEARCH:
            self._search()
            self._searched = now
        if self._more or now - self._looked > _AGAIN:
            looks = [run.look() for run in self.runs.values()]
            self._more = any(looks)
            self._looked = now

    def _search(self) -> None:
        for place in self.places:
            below = [] if there(place) else sorted(runs_below(place), key=_natural)
            for folder in below or [place]:
                if folder not in self._ids:
                    name = _name(folder, place, len(self.places) > 1)
                    self._ids[folder] = next(self._next)
                    self.runs[self._ids[folder]] = Followed(folder, name)
            if below and (waiting := self._ids.pop(place, None)) is not None:
                del self.runs[waiting]  # where runs were waited for there are some now

    def _news(self, page: Page) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if page.news("runs", [(i, run.name, run.lines) for i, run in self.runs.items()]):
            found["runs"] = [
                {"id": i, "name": run.name, "lines": run.lines} for i, run in self.runs.items()
            ]
        if page.news("panels", panels := self._panels()):
            found["panels"] = panels
        if page.news("known", [(run.story, run.run is None) for run in self.runs.values()]):
            found["settings"] = self._settings()
        buckets = self._buckets()
        told = {}
        for i, run in self.runs.items():
            news: dict[str, Any] = {}
            if page.news((i, "story"), run.story):
                news["anew"] = True
                for key in [k for k in page.told if k[0] == i and k[1] != "story"]:
                    del page.told[key]
            news |= {k: v for k, v in run.told().items() if page.news((i, k), v)}
            if curves := _grown(page, i, run, buckets):
                news["curves"] = curves
            if news:
                told[i] = news
        if told:
            found["told"] = told
        return found

    def _buckets(self) -> int:
        lines = sum(len(run.lines) for run in self.runs.values())
        return max(_LEAST, BUCKETS * _LINES // max(lines, _LINES))

    def _panels(self) -> list[dict[str, Any]]:
        names = dict.fromkeys(name for run in self.runs.values() for name, _ in run.curves)
        found: dict[str, tuple[str, ...]] = {}
        for name in names:
            if name not in LOGGED:
                title = name.removeprefix(METRIC)
                if name.startswith(EVALUATED):
                    title = f"{name.removeprefix(EVALUATED)}, evaluated"
                found[title] = (name,)
        found |= {
            title: inside
            for title, held in _PANELS.items()
            if (inside := tuple(name for name in held if name in names))
        }
        return [{"title": title, "names": names} for title, names in found.items()]

    def _settings(self) -> dict[str, Any]:
        known = {i: run.run for i, run in self.runs.items() if run.run is not None}
        runs = list(known.values())
        return {
            "differing": {
                name: dict(zip(known, map(words, values), strict=True))
                for name, values in (differing(runs) if len(runs) > 1 else {}).items()
            },
            "shared": {k: words(v) for k, v in (shared(runs) if runs else {}).items()},
            "problems": list(dict.fromkeys(words(run.settings.get("problem")) for run in runs)),
            "commands": {
                i: shlex.join(map(str, command))
                for i, run in known.items()
                if isinstance(command := run.config.get("command"), list)
            },
        }


def _grown(page: Page, i: int, run: Followed, buckets: int) -> list[dict[str, Any]]:
    found = []
    for (name, line), curve in run.curves.items():
        width, key = curve.width(buckets), (i, "curve", name, line)
        same, rows, before = page.told.get(key, (curve, 0, width))
        if same is not curve or before != width:
            rows = 0
        if rows == len(curve):
            continue
        grown = curve.since(rows, width)
        page.told[key] = (curve, len(curve), width)
        found.append({"name": name, "line": line, **grown})
    return found


def _natural(folder: Path) -> list[tuple[int, str]]:
    """Return what sorts run-2 before run-10."""
    return [(int(digits or -1), text) for digits, text in re.findall(r"(\d+)|(\D+)", str(folder))]


def _name(folder: Path, place: Path, several: bool) -> str:
    top = place.resolve().name
    if folder == place:
        return top
    below = folder.relative_to(place).as_posix()
    return f"{top}/{below}" if several else below
