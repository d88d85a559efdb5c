"""The page about a sweep: every run a row, what each setting does, the best, and what fell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..core.errors import SteadyganError
from ..runs.files import write_text
from ..runs.format import REPORT
from ..runs.table import Row, Table, better, by_seed, over_seeds, read_table
from .figures import png
from .page import page, source
from .views import FRAME, INK, QUIET, panel

_AXES = 10  # settings that are drawn; what varies beyond them is in the table
_NEAR = 6  # neighbours of the best that are shown
_FALLEN = "#B9534B"


def write_sweep(
    place: str | Path, path: str | Path | None = None, *, by: str | None = None
) -> Path:
    """Write the page about all runs below a folder.

    Args:
        place: The folder.
        path: Where the page goes; by default report.html in the folder.
        by: The metric that runs are judged by; by default the first one that differs.

    Returns:
        The page's path.

    Raises:
        SteadyganError: For a folder without runs, and for a metric that they do not have.
    """
    place = Path(place)
    path = Path(path) if path is not None else place / REPORT
    if path.is_dir():
        raise SteadyganError(f"{path} is a folder; give the file to write, such as {path / REPORT}")
    found = read_table([place])
    if by is not None and by not in found.metrics:
        if not found.metrics:
            raise SteadyganError(f"The runs below {place} have no {by} yet, nor any other metric.")
        raise SteadyganError(f"The runs have no {by}, only {', '.join(found.metrics)}.")
    metric = by or _measure(found)
    drawn = [] if metric is None else list(marginals(found, metric).items())
    fallen = [row for row in found.rows if row.state != "finished"]
    kinds = Counter(kind for row in found.rows for kind in row.warnings)
    pictures = parallel(found, metric)
    text = page(
        "sweep.html.jinja",
        name=place.resolve().name,
        states=Counter(row.state for row in found.rows).most_common(),
        table=found,
        metric=metric,
        side="less" if better(metric or "") is min else "more",
        best=[] if metric is None else neighbours(found, metric),
        parallel=None if pictures is None else source(png(pictures)),
        marginals=[(title, source(png(figure))) for title, figure in drawn],
        fallen=fallen,
        kinds=kinds.most_common(),
    )
    write_text(path, text)
    return path


def neighbours(found: Table, metric: str) -> list[dict[str, Any]]:
    """Return the best setting by its mean over seeds, and those beside it.

    Those that differ from it in one option; where there is none, the next best ones. Each with its
    settings, what is different, its mean, and its interval where it has seeds. Settings of which a
    run has fallen are behind all others.
    """
    side = better(metric) or min
    sign = 1 if side is min else -1

    def score(group: Sequence[Row]) -> tuple[int, float]:
        fallen = sum(not math.isfinite(row.metrics.get(metric, math.nan)) for row in group)
        values = over_seeds(group, metric)
        return fallen, sign * fmean(values) if values else math.inf

    ranked = sorted((g for g in found.groups if g[0].state != "damaged"), key=score)
    if not ranked or math.isinf(score(ranked[0])[1]):
        return []
    first = ranked[0][0].settings

    def changed(group: Sequence[Row]) -> list[str]:
        here = group[0].settings
        names = [n for n in found.differing if here.get(n) != first.get(n)]
        # r1 to js changes gamma too, which is no second thing.
        return list(dict.fromkeys(name.partition(".")[0] for name in names))

    beside = [group for group in ranked[1:] if len(changed(group)) == 1][:_NEAR]
    return [
        {
            "settings": group[0].settings,
            "changed": changed(group),
            "seeds": len(by_seed(group)),
            "mean": score(group)[1] * sign,
            "interval": found.interval(group, metric),
            "fallen": score(group)[0],
        }
        for group in [ranked[0], *(beside or ranked[1:_NEAR])]
    ]


def parallel(found: Table, metric: str | None) -> Figure | None:
    """Return all runs as lines over their settings, in the colour of the metric.

    None where nothing differs. Runs without a number are red and stop before it.
    """
    names = list(found.shown.items())[:_AXES]
    if not names:
        return None
    rows = [row for row in found.rows if row.state != "damaged"]
    columns = {shown: _places([row.settings.get(name) for row in rows]) for shown, name in names}
    ends = [row.metrics.get(metric or "", math.nan) for row in rows]
    if metric is not None:
        columns[metric] = _places(ends)
    width = max(4.5, 1.5 * len(columns))
    figure = Figure(figsize=(width, 3.2), dpi=150)
    axes = panel(figure, 0.6, 0.35, width - 1.0, 2.45)
    span = _span(ends)
    jitter = np.random.default_rng(0).uniform(-0.012, 0.012, len(rows))
    for i, end in enumerate(ends):
        ys = [places[i] + jitter[i] for places, _ in columns.values()]
        alive = math.isfinite(end)
        shown = ys if alive or metric is None else ys[:-1]
        ink = _ink(end, span) if alive else (_FALLEN if metric else INK)
        axes.plot(range(len(shown)), shown, color=ink, linewidth=1.1, alpha=0.75)
    for x, (name, (_, ticks)) in enumerate(columns.items()):
        axes.axvline(x, color=FRAME, linewidth=1)
        for y, text in ticks:
            axes.text(
                x + 0.03, y, _short(text), size=6.5, color=INK, va="center", parse_math=False,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.6},
            )  # fmt: skip
        axes.text(
            x, 1.08, _short(name), size=7.5, color=INK, weight="bold", ha="center", parse_math=False
        )
    axes.set_xlim(-0.1, len(columns) - 0.6)
    axes.set_ylim(-0.06, 1.06)
    axes.set_axis_off()
    return figure


def marginals(found: Table, metric: str) -> dict[str, Figure]:
    """Return the metric over each setting that differs: a dot a run, a line through the medians."""
    drawn = {}
    rows = [row for row in found.rows if math.isfinite(row.metrics.get(metric, math.nan))]
    for shown, name in list(found.shown.items())[:_AXES]:
        here = [row for row in rows if row.settings.get(name) is not None]
        values = [row.settings[name] for row in here]
        ys = [row.metrics[metric] for row in here]
        if len(set(map(str, values))) < 2:
            continue
        drawn[shown] = figure = Figure(figsize=(3.1, 1.9), dpi=160)
        axes = panel(figure, 0.55, 0.4, 2.45, 1.4)
        _marginal(axes, values, ys)
        axes.tick_params(labelsize=7, labelcolor=QUIET, color=FRAME)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel(metric, size=7.5, color=QUIET)
    return drawn


def _marginal(axes: Axes, values: Sequence[Any], ys: Sequence[float]) -> None:
    words = sorted(set(map(str, values)))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    xs: list[float] = [v if numbers else words.index(str(v)) for v in values]
    if numbers and min(xs) > 0 and max(xs) > 20 * min(xs):
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.plot(xs, ys, "o", color="#0072B2", markersize=3, alpha=0.6)
    stops = sorted(set(xs))
    if len(stops) < len(xs):  # several runs share a value
        middle = [median(y for x, y in zip(xs, ys, strict=True) if x == stop) for stop in stops]
        line = "-" if numbers else "none"  # nothing lies between words
        axes.plot(stops, middle, linestyle=line, color=INK, linewidth=1.2, marker="_", markersize=9)
    if numbers:
        marks = stops if len(stops) <= 5 else [min(stops), max(stops)]
        axes.set_xticks(marks, [f"{mark:.3g}" for mark in marks])
    else:
        shown = [_short(word, 14) for word in words]
        axes.set_xticks(range(len(words)), shown, parse_math=False)
        axes.set_xlim(-0.5, len(words) - 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _measure(found: Table) -> str | None:
    """Return what runs are judged by: the first metric that differs and has a better side."""
    for name in found.metrics:
        values = {v for row in found.rows if math.isfinite(v := row.metrics.get(name, math.nan))}
        if better(name) and len(values) > 1:
            return name
    return None


def _places(values: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Return where values lie on an axis from 0 to 1, and what is written beside it."""
    held = [v for v in values if isinstance(v, int | float) and math.isfinite(v)]
    if held and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        low, high = min(held), max(held)
        log = low > 0 and high > 20 * low

        def place(value: float) -> float:
            if not math.isfinite(value) or high == low:
                return 0.5
            if log:
                return math.log(value / low) / math.log(high / low)
            return (value - low) / (high - low)

        marks = sorted(set(held)) if len(set(held)) <= 6 else [low, high]
        return [place(v) for v in values], [(place(v), f"{v:.3g}") for v in marks]
    words = ["–" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]
    order = list(dict.fromkeys(words))
    spots = {w: (i + 0.5) / len(order) for i, w in enumerate(order)}
    return [spots[w] for w in words], [(y, w) for w, y in spots.items()]


def _span(ends: Sequence[float]) -> Normalize:
    finite = [end for end in ends if math.isfinite(end)] or [0.0]
    return Normalize(min(finite), max(finite))


def _ink(end: float, span: Normalize) -> str:
    return to_hex(colormaps["viridis"](0.9 * float(span(end))))


def _short(text: str, limit: int = 22) -> str:
    text = " ".join(text.encode(errors="replace").decode().split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
