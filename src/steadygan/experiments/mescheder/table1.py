"""Mescheder et al. 2018, Table 1: which methods converge locally.

Measured by linearising and by playing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...analysis.table1 import CASES, METHODS, Verdict, table1
from ..spec import Experiment, Findings, Row, Source, fact


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Measure every cell of the table.

    Returns:
        A row for each cell, and the table.
    """
    methods = (
        [method for method in METHODS if method.name in settings["methods"]]
        if settings["methods"]
        else METHODS
    )
    cells = table1(methods)
    grid = [
        [
            next(cell for cell in cells if (cell.method, cell.case) == (method.name, case))
            for case in CASES
        ]
        for method in methods
    ]
    data = {
        "rows": [method.name for method in methods],
        "columns": list(CASES),
        "converges": [[cell.converges for cell in row] for row in grid],
        "agrees": [[cell.agrees for cell in row] for row in grid],
        "words": [[words(cell) for cell in row] for row in grid],
    }
    notes = (
        "The general case is the Dirac-GAN; the absolutely continuous one is N(0, 1) against μ +"
        " s z with a quadratic critic.",
        "Yes or no is from the play: a start 0.1 away in each parameter must come a thousand"
        " times closer. The expected verdicts are partly"
        " recalled from the paper and not re-read.",
    )
    return Findings(tuple(row(cell) for cell in cells), "verdicts", data, notes)


def words(cell: Verdict) -> str:
    """Return the slowest mode and how the distance shrank."""
    played = f"distance × {cell.ratio:.2g} in {cell.steps} steps"
    if cell.eigenvalues is None:
        return f"no eigenvalues; {played}"
    # A zero of the analysis is one to within rounding.
    slowest = max(value.real for value in cell.eigenvalues)
    return f"Re λ = {slowest if abs(slowest) > 1e-12 else 0.0:.3g}; {played}"


def row(cell: Verdict) -> Row:
    """Return the row of one cell."""
    answer = {True: "converges locally", False: "does not converge"}
    found = fact(
        f"{cell.method}, {cell.case}",
        Source("Mescheder et al. 2018, Table 1", known="recalled"),
        answer[cell.recalled],
        "yes or no",
        f"{answer[cell.converges]}: {words(cell)}",
        cell.agrees,
    )
    return found if cell.agrees else replace(found, why=cell.reason or "")


EXPERIMENT = Experiment(
    name="mescheder-table1",
    what="which methods converge locally, absolutely continuous and general case",
    source="Mescheder et al. 2018, Table 1",
    scales={
        "quick": {"methods": ()},
        "paper": {"methods": ()},
        "tiny": {"methods": ("unregularized", "R1")},
    },
    cost={"quick": "half a minute", "paper": "the same", "tiny": "seconds"},
    run=run,
)
