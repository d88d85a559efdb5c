"""Roth et al. 2017, section 4.2: a constant strength of the regularizer against an annealed one.

On the 3-D submanifold mixture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..fleets import Member, seconds, share, spread
from ..mixture import (
    LONG,
    PAPER,
    TINIEST,
    final,
    grouped,
    learns,
    medians,
    members,
    mixture_budget,
    trained,
)
from ..rules import SMALLER
from ..spec import Experiment, Findings, Row, Source

_STRENGTHS = {"strengths": ("0.1", "1")}
_SIGN = {"sw1": -1, "hq3": 1}  # which way is nearer to the data
_WORDS = {
    "sw1": "sliced Wasserstein-1 to the data",
    "hq3": "share of samples within 0.03 of a mode",
}


def annealing(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train with five critic steps, each strength constant and annealed to 1 % of it.

    From the same seeds.

    Returns:
        Which of the two ends nearer to the data, and the curves.
    """
    groups: dict[str, list[Member]] = {}
    for gamma in settings["strengths"]:
        both = [f"js:gamma={gamma}{annealed}" for annealed in ("", ",anneal=0.01")]
        # Each strength in a folder of its own, so that one can be trained for longer.
        found = trained(settings, members(settings, both, 5, seeds), out / f"gamma-{gamma}")
        groups |= grouped(found)
    source = Source(PAPER + "section 4.2")
    ours = Source("how this project measures why one would anneal", "ours", "derived here")
    rows = [learns(name, group, source) for name, group in groups.items()]
    for gamma in settings["strengths"]:
        constant, annealed = groups[f"JS, γ = {gamma}"], groups[f"JS, γ = {gamma}, annealed"]
        rows += [
            ends_nearer(f"JS, γ = {gamma}", metric, constant, annealed, ours) for metric in _SIGN
        ]
    notes = (
        *mixture_budget(settings, seeds),
        "That both learn and stand is the paper's claim; that the annealed run ends nearer to the"
        " data is this project's. A member and its pair share the seed, hence the networks' start,"
        " the data and the latents.",
        "From half of the iterations on an annealed γ is below a tenth of its start: for γ = 0.1"
        " below 0.01, the weakest of roth-fig6.",
    )
    data = {"panels": [medians(groups, metric, words) for metric, words in _WORDS.items()]}
    return Findings(tuple(rows), "lines", data, notes, seconds(chain(*groups.values())))


def ends_nearer(
    name: str,
    metric: str,
    constant: Sequence[Member],
    annealed: Sequence[Member],
    source: Source,
) -> Row:
    """Return the row of the claim that annealed runs end nearer to the data than the constant ones.

    Those of the same seeds.
    """
    before, after = ({m.seed: final(m, metric) for m in group} for group in (constant, annealed))
    sign = -_SIGN[metric]
    pairs = [(sign * after[seed], sign * before[seed]) for seed in before]
    ahead, ties = (sum(a < b for a, b in pairs), sum(a == b for a, b in pairs))
    differing = len(pairs) - ties
    gains = [b - a if a != b else 0.0 for a, b in pairs]
    return Row(
        f"{name}: annealed, it ends nearer to the data, by {metric}",
        source,
        SMALLER,
        f"{_WORDS[metric]} {'smaller' if sign > 0 else 'larger'} than constant",
        "medians over the last third of the evaluations",
        f"{share(ahead, differing) if differing else 'none'} of those that differ, {ties} equal;"
        f" constant {spread([*before.values()])}, annealed {spread([*after.values()])}, gain"
        f" {spread(gains)}",
        SMALLER(*zip(*pairs, strict=True)),
    )


EXPERIMENT = Experiment(
    name="roth-annealing",
    what="constant against annealed γ",
    source="Roth et al. 2017, section 4.2",
    scales={
        "quick": {
            **_STRENGTHS,
            "steps": 5000,
            "batch": 64,
            "evaluate_every": 250,
            "seeds": 6,
            "compiled": True,
        },
        "long": {**LONG, **_STRENGTHS, "steps": 5000, "evaluate_every": 250, "seeds": 8},
        "tiny": {**TINIEST, **_STRENGTHS},
    },
    cost={
        "quick": "15 minutes of one core",
        "long": "2 core-hours",
        "tiny": "a second",
    },
    run=annealing,
    papers={"steps": 100_000},
    parts={"strengths": "γ = {}"},
    rest="the papers' are decided by 60,000 iterations of three seeds, 2.5 core-hours a strength;"
    " by sw1 constant and annealed are too alike for eight seeds to tell",
)
