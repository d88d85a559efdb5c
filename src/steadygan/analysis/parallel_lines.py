"""Two parallel lines, disjoint supports: what noise and penalties do there; Roth et al. 2017."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ..core.divergences import Divergence
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.objectives import FGAN
from ..core.regularizers import Regularizer
from ..core.slopes import FUNC
from .smoothing_theory import Normal, fitting, log_ratio, objective


@dataclass(frozen=True)
class ParallelLines:
    """Two Gaussians on parallel lines in the plane, under noise of variance gamma.

    At a distance in units of the samples. kl(P, Q), jsd: in nats. jsd_slope: of jsd in the
    distance. gradient_norm: E_P ||grad phi*||.
    """

    distance: float
    gamma: float
    kl: float
    jsd: float
    jsd_slope: float
    gradient_norm: float


def parallel_lines(distance: float, gamma: float, spread: float = 1.0) -> ParallelLines:
    """Return the divergences of N(0, spread^2) on two parallel lines in the plane, under noise.

    The noise has variance gamma > 0. Without it the supports are disjoint, KL is infinite and JSD
    is log 2 at every distance d. With it KL = d^2/(2 gamma) and ||grad phi*|| = d/gamma, while JSD
    is a function of d/sqrt(gamma) alone and saturates.

    Raises:
        SteadyganError: unless gamma > 0.

    >>> lines = parallel_lines(0.5, 0.1)
    >>> round(lines.kl, 9), round(lines.gradient_norm, 9)  # 0.25/0.2, 0.5/0.1
    (1.25, 5.0)

    Reference: Roth et al. 2017, section 7.2; Arjovsky and Bottou 2017.
    """
    if not gamma > 0:
        raise SteadyganError(
            f"On disjoint lines only noise of variance gamma > 0 gives densities, not {gamma:g}."
        )
    p = Normal((0.0, 0.0), (spread, 0.0)).smoothed(gamma)
    q = Normal((0.0, distance), (spread, 0.0)).smoothed(gamma)
    ratio = log_ratio(p, q)

    def jsd(d: float) -> float:
        other = Normal((0.0, d), (spread, 0.0)).smoothed(gamma)
        # f-GAN's scaling of this divergence is twice the JSD.
        return objective("js", log_ratio(p, other), p, other) / 2

    step = 1e-4 * math.sqrt(gamma)
    nodes, weights = p.quadrature()
    gradient = torch.func.vmap(torch.func.grad(lambda x: ratio(x[None])[0]))(nodes)
    return ParallelLines(
        distance=distance,
        gamma=gamma,
        kl=p.expectation(ratio).item(),
        jsd=jsd(distance),
        jsd_slope=(jsd(distance + step) - jsd(distance - step)) / (2 * step),
        gradient_norm=(weights @ gradient.norm(dim=1)).item(),
    )


@dataclass(frozen=True)
class LinearOptimum:
    """The best linear critic v = offset - slope y of the penalised game between two lines.

    None for all three where none is found.
    """

    value: float | None
    offset: float | None
    slope: float | None


def penalised_lines(
    divergence: Divergence | str, regularizer: Regularizer | str, distance: float
) -> LinearOptimum:
    """Return the maximum of F - gamma/2 Omega over linear critics between two lines WITHOUT noise.

    Found from the zero critic uphill. A linear critic is constant along a line, so each line is one
    point: 0 and ``distance`` on the axis between them. A maximum counts where the gradient vanishes
    and the Hessian is negative definite; a critic that runs away has none.

    Raises:
        SteadyganError: as ``expand`` does.

    >>> found = penalised_lines("reverse-kl", "f-gan:gamma=0.1,divergence=reverse-kl", 0.5)
    >>> round(found.value, 6), round(found.slope, 6)  # d^2/(2 gamma), d/gamma: what noise gives
    (1.25, 5.0)

    Reference: Roth et al. 2017, section 7.2; derived in docs/derivations.md.
    """
    divergence, regularizer = fitting(divergence, regularizer)
    game = Game(FGAN(divergence), [regularizer])
    real, fake = (torch.tensor([[y]], dtype=torch.float64) for y in (0.0, distance))

    def loss(w: Tensor) -> Tensor:
        # In the units of the distance, so that both unknowns are logits.
        return game.critic_loss(lambda x: w[0] - w[1] * x[:, 0] / distance, real, fake, slopes=FUNC)

    def numbers(function: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda w: function(torch.from_numpy(w)).numpy()

    gradient, curvature = numbers(torch.func.grad(loss)), numbers(torch.func.hessian(loss))
    options = {"initial_trust_radius": 0.1, "gtol": 1e-8, "maxiter": 60}
    found = minimize(
        numbers(loss),
        np.zeros(2),
        method="trust-exact",
        jac=gradient,
        hess=curvature,
        options=options,
    )
    # Where the critic runs away its gradient fades too, so a maximum also needs its curvature.
    if abs(gradient(found.x)).max() > 1e-6 or np.linalg.eigvalsh(curvature(found.x))[0] < 1e-6:
        return LinearOptimum(None, None, None)
    return LinearOptimum(-float(found.fun), float(found.x[0]), float(found.x[1]) / distance)
