"""The Fréchet distance against closed forms, three independent implementations, and its own
definition of uncertainty."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from steadygan.core import SteadyganError
from steadygan.evaluation.distances import frechet_distance, frechet_extrapolation
from steadygan.evaluation.statistics import Statistics


def cloud(n, d, seed, shift=0.0, spread=1.0):
    """Correlated samples (n, d) of unequal scales, so that no two directions can be exchanged
    unnoticed."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d)) * np.linspace(1, 0.2, d)
    return torch.from_numpy(rng.normal(size=(n, d)) @ mix * spread + shift * np.arange(1, d + 1))


def with_moments(n, mean, covariance, seed):
    """Samples whose mean and unbiased covariance are exactly the given ones."""
    z = np.random.default_rng(seed).normal(size=(n, len(mean)))
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
    return z @ np.linalg.cholesky(covariance).T + mean


def value(x, y):
    return frechet_distance(x, y).distance.value


def by_sqrtm(x, y, ddof=1):
    """The textbook: a matrix square root of the product of the covariances."""
    x, y = np.asarray(x), np.asarray(y)
    a, b = np.cov(x.T, ddof=ddof), np.cov(y.T, ddof=ddof)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b))


def test_two_gaussians_in_closed_form():
    """Commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    m, n = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, 3.0])
    turn = scipy.linalg.expm(np.array([[0, 0.3, -0.7], [-0.3, 0, 0.2], [0.7, -0.2, 0]]))
    s, t = np.array([0.5, 2.0, 1.0]), np.array([1.5, 0.1, 3.0])
    x = with_moments(40, m, turn @ np.diag(s**2) @ turn.T, 0)
    y = with_moments(70, n, turn @ np.diag(t**2) @ turn.T, 1)
    found = frechet_distance(x, y)
    assert found.distance.value == pytest.approx(
        ((m - n) ** 2).sum() + ((s - t) ** 2).sum(), rel=1e-10
    )
    assert found.mean_term == pytest.approx(((m - n) ** 2).sum(), rel=1e-10) and found.samples == (
        40,
        70,
    )


def test_it_agrees_with_sqrtm():
    x, y = cloud(300, 12, 0), cloud(200, 12, 1, shift=0.3, spread=1.4)
    assert value(x, y) == pytest.approx(by_sqrtm(x, y).real, rel=1e-8)


def test_a_biased_covariance_is_seen():
    """The classic: dividing by N. At 30 samples it is 3 % of the covariances, and the tolerance
    above is 1e-8."""
    x, y = cloud(30, 5, 0), cloud(30, 5, 1, spread=2)
    assert abs(by_sqrtm(x, y, ddof=0).real / by_sqrtm(x, y).real - 1) > 0.01
    assert value(x, y) == pytest.approx(by_sqrtm(x, y).real, rel=1e-8)


class Flat(nn.Module):
    num_features = 12

    def forward(self, x):
        return x.flatten(1).double()


def test_it_agrees_with_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    x, y = cloud(120, 12, 0), cloud(90, 12, 1, shift=0.2)
    oracle = FrechetInceptionDistance(
        feature=Flat(), normalize=True, input_img_size=(3, 2, 2)
    ).set_dtype(torch.float64)
    oracle.update(x.view(-1, 3, 2, 2), real=True)
    oracle.update(y.view(-1, 3, 2, 2), real=False)
    assert value(x, y) == pytest.approx(float(oracle.compute()), rel=1e-6)


def test_singular_covariances_leave_no_complex_residue():
    """The classic: sqrtm of a singular product is noise, complex even. Fewer samples than
    dimensions, and a known answer."""
    x = cloud(25, 80, 0)
    y = 3 * x + 1
    truth = (
        80 + sum(((x.mean(0) * 3 + 1 - x.mean(0)) ** 2 - 1).tolist()) + 4 * float(x.var(0).sum())
    )
    assert value(x, y) == pytest.approx(truth, rel=1e-10)
    noisy = by_sqrtm(x, y)
    assert np.iscomplexobj(noisy) or abs(noisy / truth - 1) > 1e-7


def test_identical_sets_are_at_distance_zero_and_order_does_not_matter():
    for n, d in ((50, 8), (8, 50)):
        x, y = cloud(n, d, 0, shift=5), cloud(n, d, 1)
        scale = float(x.var(0).sum())
        assert 0 <= value(x, x) < 1e-12 * scale
        assert value(x, y) == pytest.approx(value(y, x), rel=1e-10) and value(x, y) > 0.1
        assert value(x, y) == pytest.approx(value(x.flip(0), y[torch.randperm(n)]), rel=1e-10)


def test_it_is_invariant_to_rotation_and_shift_and_scales_as_a_square():
    x, y = cloud(100, 6, 0), cloud(80, 6, 1, spread=1.5)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    assert value(x @ turn + 3, y @ turn + 3) == pytest.approx(value(x, y), rel=1e-9)
    assert value(2 * x, 2 * y) == pytest.approx(4 * value(x, y), rel=1e-10)


def test_statistics_give_the_same_number():
    x, y = cloud(200, 7, 0), cloud(150, 7, 1, spread=1.3)
    half = Statistics.of(x[:61], x[61:])
    assert value(half, y) == pytest.approx(value(x, y), rel=1e-9)
    exact, both = frechet_distance(half, y).distance, frechet_distance(x, y).distance
    assert (
        exact.high - exact.low < both.high - both.low
    )  # what is known exactly adds no uncertainty
    assert value(half, Statistics.of(y)) == pytest.approx(value(x, y), rel=1e-9)


@pytest.mark.parametrize("spread, shift", [(1.4, 0.0), (1.0, 0.3)])
def test_the_standard_error_is_the_spread_over_fresh_samples(spread, shift):
    drawn = [
        frechet_distance(cloud(300, 5, 2 * i), cloud(200, 5, 2 * i + 1, shift, spread)).distance
        for i in range(150)
    ]
    values = np.array([d.value for d in drawn])
    claimed = np.mean([(d.high - d.low) / (2 * 1.96) for d in drawn])
    # The spread of 150 draws is itself known to 1/sqrt(300) = 6 %.
    assert 0.82 < claimed / values.std(ddof=1) < 1.25


def test_the_standard_error_is_what_the_bootstrap_finds():
    # Skewed, so that the means' part of the influence and the covariances' are correlated.
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.exponential(size=(400, 4)) * [1.0, 0.8, 0.5, 0.3])
    y = torch.from_numpy(rng.exponential(size=(300, 4)) * [2.0, 1.2, 0.7, 0.3] - 0.4)
    drawn = [
        value(x[rng.integers(400, size=400)], y[rng.integers(300, size=300)]) for _ in range(300)
    ]
    found = frechet_distance(x, y).distance
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(drawn, ddof=1), rel=0.15)


def test_the_extrapolation_removes_most_of_the_bias():
    """Same Gaussian twice, so the truth is 0; the distance at N = 800 is all bias."""
    found = [
        frechet_extrapolation(cloud(800, 20, 2 * i), cloud(800, 20, 2 * i + 1)) for i in range(8)
    ]
    biased = np.mean([f.values[0] for f in found])
    assert biased > 0.3 and abs(np.mean([f.distance.value for f in found])) < 0.1 * biased
    assert found[0].sizes == (800, 400, 266, 200)
    assert all(
        a < b for a, b in itertools.pairwise(found[0].values)
    )  # fewer samples, larger distance
    # And where there is a true distance, it is kept: known in closed form, spread 1.5 of one
    # covariance.
    truth = 0.25 * float(
        (np.random.default_rng(99).normal(size=(20, 20)) * np.linspace(1, 0.2, 20)).__pow__(2).sum()
    )
    found = [
        frechet_extrapolation(cloud(800, 20, 2 * i), cloud(800, 20, 2 * i + 1, spread=1.5))
        for i in range(8)
    ]
    gaps = [
        abs(np.mean([which(f) for f in found]) / truth - 1)
        for which in (lambda f: f.distance.value, lambda f: f.values[0])
    ]
    assert gaps[0] < 0.02 < gaps[1]


def test_mistakes_are_answered():
    x = cloud(20, 3, 0)
    for y, answer in (
        (cloud(20, 4, 0), "same dimension, not 3 and 4"),
        (x[:1], "two samples"),
        (x[:, 0], r"\(N, D\)"),
        (x / 0, "finite"),
    ):
        with pytest.raises(SteadyganError, match=answer):
            frechet_distance(x, y)
    with pytest.raises(SteadyganError, match="as many real as generated samples, not 20 and 19"):
        frechet_extrapolation(x, x[:19])
    with pytest.raises(SteadyganError, match="at least 16"):
        frechet_extrapolation(x[:8], x[:8])
