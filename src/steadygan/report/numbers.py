"""The numbers of a reproduced experiment's figure, as rows of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Row = Sequence[Any]

SHOWN = 1000
"""Samples of each cloud that are written; the picture shows at most twice as many."""

EVERY = 5
"""Steps of a trajectory between two that are written."""


def numbers(kind: str, data: Mapping[str, Any]) -> list[list[str]]:
    """Return the numbers of a picture of that kind to five digits, the names of columns first.

    >>> panel = {"title": "t", "lines": {"a": ([1, 2], [3.0, 1 / 3])}}
    >>> numbers("lines", {"panels": [panel]})
    [['panel', 'name', 'x', 'y'], ['t', 'a', '1', '3'], ['t', 'a', '2', '0.33333']]

    Panels that share a title are told apart by what they show:

    >>> numbers("lines", {"panels": [panel | {"y": "modes"}, panel | {"y": "distance"}]})[1:4:2]
    [['t: modes', 'a', '1', '3'], ['t: distance', 'a', '1', '3']]
    """
    return [[_plain(cell) for cell in row] for row in _KINDS[kind](data)]


def to_csv(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as the text of a CSV file."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _plain(cell: Any) -> str:
    if isinstance(cell, float | np.floating):
        return f"{cell:.5g}"
    return str(cell).replace("\n", " ")


def _lines(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "panel", "name", "x", "y"
    titles = [panel["title"] for panel in data["panels"]]
    for panel in data["panels"]:
        title = panel["title"]
        if titles.count(title) > 1:
            title += f": {panel['y']}"
        for name, (x, y) in panel.get("bars", panel.get("lines", {})).items():
            for pair in zip(x, y, strict=True):
                yield title, name, *pair


def _intervals(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "panel", "name", "what", "value", "low", "high"
    for panel in data["panels"]:
        yield panel["title"], "real against real", "floor", panel["floor"], "", ""
        for name, group in panel["groups"].items():
            yield panel["title"], name, "mean over seeds", *group["interval"]
            for value in group["faint"]:
                yield panel["title"], name, "a cell of the grid", value, "", ""


def _clouds(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "row", "column", *(f"x{i + 1}" for i in range(data["real"].shape[1]))
    for x in data["real"][:SHOWN]:
        yield "real", "", *x.tolist()
    for title, row in zip(data["titles"], data["cells"], strict=True):
        for head, cloud in zip(data["heads"], row, strict=True):
            for x in cloud[:SHOWN]:
                yield title, head, *x.tolist()


def _gallery(data: Mapping[str, Any]) -> Iterator[Row]:
    yield from data["numbers"]


def _portraits(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "method", "dynamics", "step", "theta", "psi"
    for panel in data["panels"]:
        for step, point in list(enumerate(panel["path"]))[::EVERY]:
            yield panel["title"], panel["subtitle"], step, *map(float, point)


def _spectra(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "name", "what", "gamma", "closed form", "measured"
    for name, sides in data["spectra"].items():
        for form, measured in zip(*sides, strict=True):
            for what, part in (("Re", np.real), ("Im", np.imag)):
                yield name, f"{what} of an eigenvalue", "", float(part(form)), float(part(measured))
    for name, curve in data["curves"].items():
        for gamma, measured, form in zip(*curve, strict=True):
            yield name, "largest Re", float(gamma), float(form), float(measured)


def _verdicts(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "row", "column", "converges", "as expected", "measured"
    for i, row in enumerate(data["rows"]):
        for j, column in enumerate(data["columns"]):
            yield row, column, *(data[key][i][j] for key in ("converges", "agrees", "words"))


def _atlas(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "panel", "method", "setting", "share of seeds that stand", "distance"
    for panel in data["panels"]:
        for method, shares in panel["shares"].items():
            far = panel["distances"][method]
            for setting, share, distance in zip(panel["columns"], shares, far, strict=True):
                yield panel["title"], method, setting, share, distance


def _survival(data: Mapping[str, Any]) -> Iterator[Row]:
    yield "panel", "name", "what", "at", "value", "low", "high"
    for panel in data["panels"]:
        for name, curve in panel["curves"].items():
            for time, *shares in zip(curve["times"], *curve["shares"], strict=True):
                yield panel["title"], name, "share", int(time), *shares
            for time, n in curve["risk"]:
                yield panel["title"], name, "runs at risk", time, n, "", ""
    for panel in data["early"]:
        for name, (x, y) in panel["lines"].items():
            for at, value in zip(x, y, strict=True):
                yield panel["title"], name, panel["x"], float(at), float(value), "", ""


_KINDS: dict[str, Callable[[Mapping[str, Any]], Iterator[Row]]] = {
    "portraits": _portraits,
    "spectra": _spectra,
    "verdicts": _verdicts,
    "lines": _lines,
    "clouds": _clouds,
    "gallery": _gallery,
    "intervals": _intervals,
    "atlas": _atlas,
    "survival": _survival,
}
