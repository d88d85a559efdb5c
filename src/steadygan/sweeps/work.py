"""What a worker does with a task: train it, go on with it, or leave it as it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ..core.errors import SteadyganError
from ..core.modules import import_module
from ..runs import checkpoint
from ..runs.config import Config, problem_from_json
from ..runs.files import Unwritable
from ..runs.format import is_run
from ..runs.reading import Run
from ..training import Watcher, resume, train, train_fleet
from ..training.allocator import keep_memory
from ..training.loop import Training
from .plan import Task

WAITS = "waits at the step it was asked to"

RANK = "halving"
"""How the reason of a run begins that others were better than, at a step where it waited."""

_ONE = Lock()  # of a process: runs share torch's global stream of randomness


@dataclass(frozen=True)
class Ended:
    """How a task ended: its folder, the state of its run, and why where it did not finish."""

    folder: str
    state: str
    step: int
    reason: str | None = None

    @property
    def itself(self) -> bool:
        """Whether it is at its end, rather than stopped for the sake of better ones."""
        ranked = (self.reason or "").startswith(RANK)
        return self.state == "finished" or (self.state == "stopped" and not ranked)


class Pause(Watcher):
    """Ends a run at a step, saved whole, so that it can go on from there with the same bits."""

    def __init__(self, until: int) -> None:
        self._until = until

    def stepped(self, training: Training) -> None:
        """Ask for the end where the step is reached."""
        if training.step == self._until:
            training.interrupt.ask(WAITS)


def work(task: Task) -> Ended:
    """Train what a task asks for, from where it was left.

    Returns:
        How it ended; whatever goes wrong with the run is its ending, so that the others go on.
    """
    keep_memory()
    try:
        with _ONE:
            return _worked(task)
    except SteadyganError as error:
        return Ended(task.folder, "failed", 0, str(error))
    except Exception as error:
        return Ended(task.folder, "failed", 0, f"{type(error).__name__}: {error}")


def ended(task: Task) -> Ended | None:
    """Return how a task has ended already; None where there is something left to train.

    Raises:
        SteadyganError: Where its folder cannot be read.
    """
    folder = Path(task.folder)
    if not is_run(folder):
        return None
    status = Run.read(folder, lines=False).status
    state, step = str(status.get("state")), int(status.get("step") or 0)
    kept = checkpoint.checkpoints(folder)
    waits = task.until is not None and kept and _step(kept[-1]) >= task.until
    found = Ended(task.folder, state, step, status.get("reason"))
    longer = state == "finished" and step < (task.steps or 0)
    return found if waits or (found.itself and not longer) else None


def _worked(task: Task) -> Ended:
    for module in task.modules:
        import_module(module)
    if there := ended(task):
        return there
    folder = Path(task.folder)
    watchers = [] if task.until is None else [Pause(task.until)]
    if is_run(folder):
        features = Config.from_json(task.members[0]).features
        outcome = resume(folder, steps=task.steps, features=features, show=False, watchers=watchers)
    else:
        problem = problem_from_json(task.problem)
        members = [Config.from_json(each) for each in task.members]
        if len(members) > 1 or task.fleet:
            problem.load()  # data that one GAN cannot have either are not what is mended below
            try:
                outcome = train_fleet(
                    problem,
                    members,
                    folder,
                    compiled=task.compiled,
                    show=False,
                    watchers=watchers,
                )
            except SteadyganError as error:
                # With a folder begun, or refused by the disk, it is not that they are many; and
                # who asks for a fleet has no --together.
                if task.fleet or folder.exists() or isinstance(error, Unwritable):
                    raise
                raise SteadyganError(f"{error} Or train each by itself: --together 1.") from error
        else:
            outcome = train(problem, members[0], folder, show=False, watchers=watchers)
    if outcome.state == "interrupted" and outcome.reason != WAITS:
        raise KeyboardInterrupt
    return Ended(task.folder, outcome.state, outcome.step, outcome.reason)


def _step(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])
