"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from rich.table import Table


class Record(Protocol):
    """What a row of the convergence table is made from (``analysis.convergence.Record``)."""

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data."""


def records(rows: Sequence[Record]) -> Table:
    """Return the table of methods: spectrum of the field, its difference from the closed form,
    step, limits and the verdict in words."""
    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="bold", expand=False)
    for head in (
        "method",
        "λ of the field",
        "closed form",
        "radius of a step",
        "critical γ",
        "largest lr",
        "verdict",
    ):
        table.add_column(head, overflow="fold")
    for row in (record.to_json() for record in rows):
        method = [
            *(
                row[key]
                for key in ("objective", "regularizer", "smoothing", "dynamics")
                if row[key]
            ),
            f"lr={row['lr']:g}",
        ]
        colour = {True: "green", False: "red", None: "yellow"}[row["converges"]]
        table.add_row(
            "\n".join(method),
            "\n".join(map(_number, row["eigenvalues"] or ["-"])),
            _difference(row["eigenvalues"], row["closed_form_eigenvalues"]),
            "-" if row["spectral_radius"] is None else f"{row['spectral_radius']:.8g}",
            *(
                "-" if row[key] is None else f"{row[key]:.6g}"
                for key in ("critical_gamma", "max_stable_lr")
            ),
            f"[{colour}]{row['reason']}[/{colour}]",
        )
        table.add_section()
    return table


def _difference(measured: list[list[float]] | None, closed: list[list[float]] | None) -> str:
    if measured is None or closed is None:
        return "-"
    worst = max(abs(complex(*a) - complex(*b)) for a, b in zip(measured, closed, strict=True))
    return "\n".join([*map(_number, closed), f"differs by {worst:.0e}"])


def _number(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    real, imaginary = value
    return f"{real:.5g}" if abs(imaginary) < 1e-12 else f"{real:.5g}{imaginary:+.5g}i"
