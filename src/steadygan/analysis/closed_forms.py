r"""The closed forms of the Dirac-GAN, put together from what its parts declare (``core.linear``).

At the equilibrium (θ, ψ) = (0, 0), with logits large on real samples, every method's field has the
Jacobian

.. math:: J = \begin{pmatrix} 0 & a \\ -a & -q \end{pmatrix}, \qquad \lambda = -\frac{q}{2} \pm
\sqrt{\frac{q^2}{4} - a^2},

a the coupling of the objective and q the damping that regularizers and smoothing add. (The paper's
discriminator is large on generated samples, which turns both signs of a and leaves the
eigenvalues.) Derivations: docs/derivations.md.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.linear import Curvature, Linear

T = TypeVar("T")


class Undeclared(SteadyganError):
    """A part of a game that declares no mathematics: it trains, and has no closed form."""

    def __init__(self, part: object, what: str) -> None:
        super().__init__(f"{type(part).__name__} declares no {what}")


def coupling(game: Game) -> float:
    """Return a, the objective's coupling of the two players at the equilibrium."""
    return _declared(game.objective.coupling, game.objective, "coupling")


def damping(game: Game, progress: float | None = None) -> float:
    """Return q, what regularizers and smoothing subtract from the critic's diagonal."""
    return -linear(game, progress).jacobian[1, 1].item()


def linear(game: Game, progress: float | None = None) -> Linear:
    """Return the Dirac-GAN at its equilibrium, (θ, ψ) to first order.

    Raises:
        Undeclared: where a part of the game declares no mathematics.
        SteadyganError: where no Jacobian exists.
    """
    for regularizer in game.regularizers:
        if regularizer.not_smooth:
            raise SteadyganError(regularizer.not_smooth)
    a, variance, curvature = coupling(game), 0.0, Curvature(0.0, 0.0)
    if game.smoothing is not None:
        variance = _declared(game.smoothing.noise(progress), game.smoothing, "noise")
        curvature = _declared(game.objective.curvature, game.objective, "curvature")
    penalties = sum(
        _declared(r.damping(progress, variance), r, "damping") for r in game.regularizers
    )
    q = curvature.critic * variance + penalties
    # A regularized generator minimises the value with its penalty: its loss has -penalty.
    bend = curvature.generator * variance - (penalties if game.regularize_generator else 0.0)
    matrix = torch.tensor([[0.0, a], [-a, -q]], dtype=torch.float64)
    return Linear(matrix, 1, torch.tensor([[bend]], dtype=torch.float64))


def field_matrix(
    game: Game, dynamics: Dynamics, lr: float, progress: float | None = None
) -> np.ndarray:
    """Return the Jacobian (2, 2) in (θ, ψ) of the field that the dynamics follows."""
    found = dynamics.linear_field(linear(game, progress), lr)
    return _declared(found, dynamics, "linear field").numpy()


def step_matrix(
    game: Game, dynamics: Dynamics, lr: float, progress: float | None = None
) -> np.ndarray:
    """Return the Jacobian of one step at learning rate ``lr``: (2, 2), of an optimistic one (4, 4).

    The state of an optimistic step also holds the previous gradients.
    """
    found = dynamics.linear_step(linear(game, progress), lr)
    return _declared(found, dynamics, "linear step").numpy()


def _declared(value: T | None, part: object, what: str) -> T:
    if value is None:
        raise Undeclared(part, what)
    return value
