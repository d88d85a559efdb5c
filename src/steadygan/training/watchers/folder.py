"""The watcher that keeps a run in its folder."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.errors import SteadyganError
from ...runs.config import stream_seed
from ...runs.files import finite
from ...runs.folder import RunFolder
from ...runs.format import Ranged
from ...runs.monitor import Warning
from . import Ending, Record, Watcher

if TYPE_CHECKING:
    from ..loop import Training


class FolderWatcher(Watcher):
    """Writes status, metrics, warnings, samples and checkpoints of a run."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def began(self, training: Training) -> None:
        """Say that the run is running; at its start keep a picture of real samples."""
        trained = training.trained
        if training.step == 0:
            stream = trained.problem.stream(stream_seed(training.config.seed, "picture"))
            self._folder.samples(None, stream.draw(trained.evaluated).x)
        self._folder.write_status(status(training, Ending("running")))

    def sampled(self, training: Training, samples: Tensor) -> None:
        """Keep the samples of a step."""
        self._folder.samples(training.step, samples if training.trained.many else samples[0])

    def logged(self, training: Training, record: Record) -> None:
        """Add a line, and keep the best checkpoint."""
        self._folder.log(line(record, training.trained.many))
        if record.improved:
            self._folder.save_best(
                training.tree(), record.improved if training.trained.many else None
            )

    def warned(self, training: Training, member: int, warning: Warning) -> None:
        """Add a line."""
        self._folder.warn(named(training, member, warning))

    def saved(self, training: Training) -> None:
        """Write a checkpoint."""
        keep = training.config.keep_checkpoints
        average = training.trained.average
        # Before the checkpoint, which vouches for it.
        if average is not None and (snapshot := average.snapshot(training.step)) is not None:
            self._folder.save_average(training.step, snapshot)
        self._folder.save_checkpoint(training.step, training.tree(), keep)

    def ended(self, training: Training, ending: Ending) -> None:
        """Say how the run ended; a folder that cannot be written was noticed elsewhere."""
        with suppress(SteadyganError):
            self._folder.write_status(status(training, ending))


def line(record: Record, many: bool) -> dict[str, Any]:
    """Return a line of metrics.jsonl: of one GAN a number for each quantity, of many a list."""
    names = next((list(row) for row in record.rows if row is not None), [])
    columns = {name: [row and finite(row[name]) for row in record.rows] for name in names}
    found: dict[str, Any] = {"step": record.step, "seconds": round(record.seconds, 3), **columns}
    measured = {name: None for each in record.metrics or [] for name in each}
    if measured:
        found["metrics"] = {
            name: [finite(each.get(name)) for each in record.metrics or []] for name in measured
        }
        ends = {name: [_ends(each.get(name)) for each in record.metrics or []] for name in measured}
        if ends := {name: each for name, each in ends.items() if any(each)}:
            found["intervals"] = ends
    return found if many else _of_one(found)


def status(training: Training, ending: Ending) -> dict[str, Any]:
    """Return the content of status.json, of many GANs with each one's own."""
    trained = training.trained
    found = {
        "state": ending.state,
        "step": training.step,
        "reason": ending.reason,
        "seconds": round(training.seconds, 2),
    }
    if not trained.many:
        return found
    return {
        **found,
        "members": [
            {"state": state, "step": step, "reason": reason}
            for state, step, reason in trained.endings(ending.state)
        ],
    }


def named(training: Training, member: int, warning: Warning) -> Warning:
    """Return a warning that says which of many GANs is in trouble."""
    if not training.trained.many:
        return warning
    return warning.of(member)


def _ends(value: float | None) -> list[float | None] | None:
    return [finite(value.low), finite(value.high)] if isinstance(value, Ranged) else None


def _of_one(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[0]
        if isinstance(value, list)
        else _of_one(value)
        if isinstance(value, dict)
        else value
        for name, value in found.items()
    }
