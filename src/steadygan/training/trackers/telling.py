"""What is told of a run, line by line, and the whole story of a run folder so far."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...runs.files import read_lines
from ...runs.format import METRICS, REAL, SAMPLES, WARNINGS, by_step
from ...runs.monitor import concerns
from ...runs.samples import image_grid, read_picture, read_points, read_samples
from .base import Board

Telling = Callable[[Board, int], None]
"""Tells a board what concerns it: that of the member with this index."""

_NO_CURVES = ("step", "seconds", "metrics", "intervals")


def curves(row: Mapping[str, Any], many: bool) -> Telling:
    """Return what tells a line of metrics.jsonl: what is not finite is left out.

    Losses, penalties, norms and logits are under ``train/``; a metric with an interval is three
    curves, ``metrics/NAME``, ``metrics/NAME/low`` and ``metrics/NAME/high``.
    """

    def tell(board: Board, member: int) -> None:
        def own(value: Any) -> Any:
            return value[member] if many and value is not None else value

        found = {f"train/{k}": own(v) for k, v in row.items() if k not in _NO_CURVES}
        for name, value in row.get("metrics", {}).items():
            found[f"metrics/{name}"] = own(value)
        for name, ends in row.get("intervals", {}).items():
            for end, value in zip(("low", "high"), own(ends) or (None, None), strict=True):
                found[f"metrics/{name}/{end}"] = value
        values = {k: float(v) for k, v in found.items() if v is not None and math.isfinite(v)}
        board.numbers(row["step"], values)

    return tell


def warning(step: int, kind: str, message: str, many: bool) -> Telling:
    """Return what tells a warning, with its advice, whom it concerns."""

    def tell(board: Board, member: int) -> None:
        if not many or concerns(message, member):
            board.words(step, "warnings", f"step {step}: {kind}: {message}")

    return tell


def samples(step: int, x: Tensor, folder: Path) -> Telling:
    """Return what tells samples (K, N, *event): a grid of images, or points over the real ones.

    Points of many GANs are not drawn: that takes longer than their steps.
    """

    def tell(board: Board, member: int) -> None:
        if x.ndim == 5:
            board.picture(step, "samples", image_grid(x[member]))
        elif x.ndim == 3 and len(x) == 1:
            real = folder / SAMPLES / f"{REAL}.npz"
            # The room of pages is further on: it is known as text.
            views = importlib.import_module(f"{__package__.partition('.')[0]}.report.views")
            drawn = views.points(x[0].numpy(), read_points(real) if real.is_file() else None)
            board.picture(step, "samples", Image.open(io.BytesIO(drawn)).convert("RGB"))

    return tell


def real(folder: Path) -> Telling:
    """Return what tells the real images of a run folder, where there are any."""
    path = folder / SAMPLES / f"{REAL}.png"

    def tell(board: Board, member: int) -> None:
        if path.is_file():
            board.picture(0, "real", read_picture(path))

    return tell


def story(folder: Path, many: bool) -> list[tuple[int, Telling]]:
    """Return all that a run folder holds, with its steps, in the order in which it happened."""
    found: list[tuple[int, Telling]] = [(0, real(folder))]
    found += [(step, _file(step, path)) for step, path in _files(folder).items()]
    for row in read_lines(folder / METRICS).rows:
        found.append((row["step"], curves(row, many)))
    for row in read_lines(folder / WARNINGS).rows:
        told = warning(row["step"], str(row.get("kind")), str(row.get("message")), many)
        found.append((row["step"], told))
    return sorted(found, key=lambda each: each[0])


def _files(folder: Path) -> dict[int, Path]:
    return by_step(folder / SAMPLES, ".png", ".npz")


def _file(step: int, path: Path) -> Telling:
    def tell(board: Board, member: int) -> None:
        if path.suffix == ".png":
            board.picture(step, "samples", read_picture(path))
            return
        x = torch.from_numpy(read_samples(path)).float()
        samples(step, x if x.ndim in (3, 5) else x[None], path.parent.parent)(board, member)

    return tell
