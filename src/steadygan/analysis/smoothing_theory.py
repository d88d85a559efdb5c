r"""The noise theory of Roth et al. 2017 between Gaussians: no expectation is estimated.

All are Gauss-Hermite sums in float64.

A critic is a torch function of samples (n, d) that returns raw outputs v (n,); the statistic of the
paper is psi = g(v), g the divergence's output activation. P and Q are product Gaussians, so adding
noise of variance gamma only widens them.

>>> result = expand("gan", JensenShannon(gamma=1.0), Normal((0.0,), (1.0,)), Normal((0.4,), (1.1,)))
>>> round(result.omega, 7), round(result.penalty_order)
(0.0773353, 2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..core.context import Samples
from ..core.divergences import Divergence
from ..core.errors import SteadyganError
from ..core.registry import build, spec
from ..core.regularizers import FGANPenalty, GradientPenalty, JensenShannon, Regularizer
from ..core.scores import score, squared_norm

Critic = Callable[[Tensor], Tensor]

NODES = 120
"""Gauss-Hermite nodes on a line; in more dimensions there are fewer along each axis, see
``Normal.quadrature``."""

GAMMAS = (8e-3, 4e-3, 2e-3, 1e-3)
"""Noise variances at which errors are measured and their order in gamma is fitted."""

_LOG_SLOPE = {
    "kl": 1.0,
    "reverse-kl": 1.0,
    "neyman": 2.0,
    "squared-hellinger": 0.5,
    "js": 1.0,
    "gan": 1.0,
}


@dataclass(frozen=True)
class Normal:
    """A product of Gaussians: mean (d,) and standard deviation (d,) in units of the samples.

    A standard deviation of 0 makes it a point.

    Raises:
        SteadyganError: where the two differ in length or a standard deviation is negative.

    >>> nodes, weights = Normal((0.0, 1.0), (1.0, 0.0)).quadrature()
    >>> nodes.shape, round((weights @ nodes[:, 0] ** 4).item(), 9)
    (torch.Size([32, 2]), 3.0)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(s >= 0 for s in self.std):
            raise SteadyganError(
                f"A Gaussian has as many standard deviations >= 0 as means, not {self.std} for"
                f" {self.mean}."
            )

    def smoothed(self, variance: float) -> Normal:
        """Return the convolution with N(0, variance I); Roth et al. 2017, Eq. 3.

        Raises:
            SteadyganError: for a negative variance.
        """
        if not variance >= 0:
            raise SteadyganError(f"Noise has a variance >= 0, not {variance:g}.")
        return replace(self, std=tuple(math.sqrt(s * s + variance) for s in self.std))

    def quadrature(self) -> tuple[Tensor, Tensor]:
        """Return nodes (n, d) and weights (n,).

        Exact for polynomials of degree 239 on a line, 63 in each variable beyond.
        """
        count = NODES if len(self.mean) == 1 else 32
        points, masses = np.polynomial.hermite_e.hermegauss(count)
        masses = masses / math.sqrt(2 * math.pi)
        axes = []
        for mean, std in zip(self.mean, self.std, strict=True):
            axes.append(
                [(mean + std * x, w) for x, w in zip(points, masses, strict=True)]
                if std
                else [(mean, 1.0)]
            )
        grid = torch.tensor(list(product(*axes)), dtype=torch.float64)
        return grid[..., 0], grid[..., 1].prod(-1)

    def expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return E[function(x)], 0-d, of a function (n, d) -> (n,)."""
        nodes, weights = self.quadrature()
        return weights @ function(nodes)

    def log_density(self, x: Tensor) -> Tensor:
        """Return the log density at x (n, d), (n,).

        Raises:
            SteadyganError: where there is none.
        """
        if not all(self.std):
            raise SteadyganError(
                "A Gaussian with a standard deviation of 0 has no density: smooth it first."
            )
        mean, std = (torch.tensor(values, dtype=x.dtype) for values in (self.mean, self.std))
        return -(((x - mean) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2).sum(-1)


def log_ratio(p: Normal, q: Normal) -> Critic:
    """Return x -> log p(x)/q(x), the optimal logit; Goodfellow et al. 2014, Proposition 1."""
    return lambda x: p.log_density(x) - q.log_density(x)


def optimal(divergence: Divergence | str, p: Normal, q: Normal) -> Critic:
    """Return the optimal raw output v, g(v(x)) = f'(p/q); Roth et al. 2017, Eq. 15.

    >>> v = optimal("neyman", Normal((0.0,), (1.0,)), Normal((1.0,), (1.0,)))
    >>> v(torch.zeros(1, 1))
    tensor([1.])
    """
    made: Divergence = build("divergence", divergence)
    factor, ratio = _LOG_SLOPE.get(spec(made).partition(":")[0]), log_ratio(p, q)
    # For these g inverts f' in closed form, which keeps the tails; for the others g is the
    # identity.
    return (lambda x: factor * ratio(x)) if factor else (lambda x: made.slope(ratio(x).exp()))


def objective(
    divergence: Divergence | str, critic: Critic, p: Normal, q: Normal, gamma: float = 0.0
) -> float:
    """Return F_gamma = E_P[g(v)] - E_Q[f*(g(v))] under noise of variance gamma on both.

    Roth et al. 2017, Eqs. 3 and 7. Exact: the noise widens a Gaussian to the variance s^2 + gamma.

    >>> p, q = Normal((0.0,), (1.0,)), Normal((1.0,), (1.0,))
    >>> round(objective("kl", optimal("kl", p, q), p, q), 9)  # KL = 1/2
    0.5
    """
    made: Divergence = build("divergence", divergence)
    real = p.smoothed(gamma).expectation(lambda x: made.activation(critic(x)))
    return (real - q.smoothed(gamma).expectation(lambda x: made.fake_score(critic(x)))).item()


def omega(regularizer: Regularizer | str, critic: Critic, p: Normal, q: Normal) -> float:
    """Return Omega of the regularizer (its penalty is gamma/2 Omega), by the object that trains.

    Roth et al. 2017, Eqs. 19 and 20.

    Raises:
        SteadyganError: unless it is a zero-centred penalty on real or generated samples: js, f-gan,
            r1, r2, r1r2.

    >>> p, q = Normal((0.0,), (1.0,)), Normal((1.0,), (1.0,))
    >>> round(omega("r1", lambda x: 2 * x.sum(-1), p, q), 9)
    4.0
    """
    penalty, sides = build("regularizer", regularizer), {"real": p, "fake": q}
    if (
        not isinstance(penalty, GradientPenalty)
        or penalty.target
        or not set(penalty.where) <= set(sides)
    ):
        raise SteadyganError(
            f"{spec(penalty)!r} is no expectation of a squared gradient norm under P or Q: take"
            " js, f-gan, r1, r2 or r1r2."
        )
    terms = []
    for point in penalty.where:
        nodes, masses = sides[point].quadrature()
        here = score(critic, Samples(nodes), gradient=True)
        weight = penalty.weight(point, here.logits)
        assert here.gradient is not None
        size = squared_norm(here.gradient)
        terms.append(masses @ (size if weight is None else weight * size))
    return torch.stack(terms).sum().item()


def laplacian_term(divergence: Divergence | str, critic: Critic, p: Normal, q: Normal) -> float:
    """Return E_P[Laplacian psi] - E_Q[Laplacian (f* o psi)].

    Twice the slope of F_gamma at gamma = 0; Roth et al. 2017, Eq. 13.
    """
    made: Divergence = build("divergence", divergence)
    real = p.expectation(lambda x: _laplacian(lambda point: made.activation(critic(point)), x))
    fake = q.expectation(lambda x: _laplacian(lambda point: made.fake_score(critic(point)), x))
    return (real - fake).item()


def miss(
    regularizer: Regularizer | str,
    divergence: Divergence | str,
    critic: Critic,
    p: Normal,
    q: Normal,
) -> float:
    r"""Return by what the slope of F_gamma in gamma exceeds that of the penalty, -Omega/2.

    Zero at the optimal critic.
    f-gan: 1/2 int (p - f*'(psi) q) Laplacian psi (Roth et al. 2017, Eq. 32).
    js: 1/2 int (p/s - q/(1 - s)) Laplacian s, s = sigmoid(v) (derived in docs/derivations.md).

    Raises:
        SteadyganError: for other regularizers.

    >>> p, q = Normal((0.0,), (1.0,)), Normal((1.0,), (1.0,))
    >>> abs(miss("js", "gan", optimal("gan", p, q), p, q)) < 1e-9
    True
    """
    penalty: Regularizer = build("regularizer", regularizer)
    made: Divergence = build("divergence", divergence)
    if isinstance(penalty, JensenShannon):

        def real(x: Tensor) -> Tensor:
            return _laplacian(lambda point: critic(point).sigmoid(), x) / critic(x).sigmoid()

        def fake(x: Tensor) -> Tensor:
            return _laplacian(lambda point: critic(point).sigmoid(), x) / (-critic(x)).sigmoid()
    elif isinstance(penalty, FGANPenalty):

        def real(x: Tensor) -> Tensor:
            return _laplacian(lambda point: made.activation(critic(point)), x)

        def fake(x: Tensor) -> Tensor:
            # f*'(g(v)) as (f* o g)'(v) / g'(v), because g saturates in floating point before its
            # own derivative vanishes.
            v = critic(x)
            return real(x) * _slope(made.fake_score, v) / _slope(made.activation, v)
    else:
        raise SteadyganError(
            f"What {spec(penalty)!r} misses has no formula here; known: js, f-gan."
        )
    return ((p.expectation(real) - q.expectation(fake)) / 2).item()


@dataclass(frozen=True)
class Expansion:
    """F_gamma against its expansions.

    Errors are F_gamma - expansion at each of ``gammas``; orders are fitted in log gamma. objective:
    F. smoothed: F_gamma. omega: of the regularizer. slope: of F_gamma by Eq. 13. miss: the
    coefficient of gamma that the penalty misses (Eq. 32). deviation: |1 - (F_gamma - F)/(-gamma/2
    Omega)|, nan where Omega is 0. laplacian_*: Eq. 13; penalty_*: Eq. 18.
    """

    gammas: tuple[float, ...]
    objective: float
    smoothed: tuple[float, ...]
    omega: float
    slope: float
    miss: float
    laplacian_errors: tuple[float, ...]
    laplacian_order: float
    penalty_errors: tuple[float, ...]
    penalty_order: float
    deviation: tuple[float, ...]


def expand(
    divergence: Divergence | str,
    regularizer: Regularizer | str,
    p: Normal,
    q: Normal,
    critic: Critic | None = None,
    gammas: Sequence[float] = GAMMAS,
) -> Expansion:
    """Return how well the Laplacian form and a regularizer stand for noise of variance gamma.

    Args:
        divergence: an object or a name.
        regularizer: one that fits it: js goes with gan and js, f-gan with its own.
        p: of the data.
        q: of the generator.
        critic: where F is taken, by default the optimal one.
        gammas: variances of the noise.

    Raises:
        SteadyganError: where the regularizer does not fit the divergence, and for fewer than two
            gammas > 0.

    Reference: Roth et al. 2017, Eqs. 11-19, 32.
    """
    if not all(0 < gamma < math.inf for gamma in gammas) or len(gammas) < 2:
        raise SteadyganError(
            f"An order in gamma is fitted to two variances > 0 or more, not {tuple(gammas)}."
        )
    divergence, regularizer = fitting(divergence, regularizer)
    critic = critic or optimal(divergence, p, q)
    start, size = objective(divergence, critic, p, q), omega(regularizer, critic, p, q)
    slope = laplacian_term(divergence, critic, p, q) / 2
    smoothed = tuple(objective(divergence, critic, p, q, gamma) for gamma in gammas)
    by_laplacian = tuple(
        f - start - gamma * slope for f, gamma in zip(smoothed, gammas, strict=True)
    )
    by_penalty = tuple(
        f - start + gamma / 2 * size for f, gamma in zip(smoothed, gammas, strict=True)
    )
    return Expansion(
        gammas=tuple(gammas),
        objective=start,
        smoothed=smoothed,
        omega=size,
        slope=slope,
        miss=miss(regularizer, divergence, critic, p, q),
        laplacian_errors=by_laplacian,
        laplacian_order=_order(gammas, by_laplacian),
        penalty_errors=by_penalty,
        penalty_order=_order(gammas, by_penalty),
        deviation=tuple(
            abs(error) / (gamma / 2 * size) if size else math.nan
            for error, gamma in zip(by_penalty, gammas, strict=True)
        ),
    )


def _laplacian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return the Laplacian of a function (n, d) -> (n,) at x (n, d): (n,)."""
    found: Tensor = torch.func.vmap(
        lambda point: torch.func.hessian(lambda one: function(one[None])[0])(point).trace()
    )(x)
    return found


def _slope(function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
    found: Tensor = torch.func.vmap(torch.func.grad(function))(v)
    return found


def _order(gammas: Sequence[float], errors: Sequence[float]) -> float:
    # An error at the level of rounding has no order.
    sizes = np.abs(errors)
    return (
        float(np.polyfit(np.log(gammas), np.log(sizes), 1)[0]) if sizes.min() > 1e-12 else math.inf
    )


def fitting(
    divergence: Divergence | str, regularizer: Regularizer | str
) -> tuple[Divergence, Regularizer]:
    """Return both, built.

    Raises:
        SteadyganError: where the penalty does not stand for noise in the divergence.
    """
    made: Divergence = build("divergence", divergence)
    penalty: Regularizer = build("regularizer", regularizer)
    name = spec(made)
    if (isinstance(penalty, JensenShannon) and name in ("gan", "js")) or (
        isinstance(penalty, FGANPenalty) and penalty.divergence == made
    ):
        return made, penalty
    raise SteadyganError(
        f"{spec(penalty)!r} does not stand for noise in the divergence {name!r}: take"
        f" 'f-gan:divergence={name}'."
    )
