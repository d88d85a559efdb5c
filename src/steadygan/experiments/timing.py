"""How training is timed: interleaved rounds of process CPU time and of wall time.

And ratios within each round.
"""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch._dynamo  # noqa: F401 - an optimizer imports it at its first step, and no job shall pay for that

Timings = dict[str, list[tuple[float, float]]]
"""Seconds of process CPU time and of wall time for one unit of work, by job, one pair a round."""


class Job(NamedTuple):
    """One piece of work.

    ``make`` returns the function that is timed, which does it ``work`` times over.
    """

    name: str
    make: Callable[[], Callable[[], Any]]
    work: int = 1


def rounds(
    jobs: Sequence[Job], count: int, seconds: float, say: Callable[[str], None]
) -> tuple[Timings, dict[str, str]]:
    """Return the samples of every job, and why some could not run.

    A sample repeats its job until about ``seconds`` are filled.
    """
    ready: dict[str, tuple[Callable[[], Any], int, int]] = {}
    failed: dict[str, str] = {}
    for job in jobs:
        try:
            run = job.make()
            run()  # compiles, decides on a path, fills caches
            began = time.perf_counter()
            run()
            once = time.perf_counter() - began
        except Exception as error:
            failed[job.name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
            say(f"  {job.name} does not run: {failed[job.name]}")
            continue
        ready[job.name] = run, max(1, math.ceil(seconds / max(once, 1e-9))), job.work
    gc.collect()
    gc.freeze()  # all of torch's objects need not be looked at again below
    samples: Timings = {name: [] for name in ready}
    order, rng = list(ready), random.Random(0)
    for k in range(count):
        rng.shuffle(order)
        say(f"  round {k + 1} of {count}")
        for name in order:
            run, repeats, work = ready[name]
            gc.collect()  # nobody pays for another's garbage
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            samples[name].append((cpu / (repeats * work), wall / (repeats * work)))
    gc.unfreeze()
    return samples, failed


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles, to six digits."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(f"{middle:.6g}"), "q1": float(f"{low:.6g}"), "q3": float(f"{high:.6g}")}


def ratio(samples: Timings, above: str, below: str) -> dict[str, float] | None:
    """Return the ratio of two jobs' CPU times, taken within each round.

    None where one of them was not measured.
    """
    if above not in samples or below not in samples:
        return None
    return summary([a[0] / b[0] for a, b in zip(samples[above], samples[below], strict=True)])
