"""Fleets of an experiment: made once, continued where they were interrupted, and summed up seed by
seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ..core.errors import SteadyganError
from ..evaluation.estimate import Estimate, share_of
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.config import problem_to_json
from ..runs.files import read_lines
from ..runs.folder import RunFolder
from ..runs.format import METRICS, REAL, SAMPLES, STATUS, by_step, is_run
from ..runs.members import alike
from ..runs.samples import read_points, read_samples
from ..training import Config, FleetOutcome, Outcome, resume_fleet, train_fleet

_Outcome = Outcome | FleetOutcome
_IDLE = ("device", "log_every", "checkpoint_every", "keep_checkpoints")


@dataclass(frozen=True)
class Member:
    """One GAN of a fleet: its regularizers, its seed, its metrics (T,) by name at ``steps`` (T,),
    and a moment's samples by step.

    Where it had stopped, metrics are NaN. Samples (N, d) are of the steps that the fleet saved.
    """

    setting: str
    seed: int
    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    folder: Path
    place: int

    def late(self, name: str) -> float:
        """Return the median of a metric over the last third of the evaluations, because one
        snapshot can mislead; NaN where it stopped."""
        values = self.series(name)
        return float(np.median(values[-max(1, len(values) // 3) :]))

    def series(self, name: str) -> np.ndarray:
        """Return a metric (T,); all NaN where it had stopped before it was first evaluated."""
        return self.metrics.get(name, np.full(len(self.steps), math.nan))

    def samples(self, step: int) -> np.ndarray:
        """Return its samples (N, d) at an evaluation; one of NaN where the whole fleet had stopped
        before."""
        path = by_step(self.folder / SAMPLES, ".npz").get(step)
        if path is None:
            real = read_points(self.folder / SAMPLES / f"{REAL}.npz")
            return np.full_like(real[:1], math.nan)
        found: np.ndarray = read_samples(path)[self.place]
        return found


def fleet(
    problem: Problem, members: Sequence[Config], folder: Path, *, compiled: bool = False
) -> list[Member]:
    """Train a fleet in a folder, or continue the one that is there, and return its members.
    compiled: as in ``train_fleet``.

    Raises SteadyganError where the folder holds another fleet, and KeyboardInterrupt where it was
    interrupted: the same call continues it.
    """
    resolved = alike(problem, members)
    make_or_continue(
        problem,
        resolved,
        folder,
        lambda: train_fleet(problem, members, folder, compiled=compiled),
        resume_fleet,
    )
    return read(folder, resolved)


def make_or_continue(
    problem: Problem,
    members: Sequence[Config],
    folder: Path,
    make: Callable[[], _Outcome],
    resume: Callable[[Path], _Outcome],
) -> None:
    """Make the run of one GAN or of many, given resolved, that belongs into a folder, or resume the
    one that is there and not at its end.

    Raises SteadyganError where the folder holds another run, and KeyboardInterrupt where it was
    interrupted: the same call continues it.
    """
    if is_run(folder):
        same(problem, members, folder)
        state = ended(folder) or resume(folder).state
    else:
        state = make().state
    if state == "interrupted":
        raise KeyboardInterrupt


def ended(folder: Path) -> str | None:
    """Return how a run of one GAN or of many ended, None where it has steps to make."""
    run = RunFolder.open(folder)
    status = run.read(STATUS)
    if status["state"] in ("finished", "stopped"):
        return str(status["state"])
    tree = checkpoint.load(checkpoint.latest(folder))
    alive = "alive" not in tree or bool(tree["alive"].any())
    if alive and tree["step"] < (run.describe().config.steps or 0):
        return None
    # Killed after its last checkpoint, which is complete, and before its status said so.
    state = "finished" if alive else "stopped"
    status |= {"state": state, "step": tree["step"], "seconds": round(tree["seconds"], 2)}
    if "alive" in tree:
        endings = [
            tree["stopped"].get(str(i), (tree["step"], None)) for i in range(len(tree["alive"]))
        ]
        status["members"] = [
            {"state": "stopped" if why else state, "step": step, "reason": why}
            for step, why in endings
        ]
    run.write_status(status)
    return state


def read(folder: Path, members: Sequence[Config]) -> list[Member]:
    """Return the members of a fleet's folder with their metrics at every planned evaluation: an
    interruption neither adds nor takes any."""
    rows = read_lines(folder / METRICS).rows
    measured = {row["step"]: row["metrics"] for row in rows if "metrics" in row}
    total, every = members[0].steps or 0, members[0].evaluate_every
    steps = np.unique([*range(every, total + 1, every), total])
    names = list(dict.fromkeys(name for metrics in measured.values() for name in metrics))

    def column(name: str, place: int) -> np.ndarray:
        values = [
            measured.get(int(step), {}).get(name, [None] * len(members))[place] for step in steps
        ]
        return np.array(
            [math.nan if value is None else value for value in values], dtype=np.float64
        )

    return [
        Member(
            " + ".join(m.regularizer) or "unregularized",
            m.seed,
            steps,
            {name: column(name, i) for name in names},
            folder,
            i,
        )
        for i, m in enumerate(members)
    ]


def seconds(*folders: Path) -> float:
    """Return the wall time of training the fleets in these folders."""
    return float(sum(RunFolder.open(folder).read(STATUS)["seconds"] for folder in folders))


def share(yes: int, of: int, what: str = "seeds") -> str:
    """Return a share, of seeds or of whatever else, with its 95 % interval by Wilson.

    >>> share(3, 3)
    '3 of 3 seeds [44 %, 100 %]'

    Reference: Wilson 1927.
    """
    found = _interval(yes, of)
    return f"{yes} of {of} {what} [{100 * found.low:.0f} %, {100 * found.high:.0f} %]"


def majority(yes: int, of: int) -> bool | None:
    """Return whether most seeds are on one side; None where the interval of their share holds one
    half, so that chance can do it.

    >>> majority(8, 8), majority(6, 8), majority(0, 8)
    (True, None, False)
    """
    found = _interval(yes, of)
    return None if found.low <= 0.5 <= found.high else yes > of / 2


def _interval(yes: int, of: int) -> Estimate:
    return share_of(torch.arange(of) < yes)


def spread(values: Sequence[float]) -> str:
    """Return median and range over seeds.

    >>> spread([1.0, 3.0, 2.0])
    '2 (1 to 3)'
    """
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def same(problem: Problem, members: Sequence[Config], folder: Path) -> None:
    """Raise SteadyganError unless a run folder holds these members of this problem, given
    resolved."""
    held = RunFolder.open(folder).describe()
    wanted = [m.to_json() for m in members]
    # Read and written again, so that a folder older than a setting has its default.
    found = [m.to_json() for m in held.members]

    def essential(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # The device may be another machine's, and how often a run is saved and logged changes
        # nothing.
        return [{key: value for key, value in m.items() if key not in _IDLE} for m in members]

    if held.setting != json.loads(json.dumps(problem_to_json(problem))) or essential(
        found
    ) != essential(wanted):
        raise SteadyganError(
            f"{folder} holds another run than this experiment's: choose another folder with"
            " --out, or remove that one."
        )
