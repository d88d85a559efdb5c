"""Roth et al. 2017, section 4.1: the regularizer in the generator's objective too.

On the 3-D submanifold mixture.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...runs.files import read_lines
from ...runs.format import WARNINGS
from ...runs.monitor import concerns
from ..fleets import Member, seconds, share, spread
from ..mixture import (
    LONG,
    PAPER,
    STANDS,
    TINIEST,
    grouped,
    medians,
    members,
    mixture_budget,
    trained,
)
from ..rules import SMALLER, known, last_third
from ..spec import Experiment, Findings, Row, Source

_STRENGTHS = ("0.1", "1")
_CURVES = {"modes": "modes of 7", "sw1": "sliced Wasserstein-1 to the data"}
_SOURCE = Source(PAPER + "section 4.1")
_ARMS = {"critic": False, "both": True}
"""Whose objective has the regularizer, by the name of the fleet's folder."""


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train with five critic steps, the regularizer in the critic's objective alone and in both.

    From the same seeds.

    Returns:
        Which is faster and which more stable, and the curves.
    """
    arms: dict[str, dict[str, list[Member]]] = {name: {} for name in _ARMS}
    for loss in settings["objectives"]:
        wanted = members(settings, [f"js:gamma={gamma}" for gamma in _STRENGTHS], 5, seeds, loss)
        for arm, on in _ARMS.items():
            group = trained(
                settings, [replace(m, regularize_generator=on) for m in wanted], out / loss / arm
            )
            arms[arm] |= {f"{loss}, {name}": each for name, each in grouped(group).items()}
    rows = [
        row
        for name in arms["critic"]
        for row in claims(name, arms["critic"][name], arms["both"][name])
    ]
    groups = {f"{name}, {arm}": group for arm, held in arms.items() for name, group in held.items()}
    notes = (
        *mixture_budget(settings, seeds),
        "A member and its pair share the seed, hence the networks' start, the data and the"
        " latents. How early and how stable are this"
        " project's measures of the paper's remark. To first order nothing can change at an"
        " equilibrium whose critic is flat, because the"
        " penalty is quadratic in the critic's gradient: what differs, differs on the way there.",
        *(
            f"The monitor's warnings with the regularizer in {_words(arm)}:"
            f" {warnings(list(chain(*held.values())))}."
            for arm, held in arms.items()
        ),
    )
    panels = []
    for loss in settings["objectives"]:
        own = {n.removeprefix(f"{loss}, "): g for n, g in groups.items() if n.startswith(loss)}
        for metric, words in _CURVES.items():
            panel = medians(own, metric, words)
            panels.append({**panel, "title": f"{loss}, {panel['title']}"})
    return Findings(
        tuple(rows), "lines", {"panels": panels}, notes, seconds(chain(*groups.values()))
    )


def claims(name: str, critic: Sequence[Member], both: Sequence[Member]) -> list[Row]:
    """Return the rows of the claims about the regularizer in both objectives.

    A GAN with it is faster at first, and less stable near the end.
    """
    faster = _row(
        f"{name}, in both: faster at first",
        "the first evaluation with 7 modes comes earlier",
        first,
        critic,
        both,
    )
    shaky = _row(
        f"{name}, in both: unstable near convergence",
        "having had 7 modes, fewer of the late evaluations with them",
        late_share,
        critic,
        both,
    )
    return [faster, shaky]


def first(member: Member) -> float:
    """Return the iteration of the first evaluation with all modes; inf where there is none."""
    hits = np.flatnonzero(member.series("modes") == STANDS)
    return float(member.steps[hits[0]]) if len(hits) else math.inf


def late_share(member: Member) -> float:
    """Return the share of the evaluations in the last third that have all modes.

    NaN for one that had not had them before.
    """
    values = member.series("modes")
    late = last_third(len(values))
    had = (values[: late.start] == STANDS).any()
    return float(np.mean(values[late] == STANDS)) if had else math.nan


def _row(
    claim: str,
    expected: str,
    measure: Callable[[Member], float],
    critic: Sequence[Member],
    both: Sequence[Member],
) -> Row:
    """Return the row of the claim that a measure is smaller in both than in the critic alone.

    Seed by seed. Seeds that are equal, or where a measure is NaN on either side, say nothing.
    """
    pairs = [(measure(b), measure(a)) for a, b in zip(critic, both, strict=True)]
    there = known(*zip(*pairs, strict=True))
    smaller, differing = sum(a < b for a, b in there), sum(a != b for a, b in there)
    found = (
        share(smaller, differing).replace("seeds", "seeds that differ")
        if differing
        else f"equal in all of {len(there)} seeds"
    )
    together, alone = (
        spread(values) if values else "none"
        for values in ([a for a, _ in there], [b for _, b in there])
    )
    return Row(
        claim,
        _SOURCE,
        SMALLER,
        f"{expected} than in the critic's alone",
        "seeds that differ",
        f"{found}; critic {alone}, both {together}"
        + (
            f" in the {len(there)} of {len(pairs)} seeds that can say"
            if len(there) < len(pairs)
            else ""
        ),
        SMALLER(*zip(*pairs, strict=True)),
    )


def warnings(group: Sequence[Member]) -> str:
    """Return how many members of fleets the monitor warned of, by kind of trouble."""
    # A member is warned of a kind once, in words that name it.
    counts = Counter(
        row["kind"]
        for member in group
        for row in read_lines(member.folder / WARNINGS).rows
        if concerns(row["message"], member.place)
    )
    return ", ".join(f"{kind} in {count}" for kind, count in sorted(counts.items())) or "none"


def _words(arm: str) -> str:
    return "both objectives" if _ARMS[arm] else "the critic's alone"


EXPERIMENT = Experiment(
    name="roth-generator-regularized",
    what="the regularizer in the generator's objective too: faster at first, unstable near"
    " convergence",
    source=_SOURCE.where,
    scales={
        "quick": {
            "objectives": ("minimax",),
            "steps": 2500,
            "batch": 64,
            "evaluate_every": 83,
            "seeds": 8,
            "compiled": True,
        },
        "long": {
            **LONG,
            "objectives": ("minimax", "nonsaturating"),
            "steps": 2500,
            "evaluate_every": 100,
            "seeds": 16,
        },
        "tiny": {**TINIEST, "objectives": ("minimax",)},
    },
    cost={
        "quick": "20 minutes of a busy core",
        "long": "3 core-hours (by timed iterations), 10 minutes of an H100 with others beside it",
        "tiny": "a second",
    },
    run=run,
    papers={"steps": 100_000},
    parts={"objectives": "{}"},
    rest="at the shares that 16 seeds gave, 44 seeds would decide two claims in 5 more core-hours,"
    " and 200 seeds all in 35: few seeds differ",
)
