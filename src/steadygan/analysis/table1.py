r"""Table 1 of Mescheder et al. 2018, measured: which method converges locally.

Where both distributions have densities and where not. Two games. In the GENERAL case both
distributions are points: the Dirac-GAN, delta_0 against delta_theta, D(x) = psi x. In the
ABSOLUTELY CONTINUOUS case the data are N(0, 1), the generator is G(z) = mu + s z, z ~ N(0, 1), and
D(x) = psi_1 x + psi_2 x^2: then the critic's own loss curves in every direction of psi, with E[phi
phi'] of its features phi, and where that is positive definite nothing else has to damp. At the
equilibrium (mu, s, psi) = (0, 1, 0) the field's Jacobian falls into two blocks, of (mu, psi_1) and
of (s, psi_2),

.. math:: \begin{pmatrix} 0 & ka \\ -ka & -q \end{pmatrix}, \qquad k = 1, 2, \quad q = c m +
(\text{penalty}) k^2,

with a, c coupling and curvature of the objective (a = c = 1/2 for minimax) and m = E[phi_k^2] = 1
and 3. Derivation: docs/derivations.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from ..core.context import Context
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, FunctionalPlayers
from ..core.registry import build
from ..problems.networks import Point
from .convergence import eigenvalues
from .linearize import System, jacobian

CASES = ("absolutely continuous", "general")

NODES = 8
"""Nodes along each of four axes: data, latents, the noise on either's samples."""

_SHRUNK = 1e-3


@dataclass(frozen=True)
class Method:
    """A row of the table: a game and its dynamics, and the paper's verdicts for the two cases.

    The verdicts are as recalled. game: keywords of ``Game``. dynamics: a spec.
    """

    name: str
    game: dict[str, object]
    dynamics: str = "alternating"
    recalled: tuple[bool, bool] = (True, True)


# Strengths as in the authors' Dirac experiments where those are known (noise 0.7, R1 0.3), and JS
# at twice R1, its equivalent there.
METHODS = (
    Method("unregularized", {"objective": "minimax"}, recalled=(True, False)),
    Method("WGAN", {"objective": "wasserstein", "constraint": "clip:c=1"}, recalled=(False, False)),
    Method(
        "WGAN-GP",
        {"objective": "wasserstein", "regularizers": ["wgan-gp:gamma=1"]},
        recalled=(False, False),
    ),
    Method(
        "DRAGAN",
        {"objective": "minimax", "regularizers": ["dragan:gamma=1"]},
        recalled=(True, False),
    ),
    Method("instance noise", {"objective": "minimax", "smoothing": "instance-noise:sigma=0.7"}),
    Method("consensus", {"objective": "minimax"}, dynamics="consensus:gamma=1"),
    Method("JS", {"objective": "minimax", "regularizers": ["js:gamma=0.6"]}),
    Method("R1", {"objective": "minimax", "regularizers": ["r1:gamma=0.3"]}),
    Method("R2", {"objective": "minimax", "regularizers": ["r2:gamma=0.3"]}),
)


@dataclass(frozen=True)
class Verdict:
    """One cell of the table.

    eigenvalues: of the field at the equilibrium, None where it has no Jacobian, then ``reason``
    says why.
    ratio: distance from the equilibrium after ``steps`` steps over that before. converges:
    measured. recalled: the paper's, from memory.
    """

    method: str
    case: str
    eigenvalues: list[complex] | None
    reason: str
    ratio: float
    steps: int
    converges: bool
    recalled: bool

    @property
    def agrees(self) -> bool:
        """Whether the measured verdict is the recalled one."""
        return self.converges == self.recalled


class Affine(nn.Module):
    """G(z) = mu + s z: latents (B, 1) -> (B, 1); N(mu, s^2) from standard normal latents."""

    def __init__(self, mu: float = 0.0, s: float = 1.0) -> None:
        super().__init__()
        self.mu, self.s = (
            nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (mu, s)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return mu + s z."""
        return self.mu + self.s * z


class Quadratic(nn.Module):
    """D(x) = psi_1 x + psi_2 x^2: (B, 1) -> (B,) logits.

    What the log ratio of two Gaussians is, up to a constant.
    """

    def __init__(self, psi_1: float = 0.0, psi_2: float = 0.0) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor([psi_1, psi_2], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Return psi_1 x + psi_2 x^2."""
        logits: Tensor = torch.cat([x, x.square()], dim=1) @ self.psi
        return logits


@cache
def normal_nodes(count: int = NODES) -> Tensor:
    """Return equally weighted nodes (count,) with the moments of N(0, 1) up to the fifth.

    These are 0, 1, 0, 3, 0.

    >>> x = normal_nodes()
    >>> [round(x.pow(k).mean().item(), 9) + 0.0 for k in (1, 2, 3, 4, 5)]
    [0.0, 1.0, 0.0, 3.0, 0.0]
    """
    x = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
    x = x / x.square().mean().sqrt()
    # x + b x^3 scaled to variance 1 has the fourth moment 3 for one b > 0: quantiles have too light
    # tails, cubes spread them.
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        y = x + middle * x**3
        low, high = (
            (middle, high) if y.pow(4).mean() < 3 * y.square().mean() ** 2 else (low, middle)
        )
    y = x + low * x**3
    scaled: Tensor = y / y.square().mean().sqrt()
    return scaled


class GridDraws:
    """Noise and interpolation on a grid of samples, each independent of what it meets.

    Every other draw of noise runs along the last axis, the ones between along the last but one, as
    those on real and on generated samples follow each other. Interpolation runs across all axes.
    """

    def __init__(self) -> None:
        self._calls = 0

    def normal(self, like: Tensor) -> Tensor:
        """Return ``normal_nodes`` along an axis of the grid, shaped like ``like``."""
        self._calls += 1
        return normal_nodes()[_places(like, self._calls % 2)].view(like.shape)

    def uniform(self, like: Tensor) -> Tensor:
        """Return the middles of equal parts of [0, 1], independent of any three axes."""
        middles = (torch.arange(NODES, dtype=like.dtype) + 0.5) / NODES
        place = torch.stack([_places(like, axis) for axis in range(4)]).sum(0) % NODES
        return middles[place].view(like.shape)


def _places(like: Tensor, axis: int) -> Tensor:
    """Return where along an axis of the grid, counted from the last one, each sample lies."""
    places: Tensor = torch.arange(len(like)) // NODES**axis % NODES
    return places


def players(case: str, offset: float = 0.0) -> tuple[nn.Module, nn.Module, Batch]:
    """Return generator, critic and batch of one of ``CASES``.

    Each parameter is ``offset`` away from the equilibrium.

    Raises:
        SteadyganError: for another case.

    >>> generator, critic, batch = players("absolutely continuous")
    >>> critic(generator(batch.latent)).abs().max().item()
    0.0
    """
    if case == "general":
        network = Point(theta=offset, psi=offset)
        zeros = torch.zeros(NODES**2, 1, dtype=torch.float64)
        return (
            network.generator((1,), 1).double(),
            network.critic((1,)).double(),
            Batch(zeros, zeros),
        )
    if case == "absolutely continuous":
        nodes = normal_nodes()
        real = nodes.repeat_interleave(NODES**3)[:, None]
        latent = nodes.repeat_interleave(NODES**2).repeat(NODES)[:, None]
        return Affine(offset, 1 + offset), Quadratic(offset, offset), Batch(real, latent)
    raise SteadyganError(f"There is no case {case!r}; choose one of {', '.join(CASES)}.")


def measure(
    method: Method, case: str, *, offset: float = 0.1, lr: float = 0.3, steps: int = 250
) -> Verdict:
    """Return the verdict of one method in one case, which is linearised and played.

    The play alone decides where the linearisation decides nothing or does not exist. Convergence is
    local: the players start ``offset`` away in each parameter, and must come a thousand times
    closer within ``steps``.

    Raises:
        SteadyganError: where every real part is below zero and the play disagrees; then lr is too
            large or steps are too few.

    >>> measure(METHODS[7], "general").converges
    True
    """
    game = Game(**method.game)  # type: ignore[arg-type]
    dynamics = build("dynamics", method.dynamics)
    spectrum, reason = _spectrum(game, dynamics, case, lr)
    ratio = _play(game, dynamics, case, offset, lr, steps)
    converges = ratio < _SHRUNK
    if spectrum is not None and max(value.real for value in spectrum) < -1e-9 and not converges:
        raise SteadyganError(
            f"{method.name}, {case}: the field is damped, but {steps} steps of {lr:g} left a"
            f" ratio of {ratio:.2g}."
        )
    return Verdict(
        method.name,
        case,
        spectrum,
        reason,
        ratio,
        steps,
        converges,
        method.recalled[CASES.index(case)],
    )


def table1(methods: Iterable[Method] = METHODS) -> list[Verdict]:
    """Return the measured table, one verdict for each method and case.

    Mescheder et al. 2018, Table 1.

    >>> [v.converges for v in table1(METHODS[:1])]
    [True, False]
    """
    return [measure(method, case) for method in methods for case in CASES]


def _spectrum(
    game: Game, dynamics: Dynamics, case: str, lr: float
) -> tuple[list[complex] | None, str]:
    generator, critic, batch = players(case)
    try:
        system = System(game, dynamics, generator, critic, batch, lr=lr, draws=GridDraws)
    except SteadyganError as refusal:
        return None, str(refusal)
    values = eigenvalues(jacobian(system.field, system.point()))
    damped = max(value.real for value in values)
    return (
        values,
        f"the slowest mode is damped at {-damped:.4g}"
        if damped < -1e-9
        else "some mode is not damped to first order",
    )


def _play(game: Game, dynamics: Dynamics, case: str, offset: float, lr: float, steps: int) -> float:
    generator, critic, batch = players(case, offset)
    game_players = FunctionalPlayers(
        game, generator, critic, lambda: batch, Context(rng=GridDraws()), lr=lr
    )
    rest = {
        name: dict(net.named_parameters())
        for name, net in zip(PLAYERS, players(case)[:2], strict=True)
    }

    def distance() -> float:
        gaps = [
            value - rest[name][key]
            for name in PLAYERS
            for key, value in game_players.values(name).items()
        ]
        return math.sqrt(sum(float(gap.detach().square().sum()) for gap in gaps))

    start = distance()
    for _ in range(steps):
        dynamics.step(game_players)
        game_players.load(
            {
                name: {
                    key: value.detach().requires_grad_()
                    for key, value in game_players.values(name).items()
                }
                for name in PLAYERS
            }
        )
    return distance() / start


__all__ = ["CASES", "METHODS", "Method", "Verdict", "measure", "normal_nodes", "players", "table1"]
