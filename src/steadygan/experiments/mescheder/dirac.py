"""Mescheder et al. 2018, the figure of vector fields and trajectories: every method on the
Dirac-GAN under three dynamics, with radii."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...analysis.portrait import portrait, simulate, spectrum
from ...core.errors import SteadyganError
from ...core.game import Game
from ..spec import Experiment, Findings, Row, bound, number, printed

LR, START = 0.2, (1.0, -1.0)
"""The authors' learning rate; their start (1, 1), in the sign of this project, where logits are
large on real samples."""

ORDERS = ("simultaneous", "alternating, 1 critic step", "alternating, 5 critic steps")
_PLAIN = (
    "simultaneous",
    "alternating:order=generator-first",
    "alternating:critic_steps=5,order=generator-first",
)
_CONSENSUS = (
    "consensus:gamma=1",
    "consensus:gamma=1,alternating=true",
    "consensus:gamma=1,alternating=true,critic_steps=5",
)
_SOURCE = (
    "Mescheder et al. 2018, sections 2 and 3; radii derived from the authors' settings,"
    " reference/equations.md"
)


@dataclass(frozen=True)
class Method:
    """A row of the figure: a method, its game, the three dynamics, and the radii after 500 steps as
    they were printed, where they were."""

    name: str
    game: Game
    radii: tuple[str, ...] = ()
    dynamics: tuple[str, str, str] = _PLAIN


METHODS = (
    Method("GAN", Game("minimax"), ("3.10", "1.42", "1.85")),
    Method("non-saturating GAN", Game("nonsaturating"), (".64", ".28", ".14")),
    Method("WGAN", Game("wasserstein"), ("2.6e4", "1.40", "1.06")),
    Method("WGAN, clipped at 1", Game("wasserstein", constraint="clip:c=1")),
    Method("WGAN-GP, γ = 0.7", Game("wasserstein", "wgan-gp:gamma=0.7"), ("1.80", "1.22", ".72")),
    Method("DRAGAN, γ = 0.7", Game("minimax", "dragan:gamma=0.7")),
    Method("consensus, γ = 1", Game("minimax"), ("2.6e-10", "1.7e-11", "11"), _CONSENSUS),
    Method(
        "instance noise, σ = 0.7",
        Game("minimax", smoothing="instance-noise:sigma=0.7"),
        ("5.7e-5", "4e-6", "4e-17"),
    ),
    Method("JS, γ = 0.6", Game("minimax", "js:gamma=0.6"), ("3.2e-6", "2.5e-7", "1e-33")),
    Method("R1, γ = 0.3", Game("minimax", "r1:gamma=0.3"), ("2.6e-6", "2.3e-7", "9e-34")),
    Method("R1, γ = 1", Game("minimax", "r1:gamma=1"), ("1e-21", "7e-17", "5e-12")),
    Method(
        "non-saturating + R1, γ = 0.3",
        Game("nonsaturating", "r1:gamma=0.3"),
        ("2.2e-6", "1.5e-7", "4e-34"),
    ),
)

WHY = {
    (
        "consensus, γ = 1",
        1,
    ): "the table has the generator first; consensus optimisation here moves the critic first",
    (
        "instance noise, σ = 0.7",
        0,
    ): "the table has exact noise, here it is 16 quadrature nodes an axis; 64 of them give"
    " 5.70e-05",
    (
        "instance noise, σ = 0.7",
        1,
    ): "the table has exact noise, here it is 16 quadrature nodes an axis",
    ("instance noise, σ = 0.7", 2): "this near, rounding of the quadrature nodes' mean decides",
}
"""Why a radius is another than the table's, by method and column."""


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Play every method under every dynamics, and look at those that cycle for longer."""
    methods = (
        [method for method in METHODS if method.name in settings["methods"]]
        if settings["methods"]
        else METHODS
    )
    rows, panels = [], []
    for method in methods:
        for column, (words, dynamics) in enumerate(zip(ORDERS, method.dynamics, strict=True)):
            seen = portrait(method.game, dynamics, LR, start=START, steps=settings["steps"])
            radius = float(np.hypot(*seen.path[-1]))
            if method.radii:
                claim = f"{method.name}, {words}: radius after 500 steps"
                rows.append(
                    printed(
                        claim,
                        _SOURCE,
                        method.radii[column],
                        radius,
                        WHY.get((method.name, column), ""),
                    )
                )
            converges, theory = _theory(method.game, dynamics)
            note = f"r = {radius:.2g}; {theory}"
            panels.append(
                {
                    "title": method.name,
                    "subtitle": words,
                    "note": note,
                    "converges": converges,
                    **seen._asdict(),
                }
            )
            if method.name == "WGAN, clipped at 1":
                rows.append(_cycles(words, seen.path))
    rows.append(_grows(settings["steps"]))
    if settings["long"]:
        rows += _limit_circle(settings["long"])
    notes = (
        "Learning rate 0.2, 500 steps, generator first (consensus optimisation: critic first),"
        " from (θ, ψ) = (1, −1), which is the paper's"
        " (1, 1): its logits are large on generated samples.",
        "Colours are the linearisation's verdict at the equilibrium, not the trajectory's.",
    )
    return Findings(tuple(rows), "portraits", {"panels": panels, "columns": 6}, notes)


def _theory(game: Game, dynamics: str) -> tuple[bool | None, str]:
    try:
        factor = max(map(abs, spectrum(game, dynamics, LR)))
    except SteadyganError:
        return False, "a kink: no eigenvalues"
    return None if abs(factor - 1) < 1e-9 else factor < 1, f"rate {factor:.4f}"


def _cycles(words: str, path: np.ndarray) -> Row:
    late = path[len(path) // 2 :]
    turns = min(int((np.diff(np.sign(axis)) != 0).sum()) for axis in late.T)
    nearest = float(np.hypot(*late.T).min())
    return Row(
        f"WGAN, clipped at 1, {words}: cycles for ever",
        "still goes round the equilibrium in the second half, never comes near",
        "Mescheder et al. 2018, section 3",
        "both coordinates change sign at least 8 times, distance above 0.4",
        f"{turns} changes of sign, distance at least {nearest:.3g}",
        turns >= 8 and nearest > 0.4,
    )


def _grows(steps: int) -> Row:
    path = simulate(Game("wasserstein"), "simultaneous", [START], LR, steps)[:, 0]
    factors = path[1:].norm(dim=1) / path[:-1].norm(dim=1)
    worst = float((factors - math.sqrt(1 + LR**2)).abs().max())
    return bound(
        "WGAN, simultaneous: the radius grows by √(1 + h²) every step",
        "derived",
        f"{math.sqrt(1 + LR**2):.7g}",
        worst,
        1e-12,
    )


def _limit_circle(steps: int) -> list[Row]:
    h, source = 0.05, "derived: docs/derivations.md, section 3"
    path = simulate(Game("nonsaturating"), "simultaneous", [START], h, steps, every=500)[:, 0].norm(
        dim=1
    ) / math.sqrt(2 * h)
    claim = f"non-saturating GAN, simultaneous, h = {h}: radius over that of the limit circle √(2h)"
    rows = [number(f"{claim}, after 500 steps", source, 1.8, float(path[1]), 0.05)]
    if steps >= 50_000:
        rows.append(number(f"{claim}, after {steps:,} steps", source, 1.003, float(path[-1]), 5e-4))
    else:
        why = "too short: --scale paper takes the 50,000 steps"
        rows.append(
            Row(
                f"{claim}, after 50,000 steps",
                "1.003",
                source,
                "± 0.0005",
                f"{path[-1]:.3f} after {steps:,}",
                None,
                why,
            )
        )
    return rows


EXPERIMENT = Experiment(
    name="mescheder-dirac",
    what="vector fields and trajectories of every method on the Dirac-GAN, simultaneous and"
    " alternating (1 and 5 critic steps), with radii",
    source="Mescheder et al. 2018, sections 2.2 and 3",
    scales={
        "quick": {"methods": (), "steps": 500, "long": 2000},
        "paper": {"methods": (), "steps": 500, "long": 50_000},
        "tiny": {"methods": ("GAN",), "steps": 500, "long": 0},
    },
    cost={"quick": "2 minutes of one core", "paper": "3 minutes of one core", "tiny": "seconds"},
    run=run,
)
