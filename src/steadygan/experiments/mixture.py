"""What the experiments on the 3-D submanifold mixture share: configurations, who stands and who has
fallen, pictures and notes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.registry import build
from ..problems.toys import Mixture3D
from ..training import Config
from .fleets import Member, fleet, share, spread
from .spec import Row

STANDS, FALLS = 7, 3
"""Modes of seven, in the median over the last third of the evaluations: a run that holds all
stands, one with at most three has fallen."""

CLOSE = 0.06
"""Sliced Wasserstein-1 below which the samples are near the data: six times what fresh real samples
have."""

PAPER = "Roth et al. 2017, "

STRENGTHS = ("0.01", "0.1", "1")
"""Of the JS regularizer, in Figures 1 and 6."""

LENGTH = 60_000
"""Iterations with one critic step that an unregularized run must stand, once it has learned, to
speak against collapse after 50,000."""

TINY = {"steps": 3, "batch": 16, "evaluations": 3, "seeds": 2, "network": "mlp:width=8"}
"""The settings of a smoke test."""

TINIEST = {**TINY, "steps": 2, "evaluations": 2, "seeds": 1}
"""Those of an experiment with many settings."""


def trained(settings: Mapping[str, Any], members: Sequence[Config], folder: Path) -> list[Member]:
    """Train a fleet on the mixture, or continue it, compiled where the settings say so."""
    return fleet(
        build("problem", "mixture3d"), members, folder, compiled=settings.get("compiled", False)
    )


def members(
    settings: Mapping[str, Any],
    regularizers: Sequence[str],
    critic_steps: int,
    seeds: int,
    objective: str = "minimax",
) -> list[Config]:
    """Return a configuration for each regularizer ("" for none) and seed, everything else as in the
    authors' code but what is set."""
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
            evaluate_every=max(1, steps // settings["evaluations"]),
            log_every=steps,
            checkpoint_every=max(1, steps // 20),
            keep_checkpoints=1,
            seed=seed,
        )
        for regularizer in regularizers
        for seed in range(seeds)
    ]


def final(member: Member, metric: str) -> float:
    """Return the median of a metric over the last third of the evaluations; as bad as can be where
    the run blew up."""
    value = member.late(metric)
    return value if math.isfinite(value) else (math.inf if metric == "sw1" else 0.0)


def _stands(member: Member) -> bool:
    return member.late("modes") == STANDS and member.late("sw1") < CLOSE


def _seen(group: Sequence[Member], yes: int, what: str = "seeds") -> str:
    words = (f"{name} {spread([final(m, name) for m in group])}" for name in ("modes", "sw1"))
    return f"{share(yes, len(group), what)}; {', '.join(words)}"


def _unfinished(group: Sequence[Member]) -> str:
    """Explain settings that do not stand yet: who blew up, who never learned, and whether the
    others were still coming nearer."""
    left = [m for m in group if math.isfinite(m.late("sw1"))]
    counts = {
        "blew up": len(group) - len(left),
        f"never had more than {FALLS} modes twice in a row": sum(learned(m) is None for m in left),
    }
    words = [
        f"{count} of the {len(group)} that do not stand {what}"
        for what, count in counts.items()
        if count
    ]
    if left and len(left[0].steps) > 2:
        thirds = [np.array_split(m.series("sw1"), 3) for m in left]
        before, after = ([float(np.median(part[i])) for part in thirds] for i in (1, 2))
        falling = sum(b > a for b, a in zip(before, after, strict=True))
        words.append(
            f"{falling} of the {len(left)} that do not stand were still coming nearer: sw1"
            f" {spread(before)} in the second third,"
            f" {spread(after)} in the last"
        )
    return "; ".join(words)


def falls(name: str, group: Sequence[Member], source: str) -> Row:
    """Return the row of the claim that every seed of a setting loses modes."""
    fallen = sum(not m.late("modes") > FALLS for m in group)
    return Row(
        f"{name}: collapses, or never learns, in every run",
        f"all {len(group)} seeds with at most {FALLS} of 7 modes",
        source,
        "median over the last third of the evaluations, in every seed",
        _seen(group, fallen),
        fallen == len(group),
    )


def collapses(name: str, group: Sequence[Member], source: str) -> Row:
    """Return the row of the claim that every run that has learned loses its modes again.

    Seeds that never learned decide nothing, and neither do those that collapsed too late for the
    median or have not stood ``LENGTH`` iterations since they learned.
    """
    able = [m for m in group if learned(m) is not None]
    standing = [m for m in able if m.late("modes") > FALLS]
    lasted = max((_lasted(m) for m in standing if fell(m) is None), default=0)
    holds: bool | None = not standing
    why = _standing(standing)
    if standing and lasted < LENGTH:
        holds = None
        why += (
            f", {lasted:,} iterations after learning at most, too few: in the paper collapse"
            " came after about 50,000"
            if lasted
            else ""
        )
    return _of_those_that_learned(
        Row(
            f"{name}: every run that has learned collapses",
            f"at most {FALLS} of 7 modes in all seeds that had more before",
            source,
            "more: at two evaluations in a row; at most: in the median over the last third of"
            " the evaluations",
            _seen(able, len(able) - len(standing)) if able else "",
            holds,
            why,
        ),
        group,
    )


def keeps(name: str, group: Sequence[Member], source: str) -> Row:
    """Return the row of the claim that no run that has learned loses its modes again, of which one
    at least stood ``LENGTH`` iterations."""
    able = [m for m in group if learned(m) is not None]
    fallen = [m for m in able if not m.late("modes") > FALLS]
    lasted = max((_lasted(m) for m in able), default=0)
    lost = ", ".join(f"{_title(m.setting)}, seed {m.seed}" for m in fallen)
    return _of_those_that_learned(
        Row(
            f"{name}: no run that has learned collapses",
            f"more than {FALLS} of 7 modes in all runs that had more before, the longest for"
            f" {LENGTH:,} iterations",
            source,
            "before: at two evaluations in a row; now: in the median over the last third of the"
            " evaluations",
            f"{_seen(able, len(able) - len(fallen), 'runs')}; the longest {lasted:,} iterations"
            " after learning"
            if able
            else "",
            False if fallen else None if lasted < LENGTH else True,
            f"lost: {lost}" if fallen else "too short to tell" if lasted < LENGTH else "",
        ),
        group,
    )


def _of_those_that_learned(row: Row, group: Sequence[Member]) -> Row:
    """Say in a row how many runs never learned, and that without any that did nothing is
    decided."""
    slow = sum(learned(m) is None for m in group)
    if slow == len(group):
        return replace(
            row,
            measured=f"none of {slow} runs learned",
            holds=None,
            why="no run learned, so none could collapse",
        )
    return (
        replace(
            row,
            measured=f"{row.measured}; {slow} more never had more than {FALLS} modes twice in a"
            " row",
        )
        if slow
        else row
    )


def _lasted(member: Member) -> int:
    return int(member.steps[-1]) - (learned(member) or 0)


def learned(member: Member) -> int | None:
    """Return the iteration of the first of two evaluations in a row with more than ``FALLS`` modes;
    None where there are none."""
    more = member.series("modes") > FALLS
    pairs = np.flatnonzero(more[1:] & more[:-1])
    return int(member.steps[pairs[0]]) if len(pairs) else None


def fell(member: Member) -> int | None:
    """Return the iteration of the first evaluation from which it had at most ``FALLS`` modes until
    the end; None where it has more then."""
    stood = np.flatnonzero(member.series("modes") > FALLS)
    first = stood[-1] + 1 if len(stood) else 0
    return int(member.steps[first]) if first < len(member.steps) else None


def _standing(group: Sequence[Member]) -> str:
    """Explain who has not fallen by the median: those that fell after all, too late for it, and
    those that stood until the end."""
    late = [f"seed {m.seed} at {step:,}" for m in group if (step := fell(m))]
    words = [f"collapsed too late for the median: {', '.join(late)}"] if late else []
    return "; ".join(
        words
        + (
            [f"{len(group) - len(late)} had not collapsed at the end"]
            if len(late) < len(group)
            else []
        )
    )


def stands(name: str, group: Sequence[Member], source: str) -> Row:
    """Return the row of the claim that every seed of a setting holds all modes at the end, near the
    data."""
    others = [m for m in group if not _stands(m)]
    return Row(
        f"{name}: learns all modes and is stable",
        f"all {len(group)} seeds with 7 of 7 modes and sw1 below {CLOSE}",
        source,
        "medians over the last third of the evaluations, in every seed",
        _seen(group, len(group) - len(others)),
        not others,
        _unfinished(others) if others else "",
    )


def halfway(groups: Mapping[str, Sequence[Member]]) -> tuple[str, ...]:
    """Say how many seeds of each setting stood after half of the evaluations, so that a reader sees
    what the length decides."""
    words = []
    for name, group in groups.items():
        half = (len(group[0].steps) + 1) // 2
        early = [
            replace(m, metrics={key: values[:half] for key, values in m.metrics.items()})
            for m in group
        ]
        words.append(f"{name}: {sum(map(_stands, early))} of {len(group)}")
    return (f"Stood by the same measure after half of the iterations: {'; '.join(words)}.",)


def grouped(group: Sequence[Member]) -> dict[str, list[Member]]:
    """Return the members of each setting, in the order in which they come, by a name for
    readers."""
    found: dict[str, list[Member]] = {}
    for member in group:
        found.setdefault(_title(member.setting), []).append(member)
    return found


def _title(setting: str) -> str:
    js = re.fullmatch(r"js:gamma=([^,]*)(,anneal=.*)?", setting)
    return f"JS, γ = {js[1]}{', annealed' if js[2] else ''}" if js else setting


def clouds(groups: Mapping[str, Sequence[Member]], columns: int = 5) -> dict[str, Any]:
    """Return the picture's data: a row for each setting, its first seed's samples at moments spread
    over the training."""
    firsts = [group[0] for group in groups.values()]
    count = min(columns, *(len(m.steps) for m in firsts))
    moments = [m.steps[np.linspace(0, len(m.steps) - 1, count).round().astype(int)] for m in firsts]
    lengths = {int(m.steps[-1]) for m in firsts}
    one = len(lengths) == 1
    return {
        "real": Mixture3D().stream(0).draw(2000).x.numpy(),
        "cells": [
            [m.samples(int(step)) for step in steps]
            for m, steps in zip(firsts, moments, strict=True)
        ],
        "titles": [
            f"{name}, seed {m.seed}" + ("" if one else f", {m.steps[-1]:,} iterations")
            for name, m in zip(groups, firsts, strict=True)
        ],
        "heads": [
            f"iteration {step:,}" if one else f"{100 * step / firsts[0].steps[-1]:.0f} % of them"
            for step in moments[0]
        ],
    }


def medians(groups: Mapping[str, Sequence[Member]], metric: str, words: str) -> dict[str, Any]:
    """Return a panel of curves: the median over seeds of a metric along the training, for each
    setting."""
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


def budget(
    settings: Mapping[str, Any], seeds: int, of: str = "", steps: int = 100_000
) -> tuple[str, ...]:
    """Return what a reader must know about the size of a run. of: which runs it is about. steps:
    how many the paper's have."""
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
