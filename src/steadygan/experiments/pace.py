"""How many iterations of one image GAN take as long as those of another: measured once, kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import SteadyganError
from ..problems.images import Images
from ..runs.files import make_folder, write_text
from ..training import Config
from ..training.single import Single
from .timing import Job, Timings, ratio, rounds

PACED = {"rounds": 7, "seconds": 1.0}
"""Interleaved rounds, and seconds of each sample, by which a pace is measured."""


def iteration(images: Images, config: Config) -> Callable[[], Callable[[], None]]:
    """Return what makes a function that trains for one iteration."""

    def make() -> Callable[[], None]:
        single = Single(images, config.resolve(images))
        return lambda: single.dynamics.step(single.players)

    return make


def as_long(
    steps: int,
    ours: Config,
    theirs: Config,
    images: Images,
    settings: Mapping[str, Any],
    path: Path,
) -> int:
    """Return how many iterations of ``theirs`` take the time of so many of ``ours``.

    The ratio of their CPU times is measured at the first call and kept at ``path``: another one
    would make another run of it each time.

    Raises:
        SteadyganError: Where one of them does not run.
    """
    if not path.is_file():
        jobs = [
            Job(f"{' + '.join(c.regularizer)} on {c.network}", iteration(images, c))
            for c in (ours, theirs)
        ]
        found = timed(jobs, settings)
        make_folder(path.parent)
        write_text(path, json.dumps(ratio(found, jobs[1].name, jobs[0].name)))
    median: float = json.loads(path.read_text())["median"]
    return max(1, round(steps / median))


def timed(jobs: Sequence[Job], settings: Mapping[str, Any]) -> Timings:
    """Return the samples of every job.

    Raises:
        SteadyganError: Where one of them does not run.
    """
    found, failed = rounds(jobs, settings["rounds"], settings["seconds"], say)
    if failed:
        reasons = "; ".join(f"{name} ({reason})" for name, reason in failed.items())
        raise SteadyganError(
            f"What is to be timed does not run: {reasons}. Where that is for want of memory, free"
            " some, or choose a smaller --scale."
        )
    return found


def say(line: str) -> None:
    """Show a line of progress."""
    print(line, file=sys.stderr)
