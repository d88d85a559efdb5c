"""What the experiments on the 3-D submanifold mixture share.

Configurations, who stands and who has fallen, pictures and notes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.registry import build
from ..problems.toys import Mixture3D
from ..training import Config
from .fleets import SAVED, Member, fleet, share, spread
from .rules import COLLAPSES, FALLEN, KEEPS, LEARNS, Course, Fate, Rule
from .spec import Row, Source

STANDS, FALLS = 7, 3
"""Modes of seven, in the median over the last third of the evaluations, or over those since it had
learned where they are fewer: a run that holds all stands, one with at most three has fallen."""

LOST = 10
"""A run has fallen, too, that has at most three modes in the last tenth of its evaluations, and in
the last two."""

CLOSE = 0.06
"""Sliced Wasserstein-1 below which the samples are near the data: six times what fresh real samples
have."""

PAPER = "Roth et al. 2017, "

STRENGTHS = ("0.01", "0.1", "1")
"""Of the JS regularizer, in Figures 1 and 6."""

LENGTH = 60_000
"""Iterations that a run must stand, once it has learned, to speak for or against a collapse after
50,000; and after which one that has not learned will not."""

TINY = {"steps": 3, "batch": 16, "evaluate_every": 1, "seeds": 2, "network": "mlp:width=8"}
"""The settings of a smoke test."""

TINIEST = {**TINY, "steps": 2, "seeds": 1}
"""Those of an experiment with many settings."""

LONG = {"batch": 512, "evaluate_every": 1000, "compiled": True, "together": 8}
"""What experiments at the paper's length share; eight GANs at once are as fast as more at this
batch, and what they find is there sooner."""


def regularized_seeds(settings: Mapping[str, Any], seeds: int) -> int:
    """Return how many seeds a strength is trained with.

    Fewer than without a regularizer where the settings say so: a claim that what has learned
    collapses needs some that have.
    """
    some: int = settings.get("regularized_seeds", seeds)
    return min(seeds, some)


def trained(settings: Mapping[str, Any], members: Sequence[Config], folder: Path) -> list[Member]:
    """Train a fleet on the mixture, or continue it, compiled where the settings say so.

    Returns:
        The members in the order of their configurations.
    """
    return fleet(
        build("problem", "mixture3d"),
        members,
        folder,
        compiled=settings.get("compiled", False),
        together=settings.get("together"),
    )


def members(
    settings: Mapping[str, Any],
    regularizers: Sequence[str],
    critic_steps: int,
    seeds: int,
    objective: str = "minimax",
) -> list[Config]:
    """Return a configuration for each regularizer ("" for none) and seed.

    Everything else is as in the authors' code but what is set.
    """
    steps = settings["steps"]
    return [
        Config(
            objective=objective,
            regularizer=(regularizer,) if regularizer else (),
            dynamics=f"alternating:critic_steps={critic_steps}",
            batch=settings["batch"],
            latent=settings.get("latent"),
            network=settings.get("network"),
            steps=steps,
            evaluate_every=settings["evaluate_every"],
            log_every=steps,
            checkpoint_every=SAVED,
            keep_checkpoints=1,
            seed=seed,
        )
        for regularizer in regularizers
        for seed in range(seeds)
    ]


def final(member: Member, metric: str, since: int = 0) -> float:
    """Return the median of a metric over the last third of the evaluations, from an iteration on.

    As bad as can be where the run blew up.
    """
    value = member.late(metric, since)
    return value if math.isfinite(value) else (math.inf if metric == "sw1" else 0.0)


def course(member: Member) -> Course:
    """Return how a run went: what it had learned at its end, and how long it stood.

    The end is the median over the last third of the evaluations, or over those since it had learned
    where they are fewer; what it lost for good in the last tenth is lost, whatever that median
    says. It stood for 0 where it lies at the very end, by whatever chance.
    """
    start, lost, made = learned(member), fell(member), int(member.steps[-1])
    stood = 0 if start is None or lost else made - start
    if not math.isfinite(member.late("sw1")):
        return Course(Fate.BLEW_UP, made, stood)
    if start is None:
        return Course(Fate.WON if member.won else Fate.UNLEARNED, made, stood)
    modes, sw1 = (final(member, name, start) for name in ("modes", "sw1"))
    without = 0 if lost is None else int((member.steps >= lost).sum())
    if modes <= FALLS or (without > 1 and LOST * without >= len(member.steps)):
        return Course(Fate.FELL, made, stood)
    whole = modes == STANDS and sw1 < CLOSE
    return Course(Fate.STANDS if whole else Fate.PARTLY, made, stood)


def _judged(
    claim: str,
    source: Source,
    rule: Rule,
    expected: str,
    groups: Sequence[Sequence[Member]],
    holds: bool | None,
) -> Row:
    """Return the row of a rule over single runs, with every run's fate."""
    every = [m for group in groups for m in group]
    tolerance = f"{LENGTH:,} iterations; more than {FALLS} of 7 modes are learned, 7 are all"
    return Row(
        claim,
        source,
        rule,
        expected,
        tolerance,
        _seen(every),
        holds,
        _fates(groups),
    )


def _seen(group: Sequence[Member]) -> str:
    fates = [course(m).fate for m in group]
    had = [fate for m, fate in zip(group, fates, strict=True) if learned(m) is not None]
    fallen, standing = sum(fate in FALLEN for fate in had), fates.count(Fate.STANDS)
    lost = sum(fate in FALLEN for fate in fates) - fallen
    more = f", {lost} more blew up or lost to their critic before" if lost else ""
    numbers = (
        f"{name} {spread([final(m, name, learned(m) or 0) for m in group])}"
        for name in ("modes", "sw1")
    )
    return (
        f"{len(had)} of {len(group)} runs learned, {fallen} of these fell{more};"
        f" {share(standing, len(group), 'runs')} hold all modes at the end; {', '.join(numbers)}"
    )


def _fates(groups: Sequence[Sequence[Member]]) -> str:
    """Return in words how every run ended."""
    named = len(groups) > 1
    return "; ".join(
        f"{_title(m.setting) + ', ' if named else ''}seed {m.seed} {_fate(m)}"
        for group in groups
        for m in group
    )


def _fate(member: Member) -> str:
    found, start, end = course(member), learned(member), fell(member)
    words = f"{found.fate} at {found.made:,}"
    if start is not None:
        words += f", learned at {start:,}"
    return words + (f", lost it at {end:,}" if start is not None and end is not None else "")


def collapses(name: str, group: Sequence[Member], source: Source) -> Row:
    """Return the row of the claim that every run loses its modes again, or to its critic."""
    return _judged(
        f"{name}: every run collapses, from what it had learned or by its critic",
        source,
        COLLAPSES,
        f"at most {FALLS} of 7 modes at the end",
        [group],
        COLLAPSES([course(m) for m in group], LENGTH),
    )


def keeps(name: str, groups: Sequence[Sequence[Member]], source: Source) -> Row:
    """Return the row of the claim that no run of any setting loses its modes, or to its critic."""
    return _judged(
        f"{name}: no run collapses, from what it had learned or by its critic",
        source,
        KEEPS,
        f"more than {FALLS} of 7 modes at the end, {LENGTH:,} iterations after having learned",
        groups,
        KEEPS([[course(m) for m in group] for group in groups], LENGTH),
    )


def learns(name: str, group: Sequence[Member], source: Source) -> Row:
    """Return the row of the claim that every run holds all modes at the end, near the data."""
    return _judged(
        f"{name}: learns all modes and has them at the end",
        source,
        LEARNS,
        f"7 of 7 modes and sw1 below {CLOSE}",
        [group],
        LEARNS([course(m) for m in group], LENGTH),
    )


def learned(member: Member) -> int | None:
    """Return the iteration of the first of two evaluations in a row with more than ``FALLS`` modes.

    None where there are none.
    """
    more = member.series("modes") > FALLS
    pairs = np.flatnonzero(more[1:] & more[:-1])
    return int(member.steps[pairs[0]]) if len(pairs) else None


def fell(member: Member) -> int | None:
    """Return the iteration of the first evaluation with at most ``FALLS`` modes until the end.

    None where it has more then.
    """
    stood = np.flatnonzero(member.series("modes") > FALLS)
    first = stood[-1] + 1 if len(stood) else 0
    return int(member.steps[first]) if first < len(member.steps) else None


def grouped(group: Sequence[Member]) -> dict[str, list[Member]]:
    """Return the members of each setting by a name for readers, in the order in which they come."""
    found: dict[str, list[Member]] = {}
    for member in group:
        found.setdefault(_title(member.setting), []).append(member)
    return found


def _title(setting: str) -> str:
    js = re.fullmatch(r"js:gamma=([^,]*)(,anneal=.*)?", setting)
    return f"JS, γ = {js[1]}{', annealed' if js[2] else ''}" if js else setting


_DOTS = 500
"""Samples that a picture shows of a moment, and its numbers hold."""


def clouds(groups: Mapping[str, Sequence[Member]], columns: int = 5) -> dict[str, Any]:
    """Return the picture's data: a row for each setting.

    Its first seed's samples at moments spread over the training.
    """
    firsts = [group[0] for group in groups.values()]
    count = min(columns, *(len(m.steps) for m in firsts))
    moments = [m.steps[np.linspace(0, len(m.steps) - 1, count).round().astype(int)] for m in firsts]
    lengths = {int(m.steps[-1]) for m in firsts}
    one = len(lengths) == 1
    return {
        "real": Mixture3D().stream(0).draw(_DOTS).x.numpy(),
        "cells": [
            [m.samples(int(step))[:_DOTS] for step in steps]
            for m, steps in zip(firsts, moments, strict=True)
        ],
        "titles": [
            name + ("" if one or name.endswith(long) else f", {long}") + f", seed {m.seed}"
            for name, m in zip(groups, firsts, strict=True)
            for long in [f"{m.steps[-1]:,} iterations"]
        ],
        "heads": [
            f"iteration {step:,}" if one else f"{100 * step / firsts[0].steps[-1]:.0f} % of them"
            for step in moments[0]
        ],
    }


def medians(groups: Mapping[str, Sequence[Member]], metric: str, words: str) -> dict[str, Any]:
    """Return a panel of curves.

    The median over seeds of a metric along the training, for each setting.
    """
    lines = {}
    for name, group in groups.items():
        values = np.stack([m.series(metric) for m in group], axis=1)
        # Where a run blew up there is nothing to draw, and the median is that of the others.
        finite = [row[np.isfinite(row)] for row in values]
        lines[name] = (
            group[0].steps,
            [float(np.median(row)) if len(row) else math.nan for row in finite],
        )
    title = f"median over {len(next(iter(groups.values())))} seeds"
    return {"title": title, "x": "iteration", "y": words, "log": metric == "sw1", "lines": lines}


def mixture_budget(
    settings: Mapping[str, Any], seeds: int, of: str = "", steps: int = 100_000
) -> tuple[str, ...]:
    """Return what a reader must know about the size of a run.

    Args:
        settings: Of the experiment.
        seeds: How many of each setting.
        of: Which runs it is about.
        steps: How many the paper's have.
    """
    own = {"steps": steps, "batch": 512}
    differs = [
        f"{name} {settings[name]:,} instead of {value:,}"
        for name, value in own.items()
        if settings[name] != value
    ]
    if settings.get("network"):
        differs.append(f"network {settings['network']}")
    size = (
        f"{of}{': ' if of else ''}{seeds} seeds, {settings['steps']:,} iterations, batch"
        f" {settings['batch']}"
    )
    return (
        size
        + (f"; against the paper: {', '.join(differs)}." if differs else ", the paper's own size."),
    )
