"""Samples as points.

Which way they are looked at, which of them are shown, and how they are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core.errors import SteadyganError
from ..runs.reading import Run, Snapshot
from ..runs.samples import read_points

INK, QUIET, FRAME, REAL = "#30363f", "#667080", "#d3d8df", "#8b95a3"
"""Text, secondary text, frames and real samples, in every picture."""

_LABEL = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
_SHOWN = 2000  # points in a picture: more of them weigh more and show nothing new
_STRIP, _GAP = 0.32, 0.05  # the panel of heights below a square one, in widths of the square


@dataclass(frozen=True)
class View:
    """How samples (N, d) are looked at.

    In the coordinates (x - centre) @ axes (d, k), k = 1, 2 or 3, within ``half`` of 0. ``real``
    (M, k) are the real samples in these coordinates. Three-dimensional samples are seen in the
    plane of the real ones, with their height off that plane beside it: a run can lift all its
    samples off the data while the picture within the plane looks perfect.
    """

    centre: np.ndarray
    axes: np.ndarray
    half: float
    real: np.ndarray
    caption: str

    @classmethod
    def of(cls, real: np.ndarray | None, generated: Iterable[np.ndarray]) -> View:
        """Return the view by the real samples (M, d), or without any by the generated ones.

        Its size is by these too where real is one point.

        Raises:
            SteadyganError: For samples of different dimensions.
        """
        clouds = [cloud[np.isfinite(cloud).all(axis=1)] for cloud in generated]
        d = (real if real is not None else clouds[0]).shape[1]
        for cloud in clouds:
            if cloud.shape[1] != d:
                raise SteadyganError(
                    f"samples of dimensions {d} and {cloud.shape[1]} belong to one problem;"
                    " report these runs apart"
                )
        real = np.zeros((0, d)) if real is None else real[np.isfinite(real).all(axis=1)]
        seen = (
            real
            if len(real)
            else np.concatenate(clouds)
            if sum(map(len, clouds))
            else np.zeros((1, d))
        )
        axes, caption = np.eye(d)[:, :2], {1: "", 2: ""}.get(d, f"the first two of {d} coordinates")
        centre = (seen.max(axis=0) + seen.min(axis=0)) / 2
        if d == 3 and len(seen) > 2:
            centre = seen.mean(axis=0)
            axes = np.linalg.svd(seen - centre, full_matrices=False)[2].T
            axes = axes * np.where(
                axes.sum(axis=0) < 0, -1, 1
            )  # the sign of a principal axis is arbitrary
            caption = (
                f"above: in the plane of the {'real' if len(real) else 'generated'}"
                " samples; below: height off that plane"
            )
        half = np.abs((seen - centre) @ axes)[:, :2].max()
        if half == 0:
            half = max(
                (
                    np.quantile(np.abs((cloud - centre) @ axes), 0.98)
                    for cloud in clouds
                    if len(cloud)
                ),
                default=0,
            )
        return cls(centre, axes, 1.4 * float(half) or 1.0, (real - centre) @ axes, caption)

    @property
    def height(self) -> float:
        """The height of the picture in units of its width."""
        return 1 + _GAP + _STRIP if self.axes.shape[1] == 3 else 1.0

    def draw(
        self,
        figure: Figure,
        left: float,
        bottom: float,
        width: float,
        samples: np.ndarray,
        colour: str,
    ) -> None:
        """Draw samples (N, d) over the real ones.

        Args:
            figure: To draw in.
            left: Edge, in inches from the figure's.
            bottom: Edge, in inches from the figure's.
            width: In inches.
            samples: The points.
            colour: Theirs.
        """
        finite = np.isfinite(samples).all(axis=1)
        seen = (samples[finite] - self.centre) @ self.axes
        inside = (np.abs(seen) <= self.half).all(axis=1)
        above = self.axes.shape[1] == 3
        square = panel(
            figure, left, bottom + (width * (_STRIP + _GAP) if above else 0), width, width
        )
        if self.axes.shape[1] == 1:
            for cloud, ink, alpha in ((self.real, REAL, 0.45), (seen, colour, 0.75)):
                if len(cloud):
                    square.hist(
                        cloud[:, 0],
                        bins=41,
                        range=(-self.half, self.half),
                        weights=np.full(len(cloud), 1 / len(cloud)),
                        color=ink,
                        alpha=alpha,
                    )
            square.set(xlim=(-self.half, self.half), ylim=(0, 1.05))
        else:
            _dots(square, self.real[:, :2], seen[:, :2], colour)
            square.set(xlim=(-self.half, self.half), ylim=(-self.half, self.half))
        if above:
            strip = panel(figure, left, bottom, width, width * _STRIP)
            _dots(strip, self.real[:, [0, 2]], seen[:, [0, 2]], colour)
            strip.set(xlim=(-self.half, self.half), ylim=(-self.half, self.half))
            strip.text(
                0.03,
                0.92,
                "height",
                transform=strip.transAxes,
                va="top",
                size=6,
                color=QUIET,
                bbox=_LABEL,
            )
        lost = [
            (len(finite) - finite.sum(), "not finite"),
            (finite.sum() - inside.sum(), "outside"),
        ]
        note = ", ".join(
            f"{max(1, round(100 * count / len(samples)))} % {what}" for count, what in lost if count
        )
        square.text(
            0.03,
            0.03,
            note,
            transform=square.transAxes,
            va="bottom",
            size=7,
            color=INK,
            bbox=_LABEL,
        )


def aligned(runs: Sequence[Run], columns: int) -> list[list[Snapshot | None]]:
    """Return each run's snapshots nearest to up to ``columns`` moments spread over training.

    None where none is near. Runs of one problem share their moments; runs of different problems
    have nothing to align.
    """
    rows: list[list[Snapshot | None]] = [[] for _ in runs]
    for group in _by_problem(runs):
        steps = sorted({held.step for i in group for held in runs[i].samples})
        if not steps:
            continue
        targets = np.linspace(
            steps[0], steps[-1], min(columns, max(len(runs[i].samples) for i in group))
        )
        moments = sorted({min(steps, key=lambda step: abs(step - target)) for target in targets})
        reach = min(np.diff(moments), default=1) / 2
        for i in group:
            near = [
                min(runs[i].samples, key=lambda held: abs(held.step - moment), default=None)
                for moment in moments
            ]
            rows[i] = [
                at if at and abs(at.step - moment) < reach else None
                for at, moment in zip(near, moments, strict=True)
            ]
    return rows


def views(runs: Sequence[Run], rows: Sequence[Sequence[Snapshot | None]]) -> list[View | None]:
    """Return the view for each run's snapshots, the same for all runs of one problem.

    None for a run whose samples are no points.
    """
    chosen: list[View | None] = [None] * len(runs)
    for group in _by_problem(runs):
        real = next(
            (read_points(path) for i in group if (path := runs[i].real) and path.suffix == ".npz"),
            None,
        )
        generated = [
            read_points(held.path)
            for i in group
            for held in rows[i]
            if held and held.path.suffix == ".npz"
        ]
        if generated:
            view = View.of(real, generated)
            for i in group:
                chosen[i] = view
    return chosen


def _by_problem(runs: Sequence[Run]) -> list[list[int]]:
    """Return the indices of the runs, those of one problem with the same settings together."""
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        groups.setdefault(json.dumps(run.config.get("problem"), sort_keys=True), []).append(i)
    return list(groups.values())


def scatter(samples: np.ndarray, view: View, colour: str) -> Figure:
    """Return samples (N, d) drawn over the real ones of the view, as a figure of its own."""
    width, margin = 2.6, 0.03
    figure = Figure(figsize=(width + 2 * margin, width * view.height + 2 * margin), dpi=150)
    view.draw(figure, margin, margin, width, samples, colour)
    return figure


def points(samples: np.ndarray, real: np.ndarray | None) -> bytes:
    """Return a PNG of samples (N, d) over real ones (M, d), seen by their own spread."""
    from .figures import colours, png

    return png(scatter(samples, View.of(real, [samples]), colours(1)[0]))


def panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes without ticks of that size and place, all in inches.

    Returns:
        The axes, empty.
    """
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=FRAME, linewidth=0.8)
    return axes


def _dots(axes: Axes, real: np.ndarray, generated: np.ndarray, colour: str) -> None:
    # Real dots are the larger ones: they still show as a halo where the generated ones cover them.
    axes.scatter(real[:_SHOWN, 0], real[:_SHOWN, 1], s=9, color=REAL, alpha=0.35, linewidths=0)
    axes.scatter(
        generated[:_SHOWN, 0], generated[:_SHOWN, 1], s=2.5, color=colour, alpha=0.6, linewidths=0
    )
