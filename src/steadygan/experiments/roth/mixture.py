"""Roth et al. 2017 on the 3-D submanifold mixture.

The mixture (Figure 5), and who stands on it (Figures 1 and 6, wide latents).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...problems.measures import mode_occupancy
from ...problems.toys import Mixture3D
from ..fleets import Member, seconds
from ..mixture import (
    LENGTH,
    LONG,
    PAPER,
    STRENGTHS,
    TINIEST,
    TINY,
    clouds,
    collapses,
    grouped,
    keeps,
    learns,
    members,
    mixture_budget,
    regularized_seeds,
    trained,
)
from ..spec import Experiment, Findings, Row, Source, number


def fig5(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Draw the mixture and hold it against its definition, written out anew.

    Returns:
        A row for each number of the definition, and the samples.
    """
    problem, n = Mixture3D(), settings["samples"]
    x = problem.stream(0).draw(n).x.double()
    # The paper's own recipe, step by step, in NumPy: the ring in the plane z = 0, turned by
    # Rodrigues' formula, moved.
    angle = 2 * np.pi * np.arange(7) / 7
    ring = np.stack([np.sin(angle), np.cos(angle), np.zeros(7)], axis=1)
    k = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    turn = np.eye(3) + np.sin(np.pi / 4) * cross + (1 - np.cos(np.pi / 4)) * cross @ cross
    centres = torch.from_numpy(ring @ turn + 1 / np.sqrt(3))
    occupancy = mode_occupancy(x, centres, 0.06)
    nearest = torch.cdist(x, centres).argmin(1)
    local = (x - centres[nearest]).numpy() @ turn.T
    middle = torch.full((3,), 1 / math.sqrt(3), dtype=torch.float64)
    radii = (centres - middle).norm(dim=1)
    # A share of n draws strays by sqrt(p (1 - p)/n), a standard deviation by s/sqrt(2 n) for its 2
    # n numbers: three and a half of them.
    slack = 3.5 * math.sqrt(6 / 49 / n)
    source = Source(PAPER + "sections 5.1 and 7.3", known="from the authors' code")
    measure = problem.measure(x.float(), torch.nn.Identity())
    rows = (
        number("modes", source, 7, measure["modes"], 0),
        number(
            "distance of every mode from (1, 1, 1)/√3",
            source,
            1.0,
            float(radii[(radii - 1).abs().argmax()]),
            1e-9,
        ),
        number(
            "share of the fullest mode, of a uniform mixture",
            source,
            1 / 7,
            float(occupancy.max()),
            slack,
        ),
        number("share of the emptiest mode", source, 1 / 7, float(occupancy.min()), slack),
        number(
            "standard deviation within the plane",
            source,
            0.01,
            float(local[:, :2].std()),
            3.5 * 0.01 / math.sqrt(4 * n),
        ),
        number("largest height off the plane", source, 0.0, float(np.abs(local[:, 2]).max()), 1e-6),
        number("tilt of the plane in degrees", source, 45.0, _tilt(x.numpy()), 0.05),
    )
    note = (
        "The picture looks at the plane from above, as all pictures of these samples here;"
        " the paper shows it in perspective."
    )
    data = {
        "real": x.numpy(),
        "cells": [[x.numpy()]],
        "titles": ["real samples"],
        "heads": [f"{n:,} of them"],
    }
    return Findings(rows, "clouds", data, (note,))


def _tilt(x: np.ndarray) -> float:
    normal = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][2]
    return float(np.degrees(np.arccos(min(1.0, abs(normal[2])))))


@dataclass(frozen=True)
class _Figure:
    """The runs of one figure by name, with their rows and notes.

    And the names of those to draw.
    """

    groups: Mapping[str, list[Member]]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    drawn: tuple[str, ...]

    def findings(self) -> Findings:
        """Return what the figure shows."""
        picture = clouds({name: self.groups[name] for name in self.drawn})
        return Findings(self.rows, "clouds", picture, self.notes, self.seconds)

    @property
    def seconds(self) -> float:
        """The wall time of its trainings."""
        return seconds(chain(*self.groups.values()))


def _one_step(settings: Mapping[str, Any], seeds: int, out: Path, source: Source) -> _Figure:
    """Return the runs with one critic step.

    Unregularized, with every strength, constant and annealed, and one strength for longer.
    """
    plain_settings = {**settings, "steps": settings["unregularized_steps"]}
    some = regularized_seeds(settings, seeds)
    strengths = [f"js:gamma={gamma}" for gamma in STRENGTHS]
    strengths += [f"{js},anneal=0.01" for js in strengths]
    plain = grouped(
        trained(plain_settings, members(plain_settings, [""], 1, seeds), out / "unregularized")
    )
    regularized = grouped(trained(settings, members(settings, strengths, 1, some), out / "js"))
    groups = plain | regularized
    notes = mixture_budget(plain_settings, seeds, "Unregularized")
    notes += mixture_budget(settings, some, "Regularized", 200_000)
    drawn = list(groups)
    if few := min(seeds, settings.get("long_seeds", 0)):
        long = {**settings, "steps": settings["long_steps"]}
        name = f"JS, γ = 0.1, {long['steps']:,} iterations"
        groups[name] = trained(long, members(long, ["js:gamma=0.1"], 1, few), out / "js-long")
        notes += mixture_budget(long, few, "One strength for longer", 200_000)
        drawn[drawn.index("JS, γ = 0.1")] = name
    others = {name: group for name, group in groups.items() if name not in plain}
    rows = [collapses(name, group, source) for name, group in plain.items()]
    rows.append(keeps("regularized, all strengths", list(others.values()), source))
    rows += [learns(name, group, source) for name, group in others.items()]
    return _Figure(groups, tuple(rows), notes, tuple(drawn))


def _five_steps(settings: Mapping[str, Any], seeds: int, out: Path, source: Source) -> _Figure:
    """Return the runs with five critic steps: unregularized, and with every strength."""
    plain = grouped(trained(settings, members(settings, [""], 5, seeds), out / "unregularized"))
    regularized = grouped(
        trained(
            settings,
            members(settings, [f"js:gamma={gamma}" for gamma in STRENGTHS], 5, seeds),
            out / "js",
        )
    )
    rows = [collapses(name, group, source) for name, group in plain.items()]
    rows += [learns(name, group, source) for name, group in regularized.items()]
    rows.append(keeps("regularized, all strengths", list(regularized.values()), source))
    groups, notes = plain | regularized, mixture_budget(settings, seeds)
    return _Figure(groups, tuple(rows), notes, tuple(groups))


def fig1(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train with one critic step, with and without the regularizer.

    Returns:
        Who stands and who falls, and the samples.
    """
    return _one_step(settings, seeds, out, Source(PAPER + "section 5.1, Figure 1")).findings()


def fig6(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train with five critic steps, with and without the regularizer.

    Returns:
        Who stands and who falls, and the samples.
    """
    return _five_steps(settings, seeds, out, Source(PAPER + "section 7.3, Figure 6")).findings()


def latent15(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train as for Figures 1 and 6, from a latent with more dimensions than the data.

    Returns:
        Who stands and who falls, and the samples.
    """
    source = Source(PAPER + "section 7.3")
    parts = {}
    if 1 in settings["critic_updates"]:
        parts["1 critic step"] = _one_step(settings, seeds, out / "one", source)
    if 5 in settings["critic_updates"]:
        five = {**settings, "steps": settings["five_steps"]}
        some = regularized_seeds(settings, seeds)
        parts["5 critic steps"] = _five_steps(five, some, out / "five", source)
    rows = [
        replace(row, claim=f"{title}, {row.claim}")
        for title, part in parts.items()
        for row in part.rows
    ]
    notes = [f"{title}. {note}" for title, part in parts.items() for note in part.notes]
    picture = clouds(
        {
            f"{title}, {name}": part.groups[name]
            for title, part in parts.items()
            for name in ("unregularized", "JS, γ = 0.1")
        }
    )
    return Findings(
        tuple(rows),
        "clouds",
        picture,
        tuple(notes),
        sum(part.seconds for part in parts.values()),
    )


FIG5 = Experiment(
    name="roth-fig5",
    what="the 3-D submanifold mixture itself",
    source="Roth et al. 2017, sections 5.1 and 7.3, Figure 5",
    scales={"quick": {"samples": 5120}, "paper": {"samples": 5120}, "tiny": {"samples": 5120}},
    cost=dict.fromkeys(("quick", "paper", "tiny"), "a second"),
    run=fig5,
)

FIG1 = Experiment(
    name="roth-fig1",
    what="one critic step: unregularized GANs collapse after tens of thousands of iterations,"
    " regularized ones (γ = 0.01, 0.1, 1) stand",
    source="Roth et al. 2017, section 5.1, Figure 1",
    scales={
        "quick": {
            "unregularized_steps": 70_000,
            "steps": 10_000,
            "long_steps": 70_000,
            "batch": 64,
            "evaluate_every": 500,
            "seeds": 8,
            "regularized_seeds": 3,
            "long_seeds": 1,
            "compiled": True,
        },
        "long": {
            **LONG,
            "unregularized_steps": 100_000,
            "steps": 100_000,
            "long_steps": 200_000,
            "seeds": 8,
            "regularized_seeds": 3,
            "long_seeds": 3,
        },
        "tiny": {**TINIEST, "unregularized_steps": 3, "long_steps": 3, "long_seeds": 1},
    },
    cost={
        "quick": "50 minutes of a busy core",
        "long": "14 hours of a busy core with 3 seeds, 18 with 8 (estimated)",
        "tiny": "a second",
    },
    run=fig1,
)

FIG6 = Experiment(
    name="roth-fig6",
    what="five critic steps: unregularized GANs collapse, regularized ones (γ = 0.01, 0.1, 1)"
    " stand",
    source="Roth et al. 2017, section 7.3, Figure 6",
    scales={
        "quick": {"steps": 3000, "batch": 128, "evaluate_every": 100, "seeds": 3},
        # A run that is to stand the length after it has learned takes more than that length.
        "long": {**LONG, "steps": LENGTH + 10_000, "seeds": 3},
        "tiny": TINY,
    },
    cost={
        "quick": "8 minutes of one core",
        "long": "5 core-hours (60,000 iterations took 4)",
        "tiny": "a second",
    },
    run=fig6,
    papers={"steps": 100_000},
)

LATENT15 = Experiment(
    name="roth-latent15",
    what="Figures 1 and 6 with a 15-dimensional latent",
    source="Roth et al. 2017, section 7.3",
    scales={
        "quick": {
            "latent": 15,
            "critic_updates": (1, 5),
            "unregularized_steps": 10_000,
            "steps": 10_000,
            "five_steps": 4000,
            "batch": 64,
            "evaluate_every": 500,
            "seeds": 12,
            "regularized_seeds": 3,
            "compiled": True,
        },
        "long": {
            **LONG,
            "latent": 15,
            "critic_updates": (1, 5),
            "unregularized_steps": 100_000,
            "steps": 100_000,
            "five_steps": 100_000,
            "seeds": 8,
            "regularized_seeds": 3,
        },
        "tiny": {
            **TINIEST,
            "latent": 15,
            "critic_updates": (1, 5),
            "unregularized_steps": 2,
            "five_steps": 2,
        },
    },
    cost={
        "quick": "13 minutes of one core (estimated)",
        "long": "14 core-hours (estimated)",
        "tiny": "a second",
    },
    run=latent15,
    parts={"critic_updates": "{} critic step"},
)
