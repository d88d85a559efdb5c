"""Does the doctor's verdict hold? Random small games, its local stability against what a long
simulation from nearby does.

Run: python benchmarks/doctor.py [games] -> benchmarks/doctor.json. Four kinds of games stand at an
equilibrium that is known exactly: generated samples equal real ones and the critic is constant. The
fifth, mlp-trained, starts from random networks, trains them and polishes what training reached to a
stationary point. A simulation starts 1e-6 away. Unstable: it comes a thousand times farther away,
or its moves grow a thousandfold; stable: its moves die out. A distance alone would not do, because
a perturbation along a neutral direction stays; nor would moves alone, because what leaves may come
to rest elsewhere.
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
from steadygan.analysis.linearize import System, jacobian
from steadygan.core.players import Batch
from steadygan.problems.networks import Point

KINDS = ("dirac", "bilinear", "linear-quadratic", "mlp", "mlp-trained")
MARGIN = 5e-3  # a spectral radius nearer to 1 takes very many steps to show, and is counted apart
STEPS, BLOCK = 2000, 20
START, GROWN, SHRUNK = (
    1e-6,
    1e3,
    1e-5,
    # fast directions die out first, so that moves must shrink far before a slow one cannot be
    # growing
    # unseen
)
TRAINING, POLISHING, REACHED, ATTEMPTS = 250, 60, 1e-12, 4
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
    (
        nn.init.normal_(critic[0].weight),
        nn.init.zeros_(critic[2].weight),
        nn.init.zeros_(critic[2].bias),
    )
    return Affine(d), critic, data


def tiny(inputs: int, hidden: int, outputs: int, activation: type[nn.Module]) -> nn.Sequential:
    """Return a small random MLP in float64."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, outputs)
    ).double()


def trained(rng: np.random.Generator) -> dict[str, Any] | None:
    """Train a random game from random networks; None where it reaches no equilibrium, or a dead one
    where the field is flat.

    Data are another such generator's samples of the same latents in seven games of ten, else
    Gaussian ones that no generator may match.
    gp0 is left out: it mixes anew for each gradient, so that with a critic that is not constant one
    step has no fixed point.
    """
    d, hidden, n = int(rng.integers(1, 3)), int(rng.integers(1, 3)), int(rng.integers(4, 17))
    activations = [(nn.Tanh, nn.Softplus)[int(rng.integers(2))] for _ in range(2)]
    mlp = rng.random() < 0.5
    generator, teacher = (
        tiny(d, hidden, d, activations[0]) if mlp else nn.Linear(d, d).double() for _ in range(2)
    )
    critic = tiny(d, int(rng.integers(1, 4)), 1, activations[1])
    nn.init.normal_(critic[0].weight, std=1.5)
    latent = torch.from_numpy(rng.standard_normal((n, d)))
    with torch.no_grad():
        data = 1.5 * teacher(latent)
    if rng.random() < 0.3:
        data = torch.from_numpy(
            rng.standard_normal((n, d)) * rng.uniform(0.5, 1.5) + rng.standard_normal(d)
        )
    gamma = round(float(10 ** rng.uniform(-1, 1)), 4)
    regularizer = (
        []
        if rng.random() < 0.1
        else [f"{rng.choice([name for name in REGULARIZERS if name != 'gp0'])}:gamma={gamma}"]
    )
    objective, batch = str(rng.choice(OBJECTIVES)), Batch(data, latent)
    system = System(Game(objective, regularizer), "extragradient", generator, critic, batch, lr=0.2)
    state = system.point()
    for _ in range(TRAINING):
        state = system.step(state.requires_grad_()).detach()
    before = system.field(state.requires_grad_()).detach().norm().item()
    end = polished(system, state.detach())
    if end is None or jacobian(system.field, end).abs().max() < 1e-6:
        return None
    nn.utils.vector_to_parameters(end, [*generator.parameters(), *critic.parameters()])
    point = {
        "speed_after_training": before,
        "polishing_moved": (end - state.detach()).norm().item(),
        "parameters": system.size,
    }
    return {
        "objective": objective,
        "regularizer": regularizer,
        "networks": (generator, critic),
        "batch": batch,
        "point": point,
    }


def polished(system: System, state: torch.Tensor) -> torch.Tensor | None:
    """Follow the field by linearly implicit Euler steps that grow as it vanishes, until it does;
    None where it does not.

    Reference: Kelley and Keyes 1998, pseudo-transient continuation.
    """
    step, v = 5.0, system.field(state.requires_grad_()).detach()
    for _ in range(POLISHING):
        if (
            not v.norm() > 1e-13 or not state.norm() < 10
        ):  # a point that runs away is no equilibrium
            break
        slope = jacobian(system.field, state.detach())
        try:
            state_next = state.detach() + torch.linalg.solve(
                torch.eye(len(state), dtype=state.dtype) / step - slope, v
            )
        except torch.linalg.LinAlgError:
            return None
        v_next = system.field(state_next.requires_grad_()).detach()
        ratio = (v_next.norm() / v.norm()).item()
        if not ratio < 2:
            step /= 4
            continue
        step = min(1e8, step * min(4.0, max(0.5, 1.5 / max(ratio, 1e-9))))
        state, v = state_next, v_next
    return state.detach() if v.norm() < REACHED and state.norm() < 10 else None


def own_limit(
    game: Game, dynamics: str, networks: tuple[nn.Module, nn.Module], batch: Batch
) -> float:
    """Return a learning rate about which this game's stability changes, to draw from; the
    simulation does not know it."""
    system = System(game, dynamics, *networks, batch, lr=1.0)
    values = np.linalg.eigvals(jacobian(system.field, system.point()).numpy())
    values = values[abs(values) > 1e-7 * abs(values).max()]
    limit = (-2 * values.real / abs(values) ** 2).min()
    return float(limit if limit > 1e-3 else 1 / abs(values).max())


def simulated(system: System, rng: np.random.Generator) -> tuple[str, int]:
    """Return whether a start near the equilibrium leaves it or comes to rest, and after how many
    steps that was clear."""
    point = system.point()
    offset = START * torch.from_numpy(rng.standard_normal(system.size))
    state = point + offset
    state = system.step_state(state.requires_grad_()).detach()
    sizes: list[float] = []
    blocks: list[float] = []
    for step in range(1, STEPS + 1):
        after = system.step(state.requires_grad_()).detach()
        sizes.append((after - state)[: system.size].norm().item())
        state = after.clone()
        if (
            not (state[: system.size] - point).norm() < GROWN * offset.norm()
        ):  # a NaN is smaller than nothing
            return "unstable", step
        if step % BLOCK == 0:
            blocks.append(float(np.mean(sizes[-BLOCK:])))
            if blocks[-1] > GROWN * min(blocks):
                return "unstable", step
            if blocks[-1] < SHRUNK * blocks[0]:
                return "stable", step
    quarter = STEPS // 4
    return (
        "unstable"
        if np.mean(sizes[-quarter:]) > np.mean(sizes[quarter : 2 * quarter])
        else "stable"
    ), STEPS


def known(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return a random game at an equilibrium that is known exactly."""
    generator, critic, data = (x.double() for x in game(kind, rng))
    objective = "wasserstein" if kind == "bilinear" else str(rng.choice(OBJECTIVES))
    gamma = round(float(10 ** rng.uniform(-1.5, 1)), 4)
    regularizer = [] if rng.random() < 0.2 else [f"{rng.choice(REGULARIZERS)}:gamma={gamma}"]
    latent = (
        torch.zeros(len(data), 1, dtype=torch.float64) if kind in ("dirac", "bilinear") else data
    )
    return {
        "objective": objective,
        "regularizer": regularizer,
        "networks": (generator, critic),
        "batch": Batch(data, latent),
        "point": {},
    }


def one(index: int) -> dict[str, Any]:
    """Return one game's settings, what the doctor predicted and what happened."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(index)
    torch.manual_seed(index)
    kind = KINDS[index % len(KINDS)]
    row: dict[str, Any] = {"index": index, "game": kind}
    at = None if kind == "mlp-trained" else known(kind, rng)
    while at is None and row.get("trainings", 0) < ATTEMPTS:
        row["trainings"] = row.get("trainings", 0) + 1
        at = trained(rng)
    if at is None:
        return {**row, "happened": "not simulated: no equilibrium reached"}
    played, dynamics = Game(at["objective"], at["regularizer"]), str(rng.choice(DYNAMICS))
    if kind == "mlp-trained":
        limit = own_limit(played, dynamics, at["networks"], at["batch"])
        lr = float(f"{limit * 10 ** rng.uniform(-0.7, 0.5):.4g}")
    else:
        lr = round(float(10 ** rng.uniform(-1.3, 0.5)), 4)
    found = diagnose(
        played,
        *at["networks"],
        at["batch"],
        dynamics=dynamics,
        lr=lr,
        alternatives=(),
        critic_steps=0,
    )
    assert found.spectrum is not None and max((found.speed or {}).values()) < 1e-9
    radius = found.spectrum.radius
    row |= {
        "objective": at["objective"],
        "regularizer": at["regularizer"],
        "dynamics": dynamics,
        "lr": lr,
        **at["point"],
    }
    row |= {
        "predicted": found.spectrum.stability,
        "radius": radius,
        "neutral": found.spectrum.neutral,
    }
    if radius is None or abs(radius - 1) < MARGIN:
        return {**row, "happened": "not simulated: within the margin"}
    happened, steps = simulated(System(played, dynamics, *at["networks"], at["batch"], lr=lr), rng)
    return {**row, "happened": happened, "steps": steps}


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the confusion matrix of some games and how many are in none of its cells."""
    decided = [row for row in rows if "steps" in row]
    matrix = Counter(f"predicted {row['predicted']}, happened {row['happened']}" for row in decided)
    apart = Counter(
        row["happened"].removeprefix("not simulated: ") for row in rows if "steps" not in row
    )
    return {
        "games": len(rows),
        "decided": len(decided),
        **dict(sorted(apart.items())),
        "confusion": dict(sorted(matrix.items())),
    }


def main() -> None:
    """Run and write."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    started = time.time()
    with Pool(2) as pool:
        rows = pool.map(one, range(count), chunksize=1)
    misses = [row for row in rows if "steps" in row and row["predicted"] != row["happened"]]
    begun = sum(row.get("trainings", 0) for row in rows)
    reached = [row for row in rows if "polishing_moved" in row]
    every = table(rows)
    summary = {
        "margin": MARGIN,
        **every,
        "accuracy": 1 - len(misses) / every["decided"],
        "misses": misses,
        "by_game": {kind: table([row for row in rows if row["game"] == kind]) for kind in KINDS},
        "trainings": {
            "begun": begun,
            "reached no equilibrium": begun - len(reached),
            "median speed after training": float(
                np.median([row["speed_after_training"] for row in reached])
            ),
            "median distance that polishing moved": float(
                np.median([row["polishing_moved"] for row in reached])
            ),
        },
        "seconds": round(time.time() - started, 1),
        "torch": torch.__version__,
        "rows": rows,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({key: value for key, value in summary.items() if key != "rows"}, indent=1))


if __name__ == "__main__":
    main()
