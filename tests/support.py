"""Small games, injected draws and Jacobians that the tests of the core share. Everything is float64
unless it says otherwise."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor, nn

from steadygan.core import Batch, Context, FunctionalPlayers, Game, OptimizerPlayers, names
from steadygan.core.divergences import Divergence
from steadygan.core.players import PLAYERS, Players
from steadygan.core.registry import lookup

# These games are too small to share out: on a busy machine more threads wait for each other, twenty
# times as long as the work takes.
torch.set_num_threads(1)


def specs(kind: str) -> list[str]:
    """Every registered name of a kind; one that takes a divergence once with each of them."""
    found = []
    for name in names(kind):
        takes = typing.get_type_hints(lookup(kind, name)).get("divergence")
        found += (
            [f"{name}:divergence={d}" for d in names("divergence")]
            if takes is Divergence
            else [name]
        )
    return found


def with_gamma(spelling: str, gamma: float) -> str:
    """A spec with a strength added to the settings that it has."""
    return f"{spelling}{',' if ':' in spelling else ':'}gamma={gamma}"


# ------------------------------------------------------------ draws


@dataclass(frozen=True)
class Fixed:
    """Draws that are known: the same normal and uniform values for every request, cut or repeated
    to the shape that is asked for."""

    normals: Tensor | None = None
    uniforms: Tensor | None = None

    def normal(self, like: Tensor) -> Tensor:
        assert self.normals is not None
        return self.normals.to(like).expand(like.shape)

    def uniform(self, like: Tensor) -> Tensor:
        assert self.uniforms is not None
        return (
            self.uniforms.to(like).reshape(len(like), -1)[:, : like[0].numel()].reshape(like.shape)
        )


def normal_nodes(n: int) -> Tensor:
    """n equally weighted nodes (n, 1) for N(0, 1): quantiles, with mean 0 and variance 1
    exactly."""
    nodes = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return ((nodes - nodes.mean()) / nodes.std(correction=0)).unsqueeze(1)


# ------------------------------------------------------------ games


class DiracGenerator(nn.Module):
    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta], dtype=torch.float64))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.theta.expand(len(z), 1)


class DiracCritic(nn.Module):
    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([psi], dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x @ self.psi


class Conditional(nn.Module):
    """Hands the label to a network as a shift of its input by class, so that mixing the labels up
    changes every number."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.shift = (
            network,
            nn.Parameter(torch.randn(3, *shape, dtype=torch.float64)),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.network(x + self.shift[y])


class Arena(NamedTuple):
    """Two networks and the batches that they are shown in turn."""

    generator: nn.Module
    critic: nn.Module
    batches: list[Batch]

    def draw(self) -> Callable[[], Batch]:
        """A fresh source that starts at the first batch."""
        turn: Iterator[Batch] = cycle(self.batches)
        return lambda: next(turn)


def dirac(theta: float = 0.0, psi: float = 0.0, batch: int = 1) -> Arena:
    zeros = torch.zeros(batch, 1, dtype=torch.float64)
    return Arena(DiracGenerator(theta), DiracCritic(psi), [Batch(zeros, zeros)])


def mlp(seed: int = 0, labels: bool = False) -> Arena:
    """Three-dimensional samples, tanh networks of width 16; two batches in turn, so that a batch
    used twice is noticed."""
    return _arena(
        seed,
        lambda: nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)),
        lambda: nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1)),
        (3,),
        labels,
    )


def conv(seed: int = 0, labels: bool = False) -> Arena:
    """Images of 1 x 8 x 8."""
    return _arena(
        seed,
        lambda: nn.Sequential(
            nn.Linear(2, 32),
            nn.SiLU(),
            nn.Unflatten(1, (2, 4, 4)),
            nn.ConvTranspose2d(2, 1, 4, stride=2, padding=1),
        ),
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(27, 1)
        ),
        (1, 8, 8),
        labels,
    )


def _arena(
    seed: int,
    generator: Callable[[], nn.Module],
    critic: Callable[[], nn.Module],
    event: tuple[int, ...],
    labels: bool,
) -> Arena:
    torch.manual_seed(seed)
    nets = generator().double(), critic().double()
    if labels:
        nets = Conditional(nets[0], (2,)), Conditional(nets[1], event)
    classes = torch.tensor([[[0, 2, 1, 1], [1, 0, 0, 2]], [[2, 2, 0, 1], [0, 1, 2, 1]]])
    batches = []
    for y_real, y_fake in classes:
        real, latent = (
            torch.randn(4, *event, dtype=torch.float64) + 0.5,
            torch.randn(4, 2, dtype=torch.float64),
        )
        batches.append(Batch(real, latent, (y_real, y_fake) if labels else None))
    return Arena(*nets, batches)


# ------------------------------------------------------------ players


def functional(
    game: Game, arena: Arena, context: Context = Context(), lr: float | Tensor | Mapping = 1.0
) -> FunctionalPlayers:
    return FunctionalPlayers(game, arena.generator, arena.critic, arena.draw(), context, lr=lr)


def optimizer(
    game: Game,
    arena: Arena,
    context: Context = Context(),
    lr: float = 1.0,
    kind: type = torch.optim.SGD,
) -> OptimizerPlayers:
    optimizers = {name: kind(getattr(arena, name).parameters(), lr=lr) for name in PLAYERS}
    return OptimizerPlayers(
        game, arena.generator, arena.critic, arena.draw(), context, optimizers=optimizers
    )


def flat(players: Players) -> Tensor:
    """Both players' parameters in one vector, the generator's first."""
    return torch.cat([p.reshape(-1) for name in PLAYERS for p in players.values(name).values()])


def field(players: Players) -> Tensor:
    """The gradient field v = -(dL_G/dtheta, dL_D/dpsi) at the present point, in the order of
    ``flat``."""
    batch = players.draw()
    return -torch.cat(
        [g.reshape(-1) for name in PLAYERS for g in players.gradient(name, batch).values()]
    )


def jacobian(outputs: Tensor, inputs: list[Tensor]) -> Tensor:
    """d outputs / d inputs by reverse mode, a row for each output."""
    rows = [
        torch.autograd.grad(
            out, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for out in outputs
    ]
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


def start(players: FunctionalPlayers) -> list[Tensor]:
    """The parameters at the start, as leaves to differentiate with respect to."""
    return [p for name in PLAYERS for p in players.values(name).values()]


def field_jacobian(game: Game, arena: Arena, context: Context = Context()) -> Tensor:
    players = functional(game, arena, context)
    leaves = start(players)
    return jacobian(field(players), leaves)


def step_jacobian(
    game: Game, dynamics: object, arena: Arena, lr: float, context: Context = Context()
) -> Tensor:
    """The derivative of one whole step of a dynamics, as the analysis takes it."""
    players = functional(game, arena, context, lr)
    leaves = start(players)
    dynamics.step(players)  # type: ignore[attr-defined]
    return jacobian(flat(players), leaves)
