"""A tracker for one's own loop: one function that takes the record."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from ...core.errors import SteadyganError
from ...core.gradients import CriticGradient
from ...core.registry import build
from ...core.terms import GeneratorTerms
from ...runs.files import make_folder, read_json, write_json
from ...runs.format import TRACKERS
from ...runs.samples import image_grid
from .base import Board, Place


class Track:
    """What ``track`` returns: called with a step and a record, it shows the record's numbers.

    Nothing that goes wrong with the tracker ends the loop: it is warned about once.
    """

    def __init__(self, spec: str, board: Board) -> None:
        self._spec, self._board, self._failed = spec, board, False

    def __call__(
        self,
        step: int,
        record: CriticGradient | GeneratorTerms | Mapping[str, float | Tensor] | None = None,
        /,
        **numbers: float | Tensor,
    ) -> None:
        """Show the numbers of a step. It waits for the device: every 50 steps is often enough.

        Args:
            step: Its number; steps must not go back.
            record: What ``critic_backward`` or ``Game.generator_terms`` returned, or numbers by
                name.
            numbers: More of them, such as ``generator_loss=...``.
        """
        found = {**_numbers(record), **numbers}
        values = {f"train/{name}": _plain(value) for name, value in found.items()}
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        self._try(lambda: self._board.numbers(step, values))

    def samples(self, step: int, x: Tensor, name: str = "samples") -> None:
        """Show images (B, C, H, W) in [-1, 1] as a grid.

        Args:
            step: The step that they were made at.
            x: The images.
            name: What they are called.

        Raises:
            SteadyganError: For samples that are no images.
        """
        if x.ndim != 4:
            raise SteadyganError(f"images have the shape (B, C, H, W), not {tuple(x.shape)}.")
        self._try(lambda: self._board.picture(step, name, image_grid(x.detach())))

    def words(self, step: int, text: str, name: str = "notes") -> None:
        """Show a text."""
        self._try(lambda: self._board.words(step, name, text))

    def close(self) -> None:
        """End, with everything written."""
        self._try(lambda: self._board.close(True))
        self._failed = True  # there is nothing left to show anything in

    def __enter__(self) -> Track:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._try(lambda: self._board.close(error is None))

    def _try(self, show: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            show()
        except Exception as error:
            self._failed = True
            why = str(error) or type(error).__name__
            warnings.warn(f"{self._spec} failed ({why}); the loop goes on without it", stacklevel=3)


def track(
    tracker: str,
    folder: Path | str,
    *,
    name: str | None = None,
    step: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Track:
    """Return what shows the records of one's own loop in TensorBoard, wandb or Trackio.

    Args:
        tracker: A spec: ``tensorboard``, ``wandb:project=mine``, ``trackio``.
        folder: Where event files and the like go.
        name: What the run is called; by default as the folder.
        step: Where a loop goes on that was broken off; TensorBoard drops what it was told of later
            steps.
        settings: Shown as the configuration.

    Returns:
        A function of a step and a record, with ``samples``, ``words`` and ``close``.

    Raises:
        SteadyganError: For an unknown tracker, and where its package is not installed.

    Example::

        tracker = steadygan.track("tensorboard", "runs/mine")
        found = critic_backward(game, D, real, fake)
        tracker(step, found, generator_loss=loss)
    """
    path = Path(folder)
    build("tracker", tracker).check()
    make_folder(path)
    kept = read_json(path / TRACKERS) if step and (path / TRACKERS).is_file() else {}
    place = Place(
        path,
        name or path.resolve().name,
        step=step,
        again=False,
        settings=settings or {},
        kept=next(iter(kept.get(tracker, ())), None),
    )
    board = build("tracker", tracker).open(place)
    write_json(path / TRACKERS, {**kept, tracker: [board.keep]})
    return Track(tracker, board)


def _numbers(record: Any) -> Mapping[str, float | Tensor]:
    """Return the numbers of a record, named as in a run's metrics.jsonl."""
    if isinstance(record, CriticGradient):
        norms = {"real": record.gradient_norm_real, "fake": record.gradient_norm_fake}
        scores = record.terms.scores
        return {
            "critic_loss": record.terms.objective,
            "penalty": record.penalty,
            **{f"gradient_norm_{k}": norm for k, norm in norms.items() if norm is not None},
            **{f"logit_{k}": scores[k].logits.mean() for k in ("real", "fake") if k in scores},
        }
    if isinstance(record, GeneratorTerms):
        return {"generator_loss": record.loss}
    return record or {}


def _plain(value: float | Tensor) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)
