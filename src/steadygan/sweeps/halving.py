"""Successive halving: all runs train a little, the best of them go on, and so on to the end.

A run that goes on does so with the bits of one that never waited, and one that is stopped says so
in its status, with its rank; where more runs are added it may go on after all.

Reference: Jamieson, Talwalkar, 2016, arXiv:1502.07943.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import SteadyganError
from ..runs.folder import RunFolder
from ..runs.format import STATUS, is_run
from ..runs.reading import Run
from ..runs.table import better
from .plan import Task
from .work import RANK, Ended


def halve(
    tasks: Sequence[Task],
    train: Callable[[Sequence[Task]], Iterable[Ended]],
    *,
    keep: int,
    by: str,
) -> Iterator[Ended]:
    """Train tasks of one GAN each in rungs; after each the best one of ``keep`` goes on.

    The decisions are made anew from what the folders hold, so that the same call goes on with a
    sweep that was broken off.

    Args:
        tasks: Of equally many steps.
        train: Trains tasks, each up to its ``until``.
        keep: Of how many one goes on, at least 2.
        by: The metric that ranks, its median over the last half of a run's evaluations.

    Yields:
        How each task ended.

    Raises:
        SteadyganError: For a metric that the runs do not have, or of which no side is better.
    """
    side = better(by)
    if side is None:
        raise SteadyganError(f"--by {by}: which side of it is better is not known.")
    left = list(tasks)
    for rung in rungs(tasks, keep):
        endings = {e.folder: e for e in train([replace(task, until=rung) for task in left])}
        values = {task.folder: _value(task, by, rung) for task in left}
        fit = [task for task in left if not math.isnan(values[task.folder])]
        fit.sort(key=lambda task: values[task.folder] * (1 if side is min else -1))
        best = fit[: max(1, len(left) // keep)]
        ranks = {task.folder: rank for rank, task in enumerate(fit, 1)}
        for task in left:
            rank = ranks.get(task.folder)
            if rank is not None and rank <= len(best):
                continue
            reason = f"{RANK}: {by} is no number at step {rung}"
            if rank is not None:
                reason = (
                    f"{RANK}: rank {rank} of {len(left)} by {by},"
                    f" {values[task.folder]:.4g}, at step {rung}; the best {len(best)} went on"
                )
            yield _stopped(endings[task.folder], rung, reason)
        left = best
    yield from train(left)


def rungs(tasks: Sequence[Task], keep: int) -> list[int]:
    """Return the steps at which runs wait: the last ones first made, each at an evaluation.

    >>> task = Task("", {}, ({"steps": 900, "evaluate_every": 90},))
    >>> rungs([task] * 9, 3)
    [180, 360]
    """
    shapes = {(t.members[0]["steps"], t.members[0]["evaluate_every"]) for t in tasks}
    if len(shapes) != 1 or any(len(task.members) != 1 for task in tasks):
        raise SteadyganError(
            "--halving compares runs of equally many steps that are evaluated at the same ones:"
            " leave steps and evaluate-every out of the axes."
        )
    ((steps, every),) = shapes
    count, found = len(tasks), []
    share = steps / keep
    while count > 1 and share >= every:
        found.append(math.ceil(share / every) * every)
        count, share = count // keep, share / keep
    return sorted(set(found) - {steps})


def _value(task: Task, by: str, rung: int) -> float:
    """Return the metric up to a rung; NaN for a run that has fallen before it."""
    if not is_run(Path(task.folder)):
        return math.nan
    run = Run.read(task.folder)
    if by not in run.metrics:
        if run.metrics:
            have = ", ".join(run.metrics)
            raise SteadyganError(f"--by {by}: the runs have {have}.")
        return math.nan
    steps, values = run.metrics[by]
    if not len(steps) or steps[-1] < rung:
        return math.nan
    seen = values[steps <= rung]
    return float(np.median(seen[len(seen) // 2 :]))


def _stopped(ended: Ended, rung: int, reason: str) -> Ended:
    """Stop a run that waits, and say why; one that has ended by itself or failed stays so.

    Returns:
        How it has ended.
    """
    if ended.itself or ended.state == "failed":
        return ended
    # It may have come farther when it was among the best of fewer.
    found = replace(ended, state="stopped", step=max(rung, ended.step), reason=reason)
    run = RunFolder.open(Path(ended.folder))
    told = {"state": found.state, "step": found.step, "reason": reason}
    run.write_status({**run.read(STATUS), **told})
    return found
