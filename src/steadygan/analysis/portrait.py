"""What the Dirac-GAN does away from its equilibrium.

Vector fields, trajectories and basins, many starts at once.

Everything is driven by the very objects that train images; a thousand trajectories are one batch
(``batch.py``).

>>> path = simulate(Game("minimax", "r1:gamma=1"), "simultaneous", [[1.0, -1.0]], lr=0.2, steps=500)
>>> path.shape, bool(path[-1].norm() < 1e-20)
(torch.Size([501, 1, 2]), True)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Name
from ..core.registry import build
from .batch import follow, follow_compiled, players, shared
from .convergence import NODES, dirac_system, eigenvalues
from .linearize import jacobian

LOOP_LIMIT = 100_000
"""How many trajectory-steps are taken one trajectory at a time, about a millisecond each; more of
them are refused."""

Starts = Tensor | np.ndarray | Sequence[Sequence[float]]


class Portrait(NamedTuple):
    """What a phase portrait is drawn from, in (θ, ψ).

    A path (T, 2), the points of a grid (n, n, 2) and the field there (n, n, 2).
    """

    path: np.ndarray
    grid: np.ndarray
    field: np.ndarray


def simulate(
    game: Game,
    dynamics: Dynamics | str,
    starts: Starts,
    lr: float | dict[Name, float],
    steps: int,
    *,
    every: int = 1,
    nodes: int = NODES,
    compiled: bool = False,
) -> Tensor:
    """Return the trajectories of the Dirac-GAN from starts (N, 2) in (θ, ψ).

    w <- w + h v(w), as the dynamics has it. Annealed strengths run with progress k/steps. A
    trajectory that overflows goes on as inf or nan. Games whose samples see each other (``shared``)
    are run one trajectory at a time.

    Args:
        game: what is played.
        dynamics: an object or a spec.
        starts: (N, 2).
        lr: h, in units of the parameters, or one for each player.
        steps: how many.
        every: which of them are returned.
        nodes: noise is nodes² quadrature nodes a trajectory, so that nothing is random.
        compiled: compile the step first, which takes seconds and pays off for tens of thousands of
            trajectories; the figures are the same up to rounding.

    Returns:
        (steps // every + 1, N, 2) in double precision, the starts first.

    Raises:
        SteadyganError: for starts that are not finite numbers (N, 2), for counts below 1 and a
            learning rate that is not positive, and where one trajectory at a time would take
            minutes.

    >>> starts = [[1.0, -1.0], [0.5, 0.0]]
    >>> simulate(Game("wasserstein"), "alternating", starts, lr=0.5, steps=4, every=2)[1]
    tensor([[-0.5625, -1.6250],
            [ 0.1562, -0.4375]], dtype=torch.float64)

    Reference: Mescheder et al. 2018, section 2 and Figure 3.
    """
    points = _points(starts)
    made: Dynamics = build("dynamics", dynamics)
    for name, count in {"steps": steps, "every": every, "nodes": nodes}.items():
        if count < 1:
            raise SteadyganError(f"{name} must be a whole number >= 1, not {count}.")
    for rate in lr.values() if isinstance(lr, dict) else [lr]:
        if not (np.isfinite(rate) and rate > 0):
            raise SteadyganError(f"A learning rate is a finite number > 0, not {rate:g}.")
    if compiled and (why := shared(game, made)):
        raise SteadyganError(
            f"{why} may look at several samples of a batch, so these trajectories cannot be"
            " compiled as one: leave it out."
        )
    parts = _parts(game, made, points, steps)
    run = follow_compiled if compiled else follow
    return torch.cat([run(game, made, part, lr, steps, every, nodes) for part in parts], dim=1)


def field(
    game: Game,
    dynamics: Dynamics | str,
    grid: Starts,
    *,
    lr: float = 0.1,
    progress: float | None = 0.0,
    nodes: int = NODES,
) -> Tensor:
    """Return the field v (..., 2) that the dynamics follows, at points (..., 2) in (θ, ψ).

    v = (-dL_G/dθ, -dL_D/dψ), per unit of time; consensus and unrolling modify it.

    Args:
        game: what is played.
        dynamics: an object or a spec.
        grid: (..., 2).
        lr: of the critic's inner steps, read by unrolling only.
        progress: where annealed strengths are taken.
        nodes: noise is nodes² quadrature nodes a point.

    Raises:
        SteadyganError: as ``simulate``.

    >>> field(Game("wasserstein"), "simultaneous", [[3.0, 2.0]])
    tensor([[ 2., -3.]], dtype=torch.float64)

    Reference: Mescheder et al. 2018, Eq. 5.
    """
    grid = torch.as_tensor(grid, dtype=torch.float64)
    points = _points(grid.reshape(-1, 2) if grid.shape[-1:] == (2,) else grid)
    made: Dynamics = build("dynamics", dynamics)
    found = []
    for part in _parts(game, made, points, 1):
        moving = players(game, part, lr, nodes, progress)
        descent = made.field(moving, moving.draw())
        found.append(-torch.stack([next(iter(descent[name].values())) for name in PLAYERS], dim=1))
    return torch.cat(found).view(grid.shape)


def basin(
    game: Game,
    dynamics: Dynamics | str,
    starts: Starts,
    lr: float,
    steps: int,
    *,
    nodes: int = NODES,
) -> Tensor:
    """Return the distance from the equilibrium, √(θ² + ψ²), after so many steps from each start.

    (N, 2) -> (N,); inf where it overflowed.

    Raises:
        SteadyganError: as ``simulate``.

    >>> starts = [[1.0, -1.0], [2.0, 2.0]]
    >>> basin(Game("minimax", "r1:gamma=1"), "simultaneous", starts, lr=0.2, steps=500) < 1e-6
    tensor([True, True])
    """
    last = simulate(game, dynamics, starts, lr, steps, every=steps, nodes=nodes)[-1]
    return torch.nan_to_num(last.norm(dim=1), nan=torch.inf)


def spectrum(
    game: Game, dynamics: Dynamics | str, lr: float, progress: float | None = 0.0
) -> list[complex]:
    """Return the eigenvalues of one step at the equilibrium.

    The largest modulus is the rate, the factor of the distance a step.

    Raises:
        SteadyganError: where there is no linearisation (WGAN-GP and DRAGAN), with the reason.

    >>> max(map(abs, spectrum(Game("minimax", "r1:gamma=1"), "simultaneous", 0.2)))
    0.9000...
    """
    system = dirac_system(game, dynamics, lr, progress)
    return eigenvalues(jacobian(system.step, system.step_state(system.point())))


def portrait(
    game: Game,
    dynamics: Dynamics | str,
    lr: float,
    *,
    start: tuple[float, float] = (1.0, -1.0),
    steps: int = 500,
    half: float = 2.0,
    count: int = 12,
) -> Portrait:
    """Return one trajectory and the field on count² points of the square of that half-width.

    The paper's figure of one method; a method without a linearisation has a portrait all the same.
    The paper starts at (1, 1) with logits large on generated samples, which is (θ, ψ) = (1, -1)
    here.

    Raises:
        SteadyganError: as ``simulate``.

    >>> portrait(Game("wasserstein", "wgan-gp:gamma=0.7"), "simultaneous", 0.2, steps=10).path.shape
    (11, 2)

    Reference: Mescheder et al. 2018, Figure 3.
    """
    grid = mesh(half, count)
    path = simulate(game, dynamics, [start], lr, steps)[:, 0]
    return Portrait(path.numpy(), grid.numpy(), field(game, dynamics, grid, lr=lr).numpy())


def mesh(half: float, count: int) -> Tensor:
    """Return count x count points (θ, ψ) of the square [-half, half]², as (count, count, 2).

    θ along rows, ψ from row to row.

    >>> mesh(1.0, 3)[0, :, 0]
    tensor([-1.,  0.,  1.], dtype=torch.float64)
    """
    axis = torch.linspace(-half, half, count, dtype=torch.float64)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)


def _parts(game: Game, dynamics: Dynamics, points: Tensor, steps: int) -> Sequence[Tensor]:
    """Return the points by batch: all in one, or one by one where trajectories cannot share it."""
    why = shared(game, dynamics)
    if not why:
        return [points]
    if len(points) * steps > LOOP_LIMIT:
        raise SteadyganError(
            f"{why} may look at several samples of a batch, so these trajectories must be run"
            f" one by one, and {len(points)} of {steps}"
            f" steps would take minutes: ask for at most {LOOP_LIMIT:,} trajectory-steps, for"
            f" example {max(1, LOOP_LIMIT // steps)} starts."
        )
    return list(points.split(1))


def _points(starts: Starts) -> Tensor:
    points = torch.as_tensor(starts, dtype=torch.float64).detach()
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise SteadyganError(
            "Points are pairs (theta, psi), an array of shape (N, 2) with N >= 1, not"
            f" {tuple(points.shape)}."
        )
    if not points.isfinite().all():
        raise SteadyganError("Points must be finite numbers: some theta or psi is inf or nan.")
    return points


__all__ = ["LOOP_LIMIT", "Portrait", "basin", "field", "mesh", "portrait", "simulate", "spectrum"]
