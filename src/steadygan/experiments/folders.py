"""What lies in the folders of an experiment: whose run it is, and how far it has come."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import SteadyganError
from ..core.schedules import Schedule
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.config import problem_to_json
from ..runs.files import PARTIAL
from ..runs.folder import RunFolder
from ..runs.format import STATUS, TRAINED
from ..training import Config, Outcome, resume
from .workers import current, task

_IDLE = ("device", "cuda_graphs", "log_every", "checkpoint_every", "keep_checkpoints")
"""Settings that change nothing but rounding: the device may be another machine's."""


def annealed(config: Config) -> bool:
    """Return whether a strength changes over the length of a training.

    Another length is then another training.
    """
    return any(isinstance(value, Schedule) for value in config.game().strengths().values())


def identity(problem: Problem, config: Config) -> str:
    """Return what a GAN of an experiment is, as ``identity_of``."""
    return identity_of(json.loads(json.dumps(problem_to_json(problem))), config)


def identity_of(problem: Any, config: Config) -> str:
    """Return what a GAN is, on whatever device: its problem, as in config.json, and its settings.

    Its length is no part of it, unless a strength changes over that.
    """
    # Read and written again, so that a folder older than a setting has its default.
    idle = (*_IDLE, *(() if annealed(config) else ("steps",)))
    essential = {key: value for key, value in config.to_json().items() if key not in idle}
    return json.dumps([problem, essential], sort_keys=True)


def remove(folder: Path) -> None:
    """Remove what a run that never had a checkpoint has left.

    Raises:
        SteadyganError: For a folder that holds anything else.
    """
    for path in folder.iterdir():
        if path.name not in TRAINED and not path.name.endswith(PARTIAL):
            raise SteadyganError(
                f"{folder} holds {path.name}, which no run makes: choose another folder with --out."
            )
    shutil.rmtree(folder)


def ended(folder: Path, steps: int) -> str | None:
    """Return how a run of one GAN or of many ended, None where it has steps to make.

    None also where it was killed before it could say how it ended: to resume it says so.
    """
    path = folder / STATUS
    status = RunFolder.open(folder).read(STATUS) if path.is_file() else {}
    done = status.get("state") == "finished" and status["step"] >= steps
    return str(status["state"]) if done or status.get("state") == "stopped" else None


def unfinished(folder: Path, steps: int) -> bool:
    """Return whether a run has not ended at so many steps.

    Raises:
        SteadyganError: Where it has made more.
    """
    made = RunFolder.open(folder).describe().config.steps or 0
    if made > steps:
        raise SteadyganError(
            f"{folder} is trained for {made} iterations, and {steps} are asked for: give --steps"
            f" {made} or more, or choose another folder with --out."
        )
    return ended(folder, steps) is None


def go_on(folder: Path, steps: int) -> None:
    """Train the run of one GAN or of many in a folder up to so many steps, unless it has ended.

    Raises:
        SteadyganError: Where it has made more.
        KeyboardInterrupt: Where it was interrupted.
    """
    if unfinished(folder, steps) and resume(folder, steps=steps).state == "interrupted":
        raise KeyboardInterrupt


def there(problem: Problem, config: Config, folder: Path) -> bool:
    """Return whether the run of one GAN that belongs into a folder was begun.

    What one that was killed before its first checkpoint left is removed.

    Raises:
        SteadyganError: Where the folder holds another run.
    """
    if folder.is_dir() and not checkpoint.checkpoints(folder):
        remove(folder)
    if not folder.exists():
        return False
    held = RunFolder.open(folder).describe()
    if [identity_of(held.setting, m) for m in held.members] != [identity(problem, config)]:
        raise SteadyganError(
            f"{folder} holds another run than this experiment's: choose another folder with"
            " --out, or remove that one."
        )
    return True


def make_or_continue(
    problem: Problem,
    config: Config,
    folder: Path,
    make: Callable[[], Outcome],
) -> None:
    """Make the run of one GAN that belongs into a folder, or go on with the one that is there.

    Args:
        problem: What is played.
        config: Of the run, resolved.
        folder: Where it lies.
        make: Makes it there.

    Raises:
        SteadyganError: Where the folder holds another run.
        KeyboardInterrupt: Where it was interrupted: the same call continues it.
    """
    if there(problem, config, folder):
        go_on(folder, config.steps or 0)
    elif make().state == "interrupted":
        raise KeyboardInterrupt


def by_workers(problem: Problem, configs: Mapping[Path, Config]) -> None:
    """Let workers, where there are any, train what is left of runs of one GAN each, by folder.

    Args:
        problem: What is played.
        configs: As they were asked for, by folder: each worker finds its own device.

    Raises:
        SteadyganError: Where a folder holds another run, and where some failed.
    """
    if (workers := current()) is not None:
        resolved = {folder: each.resolve(problem) for folder, each in configs.items()}
        tasks = [
            task(problem, [configs[folder]], folder, steps=each.steps)
            for folder, each in resolved.items()
            if not there(problem, each, folder) or unfinished(folder, each.steps or 0)
        ]
        workers.train(tasks)
