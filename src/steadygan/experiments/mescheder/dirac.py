"""Mescheder et al. 2018, the figure of vector fields and trajectories.

Every method on the Dirac-GAN under three dynamics, with radii.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...analysis.batch import follow
from ...analysis.portrait import portrait, simulate, spectrum
from ...core.dynamics import Consensus, Dynamics
from ...core.errors import SteadyganError
from ...core.game import Game
from ...core.players import PLAYERS, Players
from ...core.registry import build
from ..spec import Experiment, Findings, Row, Source, bound, fact, number, printed

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
_SOURCE = Source("the authors' settings, radii by this project", "ours", "derived here")
_CODE = Source(
    "the published code, GAN_stability/notebooks/diracgan/gans.py", "ours", "from the authors' code"
)
NODES = 64
"""Quadrature nodes an axis that stand for noise in a radius; a picture has fewer."""


@dataclass(frozen=True)
class Method:
    """A row of the figure: a method and its game, under the three dynamics.

    With the radii after 500 steps as they were printed, where they were; 0 where only the rounding
    of the noise's mean is left.
    """

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
        ("5.7e-5", "4e-6", "0"),
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


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Play every method under every dynamics, and look at those that cycle for longer.

    Returns:
        The radii beside those that were printed, and the sheet of trajectories.
    """
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
                claim = f"{method.name}, {words}: radius after 500 steps, generator first"
                # The picture's path, but for noise by more nodes and the table's order.
                exact = method.game.smoothing is None and (column == 0 or dynamics in _PLAIN)
                found = radius if exact else _radius(method.game, dynamics, settings["steps"])
                rows.append(
                    bound(claim, _SOURCE, "0 up to rounding", found, 1e-15)
                    if method.radii[column] == "0"
                    else printed(claim, _SOURCE, method.radii[column], found)
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
            if method.dynamics is _CONSENSUS:
                rows.append(_halved(words, column, settings["steps"]))
    rows.append(_grows(settings["steps"]))
    if settings["long"]:
        rows += _limit_circle(settings["long"])
    notes = (
        "Learning rate 0.2, 500 steps, generator first, from (θ, ψ) = (1, −1), which is the"
        " paper's (1, 1): its logits are large on generated samples. In the picture consensus"
        " optimisation has the critic first and noise 16 quadrature nodes an axis; radii in the"
        f" table have the generator first and {NODES} nodes.",
        "The published consensus field halves a term of the gradient of its own ½‖v‖², which it"
        " names in a comment: θf′² + ½ψ(θ² + ψ²)f′f″ where differentiating gives no ½. At the"
        " equilibrium both have the same Jacobian, away from it not: with five critic steps the"
        " published field converges from (1, 1) and the gradient's does not.",
        "Colours are the linearisation's verdict at the equilibrium, not the trajectory's.",
    )
    return Findings(tuple(rows), "portraits", {"panels": panels, "columns": 6}, notes)


class _GeneratorFirst(Dynamics):
    """Consensus optimisation in the order of the authors' code; here the critic is first."""

    def __init__(self, consensus: Consensus) -> None:
        self.consensus = consensus

    def step(self, players: Players) -> None:
        """Move the generator, then the critic as often as it is its turn."""
        for name in (PLAYERS[0], *[PLAYERS[1]] * self.consensus.critic_steps):
            players.move(name, self.consensus.field(players, players.draw())[name])


def _radius(game: Game, dynamics: str, steps: int) -> float:
    """Return the distance from the equilibrium, the generator moving first."""
    built = build("dynamics", dynamics)
    late = isinstance(built, Consensus) and built.alternating
    moving = _GeneratorFirst(built) if late else built
    start = torch.tensor([START], dtype=torch.float64)
    return float(follow(game, moving, start, LR, steps, steps, NODES)[-1, 0].norm())


def published(column: int, steps: int, factor: float) -> float:
    """Return the distance from the equilibrium by the field v − ∇½‖v‖² in NumPy.

    v is that of the GAN in the paper's sign, and one of the gradient's terms is multiplied.

    Args:
        column: Simultaneous, or the generator before one or five steps of the critic.
        steps: How many iterations.
        factor: Of that term: ½ as published, 1 as it is.
    """

    def v(theta: float, psi: float) -> tuple[float, float]:
        slope = 1 / (1 + math.exp(theta * psi))
        bend = factor * (theta**2 + psi**2) * -(slope**2) * (1 - slope)
        return (
            -psi * slope - theta * slope**2 - bend * psi,
            theta * slope - psi * slope**2 - bend * theta,
        )

    theta, psi = 1.0, 1.0
    for _ in range(steps):
        if column == 0:
            move = v(theta, psi)
            theta, psi = theta + LR * move[0], psi + LR * move[1]
            continue
        theta += LR * v(theta, psi)[0]
        for _ in range((1, 5)[column - 1]):
            psi += LR * v(theta, psi)[1]
    return math.hypot(theta, psi)


def _halved(words: str, column: int, steps: int) -> Row:
    """Return the row of the published consensus field, which converges under every dynamics."""
    found = published(column, steps, 0.5)
    return fact(
        f"consensus, γ = 1, {words}, as published with a spurious ½: converges",
        _CODE,
        "converges",
        "a radius below 1e-6 after 500 steps",
        f"radius {found:.2g}; without the ½ {published(column, steps, 1.0):.2g}",
        found < 1e-6,
    )


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
    return fact(
        f"WGAN, clipped at 1, {words}: cycles for ever",
        Source("Mescheder et al. 2018, section 3"),
        "still goes round the equilibrium in the second half, never comes near",
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
        Source("docs/derivations.md", "ours", "derived here"),
        f"{math.sqrt(1 + LR**2):.7g}",
        worst,
        1e-12,
    )


def _limit_circle(steps: int) -> list[Row]:
    h, source = 0.05, Source("docs/derivations.md, section 3", "ours", "derived here")
    path = simulate(Game("nonsaturating"), "simultaneous", [START], h, steps, every=500)[:, 0].norm(
        dim=1
    ) / math.sqrt(2 * h)
    claim = f"non-saturating GAN, simultaneous, h = {h}: radius over that of the limit circle √(2h)"
    late = float(path[100]) if steps >= 50_000 else None
    return [
        number(f"{claim}, after 500 steps", source, 1.8, float(path[1]), 0.05),
        number(f"{claim}, after 50,000 steps", source, 1.003, late, 5e-4),
    ]


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
    cost={
        "quick": "2 minutes of one core",
        "paper": "3 to 14 minutes of one core",
        "tiny": "seconds",
    },
    run=run,
)
