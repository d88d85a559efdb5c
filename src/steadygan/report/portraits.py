"""Pictures of two-parameter games from plain arrays.

Trajectories over their field, spectra, rates and basins.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ..core.errors import SteadyganError
from ..runs.files import make_folder, whole
from .figures import colours, png
from .views import FRAME, INK, QUIET, panel

ENDINGS = (".png", ".pdf", ".svg")
_VERDICT = {
    True: "#009E73",
    None: "#E69F00",
    False: "#D55E00",
}  # as in the table of the terminal: green, yellow, red
_FIELD = "#b9c2cd"
_LETTER = 0.0079  # inches: the width of a letter of one point, about


@dataclass(frozen=True)
class Panel:
    """One method's phase portrait: a title, a quieter line below it, and a note below the picture.

    Attributes:
        path: The trajectory (T, 2) in (θ, ψ), which may end in inf or nan.
        grid: Points (n, n, 2).
        field: The field there (n, n, 2).
        converges: True, False, or None where the theory leaves it open; it colours the trajectory.
    """

    title: str
    subtitle: str
    note: str
    path: np.ndarray
    grid: np.ndarray
    field: np.ndarray
    converges: bool | None = None


def portrait_sheet(panels: Sequence[Panel], columns: int = 4) -> Figure:
    """Return the panels drawn row by row.

    Arrows along the field, the trajectory, its start as a ring and the equilibrium as a cross.

    Raises:
        SteadyganError: Without any panel.

    >>> import numpy as np
    >>> points = np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0]), axis=-1)
    >>> turning = points[..., ::-1] * [1, -1]
    >>> path = np.array([[1.0, -1.0], [0.9, -1.1]])
    >>> panel = Panel("WGAN", "simultaneous", "", path, points, turning)
    >>> portrait_sheet([panel]).axes[0].get_title()
    ''
    """
    if not panels:
        raise SteadyganError("there is nothing to draw: give at least one panel")
    columns = max(1, min(columns, len(panels)))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    size, gap, margin, key = 1.68, 0.14, 0.12, 0.3
    text = [
        [(_wrapped(p.subtitle, size, 6.2, 2), _wrapped(p.note, size, 6.2, 5)) for p in row]
        for row in rows
    ]
    # A row is as high as its longest texts ask for.
    heads = [0.17 + 0.105 * max(len(subtitle) for subtitle, _ in row) for row in text]
    feet = [0.14 + 0.105 * max(len(note) for _, note in row) for row in text]
    across = 2 * margin + columns * size + (columns - 1) * gap
    up = margin + len(rows) * size + sum(heads) + sum(feet) + key
    figure, top = Figure(figsize=(across, up), dpi=150), up - margin
    for row, lines, head, foot in zip(rows, text, heads, feet, strict=True):
        bottom = top - head - size
        for column, (content, (subtitle, note)) in enumerate(zip(row, lines, strict=True)):
            left = margin + column * (size + gap)
            draw_phase(panel(figure, left, bottom, size, size), content)

            def write(
                height: float,
                words: Sequence[str],
                points: float,
                x: float = left / across,
                **style: Any,
            ) -> None:
                figure.text(
                    x,
                    height / up,
                    "\n".join(words),
                    size=points,
                    va="baseline",
                    linespacing=1.15,
                    parse_math=False,
                    **style,
                )

            write(top - 0.1, _wrapped(content.title, size, 8.6, 1), 8, weight="bold", color=INK)
            write(top - 0.22, subtitle, 6.2, color=QUIET)
            write(bottom - 0.13, note, 6.2, color=QUIET)
        top = bottom - foot
    _key(figure, margin / across, 0.1 / up, columns > 2)
    return figure


def draw_phase(axes: Axes, content: Panel) -> None:
    """Draw one panel into axes, which take the extent of its grid."""
    colour = _VERDICT[content.converges]
    grid, field, path = content.grid, content.field, content.path
    length = np.hypot(field[..., 0], field[..., 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where((length > 1e-12)[..., None], field / length[..., None], np.nan)
    # Direction only: near the equilibrium the field is too short to be seen, and there it matters.
    axes.quiver(
        *(a.ravel() for a in (grid[..., 0], grid[..., 1], unit[..., 0], unit[..., 1])),
        color=_FIELD,
        angles="xy",
        pivot="mid",
        scale=17,
        width=0.007,
        headwidth=3.4,
        headlength=4,
        headaxislength=3.6,
        zorder=1,
    )
    low, high = grid.reshape(-1, 2).min(axis=0), grid.reshape(-1, 2).max(axis=0)
    reach = 10 * np.abs([low, high]).max()
    shown = path[
        : int(np.argmax(lost)) if (lost := ~(np.abs(path) < reach).all(axis=1)).any() else len(path)
    ]
    axes.plot(*shown.T, color=colour, linewidth=0.5, alpha=0.45, zorder=2)
    axes.scatter(shown[:, 0], shown[:, 1], s=2.6, color=colour, alpha=0.75, linewidths=0, zorder=3)
    axes.plot(0, 0, "+", color=INK, markersize=8, markeredgewidth=1.1, zorder=4)
    axes.plot(
        *path[:1].T,
        "o",
        markerfacecolor="white",
        markeredgecolor=INK,
        markersize=4.5,
        markeredgewidth=1.0,
        zorder=5,
    )
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")


def spectrum_figure(spectra: Mapping[str, Sequence[complex]]) -> Figure:
    """Return eigenvalues of one step drawn in the complex plane; one colour for each name.

    With the unit circle, inside which a step contracts.

    >>> len(spectrum_figure({"gan": [1 + 0.1j, 1 - 0.1j]}).axes)
    1
    """
    figure = Figure(figsize=(3.4, 3.4), dpi=150)
    draw_spectrum(_chart(figure), spectra)
    return figure


def draw_spectrum(axes: Axes, spectra: Mapping[str, Sequence[complex]]) -> None:
    """Draw eigenvalues into axes."""
    turn = np.linspace(0, 2 * np.pi, 400)
    axes.fill(np.cos(turn), np.sin(turn), color=FRAME, alpha=0.25, linewidth=0)
    axes.plot(np.cos(turn), np.sin(turn), color=QUIET, linewidth=0.8)
    axes.axhline(0, color=FRAME, linewidth=0.6)
    sizes = np.linspace(
        9, 3.5, len(spectra)
    )  # the later the smaller, so that equal eigenvalues show as rings
    for (name, values), colour, size in zip(
        spectra.items(), colours(len(spectra)), sizes, strict=True
    ):
        axes.plot(np.real(values), np.imag(values), "o", color=colour, markersize=size, label=name)
    found = np.concatenate([np.asarray(list(values), dtype=complex) for values in spectra.values()])
    half = 1.3 * max(0.2, np.abs(found.imag).max(), np.abs(1 - found.real).max())
    # All the spectra lie near 1 where steps are small: that is where the circle is looked at.
    axes.set(
        xlim=(1 - 1.6 * half, 1 + 0.4 * half),
        ylim=(-half, half),
        aspect="equal",
        xlabel="Re",
        ylabel="Im",
    )
    axes.legend(fontsize=6.5, frameon=False, labelcolor=INK, loc="lower left", handletextpad=0.2)


def rate_figure(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], label: str) -> Figure:
    """Return spectral radii of one step drawn against gamma or the learning rate.

    ``curves`` holds (x, radius) by name; above 1 the method does not converge.

    >>> import numpy as np
    >>> rates = {"r1": (np.array([0.1, 1.0]), np.array([0.99, 0.9]))}
    >>> rate_figure(rates, "gamma").axes[0].get_xlabel()
    'gamma'
    """
    figure = Figure(figsize=(3.4, 2.6), dpi=150)
    draw_rate(_chart(figure), curves, label)
    return figure


def draw_rate(axes: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], label: str) -> None:
    """Draw spectral radii into axes."""
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
    for (name, (x, y)), colour in zip(curves.items(), colours(len(curves)), strict=True):
        axes.plot(x, y, color=colour, linewidth=1.3, label=name)
    lowest = min(float(np.min(y)) for _, y in curves.values())
    axes.set(
        xlabel=label, ylabel="spectral radius of a step", ylim=(min(0.98, lowest - 0.01), 1.05)
    )
    axes.legend(fontsize=6.5, frameon=False, labelcolor=INK)


def basin_figure(radii: np.ndarray, half: float, title: str = "") -> Figure:
    """Return the final distance from the equilibrium drawn over starts.

    Radii (n, n), ψ from row to row, θ along them, on [-half, half]².

    >>> import numpy as np
    >>> len(basin_figure(np.array([[1e-3, 1.0], [2.0, np.inf]]), 2.0).axes)
    2
    """
    figure = Figure(figsize=(3.6, 3.0), dpi=150)
    axes = _chart(figure)
    draw_basin(axes, radii, half, title)
    return figure


def draw_basin(axes: Axes, radii: np.ndarray, half: float, title: str = "") -> None:
    """Draw final distances into axes with their scale beside them.

    What is nearer than 1e-6 or farther than 1e2 has the end's colour.
    """
    image = axes.imshow(
        np.clip(radii, 1e-6, 1e2),
        origin="lower",
        extent=(-half, half, -half, half),
        cmap="viridis",
        norm=LogNorm(1e-6, 1e2),
        aspect="equal",
    )
    axes.plot(0, 0, "+", color="white", markersize=8)
    axes.set(xlabel="θ at the start", ylabel="ψ at the start")
    axes.set_title(title, size=8, color=INK, loc="left", parse_math=False)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label("final distance", size=7, color=QUIET)
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=6.5, labelcolor=QUIET, color=FRAME)
    bar.outline.set(color=FRAME)


def ending(path: str | Path) -> Path:
    """Return where a picture goes.

    Raises:
        SteadyganError: Unless it ends in .png, .pdf or .svg.

    >>> ending("dirac.jpg")
    Traceback (most recent call last):
    steadygan.core.errors.SteadyganError: a picture ends in .png, .pdf or .svg; 'dirac.jpg' does
    not: choose another name
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise SteadyganError(
            f"a picture ends in .png, .pdf or .svg; {str(path)!r} does not: choose another name"
        )
    return path


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Save a figure as PNG (256 colours), PDF or SVG by the ending.

    Returns:
        The file, the same bytes for the same figure.

    Raises:
        SteadyganError: As ``ending``.
    """
    path = ending(path)
    make_folder(path.parent)
    kind = path.suffix.lower()
    with whole(path) as file:
        if kind == ".png":
            file.write(png(figure))
        else:
            figure.savefig(
                file,
                format=kind[1:],
                metadata={"CreationDate": None} if kind == ".pdf" else {"Date": None},
            )
    return path


def _chart(figure: Figure) -> Axes:
    figure.set_layout_engine("constrained")
    return styled(figure.add_subplot())


def styled(axes: Axes) -> Axes:
    """Give axes with ticks the look of the report's curves.

    Returns:
        The axes.
    """
    axes.tick_params(labelsize=7, labelcolor=QUIET, color=FRAME)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(FRAME)
    axes.xaxis.label.set(size=8, color=QUIET)
    axes.yaxis.label.set(size=8, color=QUIET)
    return axes


def _key(figure: Figure, left: float, bottom: float, wide: bool) -> None:
    text = "across θ, upwards ψ;  o start,  + equilibrium" if wide else "across θ, upwards ψ"
    figure.text(left, bottom, text, size=6.5, color=QUIET)
    if not wide:
        return
    x = 1 - left
    words = (
        (False, "does not converge"),
        (None, "undecided"),
        (True, "converges"),
        (..., "at the equilibrium it"),
    )
    for converges, word in words:
        ink = QUIET if converges is ... else _VERDICT[converges]
        figure.text(
            x,
            bottom,
            word,
            size=6.5,
            weight="normal" if ink == QUIET else "bold",
            color=ink,
            ha="right",
        )
        x -= (6.5 * len(word) * 1.2 * _LETTER + 0.1) / figure.get_figwidth()


def _wrapped(text: str, width: float, points: float, most: int) -> list[str]:
    """Return the text in lines that fit into that many inches.

    What does not fit into ``most`` lines is cut.
    """
    room = int(width / (points * _LETTER))
    lines = textwrap.wrap(text, room)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: room - 1] + "…"]


__all__ = [
    "ENDINGS", "Panel", "basin_figure", "draw_basin", "draw_phase", "draw_rate", "draw_spectrum",
    "ending", "portrait_sheet",
    "rate_figure", "save_figure", "spectrum_figure", "styled",
]  # fmt: skip
