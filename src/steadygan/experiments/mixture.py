"""Roth et al. 2017 on the 3-D submanifold mixture: Figures 1, 5 and 6."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.registry import build
from ..problems.measures import mode_occupancy
from ..problems.toys import Mixture3D
from ..training import Config
from .fleets import Member, fleet, seconds, share, spread
from .spec import Experiment, Findings, Row, number

STANDS, FALLS = 7, 3
"""Modes of seven, in the median over the last third of the evaluations: a run that holds all stands, one with at most three has fallen."""

CLOSE = 0.06
"""Sliced Wasserstein-1 below which the samples are near the data: six times what fresh real samples have."""

_PAPER = "Roth et al. 2017, "


def fig5(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Draw the mixture and hold it against its definition, written out anew."""
    problem, n = Mixture3D(), settings["samples"]
    x = problem.stream(0).draw(n).x.double()
    # The paper's own recipe, step by step, in NumPy: the ring in the plane z = 0, turned by Rodrigues' formula, moved.
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
    # A share of n draws strays by sqrt(p (1 - p)/n), a standard deviation by s/sqrt(2 n) for its 2 n numbers: three and a half of them.
    slack = 3.5 * math.sqrt(6 / 49 / n)
    source = _PAPER + "sections 5.1 and 7.3"
    measure = problem.measure(x.float(), torch.nn.Identity())
    rows = (
        number("modes", source, 7, measure["modes"], 0),
        number("distance of every mode from (1, 1, 1)/√3", source, 1.0, float(radii[(radii - 1).abs().argmax()]), 1e-9),
        number("share of the fullest mode, of a uniform mixture", source, 1 / 7, float(occupancy.max()), slack),
        number("share of the emptiest mode", source, 1 / 7, float(occupancy.min()), slack),
        number("standard deviation within the plane", source, 0.01, float(local[:, :2].std()), 3.5 * 0.01 / math.sqrt(4 * n)),
        number("largest height off the plane", source, 0.0, float(np.abs(local[:, 2]).max()), 1e-6),
        number("tilt of the plane in degrees", source, 45.0, _tilt(x.numpy()), 0.05),
    )
    note = "The picture looks at the plane from above, as all pictures of these samples here; the paper shows it in perspective."
    data = {"real": x.numpy(), "cells": [[x.numpy()]], "titles": ["real samples"], "heads": [f"{n:,} of them"]}
    return Findings(rows, "clouds", data, (note,))


def _tilt(x: np.ndarray) -> float:
    normal = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2][2]
    return float(np.degrees(np.arccos(min(1.0, abs(normal[2])))))


def members(settings: Mapping[str, Any], regularizers: Sequence[str], critic_steps: int, seeds: int, **more: Any) -> list[Config]:
    """Return a configuration for each regularizer ("" for none) and seed, everything else as in the authors' code but what is set."""
    return [
        Config(
            objective=more.get("objective", "minimax"),
            regularizer=(regularizer,) if regularizer else (),
            dynamics=f"alternating:critic_steps={critic_steps}",
            batch=settings["batch"],
            latent=settings.get("latent"),
            network=settings.get("network"),
            steps=settings["steps"],
            evaluate_every=max(1, settings["steps"] // settings["evaluations"]),
            log_every=settings["steps"],
            checkpoint_every=max(1, settings["steps"] // 20),
            keep_checkpoints=1,
            seed=seed,
        )
        for regularizer in regularizers
        for seed in range(seeds)
    ]


def fig6(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train with five critic steps, with and without the regularizer."""
    strengths = ("0.01", "0.1", "1")
    plain = fleet(build("problem", "mixture3d"), members(settings, [""], 5, seeds), out / "unregularized")
    penalized = members(settings, [f"js:gamma={gamma}" for gamma in strengths], 5, seeds)
    regularized = fleet(build("problem", "mixture3d"), penalized, out / "js")
    groups = grouped([*plain, *regularized])
    source = _PAPER + "section 7.3, Figure 6"
    rows = [falls("unregularized", groups["unregularized"], source)]
    rows += [stands(f"JS, γ = {gamma}", groups[f"js:gamma={gamma}"], source) for gamma in strengths]
    names = ("unregularized", *(f"JS, γ = {gamma}" for gamma in strengths))
    notes = budget(settings, seeds) + halfway(groups, names)
    return Findings(tuple(rows), "clouds", clouds(groups, names), notes, seconds(out / "unregularized", out / "js"))


def _stands(member: Member) -> bool:
    return member.late("modes") == STANDS and member.late("sw1") < CLOSE


def _seen(group: Sequence[Member], yes: int) -> str:
    words = (f"{name} {spread([_number(m, name) for m in group])}" for name in ("modes", "sw1"))
    return f"{share(yes, len(group))}; {', '.join(words)}"


def _unfinished(group: Sequence[Member]) -> str:
    """Explain settings that do not stand yet: whether their samples were still coming nearer."""
    thirds = [np.array_split(m.metrics["sw1"], 3) for m in group]
    before, after = ([float(np.median(part[i])) for part in thirds] for i in (1, 2))
    falling = sum(b > a for b, a in zip(before, after, strict=True))
    return (
        f"{falling} of the {len(group)} that do not stand were still coming nearer: sw1 {spread(before)} in the second third,"
        f" {spread(after)} in the last"
    )


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


def stands(name: str, group: Sequence[Member], source: str) -> Row:
    """Return the row of the claim that every seed of a setting holds all modes at the end, near the data."""
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


def halfway(groups: Mapping[str, Sequence[Member]], names: Sequence[str]) -> tuple[str, ...]:
    """Say how many seeds of each setting stood after half of the evaluations, so that a reader sees what the length decides."""
    words = []
    for name, group in zip(names, groups.values(), strict=True):
        half = (len(group[0].steps) + 1) // 2
        early = [replace(m, metrics={key: values[:half] for key, values in m.metrics.items()}) for m in group]
        words.append(f"{name}: {sum(map(_stands, early))} of {len(group)}")
    return (f"Stood by the same measure after half of the iterations: {'; '.join(words)}.",)


def grouped(group: Sequence[Member]) -> dict[str, list[Member]]:
    """Return the members of each setting, in the order in which they come."""
    found: dict[str, list[Member]] = {}
    for member in group:
        found.setdefault(member.setting, []).append(member)
    return found


def clouds(groups: Mapping[str, Sequence[Member]], names: Sequence[str], columns: int = 5) -> dict[str, Any]:
    """Return the picture's data: a row for each setting, its first seed's samples at moments spread over the training."""
    steps = next(iter(groups.values()))[0].steps
    shown = steps[np.linspace(0, len(steps) - 1, min(columns, len(steps))).round().astype(int)]
    return {
        "real": Mixture3D().stream(0).draw(2000).x.numpy(),
        "cells": [[group[0].samples(int(step)) for step in shown] for group in groups.values()],
        "titles": [f"{name}, seed {group[0].seed}" for name, group in zip(names, groups.values(), strict=True)],
        "heads": [f"iteration {step:,}" for step in shown],
    }


def budget(settings: Mapping[str, Any], seeds: int) -> tuple[str, ...]:
    """Return what a reader must know about the size of a run."""
    own = {"steps": 100_000, "batch": 512}
    differs = [f"{name} {settings[name]:,} instead of {value:,}" for name, value in own.items() if settings[name] != value]
    if settings.get("network"):
        differs.append(f"network {settings['network']}")
    size = f"{seeds} seeds, {settings['steps']:,} iterations, batch {settings['batch']}"
    return (size + (f"; against the paper: {', '.join(differs)}." if differs else ", the paper's own size."),)


def _number(member: Member, name: str) -> float:
    # A run that blew up has no finite metrics: as bad as can be.
    value = member.late(name)
    return value if math.isfinite(value) else (0.0 if name == "modes" else math.inf)


FIG5 = Experiment(
    name="roth-fig5",
    what="the 3-D submanifold mixture itself",
    source="Roth et al. 2017, sections 5.1 and 7.3, Figure 5",
    scales={"quick": {"samples": 5120}, "paper": {"samples": 5120}, "tiny": {"samples": 5120}},
    cost=dict.fromkeys(("quick", "paper", "tiny"), "a second"),
    run=fig5,
)

_TINY = {"steps": 3, "batch": 16, "evaluations": 3, "seeds": 2, "network": "mlp:width=8"}

FIG6 = Experiment(
    name="roth-fig6",
    what="five critic steps: unregularized GANs collapse, regularized ones (γ = 0.01, 0.1, 1) stand",
    source="Roth et al. 2017, section 7.3, Figure 6",
    scales={
        "quick": {"steps": 3000, "batch": 128, "evaluations": 30, "seeds": 3},
        "paper": {"steps": 100_000, "batch": 512, "evaluations": 100, "seeds": 8},
        "tiny": _TINY,
    },
    cost={"quick": "25 minutes of wall time on one busy core", "paper": "a GPU for hours (not measured)", "tiny": "a second"},
    run=fig6,
)
