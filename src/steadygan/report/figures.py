"""The curves of a report and the picture that compares runs. Plain Figures, no global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from ..core.errors import SteadyganError
from ..runs.files import whole
from ..runs.reading import Run, Series
from ..runs.samples import read_shown
from .views import FRAME, QUIET, aligned, panel, views

# Okabe and Ito's colours, which colour-blind readers tell apart; their yellow is too light for
# lines on white.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D4A9C")
PANELS = {
    "critic loss without the penalty": ("critic_loss",),
    "penalty": ("penalty",),
    "generator loss": ("generator_loss",),
    "input gradient norm of the critic": ("gradient_norm_real", "gradient_norm_fake"),
    "logits of the critic": ("logit_real", "logit_fake"),
    "learning rate (of the critic dashed)": ("learning_rate_generator", "learning_rate_critic"),
}
"""What is drawn beside the metrics, by title: solid the first quantity, dashed the second."""

_BLOCKS = 100  # a long curve is drawn faintly, and its mean over so many blocks strongly
_LIMIT = 300_000  # bytes of the comparison picture, which lives in repositories


def colours(count: int) -> list[str]:
    """Return a colour for each of ``count`` runs; from the eighth on they repeat.

    >>> colours(2)
    ['#0072B2', '#D55E00']
    """
    return [_PALETTE[i % len(_PALETTE)] for i in range(count)]


def curves(runs: Sequence[Run]) -> dict[str, Figure]:
    """Return every quantity drawn over the steps, one small figure each, by title.

    A quantity without any finite value is left out. Each run keeps its colour of ``colours``. A
    triangle marks a warning, a cross a value that is not finite. Gradient norms and logits are
    solid at real samples, dashed at generated ones. Long curves are faint, their means over a
    hundred blocks strong. An axis is logarithmic where the range is large.
    """
    panels = {name: (name,) for run in runs for name in run.metrics} | PANELS
    drawn = {}
    for title, names in panels.items():
        if len(_values(runs, names)):
            drawn[title] = Figure(figsize=(3.1, 1.9), dpi=160)
            axes = panel(drawn[title], 0.5, 0.36, 2.5, 1.42)
            _draw(axes, runs, names, colours(len(runs)))
            scale(axes, _values(runs, names))
            axes.set_xlabel("step", size=8, color=QUIET, labelpad=1)
    return drawn


def comparison_picture(runs: Sequence[Run], path: str | Path, columns: int = 5) -> Path:
    """Save one row a run: its samples over training and a curve beside them.

    The curve is of the metric ``modes``, else ``sw1``, where all runs have it, else of the critic's
    loss.

    Returns:
        The PNG, 1,200 pixels wide and of at most 300 kB.

    Raises:
        SteadyganError: Where no run has samples.
    """
    rows = aligned(runs, columns)
    columns = max(map(len, rows), default=0)
    if not columns:
        raise SteadyganError(
            "none of the runs has samples yet: train for longer, or save samples more often"
        )
    seen = views(runs, rows)
    measured = next(
        (name for name in ("modes", "sw1") if all(name in run.metrics for run in runs)),
        "critic_loss",
    )
    total, margin, gap, head, chart = 8.0, 0.1, 0.07, 0.48, 2.0
    width = (total - 2 * margin - columns * gap - chart) / columns
    heights = [width * (view.height if view else 1) for view in seen]
    figure = Figure(figsize=(total, sum(heights) + head * len(runs) + margin), dpi=150)
    top = figure.get_figheight()
    titles = [run.title for run in runs]
    if len(set(titles)) < len(titles):
        titles = [f"{title} ({run.name})" for title, run in zip(titles, runs, strict=True)]
    charts: list[Any] = []
    for run, title, row, view, height, colour in zip(
        runs, titles, rows, seen, heights, colours(len(runs)), strict=True
    ):
        top -= head
        figure.text(
            margin / total,
            (top + 0.2) / figure.get_figheight(),
            _short(title),
            size=11,
            weight="bold",
            color=colour,
            parse_math=False,
        )
        for column, held in enumerate(row):
            if held is None:
                continue
            samples, left = read_shown(held.path), margin + column * (width + gap)
            if isinstance(samples, np.ndarray):
                view.draw(figure, left, top - height, width, samples, colour)
            else:
                panel(figure, left, top - height, width, height).imshow(
                    samples, interpolation="antialiased", aspect="auto"
                )
            place = ((left + width) / total, (top + 0.04) / figure.get_figheight())
            figure.text(*place, f"step {held.step:,}", size=7, color=QUIET, ha="right")
        axes = panel(
            figure, total - margin - chart + 0.35, top - height + 0.24, chart - 0.35, height - 0.24
        )
        if charts:
            axes.sharex(charts[0])
            axes.sharey(charts[0])
        _draw(axes, [run], (measured,), [colour])
        axes.set_title(measured.replace("_", " "), size=8, color=QUIET, pad=3, loc="left")
        charts.append(axes)
        top -= height
    scale(charts[0], _values(runs, (measured,)))
    path, image = Path(path), _image(figure)
    while len(data := _encoded(image)) > _LIMIT:
        shrink = min(0.95, (_LIMIT / len(data)) ** 0.5)
        image = image.resize(
            (round(image.width * shrink), round(image.height * shrink)), Image.Resampling.LANCZOS
        )
    with whole(path) as file:
        file.write(data)
    return path


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG of at most 256 colours, the same bytes for the same figure."""
    return _encoded(_image(figure))


def _image(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _series(run: Run, name: str) -> Series:
    """Return a metric or a logged quantity of the run, without points where it has none."""
    return (
        run.metrics.get(name)
        or run.logged.get(name)
        or Series(np.zeros(0, dtype=np.int64), np.zeros(0))
    )


def _values(runs: Sequence[Run], names: Sequence[str]) -> np.ndarray:
    """Return every finite value of these quantities in these runs."""
    values: np.ndarray = np.concatenate(
        [_series(run, name).values for run in runs for name in names]
    )
    kept: np.ndarray = values[np.isfinite(values)]
    return kept


def _draw(axes: Axes, runs: Sequence[Run], names: Sequence[str], inks: Sequence[str]) -> None:
    """Draw the first quantity of each run solid and the second dashed.

    With the marks of its warnings and non-finite values.
    """
    level = axes.get_xaxis_transform()  # steps along the axis, shares of its height upwards
    for run, ink in zip(runs, inks, strict=True):
        for name, line in zip(names, ("-", (0, (3, 1.5))), strict=False):
            logged = _series(run, name)
            steps, values = logged.thinned()
            finite = np.isfinite(values)
            if len(logged.steps) > 4 * _BLOCKS:
                axes.plot(
                    steps, np.where(finite, values, np.nan), color=ink, linewidth=0.6, alpha=0.3
                )
                axes.plot(*logged.averaged(_BLOCKS), color=ink, linewidth=1.3, linestyle=line)
            else:
                axes.plot(
                    steps,
                    np.where(finite, values, np.nan),
                    color=ink,
                    linewidth=1.3,
                    linestyle=line,
                    marker="o" if len(steps) <= 30 else "",
                    markersize=2.5,
                )
            # Before the first update there is nothing to log yet; only a value that was finite once
            # can have been lost.
            lost = steps[~finite & np.logical_or.accumulate(finite)]
            axes.plot(lost, np.full(len(lost), 0.93), "x", color=ink, markersize=4, transform=level)
        alarms = (
            sorted({warning.step for warning in run.warnings}) if len(_values([run], names)) else []
        )
        axes.vlines(
            alarms,
            0,
            1,
            color=ink,
            linewidth=0.6,
            alpha=0.25 if len(alarms) <= 12 else 0.06,
            transform=level,
        )
        axes.plot(
            alarms,
            np.ones(len(alarms)),
            "v",
            color=ink,
            markersize=4,
            clip_on=False,
            transform=level,
        )
    axes.tick_params(labelsize=7.5, labelcolor=QUIET, color=FRAME)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=FRAME, linewidth=0.5, alpha=0.6)


def scale(axes: Axes, held: np.ndarray) -> None:
    """Choose the axes' ticks, and a logarithmic scale for non-negative values of a large range."""
    # The highest value spares shares in [0, 1], which belong on a linear axis however small the
    # first of them is.
    if (
        len(held)
        and held.min() >= 0
        and held.max() > 1
        and held.max() > 100 * np.quantile(held[held > 0], 0.05)
    ):
        axes.set_yscale("log")
        axes.minorticks_off()
    else:
        axes.yaxis.set_major_locator(
            MaxNLocator(4, integer=bool((held == held.round()).all()))
        )  # counts have no halves
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.yaxis.get_offset_text().set(size=7, color=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _short(text: str) -> str:
    """Return the text as one line of at most 70 characters that can be drawn."""
    text = " ".join(text.encode(errors="replace").decode().split())
    return text if len(text) <= 70 else text[:69] + "…"
