"""How long GANs take to learn the 3-D submanifold mixture, and how long they then stand.

Survival curves over the strength of the regularizer: they say more than snapshots of a few runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..fleets import Member, seconds, share
from ..lifetimes import Lifetimes, kaplan_meier, log_rank
from ..mixture import (
    FALLS,
    STANDS,
    STRENGTHS,
    TINIEST,
    grouped,
    members,
    mixture_budget,
    regularized_seeds,
    trained,
)
from ..rules import LATER
from ..spec import Experiment, Findings, Row, Source
from .lives import WINDOW, Life, learning, life, standing
from .warning import FALSE, HORIZON, LOOKS, foretold, growth, looked, slopes, watched

PLAIN = "unregularized"


def survival(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train many seeds of every strength at every batch, and look for what foretells collapses.

    Returns:
        Which strengths learn sooner and stand longer than no regularizer, and what warns.
    """
    some = regularized_seeds(settings, seeds)
    rows: list[Row] = []
    panels, early, notes, took = [], [], [], 0.0
    for batch in settings["batches"]:
        title, here = f"batch {batch}", {**settings, "batch": batch}
        place = out / title.replace(" ", "-")
        plain = [watched(m) for m in members(here, [""], 1, seeds)]
        js = members(here, [f"js:gamma={gamma}" for gamma in STRENGTHS], 1, some)
        groups = grouped(trained(here, plain, place / PLAIN)) | grouped(
            trained(here, js, place / "js")
        )
        took += seconds(chain(*groups.values()))
        lives = {name: [life(m) for m in group] for name, group in groups.items()}
        others = {name: each for name, each in lives.items() if name != PLAIN}
        others["JS, all strengths"] = list(chain(*others.values()))
        for name, each in others.items():
            rows += compared(f"{title}, {name}", each, lives[PLAIN])
        panels += [
            panel(f"{title}: has learned all modes", "iteration", learning, lives, rising=True),
            panel(f"{title}: stands", "iterations after it had learned", standing, lives),
        ]
        looks = [looked(run) for run in lives[PLAIN]]
        told, lines = foretold(
            f"{title}, {PLAIN}",
            {
                "norm of the critic's slope": slopes(groups[PLAIN], looks),
                "growth seen by the doctor": growth(
                    groups[PLAIN], looks, place / "doctor.json", settings.get("doctor_every", 1)
                ),
            },
            looks,
        )
        rows += told
        early += lines
        notes += [
            *mixture_budget(here, seeds, f"{title}, {PLAIN}"),
            *mixture_budget(here, some, f"{title}, each strength"),
            f"{title}, hold more than {FALLS} modes again at the end, of those that collapsed:"
            f" {_recovered(groups)}.",
        ]
    notes += [
        f"Learned: all {STANDS} modes; collapsed: at most {FALLS}, a critic that has won, or"
        f" numbers that are not finite; each in most of {WINDOW} evaluations in a row, one every"
        f" {settings['evaluate_every']:,} iterations, at the first of them. What had not happened"
        " by the end of a run is censored there: it says that it took longer, not how long. Bands"
        " are 95 % intervals of log(-log) by Greenwood's formula, of each time for itself.",
        f"Early warning: unregularized runs are looked at every {LOOKS:,} iterations from having"
        f" learned until they collapse. A look is ill where a collapse follows within {HORIZON:,},"
        " and healthy where it is known that none does. The slope is the largest mean of ‖∇D‖"
        f" that was logged since the look before, every {LOOKS // 10}; the growth is the largest"
        " real part of an eigenvalue of the field, which Adam scales, as diagnose finds it"
        f"{_thinned(settings)}, where its checkpoint is kept. The"
        f" threshold of {100 * FALSE:g} % false alarms is that of the same healthy looks.",
    ]
    data = {"panels": panels, "early": early}
    return Findings(tuple(rows), "survival", data, tuple(notes), took)


def _thinned(settings: Mapping[str, Any]) -> str:
    every = settings.get("doctor_every", 1)
    return f", at one in {every} of the healthy looks and at all ill ones" if every > 1 else ""


def compared(name: str, ours: Sequence[Life], plain: Sequence[Life]) -> list[Row]:
    """Return the rows that a strength learns sooner, and then stands longer, than without."""
    sooner = log_rank(learning(plain), learning(ours))
    longer = log_rank(standing(ours), standing(plain))
    return [
        Row(
            f"{name}: learns sooner than unregularized",
            Source("survival curves of this project", "ours", "derived here"),
            LATER,
            "unregularized runs learn later",
            "log-rank test of whole runs",
            f"{_ended(learning(ours), 'learned')}; unregularized"
            f" {_ended(learning(plain), 'learned')}; p = {sooner.p:.2g}",
            LATER(sooner),
        ),
        Row(
            f"{name}: once it has learned, stands longer than unregularized",
            Source("survival curves of this project", "ours", "derived here"),
            LATER,
            "it collapses later, or not at all",
            "log-rank test of whole runs",
            f"{_ended(standing(ours), 'collapsed')}, {longer.expected:.1f} expected if both ended"
            f" alike; unregularized {_ended(standing(plain), 'collapsed')}; p = {longer.p:.2g}",
            LATER(longer),
        ),
    ]


def _ended(seen: Lifetimes, what: str) -> str:
    """Return in words how many of some runs ended, and after which time half of them had."""
    if not len(seen.times):
        return f"none that could have {what}"
    median = kaplan_meier(seen).median()
    half = f"half by {median:,.0f}" if np.isfinite(median) else "less than half by the end"
    return f"{share(int(seen.ended.sum()), len(seen.times), 'runs')} {what}, {half}"


def _recovered(groups: Mapping[str, Sequence[Member]]) -> str:
    """Return in words how many of the collapsed runs hold most modes again at their end."""
    fallen = {
        name: [
            np.median(m.series("modes")[-WINDOW:]) > FALLS
            for m in group
            if life(m).collapsed is not None
        ]
        for name, group in groups.items()
    }
    return ", ".join(f"{name} {sum(each)} of {len(each)}" for name, each in fallen.items())


def panel(
    title: str,
    x: str,
    times: Callable[[Sequence[Life]], Lifetimes],
    lives: Mapping[str, Sequence[Life]],
    rising: bool = False,
) -> dict[str, Any]:
    """Return a panel of the picture: the curve, band, end and runs at risk of each group.

    Args:
        title: Above it.
        x: What its times are.
        times: Makes lifetimes of lives.
        lives: Of each group.
        rising: Draw the share that has ended instead of that which has not.
    """
    seen = {name: times(group) for name, group in lives.items()}
    end = max((int(each.times.max()) for each in seen.values() if len(each.times)), default=1)
    marks = np.linspace(0, end, 6).round().astype(int)
    curves = {}
    for name, each in seen.items():
        curve = kaplan_meier(each)
        bands = curve.survival, curve.low, curve.high
        if rising:
            bands = 1 - curve.survival, 1 - curve.high, 1 - curve.low
        curves[name] = {
            "times": curve.times,
            "shares": bands,
            "until": int(each.times.max(initial=0)),
            "risk": [(int(mark), int((each.times >= mark).sum())) for mark in marks],
        }
    return {"title": title, "x": x, "end": end, "curves": curves}


EXPERIMENT = Experiment(
    name="roth-survival",
    what="how long until a GAN has learned the mixture, how long it then stands, over γ and the"
    " batch, and what foretells its collapse",
    source="Roth et al. 2017, section 5.1, Figure 1, as survival curves",
    scales={
        "quick": {
            "batches": (64,),
            "steps": 40_000,
            "evaluate_every": 500,
            "seeds": 24,
            "doctor_every": 12,
            "regularized_seeds": 12,
            "compiled": True,
            "together": 12,
        },
        "long": {
            "batches": (64, 16),
            "steps": 100_000,
            "evaluate_every": 500,
            "seeds": 64,
            "compiled": True,
            "together": 32,
        },
        "tiny": {**TINIEST, "batches": (16,), "steps": 4},
    },
    cost={
        "quick": "70 minutes of one core",
        "long": "11 core-hours (estimated), 2 of them a γ at batch 64",
        "tiny": "a second",
    },
    run=survival,
    parts={"batches": "batch {}"},
    papers={"batches": (512,)},
)
