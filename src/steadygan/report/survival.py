"""Survival curves with their bands, and how many runs are still seen at each of some times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from .figures import colours
from .portraits import styled
from .views import INK, QUIET

CHANCE = "chance"
_BELOW = 0.13  # inches: a line of the table of runs at risk


def survival(data: Mapping[str, Any]) -> Figure:
    """Return panels of step curves beside each other, two in a row, then panels of lines.

    Below each of the former stands how many runs of every curve are at risk at a time: seen until
    then, and not ended before.
    """
    panels = [*data["panels"], *data["early"]]
    rows = (len(panels) + 1) // 2
    count = max(len(panel["curves"]) for panel in data["panels"])
    across, up, left, foot = 4.6, 2.9 + _BELOW * count, 1.15, 0.62 + _BELOW * count
    figure = Figure(figsize=(2 * across, rows * up), dpi=150)
    for i, panel in enumerate(panels):
        x, y = i % 2 * across + left, (rows - 1 - i // 2) * up + foot
        width, height = across - left - 0.25, up - foot - 0.3
        place = x / 2 / across, y / rows / up, width / 2 / across, height / rows / up
        axes = styled(figure.add_axes(place))
        axes.set_title(panel["title"], size=8, color=INK, loc="left")
        axes.set(xlabel=panel["x"], ylim=(-0.02, 1.02))
        if "lines" in panel:
            _lines(axes, panel)
            continue
        last = panel["end"] * 1.01
        axes.set_xlim(0, last)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for j, ((name, curve), colour) in enumerate(
            zip(panel["curves"].items(), colours(count), strict=False)
        ):
            _curve(axes, curve, colour)
            line = (y - 0.46 - _BELOW * j) / rows / up
            figure.text(
                (x - 0.22) / 2 / across, line, name, size=6, color=colour, ha="right", va="center"
            )
            for at, n in curve["risk"]:
                middle = (x + width * at / last) / 2 / across
                figure.text(middle, line, f"{n}", size=6, color=QUIET, ha="center", va="center")
    return figure


def _curve(axes: Axes, curve: Mapping[str, Any], colour: str) -> None:
    """Draw a share over its times within its band, up to where the last run was seen."""
    times = [*curve["times"], curve["until"]]
    share, low, high = ([*each, each[-1]] for each in curve["shares"])
    axes.fill_between(times, low, high, step="post", color=colour, alpha=0.13, linewidth=0)
    axes.step(times, share, where="post", color=colour, linewidth=1.4)
    axes.plot(times[-1], share[-1], "|", color=colour, markersize=7)


def _lines(axes: Axes, panel: Mapping[str, Any]) -> None:
    """Draw lines of shares; that of chance is faint."""
    axes.set_ylabel(panel["y"])
    named = [name for name in panel["lines"] if name != CHANCE]
    for name, colour in zip(named, colours(len(named)), strict=True):
        axes.plot(*panel["lines"][name], color=colour, linewidth=1.4, label=name)
    if CHANCE in panel["lines"]:
        axes.plot(*panel["lines"][CHANCE], ":", color=QUIET, linewidth=1, label=CHANCE)
    axes.legend(
        fontsize=6, frameon=False, labelcolor=INK, loc="upper center", bbox_to_anchor=(0.5, -0.2)
    )
