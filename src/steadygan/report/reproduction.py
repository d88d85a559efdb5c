"""The figures of reproduced experiments, from plain arrays.

Phase portraits, spectra, verdicts, curves, intervals and clouds of samples.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ..core.errors import unknown
from .atlas import NO, YES, atlas
from .figures import colours
from .portraits import Panel, portrait_sheet, save_figure, styled
from .survival import survival
from .views import FRAME, INK, QUIET, View

_LIMIT = 300_000  # bytes, because these pictures live in the repository


def draw(kind: str, data: Mapping[str, Any]) -> Figure:
    """Return the data of a picture of that kind, drawn.

    Raises:
        SteadyganError: For another kind.

    >>> lines = {"a": ([1, 2], [3, 4])}
    >>> panel = {"title": "t", "x": "x", "y": "y", "log": False, "lines": lines}
    >>> len(draw("lines", {"panels": [panel]}).axes)
    1
    """
    if kind not in _KINDS:
        raise unknown("kind of picture", kind, _KINDS)
    return _KINDS[kind](data)


def save_small(figure: Figure, path: Path) -> Path:
    """Save a figure as a PNG of at most 300 kB, coarser where it must be.

    Returns:
        The file.
    """
    while save_figure(figure, path).stat().st_size > _LIMIT:
        figure.set_dpi(0.85 * figure.get_dpi())
    return path


def _portraits(data: Mapping[str, Any]) -> Figure:
    return portrait_sheet([Panel(**panel) for panel in data["panels"]], columns=data["columns"])


def _spectra(data: Mapping[str, Any]) -> Figure:
    """Return closed forms as rings, measured eigenvalues as dots, and real parts against gamma."""
    figure = Figure(figsize=(9.2, 4.8), dpi=150, layout="constrained")
    left, right = (styled(axes) for axes in figure.subplots(1, 2))
    spectra = data["spectra"]
    for i, ((name, (form, measured)), colour) in enumerate(
        zip(spectra.items(), colours(len(spectra)), strict=True)
    ):
        left.plot(
            form.real,
            form.imag,
            "os"[i // 7 % 2],
            markersize=7,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=0.9,
        )
        left.plot(
            measured.real,
            measured.imag,
            "os"[i // 7 % 2],
            color=colour,
            markersize=2.6,
            label=name,
            linewidth=0,
        )
    left.axvline(0, color=FRAME, linewidth=0.8, zorder=0)
    left.set(xlabel="Re λ", ylabel="Im λ")
    left.legend(
        fontsize=6.5,
        frameon=False,
        labelcolor=INK,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=3,
        handletextpad=0.2,
    )
    left.set_title(
        "rings: closed forms; dots: automatic differentiation", size=8, color=INK, loc="left"
    )
    for (name, (gammas, measured, form)), colour in zip(
        data["curves"].items(), colours(len(data["curves"])), strict=True
    ):
        right.plot(gammas, form, color=colour, linewidth=1.2, label=name)
        right.plot(gammas, measured, "o", color=colour, markersize=3)
    right.set(xscale="log", xlabel="γ", ylabel="largest Re λ: lowest where γ is critical")
    right.minorticks_off()
    right.legend(fontsize=6.5, frameon=False, labelcolor=INK)
    right.set_title("the slowest mode; lines: closed forms", size=8, color=INK, loc="left")
    return figure


def _verdicts(data: Mapping[str, Any]) -> Figure:
    """Return a table of yes and no; a cell that disagrees with what was expected has a frame."""
    rows, columns = data["rows"], data["columns"]
    figure = Figure(
        figsize=(1.6 + 2.8 * len(columns), 0.5 + 0.36 * len(rows)), dpi=150, layout="constrained"
    )
    axes = figure.add_subplot()
    for i, (converges, agrees, words) in enumerate(
        zip(data["converges"], data["agrees"], data["words"], strict=True)
    ):
        for j in range(len(columns)):
            edge = (INK, 2.0) if not agrees[j] else ("white", 1.0)
            axes.barh(
                i,
                0.98,
                left=j,
                height=0.92,
                color=YES if converges[j] else NO,
                alpha=0.3,
                linewidth=0,
            )
            axes.barh(
                i, 0.98, left=j, height=0.92, fill=False, edgecolor=edge[0], linewidth=edge[1]
            )
            answer = "converges" if converges[j] else "does not converge"
            axes.text(j + 0.03, i - 0.14, answer, size=7, weight="bold", color=INK, va="center")
            axes.text(
                j + 0.03, i + 0.2, words[j], size=5.5, color=QUIET, va="center", parse_math=False
            )
    axes.set(
        xlim=(0, len(columns)),
        ylim=(len(rows) - 0.5, -0.5),
        yticks=range(len(rows)),
        yticklabels=rows,
    )
    axes.set_xticks([j + 0.49 for j in range(len(columns))], columns)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.spines[:].set_visible(False)
    if not all(all(row) for row in data["agrees"]):
        axes.text(0, len(rows) - 0.42, "framed: not as expected", size=6, color=QUIET, va="top")
    return figure


def _lines(data: Mapping[str, Any]) -> Figure:
    """Return panels of curves beside each other, four in a row; those of categories as bars.

    What has the same name has the same colour in all.
    """
    panels = data["panels"]
    of = _coloured([panel.get("bars", panel.get("lines")) for panel in panels])
    columns = min(len(panels), 4)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(3.4 * columns, 3.3 * rows), dpi=150, layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for axes in places[len(panels) :]:
        axes.axis("off")
    for panel, axes in zip(panels, places, strict=False):
        styled(axes)
        _bars(axes, panel["bars"], of) if "bars" in panel else _curves(axes, panel, of)
        axes.set(xlabel=panel["x"], ylabel=panel["y"])
        axes.set_title(panel["title"], size=8, color=INK, loc="left")
        axes.legend(
            fontsize=6,
            frameon=False,
            labelcolor=INK,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=3,
        )
    return figure


def _coloured(panels: Sequence[Iterable[str]]) -> dict[str, str]:
    """Return the colour of each name, the same in all panels, one of its own in each.

    >>> _coloured(["ab", "bc", "d"])
    {'a': '#0072B2', 'b': '#D55E00', 'c': '#009E73', 'd': '#CC79A7'}
    """
    of = dict[str, str]()
    for names in panels:
        new = [name for name in names if name not in of]
        taken = [of.get(name) for name in names]
        free = [colour for colour in colours(7) if colour not in taken] or colours(7)
        fresh = sorted(free, key=list(of.values()).count)
        of |= zip(new, itertools.cycle(fresh), strict=False)
    return of


def _curves(axes: Axes, panel: Mapping[str, Any], of: Mapping[str, str]) -> None:
    for i, (name, (x, y)) in enumerate(panel["lines"].items()):
        axes.plot(
            x,
            y,
            color=of[name],
            linewidth=1.2,
            marker="o",
            markersize=2.5,
            label=name,
            linestyle="--" if i >= 7 else "-",
        )
    if panel["log"]:
        axes.set(xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):
            _several(axis)


def _several(axis: Axis) -> None:
    """Give a logarithmic axis more than one tick with a number, however short it is."""
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    if decades < 3:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0)))
        axis.set_major_formatter("{x:.3g}")
    axis.set_minor_locator(NullLocator())


def _bars(
    axes: Axes,
    bars: Mapping[str, tuple[Sequence[str], Sequence[float]]],
    of: Mapping[str, str],
) -> None:
    """Draw a group of bars for each category."""
    width = 0.8 / len(bars)
    for i, (name, (categories, values)) in enumerate(bars.items()):
        places = np.arange(len(categories)) + (i - (len(bars) - 1) / 2) * width
        axes.bar(places, values, width, color=of[name], label=name)
        axes.set_xticks(range(len(categories)), [c.replace(" ", "\n") for c in categories])


def _clouds(data: Mapping[str, Any]) -> Figure:
    """Return a row of samples for each title over the real ones, a column for each head."""
    cells: Sequence[Sequence[np.ndarray]] = data["cells"]
    view = View.of(data["real"], [cloud for row in cells for cloud in row])
    columns = len(data["heads"])
    width, gap, head = 1.5 if columns > 1 else 3.0, 0.08, 0.4
    height = width * view.height
    figure = Figure(
        figsize=(columns * (width + gap) + gap, len(cells) * (height + head) + gap), dpi=150
    )
    across, up = figure.get_size_inches()
    for i, (row, title, colour) in enumerate(
        zip(cells, data["titles"], colours(len(cells)), strict=True)
    ):
        top = up - i * (height + head)
        figure.text(gap / across, (top - 0.16) / up, title, size=8.5, weight="bold", color=colour)
        for j, (cloud, words) in enumerate(zip(row, data["heads"], strict=True)):
            left = gap + j * (width + gap)
            view.draw(figure, left, top - head - height, width, cloud, colour)
            figure.text(left / across, (top - head + 0.05) / up, words, size=6.5, color=QUIET)
    return figure


def _gallery(data: Mapping[str, Any]) -> Figure:
    """Return a row of pictures (H, W, 3) uint8 for each title, a column for each head."""
    cells: Sequence[Sequence[np.ndarray]] = data["cells"]
    rows, columns, side = len(cells), len(data["heads"]), 1.5
    figure = Figure(
        figsize=(columns * side + 0.3, rows * side + 0.3), dpi=150, layout="constrained"
    )
    for i, (row, title) in enumerate(
        zip(figure.subplots(rows, columns, squeeze=False), data["titles"], strict=True)
    ):
        for axes, picture, head in zip(row, cells[i], data["heads"], strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if i == 0:
                axes.set_title(head, size=8, color=INK)
        row[0].set_ylabel(title, size=8, color=INK)
    return figure


def _intervals(data: Mapping[str, Any]) -> Figure:
    """Return an interval for each group, a panel each, over faint marks.

    What is not finite stands at the right edge.
    """
    panels = data["panels"]
    rows = len(panels[0]["groups"])
    width = 1.6 + 2.3 * len(panels)
    caption = textwrap.wrap(data["caption"], int(21 * width))  # so many letters to the inch
    height = 0.8 + 0.26 * rows + 0.1 * len(caption)
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    for i, (panel, axes) in enumerate(
        zip(panels, figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], strict=True)
    ):
        styled(axes)
        axes.set(xscale="log", xlabel=data["x"], ylim=(rows - 0.4, -0.6))
        every = [
            x
            for group in panel["groups"].values()
            for x in (*group["faint"], *group["interval"])
            if np.isfinite(x) and x > 0
        ]
        # A wide interval may reach far; what is as near as real samples are is near enough.
        floor = panel["floor"]
        low = max(min([floor, *every]), floor / 2) / 1.3
        high = min(max([floor, *every]), 30 * floor) * 1.3
        axes.set_xlim(low, high)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.axvline(floor, color=QUIET, linewidth=0.8, linestyle=":")
        for y, (group, colour) in enumerate(
            zip(panel["groups"].values(), colours(rows), strict=True)
        ):
            faint = np.nan_to_num(np.array(group["faint"], dtype=float), nan=np.inf).clip(low, high)
            axes.plot(
                faint,
                np.full(len(faint), y + 0.22),
                "|",
                color=colour,
                alpha=0.45,
                markersize=4,
                clip_on=False,
            )
            found = np.nan_to_num(np.array(group["interval"], dtype=float), nan=np.inf)
            value, *ends = found.clip(low, high)
            axes.plot(ends, [y, y], color=colour, linewidth=1.6)
            axes.plot([value], [y], "o", color=colour, markersize=4, clip_on=False)
            # An end that lies outside, or below 0 on this axis, is an arrow at the edge.
            for end, edge, mark in ((found[1], low, "<"), (found[2], high, ">")):
                if (end < edge) if mark == "<" else (end > edge):
                    axes.plot([edge], [y], mark, color=colour, markersize=4, clip_on=False)
        axes.set_title(panel["title"], size=8, color=INK, loc="left")
        if i == 0:
            axes.set_yticks(range(rows), panel["groups"])
            axes.tick_params(axis="y", labelcolor=INK)
    figure.supxlabel("\n".join(caption), size=6, color=QUIET)
    return figure


_KINDS: dict[str, Callable[[Mapping[str, Any]], Figure]] = {
    "portraits": _portraits,
    "spectra": _spectra,
    "verdicts": _verdicts,
    "lines": _lines,
    "clouds": _clouds,
    "gallery": _gallery,
    "intervals": _intervals,
    "atlas": atlas,
    "survival": survival,
}
