"""Samples as the page shows them: grids of images as they lie there, points drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import SteadyganError
from ..report.figures import png
from ..report.fleet import multiples
from ..report.views import View, scatter
from ..runs.files import plain
from ..runs.reading import Run, Snapshot
from ..runs.samples import read_points

_MOST = 1 << 26  # bytes of a grid that is handed on
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = 64  # drawn pictures


class Pictures:
    """Hands out samples of runs as PNGs, and remembers those that took drawing."""

    def __init__(self) -> None:
        self._views: dict[int, View] = {}
        self._drawn: dict[tuple[Any, ...], bytes] = {}

    def of(self, run: Run, story: int, step: int | None, colour: str) -> bytes | None:
        """Return the samples of a step, or the real ones without; None where there are none.

        Args:
            run: The run.
            story: A number that goes with the run; what was drawn goes with it too.
            step: Of training.
            colour: Of points.

        Raises:
            SteadyganError: For a file that is none of samples.
        """
        path = run.real if step is None else {s.step: s.path for s in run.samples}.get(step)
        if path is None or path.is_symlink() or not path.is_file():
            return None
        if path.suffix == ".png":
            return _grid(path)
        key = (story, step, path.stat().st_mtime_ns)
        if key not in self._drawn:
            drawn = self._draw(run, story, step, path, colour)
            if len(self._drawn) == _KEPT:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[key] = drawn
        return self._drawn[key]

    def _draw(self, run: Run, story: int, step: int | None, path: Path, colour: str) -> bytes:
        if run.members and step is not None:
            figure = multiples(replace(run, samples=(Snapshot(step, path),)))
            assert figure is not None
            return png(figure)
        points = read_points(path)
        if story not in self._views:
            # By the first ones, so that it stays: training moves, and not the view of it.
            first = [points] if run.members or not run.samples else [_points(run.samples[0].path)]
            self._views[story] = View.of(None if run.real is None else _points(run.real), first)
        return png(scatter(points[:0] if step is None else points, self._views[story], colour))


def _points(path: Path) -> np.ndarray:
    if path.is_symlink():
        raise SteadyganError(f"{path} is a link, and not followed")
    return read_points(path)


def _grid(path: Path) -> bytes:
    with open(path, "rb", opener=plain) as file:
        held = file.read(_MOST)
    if not held.startswith(_SIGNATURE):
        raise SteadyganError(f"{path} is no PNG")
    return held
