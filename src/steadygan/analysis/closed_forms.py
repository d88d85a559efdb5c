r"""The closed forms of the Dirac-GAN, in one table: what autodiff must give for every registered
name.

At the equilibrium (θ, ψ) = (0, 0), with logits large on real samples, every method's field has the
Jacobian

.. math:: J = \begin{pmatrix} 0 & a \\ -a & -q \end{pmatrix}, \qquad \lambda = -\frac{q}{2} \pm
\sqrt{\frac{q^2}{4} - a^2},

a the coupling of the objective and q the damping that regularizers and smoothing add. (The paper's
discriminator is large on generated samples, which turns both signs of a and leaves the
eigenvalues.) Derivations: docs/derivations.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..core.divergences import Divergence
from ..core.dynamics import (
    Alternating,
    Consensus,
    Dynamics,
    Extragradient,
    Optimistic,
    Simultaneous,
    Unrolled,
)
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.objectives import FGAN
from ..core.registry import spec
from ..core.regularizers import FGANPenalty
from ..core.schedules import at

# name: (a = g'(0), w = g'(0)^2 f*''(g(0)), c = -g''(0) + (f* o g)''(0), d = -(f* o g)''(0)): the
# coupling, the weight of Eq. 19, and the
# curvature of the critic's and of the generator's loss in the raw output, all at p = q.
DIVERGENCES: dict[str, tuple[float, float, float, float]] = {
    "kl": (1, 1, 1, -1),
    "reverse-kl": (1, 1, 1, 0),
    "pearson": (1, 1 / 2, 1 / 2, -1 / 2),
    "neyman": (1, 1 / 2, 1 / 2, 1 / 2),
    "squared-hellinger": (1, 2, 2, -1),
    "js": (1 / 2, 1 / 2, 1 / 2, -1 / 4),
    "gan": (1 / 2, 1 / 2, 1 / 2, -1 / 4),
    "jeffrey": (1, 1 / 2, 1 / 2, -1 / 2),
    "alpha": (1, 1, 1, -1),
}

# name: (a, c, d): the coupling, and the curvature of the critic's and of the generator's loss in
# psi per unit of noise variance. Mescheder
# et al. 2018, on instance noise (f''(0) = -1/4, on real and on fake samples); relativistic losses
# see the variance of a difference.
OBJECTIVES: dict[str, tuple[float, float, float]] = {
    "minimax": (1 / 2, 1 / 2, -1 / 4),
    "nonsaturating": (1 / 2, 1 / 2, 1 / 4),
    "relativistic": (1 / 2, 1 / 2, 1 / 2),
    "relativistic-average": (1 / 2, 1 / 4, 1 / 4),
    "least-squares": (1, 2, 1),
    "hinge": (1, 0, 0),
    "wasserstein": (1, 0, 0),
}

# name: damping per gamma. Roth et al. 2017, Eq. 20 (both weights are 1/4 at p = q); Mescheder et
# al. 2018, on R1 and R2.
REGULARIZERS: dict[str, float | str] = {
    "r1": 1.0,
    "r2": 1.0,
    "r1r2": 2.0,
    "gp0": 1.0,
    "js": 1 / 2,
    "f-gan": "weight of its divergence",
    "lecam": 0.0,
    "wgan-lp": 0.0,
    "wgan-gp": "refused",
    "dragan": "refused",
}

SMOOTHINGS = {
    "instance-noise": lambda s, t: at(s.sigma, t) ** 2,
    "explicit-noise": lambda s, t: at(s.variance, t),
}
"""name: variance of the noise, from the smoothing and the progress of the training."""


def coupling(game: Game) -> float:
    """Return a, the objective's coupling of the two players at the equilibrium."""
    return _objective(game)[0]


def damping(game: Game, progress: float | None = None) -> float:
    """Return q, what regularizers and smoothing subtract from the critic's diagonal; raises
    SteadyganError where no Jacobian exists."""
    noise = 0.0 if game.smoothing is None else _objective(game)[1] * _variance(game, progress)
    return _penalties(game, progress) + noise


def _penalties(game: Game, progress: float | None) -> float:
    """The regularizers' part of the damping."""
    total = 0.0
    for regularizer in game.regularizers:
        if regularizer.not_smooth:
            raise SteadyganError(regularizer.not_smooth)
        row = REGULARIZERS[_name(regularizer)]
        factor = (
            _divergence(regularizer.divergence)[1] if isinstance(regularizer, FGANPenalty) else row
        )
        total += float(factor) * float(at(regularizer.gamma, progress))
    return total


def field_matrix(
    game: Game, dynamics: Dynamics, lr: float, progress: float | None = None
) -> np.ndarray:
    """Return the Jacobian (2, 2) in (θ, ψ) of the field that the dynamics follows."""
    a, q = coupling(game), damping(game, progress)
    plain = np.array([[0.0, a], [-a, -q]])
    if isinstance(dynamics, Consensus):
        # -gamma grad ||v||^2/2 has the Jacobian -gamma J^T J where v = 0. Mescheder, Nowozin and
        # Geiger 2017, Lemma 4.
        return plain - dynamics.gamma * plain.T @ plain
    if isinstance(dynamics, Unrolled):
        size = lr if dynamics.step_size is None else dynamics.step_size
        # The critic ahead is r^k psi - p theta. Backprop also differentiates it: the coupling's
        # pull through it doubles, and what curves
        # the generator's loss in psi acts through it: noise by d, and its own part of the penalty.
        r = 1 - size * q
        p = size * a * sum(r**i for i in range(dynamics.steps))
        curvature = _objective(game)[2] * _variance(game, progress) - (
            _penalties(game, progress) if game.regularize_generator else 0.0
        )
        through = curvature * p if dynamics.backprop else 0.0
        turns = 2 if dynamics.backprop else 1
        return np.array(
            [[-turns * a * p - through * p, (a + through) * r**dynamics.steps], [-a, -q]]
        )
    return plain


def step_matrix(
    game: Game, dynamics: Dynamics, lr: float, progress: float | None = None
) -> np.ndarray:
    """Return the Jacobian of one step at learning rate ``lr``: (2, 2), or (4, 4) with the previous
    gradients for an optimistic step."""
    field, one = field_matrix(game, dynamics, lr, progress), np.eye(2)
    for kind, form in STEPS.items():
        if type(dynamics) is kind:
            return form(dynamics, field, one, lr)
    raise SteadyganError(f"There is no closed form of a step of {spec(dynamics)!r}.")


def _alternating(
    critic_steps: int,
    generator_steps: int,
    critic_first: bool,
    field: np.ndarray,
    one: np.ndarray,
    h: float,
) -> np.ndarray:
    generator, critic = one.copy(), one.copy()
    generator[0] += h * field[0]
    critic[1] += h * field[1]
    moves = [
        np.linalg.matrix_power(critic, critic_steps),
        np.linalg.matrix_power(generator, generator_steps),
    ]
    first, second = moves if critic_first else moves[::-1]
    return second @ first


# Mescheder et al. 2018 (simultaneous, alternating); Korpelevich 1976; Daskalakis et al. 2018, whose
# memory holds gradients, -J w.
STEPS: dict[type[Dynamics], Callable[..., np.ndarray]] = {
    Simultaneous: lambda d, j, one, h: one + h * j,
    Unrolled: lambda d, j, one, h: one + h * j,
    Alternating: lambda d, j, one, h: _alternating(
        d.critic_steps, d.generator_steps, d.order == "critic-first", j, one, h
    ),
    Consensus: lambda d, j, one, h: (
        _alternating(d.critic_steps, 1, True, j, one, h) if d.alternating else one + h * j
    ),
    Extragradient: lambda d, j, one, h: one + h * j + h**2 * j @ j,
    Optimistic: lambda d, j, one, h: np.block([[one + 2 * h * j, h * one], [-j, 0 * one]]),
}


def critical_gamma(game: Game) -> float | None:
    """Return the gamma at which the damping turns the rotation off, q = 2a, where one regularizer
    alone damps; None elsewhere."""
    if len(game.regularizers) != 1 or game.smoothing is not None:
        return None
    (regularizer,) = game.regularizers
    factor = REGULARIZERS[_name(regularizer)]
    if isinstance(regularizer, FGANPenalty):
        factor = _divergence(regularizer.divergence)[1]
    return 2 * coupling(game) / factor if isinstance(factor, float | int) and factor > 0 else None


def max_stable_lr(game: Game, dynamics: Dynamics) -> float | None:
    """Return the limit of the learning rate: simultaneous, and undamped alternating, extragradient
    and optimistic; else None."""
    a, q = coupling(game), damping(game)
    if type(dynamics) is Simultaneous:
        return q / a**2 if q < 2 * a else 2 / (q / 2 + math.sqrt(q**2 / 4 - a**2))
    if q:
        return None
    limits = {
        Alternating: lambda d: 2 / (a * math.sqrt(d.generator_steps * d.critic_steps)),
        Extragradient: lambda d: 1 / a,
        Optimistic: lambda d: 1 / (a * math.sqrt(3)),
    }
    return limits[type(dynamics)](dynamics) if type(dynamics) in limits else None


def _variance(game: Game, progress: float | None) -> float:
    return (
        0.0
        if game.smoothing is None
        else float(SMOOTHINGS[_name(game.smoothing)](game.smoothing, progress))
    )


def _objective(game: Game) -> tuple[float, float, float]:
    if isinstance(game.objective, FGAN):
        a, _, critic, generator = _divergence(game.objective.divergence)
        return a, critic, generator
    name = _name(game.objective)
    if name not in OBJECTIVES:
        raise SteadyganError(f"There is no closed form of the objective {name!r}.")
    return OBJECTIVES[name]


def _divergence(divergence: Divergence) -> tuple[float, float, float, float]:
    return DIVERGENCES[_name(divergence)]


def _name(item: object) -> str:
    return spec(item).partition(":")[0]
