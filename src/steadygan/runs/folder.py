"""A run folder as the one who trains writes it.

Its format is in format.py, and who reads it afterwards uses reading.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import SteadyganError
from . import checkpoint, files, lock
from .description import Description
from .format import (
    AVERAGES,
    BEST,
    CHECKPOINTS,
    CONFIG,
    EVALUATION,
    EVALUATION_LOCK,
    LOCK,
    METRICS,
    REAL,
    SAMPLES,
    STATUS,
    WARNINGS,
    by_step,
    checkpoint_path,
    is_run,
    step_name,
)
from .monitor import Warning
from .reading import read_evaluations
from .samples import write_samples


class RunFolder:
    """``runs/NAME/``, to write to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def check(path: Path) -> None:
        """Raise SteadyganError where a new run folder cannot be made because something is there.

        What a run leaves that was killed before its configuration was written does not count.
        """
        try:
            os.fsencode(path.absolute()).decode()
        except UnicodeDecodeError:
            # Of such a path safetensors reads no file.
            raise SteadyganError(
                f"{path} is no name in UTF-8, and no checkpoint below it could be read: choose"
                " another folder with --out."
            ) from None
        if is_run(path):
            raise SteadyganError(
                f"{path} exists and is not empty: continue it with 'steadygan resume {path}', or"
                " choose another folder with --out."
            )
        if path.exists() and (not path.is_dir() or any(map(_precious, path.iterdir()))):
            raise SteadyganError(
                f"{path} exists and is not empty: choose another folder with --out."
            )

    @staticmethod
    def create(path: Path, described: dict[str, Any]) -> RunFolder:
        """Make a new run folder with its configuration.

        Returns:
            The folder, open to write.

        Raises:
            SteadyganError: Where one exists, and where nothing can be written.
        """
        RunFolder.check(path)
        folder = RunFolder(path)
        folder._tidy()
        folder.write(CONFIG, described)
        return folder

    @staticmethod
    def open(path: Path) -> RunFolder:
        """Return an existing run folder, open to write.

        Raises:
            SteadyganError: Where it is none.
        """
        if not is_run(path):
            raise SteadyganError(
                f"{path} is no run folder (it has no {CONFIG}): give a folder that 'steadygan"
                " train' made."
            )
        return RunFolder(path)

    def describe(self) -> Description:
        """Return what was configured.

        Raises:
            SteadyganError: Where that is damaged.
        """
        return Description(self.path, self.read(CONFIG))

    def check_unbegun(self) -> None:
        """Raise SteadyganError where a run without checkpoints had some, and would begin again."""
        status = self.read(STATUS) if (self.path / STATUS).is_file() else {}
        done = status.get("step") if status.get("state") in ("finished", "interrupted") else 0
        made = done if isinstance(done, int) else 0
        with suppress(SteadyganError):  # a damaged line tells of no step
            steps = [row.get("step") for row in files.read_lines(self.path / METRICS).rows]
            logged = max((at for at in steps if isinstance(at, int)), default=0)
            # What is logged up to the first one may be all that a process came to that was killed.
            if logged > (self.describe().config.checkpoint_every or logged):
                made = max(made, logged)
        if made:
            raise SteadyganError(
                f"{self.path} has made {made} steps, and its checkpoints are gone: it would begin"
                " again, and drop what is logged. Put them back, or train anew: steadygan train"
                f" --config {self.path} --out DIR"
            )

    def write(self, name: str, data: Any) -> None:
        """Write one JSON file."""
        files.write_json(self.path / name, data)

    def read(self, name: str) -> dict[str, Any]:
        """Return the content of one JSON file.

        Raises:
            SteadyganError: Where it is damaged.
        """
        return files.read_json(self.path / name)

    def write_status(self, status: dict[str, Any]) -> None:
        """Write how far the run is."""
        self.write(STATUS, status)

    def log(self, row: dict[str, Any]) -> None:
        """Append one logged step."""
        files.append(self.path / METRICS, row)

    def warn(self, warning: Warning) -> None:
        """Append one warning."""
        files.append(self.path / WARNINGS, warning._asdict())

    def rewind(self, step: int, tree: checkpoint.Tree | None = None) -> list[int]:
        """Drop what was written after a step, because it is about to be computed again.

        And what a process that was killed had not finished.

        Args:
            step: The step.
            tree: The checkpoint of the step, None where there is none.

        Returns:
            The members whose best is dropped.
        """
        self._tidy()
        # The newest checkpoint first, and what it vouches for last: a process that is killed on the
        # way leaves a run that can be gone on with.
        for place, endings in {
            CHECKPOINTS: (".safetensors",),
            SAMPLES: (".png", ".npz"),
            AVERAGES: (".safetensors",),
        }.items():
            for at, path in reversed(by_step(self.path / place, *endings).items()):
                if at > step:
                    files.remove(path)
        for name in (METRICS, WARNINGS):
            files.keep_lines(self.path / name, lambda row: _not_after(row, step))
        self._rewind_evaluations(step)
        return self._rewind_best(step, tree)

    def _rewind_evaluations(self, step: int) -> None:
        path = self.path / EVALUATION
        if not path.is_file():
            return
        with lock.held(self.path, EVALUATION_LOCK, wait=True):
            try:
                known = read_evaluations(path)
            except SteadyganError:
                return  # a damaged one is named by whoever needs it
            kept = [each for each in known if each["step"] is None or each["step"] <= step]
            if len(kept) < len(known):
                self.write(EVALUATION, {"evaluations": kept})

    def _rewind_best(self, step: int, tree: checkpoint.Tree | None) -> list[int]:
        path = self.path / BEST
        if not path.is_file():
            return []
        try:
            held = checkpoint.load(path)
            steps = held.get("steps", [held["step"]])
            later = [i for i, at in enumerate(steps) if at > step]
        except (KeyError, TypeError, ValueError):
            return []  # a damaged one is named by whoever needs it
        if tree is None or len(later) == len(steps):
            files.remove(path)
        elif later:
            # One file holds all members: those without a best are as they are at the step.
            checkpoint.save(path, checkpoint.with_members(held, tree, later))
        return later

    def _tidy(self) -> None:
        """Have the folders that are written to, without what a process left that was killed.

        Copies of a run leave them out where they are empty.
        """
        for folder in (self.path, self.path / SAMPLES, self.path / CHECKPOINTS):
            files.make_folder(folder)
            files.sweep(folder)
        if (self.path / AVERAGES).is_dir():
            files.sweep(self.path / AVERAGES)

    def samples(self, step: int | None, x: Tensor) -> None:
        """Write the samples of a step, or real ones without.

        Images as a PNG grid, vectors as an NPZ.
        """
        name = REAL if step is None else step_name(step)
        write_samples(self.path / SAMPLES / f"{name}{'.png' if x.ndim == 4 else '.npz'}", x)

    def save_checkpoint(self, step: int, tree: checkpoint.Tree, keep: int) -> Path:
        """Write a checkpoint and remove all but the newest ``keep``.

        Returns:
            The file.
        """
        # A checkpoint vouches for every line before it.
        for name in (METRICS, WARNINGS):
            files.sync(self.path / name)
        path = checkpoint_path(self.path, step)
        checkpoint.save(path, tree)
        for old in checkpoint.checkpoints(self.path)[:-keep]:
            files.remove(old)
        return path

    def save_average(self, step: int, snapshot: checkpoint.Tree) -> None:
        """Keep a snapshot of averages beside those that are there."""
        files.make_folder(self.path / AVERAGES)
        checkpoint.save(self.path / AVERAGES / f"{step_name(step)}.safetensors", snapshot)

    def save_best(self, tree: checkpoint.Tree, members: Sequence[int] | None = None) -> None:
        """Keep the checkpoint that measured best, beside the newest ones.

        Args:
            tree: The checkpoint.
            members: Of many GANs those that are best at it; the others stay as they were.
        """
        path = self.path / BEST
        if members is not None:
            held = checkpoint.load(path) if path.is_file() else tree
            tree = checkpoint.with_members(held, tree, members)
        checkpoint.save(path, tree)


def is_fleet(run: Path | str) -> bool:
    """Return whether a run folder holds many GANs that are trained at once."""
    return RunFolder.open(Path(run)).describe().is_fleet


def _precious(path: Path) -> bool:
    """Return whether something in a folder is more than the start of a run that was killed."""
    if path.name in (SAMPLES, CHECKPOINTS, AVERAGES) and path.is_dir():
        return any(path.iterdir())
    return path.name != LOCK and not path.name.endswith(files.PARTIAL)


def _not_after(row: dict[str, Any], step: int) -> bool:
    at = row.get("step")
    return isinstance(at, int) and at <= step


__all__ = ["RunFolder", "is_fleet"]
