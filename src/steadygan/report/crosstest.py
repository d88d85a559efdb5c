"""The cross-test of runs as a picture, from what `steadygan crosstest` kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..runs.reading import Run, crosstest

_MATRICES = {
    "false_positives": "taken for real (false positives)",
    "auc": "AUC: test samples above them",
}


def picture(kept: dict[str, Any]) -> Figure:
    """Return both matrices drawn: a row for each discriminator, a column for each model."""
    names = kept["names"]
    side = 0.9 + 0.75 * len(names)
    figure = Figure(figsize=(2 * side + 1.2, side), dpi=140, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (key, title) in zip(figure.subplots(1, 2), _MATRICES.items(), strict=True):
        values = [[cell["value"] for cell in row] for row in kept[key]]
        axes.imshow(values, vmin=0, vmax=1, cmap="Blues")
        axes.set_title(title, size=9)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", size=8)
        axes.set_yticks(range(len(names)), names, size=8)
        axes.set_xlabel("samples of", size=8)
        axes.set_ylabel("discriminator of", size=8)
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                axes.text(
                    j,
                    i,
                    f"{value:.3f}",
                    ha="center",
                    va="center",
                    size=8,
                    color="white" if value > 0.6 else "black",
                )
    return figure


def crosstests(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the cross-tests that runs keep, each once.

    Raises:
        SteadyganError: For a damaged one.
    """
    found: list[dict[str, Any]] = []
    for run in runs:
        kept = crosstest(run.folder)
        if kept is not None and kept not in found:
            found.append(kept)
    return found
