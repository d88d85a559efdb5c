"""Fleets of an experiment: made once, continued where they were interrupted, and summed up seed by seed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from ..core.errors import SteadyganError
from ..evaluation.estimate import share_of
from ..problems.problem import Problem
from ..training import Config, resume_fleet, train_fleet
from ..training.config import problem_to_json
from ..training.logging import RunFolder
from ..training.members import alike

_IDLE = ("device", "log_every", "checkpoint_every", "keep_checkpoints")


@dataclass(frozen=True)
class Member:
    """One GAN of a fleet: its regularizers, its seed, its metrics (T,) by name at ``steps`` (T,), and a moment's samples by step.

    Where it had stopped, metrics are NaN. Samples (N, d) are of the steps that the fleet saved.
    """

    setting: str
    seed: int
    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    folder: Path
    place: int

    def late(self, name: str) -> float:
        """Return the median of a metric over the last third of the evaluations, because one snapshot can mislead; NaN where it stopped."""
        values = self.metrics[name]
        return float(np.median(values[-max(1, len(values) // 3) :]))

    def samples(self, step: int) -> np.ndarray:
        """Return its samples (N, d) at a step that was saved."""
        with np.load(self.folder / f"samples/step-{step:08d}.npz") as held:
            return np.asarray(held["samples"][self.place], dtype=np.float64)


def fleet(problem: Problem, members: Sequence[Config], folder: Path) -> list[Member]:
    """Train a fleet in a folder, or continue the one that is there, and return its members.

    Raises SteadyganError where the folder holds another fleet, and KeyboardInterrupt where it was interrupted: the same call continues it.
    """
    resolved = alike(problem, members)
    if (folder / "config.json").is_file():
        _same(problem, resolved, folder)
        status = RunFolder.open(folder).read("status.json")
        state = status["state"]
        if state not in ("finished", "stopped"):
            state = resume_fleet(folder).state
    else:
        state = train_fleet(problem, members, folder).state
    if state == "interrupted":
        raise KeyboardInterrupt
    return read(folder, resolved)


def read(folder: Path, members: Sequence[Config]) -> list[Member]:
    """Return the members of a fleet's folder with their metrics."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = [row for row in rows if "metrics" in row]
    steps = np.array([row["step"] for row in measured])
    names = list(dict.fromkeys(name for row in measured for name in row["metrics"]))

    def column(name: str, place: int) -> np.ndarray:
        values = [row["metrics"].get(name, [None] * len(members))[place] for row in measured]
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)

    return [
        Member(" + ".join(m.regularizer) or "unregularized", m.seed, steps, {name: column(name, i) for name in names}, folder, i)
        for i, m in enumerate(members)
    ]


def seconds(*folders: Path) -> float:
    """Return the wall time of training the fleets in these folders."""
    return float(sum(RunFolder.open(folder).read("status.json")["seconds"] for folder in folders))


def share(yes: int, of: int) -> str:
    """Return a share of seeds with its 95 % interval by Wilson.

    >>> share(3, 3)
    '3 of 3 seeds [44 %, 100 %]'

    Reference: Wilson 1927.
    """
    found = share_of(torch.arange(of) < yes)
    return f"{yes} of {of} seeds [{100 * found.low:.0f} %, {100 * found.high:.0f} %]"


def spread(values: Sequence[float]) -> str:
    """Return median and range over seeds.

    >>> spread([1.0, 3.0, 2.0])
    '2 (1 to 3)'
    """
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _same(problem: Problem, members: Sequence[Config], folder: Path) -> None:
    held = RunFolder.open(folder).read("config.json")
    wanted = [m.to_json() for m in members]
    found = [{**held["config"], **each} for each in held.get("fleet", {}).get("members", [{}])]

    def essential(members: list[dict[str, Any]]) -> list[dict[str, Any]]:
        # The device may be another machine's, and how often a run is saved and logged changes nothing.
        return [{key: value for key, value in m.items() if key not in _IDLE} for m in members]

    if held["problem"] != json.loads(json.dumps(problem_to_json(problem))) or essential(found) != essential(wanted):
        raise SteadyganError(f"{folder} holds another fleet than this experiment's: choose another folder with --out, or remove that one.")
