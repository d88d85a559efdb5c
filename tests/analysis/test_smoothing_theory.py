"""Roth et al. 2017 between Gaussians: orders of the errors, the coefficient that is missed, and
what holds on disjoint supports."""

import math

import numpy as np
import pytest
import torch

from steadygan import SteadyganError
from steadygan.analysis.parallel_lines import parallel_lines, penalised_lines
from steadygan.analysis.smoothing_theory import (
    Normal,
    expand,
    laplacian_term,
    log_ratio,
    miss,
    objective,
    omega,
    optimal,
)
from steadygan.core.registry import names

P, Q = Normal((0.0,), (1.0,)), Normal((0.4,), (1.1,))


def perturbed(divergence, p=P, q=Q):
    best = optimal(divergence, p, q)
    return lambda x: 0.9 * best(x) + 0.05 * torch.sin(x.sum(-1))


def tilted(x):
    return 1.4 * log_ratio(P, Q)(x) - 0.6 * x.sum(-1)


def test_the_oracle():
    found = expand("gan", "js", P, Q, gammas=(0.1, 0.01, 0.001))
    assert found.omega == pytest.approx(0.0773353, abs=6e-8)
    assert found.deviation == pytest.approx((7.928e-3, 8.032e-4, 8.042e-5), rel=1e-3)


@pytest.mark.parametrize("divergence", names("divergence"))
def test_at_the_optimum_the_penalty_is_right_to_first_order(divergence):
    found = expand(divergence, f"f-gan:divergence={divergence}", P, Q)
    assert found.penalty_order == pytest.approx(
        2, abs=0.01
    ) and found.laplacian_order == pytest.approx(2, abs=0.01)
    assert found.miss == pytest.approx(0, abs=1e-12) and found.slope == pytest.approx(
        -found.omega / 2, rel=1e-9
    )


@pytest.mark.parametrize("divergence", names("divergence"))
def test_away_from_it_the_laplacian_form_still_is_and_the_penalty_misses_what_eq_32_says(
    divergence,
):
    found = expand(divergence, f"f-gan:divergence={divergence}", P, Q, perturbed(divergence))
    assert found.laplacian_order == pytest.approx(
        2, abs=0.01
    ) and found.penalty_order == pytest.approx(1, abs=0.05)
    assert found.penalty_errors[-1] / found.gammas[-1] == pytest.approx(found.miss, rel=0.01)


def test_what_the_js_regularizer_misses():
    found = expand("gan", "js", P, Q, tilted)
    assert found.penalty_order == pytest.approx(1, abs=0.01)
    assert found.miss == pytest.approx(0.0901491, rel=1e-5)
    assert found.penalty_errors[-1] / found.gammas[-1] == pytest.approx(found.miss, rel=1e-3)


def test_the_two_regularizers_of_a_gan_agree_only_at_the_optimum():
    best = optimal("gan", P, Q)
    assert omega("js", best, P, Q) == pytest.approx(omega("f-gan", best, P, Q), rel=1e-12)
    assert omega("js", tilted, P, Q) == pytest.approx(0.670112, rel=1e-5)
    assert omega("f-gan", tilted, P, Q) == pytest.approx(0.480426, rel=1e-5)


def test_widening_is_convolution():
    """Eqs. 8-10: F_gamma is also the expectation over x and noise."""
    gamma, (noise, masses) = 0.3, Normal((0.0,), (math.sqrt(0.3),)).quadrature()

    def blurred(x):
        return (
            torch.nn.functional.softplus(
                -tilted((x[:, None] + noise[None])[..., 0].reshape(-1, 1))
            ).reshape(len(x), -1)
            @ masses
        )

    widened = P.smoothed(gamma).expectation(lambda x: torch.nn.functional.softplus(-tilted(x)))
    assert P.expectation(blurred).item() == pytest.approx(widened.item(), rel=1e-10)


def test_in_two_dimensions():
    p, q = Normal((0.0, 0.0), (1.0, 0.8)), Normal((0.3, -0.2), (1.1, 0.9))
    found = expand("gan", "js", p, q)
    assert found.penalty_order == pytest.approx(2, abs=0.01) and found.slope == pytest.approx(
        -found.omega / 2, rel=1e-9
    )


def test_a_laplacian_by_hand():
    """kl, v = c x^2 with P = Q = N(0, 1): E[2c] - E[(2c + 4c^2 x^2) exp(c x^2)], c = -1/2."""
    critic = lambda x: -x.square().sum(-1) / 2  # noqa: E731
    # Under exp(-x^2/2) a standard normal is 1/sqrt(2) times N(0, 1/2).
    assert laplacian_term("kl", critic, P, P) == pytest.approx(
        -1 - (-1 + 0.5) / math.sqrt(2), rel=1e-12
    )


@pytest.mark.parametrize("gamma", [0.05, 0.5, 5.0])
def test_parallel_lines(gamma):
    lines = parallel_lines(0.7, gamma)
    assert lines.kl == pytest.approx(
        0.49 / (2 * gamma), rel=1e-9
    ) and lines.gradient_norm == pytest.approx(0.7 / gamma, rel=1e-9)
    # JSD is a function of d/sqrt(gamma) alone; its slope in d scales accordingly.
    other = parallel_lines(1.4, 4 * gamma, spread=2.0)
    assert other.jsd == pytest.approx(lines.jsd, rel=1e-9) and other.jsd_slope == pytest.approx(
        lines.jsd_slope / 2, rel=1e-4
    )
    assert 0 < lines.jsd < math.log(2)


def test_without_enough_noise_jsd_saturates_and_says_nothing():
    near, far = parallel_lines(0.7, 0.01), parallel_lines(0.7, 5.0)
    assert math.log(2) - near.jsd < 1e-3 and near.jsd_slope < 0.02
    assert far.jsd == pytest.approx(
        0.49 / (8 * 5), rel=0.02
    )  # d^2/(8 gamma) where the noise is wide


@pytest.mark.parametrize("gamma", [0.01, 0.3, 4.0])
def test_for_reverse_kl_the_penalty_on_disjoint_lines_does_exactly_what_noise_does(gamma):
    found = penalised_lines("reverse-kl", f"f-gan:divergence=reverse-kl,gamma={gamma}", 0.5)
    assert found.value == pytest.approx(
        0.25 / (2 * gamma), rel=1e-6
    ) and found.slope == pytest.approx(0.5 / gamma, rel=1e-6)


def test_for_kl_it_needs_gamma_above_twice_the_squared_distance():
    assert penalised_lines("kl", "f-gan:divergence=kl,gamma=0.49", 0.5).value is None
    for gamma in (0.51, 2.0, 50.0):
        found = penalised_lines("kl", f"f-gan:divergence=kl,gamma={gamma}", 0.5)
        assert found.slope == pytest.approx(
            (gamma - math.sqrt(gamma**2 - 2 * gamma * 0.25)) / (gamma * 0.5), rel=1e-4
        )
    assert found.slope == pytest.approx(0.5 / gamma, rel=3e-3)


def test_for_js_it_needs_gamma_above_1_9077_times_the_squared_distance():
    t = np.linspace(0, 2, 200_001)
    sigmoid = 1 / (1 + np.exp(-t))
    limit = 1 / (4 * (t * (1 - sigmoid) * (1 - t * sigmoid)).max())
    assert limit == pytest.approx(1.90773, abs=1e-5)
    assert penalised_lines("gan", f"js:gamma={limit * 0.995}", 1.0).value is None
    assert penalised_lines("gan", f"js:gamma={limit * 1.005}", 1.0).value is not None


def test_refusals():
    with pytest.raises(SteadyganError, match="take 'f-gan:divergence=kl'"):
        expand("kl", "js", P, Q)
    with pytest.raises(SteadyganError, match="no density"):
        log_ratio(Normal((0.0,), (0.0,)), Q)(torch.zeros(1, 1))
    with pytest.raises(SteadyganError, match="as many standard deviations"):
        Normal((0.0,), (1.0, 1.0))
    with pytest.raises(SteadyganError, match="disjoint lines"):
        parallel_lines(1.0, 0.0)
    with pytest.raises(SteadyganError, match="js, f-gan, r1"):
        omega("wgan-gp", tilted, P, Q)
    with pytest.raises(SteadyganError, match="known: js, f-gan"):
        miss("r1", "gan", tilted, P, Q)
    for gammas in ((0.0, 0.1), (-0.5, 0.1), (0.1,)):
        with pytest.raises(SteadyganError, match="two variances > 0 or more"):
            expand("gan", "js", P, Q, gammas=gammas)
    with pytest.raises(SteadyganError, match=r"variance >= 0, not -0\.5"):
        objective("gan", tilted, P, Q, -0.5)


def test_at_the_equilibrium_there_is_nothing_to_miss():
    found = expand("gan", "js", P, P, gammas=(0.1, 0.01))
    assert found.omega == 0 and found.miss == 0 and found.penalty_order == math.inf
    assert all(map(math.isnan, found.deviation))
