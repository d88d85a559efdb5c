"""A map of where methods stand and fall, over samples of every method in the same settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .figures import colours
from .portraits import styled
from .views import INK, QUIET, View

YES, NO = "#009E73", "#D55E00"
_STANDS = LinearSegmentedColormap.from_list("stands", [NO, "#f3efe4", YES])
_CELL, _LEFT, _RIGHT, _NAMES = 0.24, 1.1, 1.1, 2.6  # inches, as all lengths here
_SIDE, _GAP = 1.5, 0.08


def atlas(data: Mapping[str, Any]) -> Figure:
    """Return panels that map where methods stand, each over rows of samples.

    A column for each setting, a row for each method, green where all seeds stand. Samples are
    clouds of points (N, d), beside ``real`` ones for the view, or pictures (H, W, 3) uint8.
    """
    panels = data["panels"]
    rows, columns = len(panels[0]["shares"]), len(panels[0]["columns"])
    shown = max(len(samples) for panel in panels for samples in panel["samples"].values())
    views = [_view(panel) for panel in panels]
    lines = [(view.height if view else 1.0) * _SIDE + 0.4 for view in views]
    heights = [
        _NAMES + _CELL * rows + 0.5 + line * len(panel["samples"])
        for panel, line in zip(panels, lines, strict=True)
    ]
    across = max(_LEFT + _CELL * columns + _RIGHT, shown * (_SIDE + _GAP) + 0.2)
    figure = Figure(figsize=(across, sum(heights)), dpi=150)
    top = sum(heights)
    for panel, view, line, height in zip(panels, views, lines, heights, strict=True):
        _map(figure, panel, top - 0.35 - _CELL * rows)
        for i, (setting, samples) in enumerate(panel["samples"].items()):
            below = top - height + 0.1 + (len(panel["samples"]) - 1 - i) * line
            _samples(figure, view, setting, samples, below, line - 0.4)
        top -= height
    return figure


def _view(panel: Mapping[str, Any]) -> View | None:
    """Return how clouds of points are looked at; None for pictures."""
    if "real" not in panel:
        return None
    clouds = [cloud for samples in panel["samples"].values() for cloud in samples.values()]
    return View.of(panel["real"], clouds)


def _map(figure: Figure, panel: Mapping[str, Any], bottom: float) -> None:
    across, up = figure.get_size_inches()
    rows, columns = len(panel["shares"]), len(panel["columns"])
    place = _LEFT / across, bottom / up, _CELL * columns / across, _CELL * rows / up
    axes = styled(figure.add_axes(place))
    axes.imshow(list(panel["shares"].values()), cmap=_STANDS, vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(rows), list(panel["shares"]), size=7)
    axes.set_xticks(range(columns), panel["columns"], size=5.5, rotation=90)
    axes.set_xticks([x - 0.5 for x in range(columns + 1)], minor=True)
    axes.set_yticks([y - 0.5 for y in range(rows + 1)], minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.grid(which="major", visible=False)
    axes.tick_params(which="both", length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.set_title(panel["title"], size=8, color=INK, loc="left")
    for i, (value, low, high) in enumerate(panel["total"].values()):
        text = f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
        axes.text(columns - 0.3, i, text, size=7, color=INK, va="center")


def _samples(
    figure: Figure,
    view: View | None,
    setting: str,
    samples: Mapping[str, Any],
    bottom: float,
    height: float,
) -> None:
    across, up = figure.get_size_inches()
    figure.text(0.1 / across, (bottom + height + 0.22) / up, setting, size=7, color=QUIET)
    for i, ((method, sample), colour) in enumerate(
        zip(samples.items(), colours(len(samples)), strict=True)
    ):
        left = 0.1 + i * (_SIDE + _GAP)
        figure.text(left / across, (bottom + height + 0.05) / up, method, size=7, color=INK)
        if view is not None:
            view.draw(figure, left, bottom, _SIDE, sample, colour)
            continue
        place = left / across, bottom / up, _SIDE / across, height / up
        axes = figure.add_axes(place)
        axes.imshow(sample, interpolation="nearest")
        axes.set_axis_off()
