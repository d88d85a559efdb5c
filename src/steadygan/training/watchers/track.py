"""The watcher that shows a run in TensorBoard, Weights & Biases or Trackio."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.errors import SteadyganError
from ...core.registry import build
from ...runs.config import problem_to_json
from ...runs.description import Description
from ...runs.files import read_json, read_lines, write_json
from ...runs.format import CONFIG, METRICS, TRACKERS
from ...runs.monitor import Warning
from ..trackers import telling
from ..trackers.base import Board, Place
from . import Ending, Record, Watcher
from .folder import line, named

if TYPE_CHECKING:
    from ..loop import Training

FAILED = "tracking"
"""The kind of the warning that a tracker has failed."""

MOST = 256
"""How many GANs that are trained at once are tracked at most: each is a run of its own."""


def check(specs: Sequence[str], members: int = 1) -> None:
    """Raise SteadyganError where a run cannot be tracked here, before anything is trained."""
    if specs and members > MOST:
        raise SteadyganError(
            f"Each of {members:,} GANs would be a run of its own to a tracker; at most {MOST} are"
            " tracked. Train without --track: the page of 'steadygan report' shows all of them."
        )
    for spec in specs:
        build("tracker", spec).check()


class TrackWatcher(Watcher):
    """Tells trackers what a run's folder holds: curves, samples, warnings, the configuration.

    Each of many GANs is a run of its own. A tracker that has missed something, such as the steps
    before it was asked for, is told it from the folder. One that fails is left out, with a warning.
    It comes before the watcher that writes the folder, so that whatever a checkpoint vouches for
    has reached the trackers.
    """

    def __init__(self, specs: Sequence[str], folder: Path) -> None:
        self._trackers = {spec: build("tracker", spec) for spec in specs}
        self._folder, self._boards = folder, dict[str, list[Board]]()
        # As it was before the steps that are made again are dropped.
        self._changes, self._logged = self._history(), -1
        with suppress(SteadyganError):  # a damaged line is named by whoever needs it
            rows = read_lines(folder / METRICS).rows
            steps = [row.get("step") for row in rows]
            self._logged = max((step for step in steps if isinstance(step, int)), default=-1)

    def began(self, training: Training) -> None:
        """Open the trackers, and tell them what they have missed."""
        kept = self._kept()
        places = list(self._places(training))
        for spec, tracker in self._trackers.items():
            with self._in_peace(training, spec):
                held = kept.get(spec) or [None] * len(places)
                boards = self._boards[spec] = []
                for place, old in zip(places, held, strict=True):
                    boards.append(tracker.open(replace(place, kept=old)))
        self._keep()
        if any(board.sent < training.step for each in self._boards.values() for board in each):
            for step, tell in telling.story(self._folder, training.trained.many):
                self._tell(training, step, tell)

    def sampled(self, training: Training, samples: Tensor) -> None:
        """Show the samples, and at the start real ones."""
        if training.step == 0:
            self._tell(training, 0, telling.real(self._folder))
        self._tell(training, training.step, telling.samples(training.step, samples, self._folder))

    def logged(self, training: Training, record: Record) -> None:
        """Go on with the curves."""
        many = training.trained.many
        self._tell(training, record.step, telling.curves(line(record, many), many))

    def warned(self, training: Training, member: int, warning: Warning) -> None:
        """Show a warning."""
        told = telling.warning(*named(training, member, warning), training.trained.many)
        self._tell(training, warning.step, told)

    def saved(self, training: Training) -> None:
        """See to it that nothing is missing where training goes on from here."""
        for spec, boards in list(self._boards.items()):
            with self._in_peace(training, spec):
                for board in boards:
                    board.flush()

    def ended(self, training: Training, ending: Ending) -> None:
        """Close the trackers."""
        for spec, boards in list(self._boards.items()):
            with self._in_peace(training, spec):
                for board in boards:
                    board.close(ending.state != "failed")

    def _tell(self, training: Training, step: int, tell: telling.Telling) -> None:
        for spec, boards in list(self._boards.items()):
            with self._in_peace(training, spec):
                for i, board in enumerate(boards):
                    if step > board.sent:
                        tell(board, i)

    @contextmanager
    def _in_peace(self, training: Training, spec: str) -> Iterator[None]:
        """Let whatever is raised end this tracker, and nothing else."""
        try:
            yield
        except Exception as error:
            for board in self._boards.pop(spec, ()):
                with suppress(Exception):
                    board.close(False)
            self._keep()
            why = str(error) or type(error).__name__
            told = f"{spec} failed ({why}); training goes on without it, 'resume' shows it all"
            training.warn(0, FAILED, told)

    def _keep(self) -> None:
        """Write down what opens the boards again; one that failed is told all when it is resumed.

        A folder that cannot be written is the watcher's to name that writes it.
        """
        kept = {spec: [b.keep for b in boards] for spec, boards in self._boards.items()}
        with suppress(SteadyganError):
            write_json(self._folder / TRACKERS, kept)

    def _kept(self) -> dict[str, Any]:
        with suppress(SteadyganError):  # what cannot be read is not gone on with
            return read_json(self._folder / TRACKERS)
        return {}

    def _places(self, training: Training) -> Iterator[Place]:
        trained = training.trained
        problem = problem_to_json(trained.problem)
        about = {"problem" if k == "name" else f"problem.{k}": v for k, v in problem.items()}
        for i, member in enumerate(trained.members):
            yield Place(
                self._folder,
                self._folder.resolve().name,
                member=i if trained.many else None,
                step=training.step,
                logged=self._logged,
                same=self._history() == self._changes,
                settings={**about, **member.to_json()},
            )

    def _history(self) -> list[Any]:
        path = self._folder / CONFIG
        return Description(self._folder, read_json(path)).history if path.is_file() else []
