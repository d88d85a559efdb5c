"""What looks on while something trains: the run folder, a terminal, the monitor, a judge.

Others come in here too, such as TensorBoard, a notebook or a live page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import Tensor

from ...runs.checkpoint import Tree
from ...runs.monitor import Warning

if TYPE_CHECKING:
    from ..loop import Training
    from ..trained import Row

State = Literal["running", "finished", "interrupted", "stopped", "failed"]


class Ending(NamedTuple):
    """How far a run has come, or how it ended, and why where that is not its last step."""

    state: State
    reason: str | None = None


@dataclass
class Record:
    """A logged step.

    Attributes:
        step: Its number.
        seconds: The time that training has taken so far.
        rows: Every member's losses, norms and logits; None for one that had ended before.
        metrics: Where the step was evaluated, every member's numbers; empty for one that is lost.
            A watcher that measures adds its own.
        improved: The members of which this is the best step so far; for a judge to say.
    """

    step: int
    seconds: float
    rows: list[Row | None]
    metrics: list[dict[str, float]] | None = None
    improved: tuple[int, ...] = ()


class Watcher:
    """Base of what looks on; every method does nothing until it is overridden.

    Watchers are called one after another, in the order in which they were given, so that one that
    adds numbers to a record comes before those that show it. They look and do not touch: whoever
    watches, the trained numbers are the same. What one raises ends the run (a folder that cannot be
    written must), so one that may fail in peace, such as a service elsewhere, keeps its own errors.

    A run may be resumed in another process, from a checkpoint. Steps after it are then made and
    told again, and were perhaps seen before: what is told of a step replaces what was told of it
    earlier. A watcher that remembers anything which its later words depend on hands it out by
    ``state``. With several processes those that write are given to the first one only.

    Example, a line for each evaluation::

        class Printer(Watcher):
            def logged(self, training, record):
                if record.metrics:
                    print(record.step, record.metrics[0])

        train(problem, config, "runs/mine", watchers=[Printer()])
    """

    def began(self, training: Training) -> None:
        """Training begins, or goes on, at ``training.step``."""

    def stepped(self, training: Training) -> None:
        """A step was made; called after each, so it should be quick."""

    def sampled(self, training: Training, samples: Tensor) -> None:
        """The fixed latents were turned into samples (K, N, *event), on the CPU."""

    def logged(self, training: Training, record: Record) -> None:
        """The step is one of those that are logged."""

    def warned(self, training: Training, member: int, warning: Warning) -> None:
        """A member is in trouble of a kind that was not named before."""

    def saved(self, training: Training) -> None:
        """The run can be resumed from here: ``training.tree()`` is what that takes."""

    def ended(self, training: Training, ending: Ending) -> None:
        """Training ends, for whatever reason; called in any case, be it that nothing began."""

    def state(self) -> Tree:
        """Return what must be remembered over a resume, under names of its own."""
        return {}

    def restore(self, tree: Tree) -> None:
        """Take up what ``state`` returned, from a whole checkpoint."""
