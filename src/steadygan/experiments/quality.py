"""What is measured of image GANs, how their runs went, and the rows that are judged by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.estimate import Estimate
from ..evaluation.features import build_features, to_bytes
from ..evaluation.metrics import Pair, compute, take
from ..evaluation.samples import load_samples
from ..runs.models import load_sampler
from ..runs.monitor import Monitor
from .fleets import share, spread
from .images import ENOUGH, ImageRun, event, sources
from .rules import FALLEN, LASTS, SMALLER, UNSTABLE, Course, Fate, Rule
from .spec import Findings, Row, Source


@dataclass(frozen=True)
class Quality:
    """How near a run's samples are to test images.

    The kernel distance with its interval, and their spread over the real one's.
    """

    kid: Estimate
    spread: float

    @property
    def varied(self) -> bool:
        """Whether the samples differ from each other."""
        return self.spread >= Monitor.SPREAD


Group = list[tuple[ImageRun, Quality]]
"""A setting's runs, one for each seed, with the quality of their samples."""


def measured(
    runs: Sequence[ImageRun],
    settings: Mapping[str, Any],
    seed: int = 0,
    path: Path | None = None,
    averaged: bool = True,
) -> Group:
    """Return runs with the quality of their samples, as ``steadygan evaluate`` measures it.

    Args:
        runs: The runs.
        settings: Of the experiment.
        seed: Of the latents and of the choice among the test images.
        path: As ``load_sampler`` takes it.
        averaged: As ``load_sampler`` takes it.
    """
    features = build_features(settings["features"])
    features.check()
    real = _test_images(sources(settings)[1], settings["samples"], event(settings), seed)
    x, found = take(real, features), []
    for run in runs:
        samples = load_sampler(run.folder, path, averaged=averaged)[0](settings["samples"], seed)
        pixels = to_bytes(samples).numpy()
        numbers, _ = compute(Pair(real, pixels, x, take(pixels, features)), ("kid",))
        found.append(
            (
                run,
                Quality(numbers["kid"], float(pixels.std(axis=0).mean() / real.std(axis=0).mean())),
            )
        )
    return found


@lru_cache(maxsize=2)
def _test_images(path: str, n: int, event: tuple[int, int, int], seed: int) -> np.ndarray:
    # Kept, because an experiment asks for the same ones with every setting, and a zip is decoded
    # whole.
    return load_samples(path, n, event, seed)


def course(run: ImageRun, quality: Quality) -> Course:
    """Return how a run went.

    A run whose samples never differed has not learned; one whose samples did, and do no longer,
    fell.
    """
    if run.state != "finished":
        return Course(Fate.BLEW_UP, run.step, 0)
    if run.won:
        return Course(Fate.WON, run.step, 0)
    if quality.varied:
        return Course(Fate.STANDS, run.step, run.step)
    return Course(Fate.FELL if run.had_varied else Fate.UNLEARNED, run.step, 0)


def stands(claim: str, group: Group, source: Source, enough: int = ENOUGH) -> Row:
    """Return the row of the claim that every seed of a setting is alive after enough iterations."""
    return _alive(claim, group, source, enough, LASTS, "every run alive")


def falls(claim: str, group: Group, source: Source, enough: int = ENOUGH) -> Row:
    """Return the row of the claim that a setting is unstable.

    Not every seed is alive after ``enough`` iterations.
    """
    return _alive(claim, group, source, enough, UNSTABLE, "not every run alive")


def _alive(claim: str, group: Group, source: Source, enough: int, rule: Rule, expected: str) -> Row:
    tolerance = (
        f"{enough:,} iterations; alive: finite, critic's loss above {Monitor.WON:.0%} of an"
        f" undecided one's, samples' spread above {Monitor.SPREAD:.0%} of the real"
    )
    holds = rule([course(*each) for each in group], enough)
    why = "" if holds else _fates(group)
    return Row(claim, source, rule, expected, tolerance, said(group), holds, why)


def nearer(claim: str, ours: Group, theirs: Group, source: Source, enough: int = ENOUGH) -> Row:
    """Return the row of the claim that samples are nearer to test images than another setting's.

    Of the same seeds. A run that is not alive is infinitely far; while one of ours is alive and
    shorter than ``enough`` iterations, it is undecided: who begins faster need not end nearer.
    """
    short = any(each.fate not in FALLEN and each.made < enough for each in starmap(course, ours))
    near, far = ([_far(*each) for each in group] for group in (ours, theirs))
    values = [[quality.kid.value for _, quality in group] for group in (ours, theirs)]
    return Row(
        claim,
        source,
        SMALLER,
        "a smaller kernel distance",
        f"{enough:,} iterations, over seeds; a run that is not alive is infinitely far",
        f"kernel distance {spread(values[0])} against {spread(values[1])}",
        holds := None if short else SMALLER(near, far),
        "" if holds else f"{_fates(ours)}; against: {_fates(theirs)}",
    )


def _far(run: ImageRun, quality: Quality) -> float:
    return quality.kid.value if course(run, quality).fate is Fate.STANDS else math.inf


def said(group: Group) -> str:
    """Return what was measured of a setting's seeds.

    How many are alive, kernel distances, and what the monitor named.
    """
    distances = ", ".join(
        f"{quality.kid.value:.3g} [{quality.kid.low:.3g}, {quality.kid.high:.3g}]"
        for _, quality in group
    )
    warnings = sorted({kind for run, _ in group for kind in run.warnings})
    alive = sum(course(*each).fate is Fate.STANDS for each in group)
    return f"{share(alive, len(group))} alive; kernel distance {distances}" + (
        f"; warnings: {', '.join(warnings)}" if warnings else ""
    )


def gallery(
    rows: Sequence[Row],
    pictures: Mapping[str, Sequence[ImageRun]],
    heads: Sequence[str],
    groups: Mapping[str, Group],
    notes: tuple[str, ...],
) -> Findings:
    """Return findings that are shown by samples.

    Args:
        rows: The claims.
        pictures: By title the runs whose last samples are shown.
        heads: What is above their columns.
        groups: All that was measured: their numbers stand beside the picture.
        notes: What a reader must know.
    """
    data = {
        "cells": [[run.grid() for run in runs] for runs in pictures.values()],
        "titles": list(pictures),
        "heads": list(heads),
        "numbers": table(groups),
    }
    runs = {run.folder: run for group in groups.values() for run, _ in group}
    took = sum(run.seconds for run in runs.values())
    return Findings(tuple(rows), "gallery", data, notes, took)


def table(groups: Mapping[str, Group]) -> list[tuple[Any, ...]]:
    """Return what was measured of every run, under a row of names: the numbers of a gallery."""
    head = ("setting", "seed", "iterations", "fate", "kernel distance", "low", "high", "spread")
    return [
        head,
        *(
            (name, run.seed, run.step, str(course(run, q).fate), *q.kid, q.spread)
            for name, group in groups.items()
            for run, q in group
        ),
    ]


def _fates(group: Group) -> str:
    """Return in words how every run ended."""
    return "; ".join(
        f"seed {run.seed} {course(run, quality).fate} at {run.step:,}, with {quality.spread:.0%} of"
        " the real spread"
        for run, quality in group
    )
