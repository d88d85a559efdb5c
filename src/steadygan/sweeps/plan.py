"""Which run of a sweep is in which folder: by what it is, so that a sweep can grow and go on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import SteadyganError
from ..core.players.stacked import game_of
from ..core.registry import build
from ..problems.problem import Problem
from ..runs.config import Config, problem_to_json
from ..runs.folder import RunFolder
from ..runs.members import alike
from ..runs.table import runs_below

TOGETHER = 16
"""How many small GANs are trained at once at most: more hardly gain, and are lost together."""


@dataclass(frozen=True)
class Wanted:
    """A GAN of a sweep: its problem, its configuration, and what tells it from others.

    The configuration has every choice made but the device, which is that of the worker.
    """

    problem: Problem
    config: Config
    label: str


@dataclass(frozen=True)
class Task:
    """What one worker trains in one folder: one GAN, or many at once.

    Attributes:
        folder: Where, absolute.
        problem: As in config.json.
        members: The configurations, as in config.json.
        modules: What registers names, imported first.
        until: The step to wait at, None to train to the end.
        steps: How many steps a run that is there shall have in the end, None for as planned.
        fleet: Whether one GAN is trained as a fleet too.
        compiled: As in ``train_fleet``.
    """

    folder: str
    problem: dict[str, Any]
    members: tuple[dict[str, Any], ...]
    modules: tuple[str, ...] = ()
    until: int | None = None
    steps: int | None = None
    fleet: bool = False
    compiled: bool = False


def plan(
    wanted: Sequence[Wanted],
    out: Path,
    *,
    together: int = TOGETHER,
    modules: Sequence[str] = (),
) -> list[Task]:
    """Return who trains what: folders that are there are gone on with, others are made.

    Small GANs that differ in seed, strengths and learning rates only are trained at once.

    Args:
        wanted: The GANs.
        out: The folder that holds all.
        together: How many are trained at once at most; 1 for each on its own.
        modules: What registers names.

    Raises:
        SteadyganError: For a folder below ``out`` that is a damaged run.
    """
    there: dict[str, Path] = {}
    for folder in runs_below(out):
        about = RunFolder.open(folder).describe()
        for member in about.members:
            there[identity(about.setting, member)] = folder
    # By what it is, each once.
    keyed = {identity(problem_to_json(w.problem), w.config): w for w in wanted}
    held: dict[Path, list[Wanted]] = {}
    missing: list[Wanted] = []
    for key, each in keyed.items():
        if key in there:
            held.setdefault(there[key], []).append(each)
        else:
            missing.append(each)
    tasks = [_task(folder, group, modules) for folder, group in held.items()]
    for group in _grouped(missing, together):
        tasks.append(_task(out / _name(group), group, modules))
    return tasks


def identity(problem: dict[str, Any], config: Config) -> str:
    """Return what a GAN is, wherever it is computed and whoever looks on."""
    what = {"problem": problem, "config": replace(config, device="", track=()).to_json()}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _task(folder: Path, group: Sequence[Wanted], modules: Sequence[str]) -> Task:
    return Task(
        str(folder.resolve()),
        problem_to_json(group[0].problem),
        tuple(each.config.to_json() for each in group),
        tuple(modules),
    )


def _grouped(wanted: Sequence[Wanted], together: int) -> list[list[Wanted]]:
    """Return those that are trained at once, each group of at most ``together``."""
    found: dict[str, list[Wanted]] = {}
    for i, each in enumerate(wanted):
        found.setdefault(_structure(each) if together > 1 else str(i), []).append(each)
    return [
        group[start : start + together]
        for group in found.values()
        for start in range(0, len(group), together)
    ]


def _structure(each: Wanted) -> str:
    """Return what GANs share that can be trained at once; of one that cannot, what it is."""
    config, problem = replace(each.config, device="cpu"), problem_to_json(each.problem)
    try:
        alike(each.problem, [config])
    except SteadyganError:
        return identity(problem, config)
    if len(each.problem.event) == 3:
        return identity(problem, config)
    shared = replace(
        config,
        seed=0,
        regularizer=(),
        smoothing=None,
        optimizer=_rateless(config.optimizer),
        critic_optimizer=_rateless(config.critic_optimizer),
    )
    return identity(problem, shared) + repr(game_of([config.game()]))


def _rateless(optimizer: str | None) -> str:
    return repr(replace(build("optimizer", optimizer), lr=1.0))


def _name(group: Sequence[Wanted]) -> str:
    """Return how a new folder is called: what its GAN is, or how many, and a mark of its own."""
    mark = identity(problem_to_json(group[0].problem), group[0].config)[:8]
    label = group[0].label if len(group) == 1 else f"{len(group)} gans"
    return f"{re.sub(r'[^A-Za-z0-9.=]+', '-', label).strip('-')[:60]}-{mark}"
