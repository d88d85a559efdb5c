"""Does the doctor's verdict hold? Random small games, its local stability against what a long simulation from nearby does.

Run: python benchmarks/doctor.py [games] -> benchmarks/doctor.json. Every game stands at an equilibrium that is known exactly: generated
samples equal real ones and the critic is constant. A simulation starts 1e-5 away and ends where the moves have grown or shrunk
thirtyfold; moves, not distances, because a perturbation along a neutral direction stays.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from steadygan import Game
from steadygan.analysis.doctor import diagnose
from steadygan.analysis.linearize import System
from steadygan.core.players import Batch
from steadygan.problems.networks import Point

MARGIN = 1e-2  # a spectral radius nearer to 1 takes very many steps to show, and is counted apart
STEPS = 1000
FACTOR = 30  # by which moves must have grown or shrunk
DYNAMICS = [
    "simultaneous",
    "alternating",
    "alternating:critic_steps=3,order=generator-first",
    "extragradient",
    "optimistic",
    "consensus:gamma=0.5",
]
OBJECTIVES = ["minimax", "nonsaturating", "wasserstein", "least-squares", "hinge"]
REGULARIZERS = ["r1", "r2", "r1r2", "js", "gp0"]


class Quadratic(nn.Module):
    """A critic of linear and quadratic terms, D(x) = ψ·x + a·x²."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.slope, self.bend = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, d) -> (B,)."""
        return x @ self.slope + x.square() @ self.bend


class Affine(nn.Module):
    """A generator G(z) = s z + θ that starts at the data, which are the latents themselves."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.size, self.shift = nn.Parameter(torch.ones(d)), nn.Parameter(torch.zeros(d))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return (B, d) -> (B, d)."""
        return z * self.size + self.shift


def game(kind: str, rng: np.random.Generator) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """Return generator, critic and data of a random game at its equilibrium."""
    d = 1 if kind == "dirac" else int(rng.integers(1, 4))
    if kind in ("dirac", "bilinear"):
        network = Point(theta=0.0, psi=0.0)
        return network.generator((d,), 1), network.critic((d,)), torch.zeros(4, d)
    data = torch.from_numpy(rng.standard_normal((8, d))).float() * float(rng.uniform(0.5, 1.5))
    if kind == "linear-quadratic":
        return Affine(d), Quadratic(d), data
    critic = nn.Sequential(nn.Linear(d, 4), nn.Tanh(), nn.Linear(4, 1))
    nn.init.normal_(critic[0].weight), nn.init.zeros_(critic[2].weight), nn.init.zeros_(critic[2].bias)
    return Affine(d), critic, data


def simulated(system: System, rng: np.random.Generator) -> tuple[str, int]:
    """Return whether moves near the equilibrium grow or shrink, and after how many steps that was clear."""
    state = system.point() + 1e-5 * torch.from_numpy(rng.standard_normal(system.size))
    state = system.step_state(state.requires_grad_()).detach()
    sizes: list[float] = []
    for step in range(STEPS):
        after = system.step(state.requires_grad_()).detach()
        sizes.append((after - state)[: system.size].norm().item())
        state = after.clone()
        ratio = sizes[-1] / max(sizes[0], 1e-300)
        if not ratio < 1e4:  # a large radius overflows before the twentieth step, and a NaN is smaller than nothing
            return "unstable", step
        # The first moves may be transient, so that a verdict needs some of them.
        if step > 20 and not 1 / FACTOR < ratio < FACTOR:
            return ("unstable" if ratio > 1 else "stable"), step
    return ("unstable" if np.mean(sizes[-100:]) > np.mean(sizes[STEPS // 2 : STEPS // 2 + 100]) else "stable"), STEPS


def one(index: int) -> dict[str, Any]:
    """Return one game's settings, what the doctor predicted and what happened."""
    rng = np.random.default_rng(index)
    torch.manual_seed(index)
    kind = ("dirac", "bilinear", "linear-quadratic", "mlp")[index % 4]
    generator, critic, data = (x.double() for x in game(kind, rng))
    objective = "wasserstein" if kind == "bilinear" else str(rng.choice(OBJECTIVES))
    gamma = round(float(10 ** rng.uniform(-1.5, 1)), 4)
    regularizer = [] if rng.random() < 0.2 else [f"{rng.choice(REGULARIZERS)}:gamma={gamma}"]
    dynamics, lr = str(rng.choice(DYNAMICS)), round(float(10 ** rng.uniform(-1.3, 0.5)), 4)
    latent = torch.zeros(len(data), 1, dtype=torch.float64) if kind in ("dirac", "bilinear") else data
    played, batch = Game(objective, regularizer), Batch(data, latent)
    found = diagnose(played, generator, critic, batch, dynamics=dynamics, lr=lr, alternatives=(), critic_steps=0)
    assert found.spectrum is not None and max((found.speed or {}).values()) < 1e-9
    radius = found.spectrum.radius
    row = {"index": index, "game": kind, "objective": objective, "regularizer": regularizer, "dynamics": dynamics, "lr": lr}
    row |= {"predicted": found.spectrum.stability, "radius": radius}
    if radius is None or abs(radius - 1) < MARGIN:
        return {**row, "happened": "not simulated: within the margin"}
    happened, steps = simulated(System(played, dynamics, generator, critic, batch, lr=lr), rng)
    return {**row, "happened": happened, "steps": steps}


def main() -> None:
    """Run and write."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 320
    started = time.time()
    with Pool() as pool:
        rows = pool.map(one, range(count), chunksize=4)
    decided = [row for row in rows if "steps" in row]
    misses = [row for row in decided if row["predicted"] != row["happened"]]
    matrix = Counter(f"predicted {row['predicted']}, happened {row['happened']}" for row in decided)
    summary = {
        "games": count,
        "margin": MARGIN,
        "within_margin": count - len(decided),
        "confusion": dict(sorted(matrix.items())),
        "accuracy": 1 - len(misses) / len(decided),
        "misses": misses,
        "by_game": dict(Counter(row["game"] for row in decided)),
        "seconds": round(time.time() - started, 1),
        "torch": torch.__version__,
        "rows": rows,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({key: value for key, value in summary.items() if key != "rows"}, indent=1))


if __name__ == "__main__":
    main()
