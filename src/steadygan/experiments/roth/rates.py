"""Roth et al. 2017, section 7.4: a search over learning rates.

Does any of them do without a regularizer, and does the regularizer need one in particular?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from ...training import Config
from ..fleets import Member, seconds, spread
from ..mixture import (
    CLOSE,
    PAPER,
    STANDS,
    TINY,
    course,
    final,
    members,
    mixture_budget,
    trained,
)
from ..rules import SMALLER, Fate
from ..spec import Experiment, Findings, Row, Source

RATE = 0.001
"""The learning rate of the authors' code, of both players."""

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Times that; seven, of which a sign test can decide."""

METHODS = {"unregularized": "", "JS, γ = 0.1": "js:gamma=0.1"}

OURS = Source(PAPER + "section 7.4", "ours", "derived here")


def rates(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train with and without the regularizer at every learning rate.

    Returns:
        Which stands at more of them, and which ends nearer to the data at its own best.
    """
    rows: list[Row] = []
    panels, took = [], 0.0
    for steps in settings["critic_updates"]:
        title = f"{steps} critic step{'s' if steps > 1 else ''}"
        found = {}
        for name, regularizer in METHODS.items():
            place = out / title.replace(" ", "-") / ("js" if regularizer else name)
            runs = trained(settings, asked(settings, regularizer, steps, seeds), place)
            took += seconds(runs)
            found[name] = [runs[i : i + seeds] for i in range(0, len(runs), seeds)]
        rows += compared(title, found)
        panels += drawn(title, found)
    notes = (
        *mixture_budget(settings, seeds, "Each learning rate"),
        f"Both players learn at {RATE:g} × {', '.join(f'{f:g}' for f in FACTORS)}; {RATE:g} is the"
        f" authors' own. Stands: in the median over the last third of the evaluations all {STANDS}"
        f" modes and sw1 below {CLOSE}. The best learning rate of a method is the one with the"
        " smallest median sw1 over its seeds.",
    )
    return Findings(tuple(rows), "lines", {"panels": panels}, notes, took)


def asked(
    settings: Mapping[str, Any], regularizer: str, critic_steps: int, seeds: int
) -> list[Config]:
    """Return the configurations of a method, the seeds of each learning rate together."""
    base = members(settings, [regularizer], critic_steps, seeds)
    return [
        replace(m, optimizer=f"adam:lr={factor * RATE:g},beta1=0.5")
        for factor in FACTORS
        for m in base
    ]


def compared(title: str, found: Mapping[str, Sequence[Sequence[Member]]]) -> list[Row]:
    """Return the rows that the regularized GAN stands at more rates, and is nearer at its best."""
    plain, ours = METHODS
    shares = {name: [share(group) for group in groups] for name, groups in found.items()}
    best = {name: best_of(groups) for name, groups in found.items()}
    ends = {name: [final(m, "sw1") for m in groups[best[name]]] for name, groups in found.items()}
    more = sum(a > b for a, b in zip(shares[ours], shares[plain], strict=True))
    fewer = sum(a < b for a, b in zip(shares[ours], shares[plain], strict=True))
    whole = {name: sum(each == 1 for each in of) for name, of in shares.items()}
    return [
        Row(
            f"{title}: {ours} stands at more learning rates than unregularized",
            OURS,
            SMALLER,
            "more often",
            f"{len(FACTORS)} learning rates as pairs, {len(found[ours][0])} seeds each",
            f"more seeds stand at {more} of {len(FACTORS)} rates, fewer at {fewer}; all of them at"
            f" {whole[ours]}, unregularized at {whole[plain]}",
            SMALLER([-x for x in shares[ours]], [-x for x in shares[plain]]),
        ),
        Row(
            f"{title}: each at its best learning rate, {ours} ends nearer to the data",
            OURS,
            SMALLER,
            "sw1 smaller",
            "medians over the last third of the evaluations",
            "; ".join(
                f"{name} {spread(ends[name])} at {FACTORS[best[name]] * RATE:g}"
                for name in (ours, plain)
            ),
            SMALLER(ends[ours], ends[plain]),
        ),
    ]


def share(group: Sequence[Member]) -> float:
    """Return the share of runs that stand."""
    return sum(course(m).fate is Fate.STANDS for m in group) / len(group)


def best_of(groups: Sequence[Sequence[Member]]) -> int:
    """Return the place of the learning rate whose runs end nearest to the data."""
    return min(range(len(groups)), key=lambda i: median(final(m, "sw1") for m in groups[i]))


def drawn(title: str, found: Mapping[str, Sequence[Sequence[Member]]]) -> list[dict[str, Any]]:
    """Return two panels: how many seeds stand, and how near they end, at each learning rate."""
    near = {
        name: [median(final(m, "sw1") for m in group) for group in groups]
        for name, groups in found.items()
    }
    numbers = [factor * RATE for factor in FACTORS]
    return [
        {
            "title": f"{title}: share of seeds that stand",
            "x": "learning rate × 1,000",
            "y": "share",
            "log": False,
            "bars": {
                name: ([f"{1000 * rate:g}" for rate in numbers], [share(group) for group in groups])
                for name, groups in found.items()
            },
        },
        {
            "title": f"{title}: median over seeds",
            "x": "learning rate",
            "y": "sliced Wasserstein-1 to the data",
            "log": True,
            "lines": {
                name: (numbers, [x if math.isfinite(x) else math.nan for x in values])
                for name, values in near.items()
            },
        },
    ]


EXPERIMENT = Experiment(
    name="roth-learning-rates",
    what="is there a learning rate that does without the regularizer?",
    source="Roth et al. 2017, section 7.4",
    scales={
        "quick": {
            "critic_updates": (5,),
            "steps": 3000,
            "batch": 64,
            "evaluate_every": 250,
            "seeds": 3,
            "compiled": True,
        },
        "long": {
            "critic_updates": (1, 5),
            "steps": 20_000,
            "batch": 64,
            "evaluate_every": 500,
            "seeds": 8,
            "compiled": True,
            "together": 28,
        },
        "tiny": {**TINY, "critic_updates": (1,)},
    },
    cost={
        "quick": "17 minutes of a busy core",
        "long": "3 core-hours (estimated)",
        "tiny": "seconds",
    },
    run=rates,
)
