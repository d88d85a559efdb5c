"""Roth et al. 2017 between two Gaussians, by Gauss-Hermite quadrature through the very game: P =
N(0, 1), Q = N(0.4, 1.1^2).

vmap hands the game one pair of nodes at a time, and the quadrature weights its answers: no
expectation is estimated.
"""

import math

import numpy as np
import pytest
import torch

from steadygan.core import Context, Game, build, names
from steadygan.core.slopes import FUNC
from support import Fixed, with_gamma

NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(120))
WEIGHTS = WEIGHTS / math.sqrt(2 * math.pi)
MEAN, STD = 0.4, 1.1
OMEGA = 0.0773353


def log_ratio(x):
    """phi* = log p/q, the optimal critic."""
    return ((x - MEAN) ** 2 / STD**2 - x**2).sum(-1) / 2 + math.log(STD)


def expectation(game: Game, part: str, critic=log_ratio, smoothed: float = 0.0) -> float:
    """A part of the critic's loss, with P and Q convolved with N(0, smoothed)."""
    real, fake = (m + math.sqrt(s * s + smoothed) * NODES for m, s in ((0.0, 1.0), (MEAN, STD)))

    def one(x, y):
        return getattr(game.critic_terms(critic, x.view(1, 1), y.view(1, 1), slopes=FUNC), part)

    return (torch.func.vmap(one)(real, fake) @ WEIGHTS).item()


def raw(divergence):
    """The raw output v with g(v) = f'(p/q), in closed form for each activation."""
    to_raw = {
        "kl": lambda r: r.log(),
        "reverse-kl": lambda r: r.log(),
        "neyman": lambda r: 2 * r.log(),
        "squared-hellinger": lambda r: r.log() / 2,
        "js": lambda r: r.log(),
        "gan": lambda r: r.log(),
    }
    slope = to_raw.get(divergence, build("divergence", divergence).slope)
    return lambda x: slope(log_ratio(x).exp())


@pytest.mark.parametrize("regularizer", ["js", "f-gan:divergence=gan", "f-gan:divergence=js"])
def test_omega_at_the_optimum(regularizer):
    """Eqs. 29, 30: Omega_JS(phi*) = Omega_f(psi*) = 0.0773353; gamma = 2 gives Omega itself."""
    game = Game("minimax", [with_gamma(regularizer, 2)])
    assert expectation(game, "penalty") == pytest.approx(OMEGA, abs=6e-8)


def test_the_two_regularizers_differ_away_from_the_optimum():
    tilted = lambda x: 1.4 * log_ratio(x) - 0.6 * x.sum(-1)  # noqa: E731
    one, other = (
        expectation(Game("minimax", [f"{r}:gamma=2"]), "penalty", tilted) for r in ("js", "f-gan")
    )
    assert abs(one - other) > 0.05 * one


def deviation(gamma: float, name: str = "minimax", penalty: str = "js", critic=log_ratio) -> float:
    """1 - (F_gamma - F)/(-gamma/2 Omega); F is the negative of the critic's loss."""
    game = Game(name, [with_gamma(penalty, gamma)])
    change = -expectation(game, "objective", critic, gamma) + expectation(game, "objective", critic)
    return 1 - change / -expectation(game, "penalty", critic)


def test_smoothing_is_the_penalty_to_first_order():
    """Eq. 18, with the deviations that equations.md prints, and linear in gamma."""
    found = {gamma: deviation(gamma) for gamma in (0.1, 0.01, 0.001)}
    assert abs(found[0.1]) == pytest.approx(7.9e-3, rel=0.02)
    assert abs(found[0.01]) == pytest.approx(8e-4, rel=0.1)
    assert abs(found[0.001]) == pytest.approx(1e-4, rel=0.3)
    assert found[0.01] / found[0.001] == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("divergence", names("divergence"))
def test_smoothing_is_the_f_gan_penalty_to_first_order(divergence):
    """The same for every f-divergence on its raw output at its own optimum (Eq. 19); Q's tails make
    the error's size depend on f."""
    errors = [
        deviation(
            g, f"f-gan:divergence={divergence}", f"f-gan:divergence={divergence}", raw(divergence)
        )
        for g in (2e-3, 1e-3)
    ]
    assert abs(errors[1]) < 2e-3
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_away_from_the_optimum_only_the_laplacian_form_matches():
    """Eq. 13 holds at any phi, Eq. 18 only at phi*: there the JS penalty misses the smoothing at
    order gamma."""
    tilted = lambda x: 1.4 * log_ratio(x) - 0.6 * x.sum(-1)  # noqa: E731
    missed = [deviation(gamma, critic=tilted) for gamma in (1e-2, 1e-3)]
    assert missed[1] > 0.25 and missed[1] == pytest.approx(
        missed[0], rel=0.01
    )  # it does not go away with gamma

    def half_laplacian(g, m, s):
        """E[Delta g]/2 by automatic differentiation at the nodes."""
        second = torch.func.vmap(torch.func.grad(torch.func.grad(g)))(m + s * NODES)
        return (second @ WEIGHTS).item() / 2

    slope = half_laplacian(lambda x: -torch.nn.functional.softplus(-tilted(x.view(1))), 0.0, 1.0)
    slope += half_laplacian(lambda x: -torch.nn.functional.softplus(tilted(x.view(1))), MEAN, STD)
    plain = Game("minimax")
    ratios = [
        (-expectation(plain, "objective", tilted, g) + expectation(plain, "objective", tilted))
        / (g * slope)
        for g in (1e-2, 1e-3)
    ]
    assert ratios[1] == pytest.approx(1, abs=2e-3)
    assert (ratios[0] - 1) / (ratios[1] - 1) == pytest.approx(10, rel=0.1)


def test_instance_noise_is_the_convolution():
    """The smoothing object with quadrature nodes gives F_gamma: E over x and noise, against the
    widened Gaussians."""
    gamma = 0.3
    game = Game("minimax", smoothing=f"instance-noise:sigma={math.sqrt(gamma)!r}")

    def one(x, y, e):
        terms = game.critic_terms(
            log_ratio,
            x.view(1, 1),
            y.view(1, 1),
            at=Context(rng=Fixed(e.view(1, 1))),
            slopes=FUNC,
        )
        return terms.objective

    over_noise = torch.func.vmap(torch.func.vmap(one, (None, None, 0)), (0, 0, None))(
        NODES, MEAN + STD * NODES, NODES
    )
    assert (WEIGHTS @ over_noise @ WEIGHTS).item() == pytest.approx(
        expectation(Game("minimax"), "objective", smoothed=gamma), rel=1e-9
    )
