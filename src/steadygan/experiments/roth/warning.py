"""What foretells the collapse of a GAN that has learned: its slopes, or the doctor's spectrum.

Runs are looked at every ``LOOKS`` iterations, from having learned until they collapse. A look is
ill where a collapse follows within ``HORIZON``, and healthy where it is known that none does.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from ...analysis.subjects import load_run
from ...runs.files import read_json, write_json
from ...runs.format import CHECKPOINTS, by_step
from ...runs.reading import Run
from ...training import Config
from ..fleets import Member
from ..lifetimes import alarms, area_over_runs
from ..rules import ABOVE, SIDE
from ..spec import Row, Source
from .lives import Life

LOOKS = 1000
"""Iterations between two looks; losses and slopes are logged ten times in between."""

HORIZON = 5000
"""A collapse within so many iterations is to be foretold."""

USEFUL = 0.7
"""Area under the curve of alarms from which on they are worth something; 0.5 is chance."""

FALSE = 0.05
"""Share of false alarms, of healthy looks, at which it is said how early alarms come."""

PRODUCTS = 100
"""With Jacobians, which the doctor may spend on a look: half a second of one core."""

OURS = Source("early warning, of this project", "ours", "derived here")


class Looked(NamedTuple):
    """The looks at one run that can be judged, by increasing step.

    Attributes:
        steps: (n,).
        ill: (n,) bool.
        collapsed: Its collapse, None where it stood.
    """

    steps: np.ndarray
    ill: np.ndarray
    collapsed: int | None


def watched(config: Config) -> Config:
    """Return the configuration of a run that keeps what is looked at, however far it goes on."""
    return replace(
        config, log_every=LOOKS // 10, checkpoint_every=LOOKS, keep_checkpoints=sys.maxsize
    )


def looked(run: Life) -> Looked:
    """Return the looks at a run.

    >>> found = looked(Life(learned=2500, collapsed=10_000, seen=40_000))
    >>> found.steps.tolist(), found.ill.tolist()
    ([3000, 4000, 5000, 6000, 7000, 8000, 9000], [False, False, True, True, True, True, True])
    >>> looked(Life(2500, None, 9000)).steps.tolist()
    [3000, 4000]
    """
    if run.learned is None:
        return Looked(np.zeros(0, int), np.zeros(0, bool), None)
    end = run.seen - HORIZON + 1 if run.collapsed is None else run.collapsed
    steps = np.arange(math.ceil(run.learned / LOOKS) * LOOKS, end, LOOKS)
    if run.collapsed is None:
        return Looked(steps, np.zeros(len(steps), bool), None)
    return Looked(steps, steps >= run.collapsed - HORIZON, run.collapsed)


def slopes(members: Sequence[Member], looks: Sequence[Looked]) -> list[np.ndarray]:
    """Return at each look the largest mean of ||grad D|| that was logged since the one before.

    Of real samples or generated ones, whichever is larger.
    """
    read = cache(Run.read)
    found = []
    for member, look in zip(members, looks, strict=True):
        logged = read(member.folder).logged
        steps = logged["gradient_norm_real"].steps
        norm = np.maximum(*(logged[f"gradient_norm_{x}"].values for x in ("real", "fake")))
        own = norm[:, member.place]
        since = [own[(steps > step - LOOKS) & (steps <= step)] for step in look.steps]
        found.append(np.array([each.max() for each in since]))
    return found


def growth(
    members: Sequence[Member], looks: Sequence[Looked], path: Path, every: int = 1
) -> list[np.ndarray]:
    """Return at each look the largest real part of the field's eigenvalues, as the doctor sees it.

    That is how fast what is not damped grows; NaN where none has converged, and where the
    checkpoint is not kept.

    Args:
        members: The runs.
        looks: At each of them.
        path: Where what was found is kept, because it takes minutes.
        every: Of the healthy looks only so many-th are taken, the others are NaN. How well healthy
            and ill ones are told apart does not depend on how many there are of either.
    """
    kept: dict[str, Any] = read_json(path) if path.is_file() else {}
    found = []
    for member, look in zip(members, looks, strict=True):
        values = np.full(len(look.steps), math.nan)
        there = by_step(member.folder / CHECKPOINTS, ".safetensors")
        for i in np.flatnonzero(look.ill | (look.steps % (every * LOOKS) == 0)):
            step = int(look.steps[i])
            if (key := f"seed {member.seed}, step {step}") not in kept:
                if step not in there:
                    continue
                subject = load_run(member.folder, member.place, step)
                seen = subject.diagnose(budget=PRODUCTS, critic_steps=0, alternatives=())
                kept[key] = None if seen.spectrum is None else seen.spectrum.largest_real
                write_json(path, kept)
            values[i] = math.nan if kept[key] is None else kept[key]
        found.append(values)
    return found


def leads(values: Sequence[np.ndarray], looks: Sequence[Looked], false: float = FALSE) -> list[int]:
    """Return for each run that collapsed how long before that the first alarm came, 0 without any.

    An alarm is a value above the threshold that so large a share of the healthy looks exceeds; only
    those of the last ``HORIZON`` iterations count.
    """
    healthy = np.concatenate([v[~look.ill] for v, look in zip(values, looks, strict=True)])
    healthy = healthy[np.isfinite(healthy)]
    bar = np.quantile(healthy, 1 - false) if len(healthy) else math.inf
    return [
        max((look.collapsed - int(step) for step in look.steps[look.ill & (v > bar)]), default=0)
        for v, look in zip(values, looks, strict=True)
        if look.collapsed is not None
    ]


def foretold(
    title: str, predictors: Mapping[str, Sequence[np.ndarray]], looks: Sequence[Looked]
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Return the rows that a number foretells collapses, and early, and two panels of the picture.

    Args:
        title: Of the runs.
        predictors: By name: each run's values at its looks.
        looks: At each run.
    """
    rows = []
    curves: dict[str, Any] = {"chance": ([0.0, 1.0], [0.0, 1.0])}
    early = {}
    for name, values in predictors.items():
        pairs = [
            (v[~look.ill & np.isfinite(v)], v[look.ill & np.isfinite(v)])
            for v, look in zip(values, looks, strict=True)
        ]
        healthy, ill = (np.concatenate([pair[kind] for pair in pairs]) for kind in (0, 1))
        collapses = sum(len(pair[1]) > 0 for pair in pairs)
        found = area_over_runs(pairs)
        ahead = leads(values, looks)
        rows += [
            Row(
                f"{title}: {name} foretells a collapse within {HORIZON:,} iterations",
                OURS,
                ABOVE,
                f"area under the curve of alarms at least {USEFUL}",
                f"a look every {LOOKS:,} iterations, bootstrap over runs",
                f"{found} from {len(ill)} looks before {collapses} collapses and"
                f" {len(healthy)} healthy ones",
                ABOVE(found, USEFUL, collapses),
            ),
            Row(
                f"{title}: {name} warns more than {LOOKS:,} iterations before",
                OURS,
                SIDE,
                f"at {100 * FALSE:g} % of false alarms, within the last {HORIZON:,}",
                "one lead of each run that collapsed, 0 without an alarm",
                f"alarms before {sum(lead > 0 for lead in ahead)} of {len(ahead)} collapses"
                + (f", median lead {median(ahead):,.0f} iterations" if ahead else ""),
                SIDE(ahead, LOOKS),
            ),
        ]
        if len(healthy) and len(ill):
            false, true = alarms(healthy, ill)
            curves[f"{name}: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"] = false, true
        times = range(0, HORIZON + 1, LOOKS)
        count = max(1, len(ahead))
        early[name] = times, [sum(lead >= max(t, 1) for lead in ahead) / count for t in times]
    return rows, [
        {
            "title": f"{title}: alarms (area under the curve)",
            "x": "share of healthy looks with an alarm",
            "y": "of looks before a collapse",
            "lines": curves,
        },
        {
            "title": f"{title}: how early, at {100 * FALSE:g} % of false alarms",
            "x": "iterations before the collapse",
            "y": "collapses with an alarm by then",
            "lines": early,
        },
    ]
