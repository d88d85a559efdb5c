"""Mescheder et al. 2018, section 4: the theorem of local convergence under R1 and R2.

On small GANs with continua of equilibria: its assumptions as numbers, its rate against iterates,
and for each assumption a GAN that lacks it alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...analysis.linearize import System, jacobian
from ...core.game import Game
from ...core.players import Batch
from ..spec import Experiment, Findings, Row, Source, fact, number

_M = "Mescheder et al. 2018, "
THEOREM = Source(_M + "section 4, theorem 4.1", known="derived here")
NEEDED = Source("counterexamples to the theorem without an assumption", "ours", "derived here")

NEUTRAL = 1e-9
"""Below this a number is 0 here: all of them are of size 1 otherwise."""


class Polynomial(nn.Module):
    """A critic D(x) = sum of coefficients times powers of x; the coefficients are a function of ψ.

    Samples (B, 1) -> logits (B,).
    """

    def __init__(
        self, start: tuple[float, ...], coefficients: Callable[[Tensor], dict[int, Tensor]]
    ) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self._coefficients = coefficients

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        terms = self._coefficients(self.psi)
        return torch.stack([c * x[:, 0] ** power for power, c in terms.items()]).sum(0)


class Scaled(nn.Module):
    """A generator G(z) = s(θ) z + t(θ), latents (B, 1) -> samples (B, 1)."""

    def __init__(
        self, start: tuple[float, ...], maps: Callable[[Tensor], tuple[Tensor, Tensor | float]]
    ) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self._maps = maps

    def forward(self, z: Tensor) -> Tensor:
        """Return the samples."""
        scale, shift = self._maps(self.theta)
        return scale * z + shift


MISSING = ("critic blind", "generator blind", "no such data")
"""The courses of the GANs that lack an assumption, by the names in the picture."""


def square(psi: Tensor) -> dict[int, Tensor]:
    """Return the coefficients of (ψ1 + ψ2) x²: the equilibria are a line."""
    return {2: psi[0] + psi[1]}


def product(theta: Tensor) -> tuple[Tensor, Tensor | float]:
    """Return the scale θ1 θ2: the generators that make the data are a hyperbola."""
    return theta[0] * theta[1], 0.0


@dataclass(frozen=True)
class Small:
    """A GAN on fixed samples, with an equilibrium and a point near it where it starts.

    ``off`` is what vanishes on the product of the two manifolds of the theorem and nowhere beside
    it, its norm the distance to first order; ``generator`` and ``critic`` build the networks at (θ,
    ψ).
    """

    what: str
    equilibrium: tuple[tuple[float, ...], tuple[float, ...]]
    start: tuple[tuple[float, ...], tuple[float, ...]]
    generator: Callable[[Tensor], tuple[Tensor, Tensor | float]]
    critic: Callable[[Tensor], dict[int, Tensor]]
    off: Callable[[Tensor], Tensor]
    real: Callable[[Tensor], Tensor] = lambda z: z


HOLDS = Small(
    "D = (ψ1 + ψ2) x², G = θ1 θ2 z",
    ((2.0, 0.5), (0.3, -0.3)),
    ((2.02, 0.51), (0.32, -0.29)),
    product,
    square,
    lambda w: torch.stack([w[0] * w[1] - 1, w[2] + w[3]]),
)
"""Every assumption holds, and the equilibria are a surface."""

BLIND_CRITIC = Small(
    "D = ψ1 x² + ψ2³ x, G = θ z",
    ((1.0,), (0.0, 0.0)),
    ((1.05,), (0.05, 0.3)),
    lambda theta: (theta[0], 0.0),
    lambda psi: {2: psi[0], 1: psi[1] ** 3},
    lambda w: torch.stack([w[0] - 1, w[1], w[2]]),
)
"""Along ψ2 the penalty has no second derivative, and ψ2 is no tangent of the critics that are 0."""

BLIND_GENERATOR = Small(
    "D = ψ x², G = θ1 z + θ2",
    ((1.0, 0.0), (0.0,)),
    ((0.9, 0.3), (0.05,)),
    lambda theta: (theta[0], theta[1]),
    lambda psi: {2: psi[0]},
    lambda w: torch.stack([w[0] - 1, w[1], w[2]]),
)
"""Along θ2 the samples leave the data, and the critic's gradient does not see it."""

UNREALIZABLE = Small(
    "D = ψ1 x + ψ2 x², G = θ z, data z + 1",
    ((1.0,), (0.0, 0.0)),
    ((1.0,), (0.1, -0.1)),
    lambda theta: (theta[0], 0.0),
    lambda psi: {1: psi[0], 2: psi[1]},
    lambda w: w[1:],
    lambda z: z + 1,
)
"""No θ makes the data: their mean is never 0."""

POINT = Small(
    "D = (ψ1 + ψ2) x, G = θ1 + θ2, data 0",
    ((0.5, -0.5), (0.3, -0.3)),
    ((0.55, -0.47), (0.32, -0.29)),
    lambda theta: (0 * theta[0], theta[0] + theta[1]),
    lambda psi: {1: psi[0] + psi[1]},
    lambda w: torch.stack([w[0] + w[1], w[2] + w[3]]),
    lambda z: 0 * z,
)
"""Every assumption holds, and the data are a point: nothing but a penalty damps."""


def system(small: Small, regularizer: str | None, lr: float) -> System:
    """Return the game of a GAN as a dynamical system, at its equilibrium."""
    theta, psi = small.equilibrium
    # Quantiles of a standard normal, so that nothing is estimated.
    z = torch.special.ndtri((torch.arange(64, dtype=torch.float64) + 0.5) / 64)[:, None]
    batch = Batch(small.real(z), z)
    networks = Scaled(theta, small.generator), Polynomial(psi, small.critic)
    game = Game("nonsaturating", [regularizer] if regularizer else [])
    return System(game, "simultaneous", *networks, batch, lr=lr)


def assumptions(small: Small) -> tuple[float, float]:
    """Return how sure the critic and the generator are of every direction that matters.

    The least ∂²h along directions ψ that are no tangents of {h = 0}, and the least ‖∂g‖ along
    directions θ that are no tangents of {p_θ = p_D}, of unit directions orthogonal to the tangents.
    Tangents are where what vanishes on the equilibria does not change.
    """
    played = system(small, None, 0.1)
    real, n = played.batch.real, played.split
    point = played.point()

    def h(psi: Tensor) -> Tensor:
        x = real.clone().requires_grad_()
        logits = torch.func.functional_call(played.critic, {"psi": psi}, (x,))
        slope = torch.autograd.grad(logits.sum(), x, create_graph=True)[0]
        value: Tensor = (logits.square() + slope.square().sum(1)).mean()
        return value

    def g(theta: Tensor) -> Tensor:
        fake = torch.func.functional_call(
            played.generator, {"theta": theta}, (played.batch.latent,)
        )
        logits = played.critic(fake).mean()
        psi = next(played.critic.parameters())
        return torch.autograd.grad(logits, psi, create_graph=True)[0]

    curvature = torch.autograd.functional.hessian(h, point[n:])
    seen = torch.autograd.functional.jacobian(g, point[:n])
    critic, generator = _across(small, point, slice(n, None)), _across(small, point, slice(0, n))
    return (
        min(float(v @ curvature @ v) for v in critic),
        min(float((seen @ w).norm()) for w in generator),
    )


def _across(small: Small, point: Tensor, part: slice) -> list[Tensor]:
    """Return an orthonormal basis of a player's directions that lead off the equilibria."""
    slopes = torch.func.jacrev(small.off)(point)[:, part]
    _, sizes, directions = torch.linalg.svd(slopes, full_matrices=False)
    return [v for size, v in zip(sizes, directions, strict=True) if size > NEUTRAL]


def course(
    small: Small, regularizer: str | None, lr: float, steps: int
) -> tuple[np.ndarray, float, int]:
    """Return how a simulation from the start went, and what is predicted where it ended.

    Distances from the equilibria (steps + 1,); the radius of the eigenvalues of a step there that
    are not 1, and how many are.
    """
    played = system(small, regularizer, lr)
    state, found = torch.tensor(sum(small.start, ()), dtype=torch.float64), []
    for _ in range(steps + 1):
        found.append(float(small.off(state).norm()))
        state = played.step(state.requires_grad_()).detach()
    values = np.linalg.eigvals(jacobian(played.step, state).numpy())
    moving = abs(values - 1) > NEUTRAL**0.5
    return np.array(found), float(abs(values[moving]).max(initial=0.0)), int((~moving).sum())


def rate(distances: np.ndarray) -> float:
    """Return the factor by which the distance shrinks a step.

    Fitted from where it is a hundredth of the first, so that the fastest modes are gone, to where
    rounding begins; over the second half where it never comes so near.

    >>> round(rate(0.9 ** np.arange(400)), 9)
    0.9
    """
    there = np.flatnonzero((distances < 1e-2 * distances[0]) & (distances > 1e-11))
    if len(there) < 20:
        there = np.arange(len(distances) // 2, len(distances))
    return math.exp(np.polyfit(there, np.log(distances[there]), 1)[0])


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Check assumptions, predict rates, and simulate.

    Returns:
        Rows of the theorem, then one for each assumption that is left out.
    """
    lr, steps = settings["lr"], settings["steps"]
    rows, lines = [], {}
    for small in (HOLDS, POINT):
        sure = assumptions(small)
        rows.append(
            fact(
                f"{small.what}: continua of equilibria, and every assumption is met",
                THEOREM,
                "∂²h > 0 and ‖∂g‖ > 0 across the manifolds",
                f"above {NEUTRAL:g}",
                f"{sure[0]:.3g} and {sure[1]:.3g}",
                min(sure) > NEUTRAL,
            )
        )
        for name in ("r1", "r2"):
            penalty = f"{name}:gamma={settings['gamma']}"
            seen, radius, neutral = course(small, penalty, lr, steps)
            lines[f"{name.upper()}{', a point' if small is POINT else ''}"] = seen
            which = f"{small.what}, {name.upper()}"
            rows += [
                fact(
                    f"{which}: eigenvalues 1 along the two manifolds, all others inside",
                    THEOREM,
                    "2 of 4, and a radius below 1",
                    "where the run ended",
                    f"{neutral} of 4, radius {radius:.6g}",
                    neutral == 2 and radius < 1,
                ),
                number(
                    f"{which}: the distance shrinks at that rate, the logarithm of a step's",
                    THEOREM,
                    math.log(radius),
                    math.log(rate(seen)),
                    0.01 * abs(math.log(radius)),
                ),
            ]
    rows += _without(settings, lines)
    panels = [
        {
            "title": title,
            "x": "step",
            "y": "log₁₀ of the distance to the equilibria",
            "log": False,
            "lines": {
                name: (np.arange(steps + 1)[:: steps // 50], np.log10(lines[name])[:: steps // 50])
                for name in lines
                if (name in MISSING) is missing
            },
        }
        for missing, title in ((False, "every assumption is met"), (True, "R1, one is not"))
    ]
    notes = (
        f"Simultaneous gradient descent with rate {lr:g}, γ = {settings['gamma']:g}, on 64"
        " quantiles of a normal; the non-saturating loss; nothing is random.",
        "Across: orthogonal to the tangents of {ψ: h(ψ) = 0} and of {θ: p_θ = p_D}; h(ψ) = E[D² +"
        " ‖∇D‖²] on the data and g(θ) = E[∇_ψ D] on the samples. D and its penalty are in double"
        " precision. Near the equilibrium R1 and R2 are one, and the lines of R1 lie below R2's.",
    )
    return Findings(tuple(rows), "lines", {"panels": panels}, notes)


def _without(settings: Mapping[str, Any], lines: dict[str, np.ndarray]) -> list[Row]:
    """Return a row for each assumption that a GAN lacks, and what becomes of it."""
    lr, steps, rows = settings["lr"], settings["steps"], []
    r1 = f"r1:gamma={settings['gamma']}"
    plain, *_ = course(POINT, None, lr, steps)
    lines["none, a point"] = plain
    rows.append(
        fact(
            f"{POINT.what}: without a penalty it does not converge",
            NEEDED,
            "no nearer than at the start",
            "the least distance of the second half against the first distance",
            f"{plain[len(plain) // 2 :].min():.3g} against {plain[0]:.3g}",
            bool(plain[len(plain) // 2 :].min() >= 0.5 * plain[0]),
        )
    )
    sure, (seen, *_) = assumptions(BLIND_CRITIC), course(BLIND_CRITIC, r1, lr, steps)
    lines[MISSING[0]] = seen
    rows.append(
        fact(
            f"{BLIND_CRITIC.what}: where h has no second derivative, no linear rate",
            NEEDED,
            "∂²h = 0, and the fitted rate comes nearer to 1 the longer it runs",
            "rates of two halves",
            f"∂²h {sure[0]:.2g}; {rate(seen[: steps // 2]):.6f}, then {rate(seen):.6f}",
            abs(sure[0]) < 1e-6 and rate(seen) > rate(seen[: steps // 2]) > 0.9,
        )
    )
    sure, (seen, *_) = assumptions(BLIND_GENERATOR), course(BLIND_GENERATOR, r1, lr, steps)
    lines[MISSING[1]] = seen
    rows.append(
        fact(
            f"{BLIND_GENERATOR.what}: where g does not see the samples leave, they stay away",
            NEEDED,
            "∂g = 0, and the distance ends above 0",
            "a tenth of the first distance",
            f"‖∂g‖ {sure[1]:.2g}; from {seen[0]:.3g} to {seen[-1]:.3g}",
            bool(sure[1] < 1e-6 and seen[-1] > 0.1 * seen[0]),
        )
    )
    seen, *_ = course(UNREALIZABLE, r1, lr, steps)
    lines[MISSING[2]] = seen
    rows.append(
        fact(
            f"{UNREALIZABLE.what}: where the data cannot be made, the critic does not end at 0",
            NEEDED,
            "‖ψ‖ ends above 0",
            "1e-3",
            f"{seen[-1]:.3g}",
            bool(seen[-1] > 1e-3),
        )
    )
    return rows


EXPERIMENT = Experiment(
    name="mescheder-theorem",
    what="the general theorem: its assumptions, its rate, and what happens without each",
    source="Mescheder et al. 2018, section 4",
    scales={
        "quick": {"lr": 0.05, "gamma": 0.7, "steps": 2000},
        "tiny": {"lr": 0.05, "gamma": 0.7, "steps": 600},
    },
    cost={"quick": "a minute", "tiny": "seconds"},
    run=run,
)
