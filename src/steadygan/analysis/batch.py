"""Many Dirac-GANs as one batch, driven by the objects that train images.

Eagerly, or as one compiled step.

Sample i belongs to trajectory i, whose generator returns θ_i and whose critic is ψ_i x. Losses are
then summed over trajectories instead of averaged, so that each parameter receives its own
trajectory's gradient, and every dynamics holds as it stands, consensus and unrolling included.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from ..core.auto import Auto
from ..core.context import Context
from ..core.couples import couples_in
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, FunctionalPlayers, Name, OptimizerPlayers
from ..core.regularizers import GradientPenalty, Regularizer
from ..core.schedules import Schedule, strength_at
from ..core.terms import CriticTerms
from .convergence import Quadrature

Rates = float | dict[Name, float]


def shared(game: Game, dynamics: Dynamics) -> str:
    """Return what lets the samples of a batch see each other; empty where nothing does.

    Trajectories cannot share such a batch.

    A game's parts declare it (``core.couples``); what they, a dynamics or a constraint of somebody
    else's leave unsaid is seen in two steps of two trajectories. What looks at real samples only
    does no harm: those are the same of every trajectory.

    >>> shared(Game("minimax", "lecam"), build("dynamics", "simultaneous"))
    'LeCam, by mean logits of the batch,'
    """
    found = couples_in(game)
    told = [f"{name}, by {c.what}," for name, c in found.items() if c.samples != "real"]
    if told:
        return " and ".join(told)
    starts = torch.tensor([[0.7, -0.4], [-0.3, 1.1]], dtype=torch.float64)
    try:
        together = follow(game, dynamics, starts, 0.3, 2, 1, 2)
        alone = [follow(game, dynamics, start[None], 0.3, 2, 1, 2) for start in starts]
    except SteadyganError:
        return ""  # it will be said where the work begins
    if torch.allclose(together, torch.cat(alone, 1), rtol=1e-9, atol=1e-12):
        return ""
    return f"{game} with {dynamics} declares no couples, and yet"


@dataclass(frozen=True)
class _Summed(Game):
    """The same game with its losses summed over ``count`` trajectories, the parts of the batch."""

    count: int = 1

    def value(self, *args: Any, **settings: Any) -> CriticTerms:
        terms = super().value(*args, **settings)
        return terms._replace(loss=self.count * terms.loss)

    def generator_loss(self, *args: Any, **settings: Any) -> Tensor:
        return self.count * super().generator_loss(*args, **settings)


class _Thetas(nn.Module):
    """(N K, 1) latents -> (N K, 1): θ_i for each of the K samples of trajectory i, in order."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta.clone())

    def forward(self, z: Tensor) -> Tensor:
        return self.theta.unsqueeze(1).expand(-1, len(z) // len(self.theta)).reshape(-1, 1)


class _Psis(nn.Module):
    """(N K, 1) samples -> (N K,) logits ψ_i x."""

    def __init__(self, psi: Tensor) -> None:
        super().__init__()
        self.psi = nn.Parameter(psi.clone())

    def forward(self, x: Tensor) -> Tensor:
        return (x.view(len(self.psi), -1) * self.psi.unsqueeze(1)).view(-1)


class _Tiled:
    """The same quadrature for each of N trajectories."""

    def __init__(self, count: int, nodes: int) -> None:
        self._count, self._inner = count, Quadrature(nodes)

    def normal(self, like: Tensor) -> Tensor:
        return self._inner.normal(like[: len(like) // self._count]).repeat(
            self._count, *[1] * (like.ndim - 1)
        )

    def uniform(self, like: Tensor) -> Tensor:
        return self._inner.uniform(like[: len(like) // self._count]).repeat(
            self._count, *[1] * (like.ndim - 1)
        )


def players(
    game: Game, points: Tensor, lr: Rates, nodes: int, progress: float | None
) -> OptimizerPlayers:
    """Return the players of all trajectories, at their points (N, 2).

    A trajectory has ``nodes``² samples where there is noise.
    """
    count = len(points)
    for value in game.strengths().values():
        if isinstance(value, Auto):
            strength_at(
                value, progress
            )  # refuses: these real samples are one point, whose variance is 0
    quiet = game.smoothing is None and all(_alike(r) for r in game.regularizers)
    nodes = 1 if quiet else nodes
    zeros = torch.zeros(count * nodes**2, 1, dtype=torch.float64)
    generator, critic = _Thetas(points[:, 0]), _Psis(points[:, 1])
    rates = lr if isinstance(lr, dict) else dict.fromkeys(PLAYERS, lr)
    optimizers: dict[Name, torch.optim.Optimizer] = {
        "generator": torch.optim.SGD(generator.parameters(), lr=rates["generator"]),
        "critic": torch.optim.SGD(critic.parameters(), lr=rates["critic"]),
    }
    summed = _Summed(**{each.name: getattr(game, each.name) for each in fields(Game)}, count=count)
    context = Context(progress=progress, rng=_Tiled(count, nodes))
    return OptimizerPlayers(
        summed, generator, critic, lambda: Batch(zeros, zeros), context, optimizers=optimizers
    )


def _alike(regularizer: Regularizer) -> bool:
    """Return whether one sample of a trajectory tells a penalty all, without noise.

    Real samples are equal, generated ones are, and so are the critic's slopes at all others.
    """
    return set(regularizer.where) <= {"real", "fake"} or (
        isinstance(regularizer, GradientPenalty)
        and type(regularizer).weight is GradientPenalty.weight
    )


def follow(
    game: Game, dynamics: Dynamics, points: Tensor, lr: Rates, steps: int, every: int, nodes: int
) -> Tensor:
    """Return the trajectories (steps // every + 1, N, 2) from points (N, 2)."""
    moving = players(game, points, lr, nodes, 0.0)
    path = points.new_empty(steps // every + 1, len(points), 2)
    path[0] = points
    for k in range(1, steps + 1):
        moving.context = replace(moving.context, progress=(k - 1) / steps)
        dynamics.step(moving)
        if k % every == 0:
            path[k // every] = _point(moving)
    return path


def follow_compiled(
    game: Game, dynamics: Dynamics, points: Tensor, lr: Rates, steps: int, every: int, nodes: int
) -> Tensor:
    """Return the same trajectories; each step but the first is compiled, of plain tensors."""
    # An optimistic player has no memory before the first step, so that this one is another function
    # than the rest.
    moving = players(game, points, lr, nodes, 0.0)
    dynamics.step(moving)
    state = [
        *_point(moving).unbind(1),
        *(moving.previous[name][key] for name in moving.previous for key in moving.values(name)),
    ]
    path = points.new_empty(steps // every + 1, len(points), 2)
    path[0] = points
    if every == 1:
        path[1] = _point(moving)
    annealed = {
        place: value for place, value in game.strengths().items() if isinstance(value, Schedule)
    }

    def step(*given: Tensor) -> list[Tensor]:
        values = {
            name: {key: given[i].detach().requires_grad_() for key in moving.values(name)}
            for i, name in enumerate(PLAYERS)
        }
        memory = iter(given[len(PLAYERS) :])
        previous = {
            name: {key: next(memory) for key in moving.values(name)} for name in moving.previous
        }
        now = moving.game.with_strengths(dict(zip(annealed, memory, strict=True)))
        here = FunctionalPlayers(
            now,
            moving.generator,
            moving.critic,
            moving.draw,
            Context(rng=moving.context.rng),
            lr=lr,
            point=values,
        )
        here.previous = previous
        dynamics.step(here)
        after = [*here.point.values(), *here.previous.values()]
        return [value.detach() for part in after for value in part.values()]

    def strengths(k: int) -> list[Tensor]:
        return [
            torch.as_tensor(strength_at(value, k / steps), dtype=points.dtype)
            for value in annealed.values()
        ]

    advance = torch.compile(make_fx(step)(*state, *strengths(1)), dynamic=False)
    with torch.no_grad():
        for k in range(2, steps + 1):
            state = advance(*state, *strengths(k - 1))
            if k % every == 0:
                path[k // every] = torch.stack(state[:2], dim=1)
    return path


def _point(moving: OptimizerPlayers) -> Tensor:
    return torch.stack(
        [next(iter(moving.values(name).values())).detach() for name in PLAYERS], dim=1
    )
