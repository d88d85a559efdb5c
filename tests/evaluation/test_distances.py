"""Every other number against public implementations, closed forms, and the ways in which it is
usually got wrong."""

import inspect
import itertools
import math

import numpy as np
import ot
import pytest
import torch
from prdc import compute_prdc
from scipy.spatial.distance import cdist

from steadygan.core import SteadyganError
from steadygan.evaluation import distances
from steadygan.evaluation.distances import (
    density_coverage,
    energy_distance,
    frechet_distance,
    inception_score,
    kernel_distance,
    manifolds,
    nearest_neighbours,
    precision_recall,
    sliced_wasserstein,
)
from steadygan.evaluation.estimate import Estimate, as_points, mean_of, normal, share_of


def cloud(n, d, seed, shift=0.0, spread=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * np.linspace(1, 0.3, d) * spread + shift


X, Y = (
    cloud(230, 6, 0),
    cloud(310, 6, 1, shift=0.4, spread=1.2),
)  # of different sizes, so that no exchange of the two goes unnoticed


# ------------------------------------------------------------ neighbours


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_density_coverage_agree_with_prdc(k):
    oracle = compute_prdc(real_features=X, fake_features=Y, nearest_k=k)
    first, second = precision_recall(X, Y, k=k), density_coverage(X, Y, k=k)
    found = {
        "precision": first.precision,
        "recall": first.recall,
        "density": second.density,
        "coverage": second.coverage,
    }
    assert {name: e.value for name, e in found.items()} == pytest.approx(
        {name: oracle[name] for name in found}, rel=1e-12
    )
    assert all(e.low < e.value <= e.high and e.high - e.low > 0.01 for e in found.values())
    assert (
        oracle["precision"] != oracle["recall"]
        and found["density"].value != found["coverage"].value
    )


def test_the_blocks_do_not_show(monkeypatch):
    whole = precision_recall(X, Y), density_coverage(X, Y), nearest_neighbours(X, Y)
    monkeypatch.setattr("steadygan.evaluation.manifold._BLOCK", 37)
    parts = precision_recall(X, Y), density_coverage(X, Y), nearest_neighbours(X, Y)
    assert [p.to_json() for p in parts] == [w.to_json() for w in whole]
    assert manifolds(X, Y) == whole[:2]
    assert manifolds(X, Y, k=4, balls=2)[0] == precision_recall(X, Y, k=4)


def test_identical_sets_are_wholly_inside_copies_included():
    x = (
        np.concatenate([X, X[:40], X[:40]]) + 1000
    )  # copies have balls of radius 0, and all lie far from the origin
    found = precision_recall(x, x, k=1)
    assert (
        found.precision.value
        == found.recall.value
        == density_coverage(x, x, k=1).coverage.value
        == 1.0
    )


def test_far_sets_have_nothing_in_common():
    found = precision_recall(X, Y + 100)
    assert (
        found.precision.value
        == found.recall.value
        == density_coverage(X, Y + 100).density.value
        == 0.0
    )
    assert found.precision.high > 0.01  # 0 of 310 is not certainly 0


def test_one_distribution_has_density_one_and_the_expected_coverage():
    k, drawn = (
        5,
        [density_coverage(cloud(400, 3, 2 * i), cloud(400, 3, 2 * i + 1)) for i in range(6)],
    )
    assert np.mean([d.density.value for d in drawn]) == pytest.approx(1, abs=0.05)
    assert np.mean([d.coverage.value for d in drawn]) == pytest.approx(1 - 2**-k, abs=0.015)


def test_the_interval_of_the_density_has_the_right_width():
    """Both sets are drawn: with the generated samples alone it would be 1/sqrt(2) of the truth."""
    drawn = [
        density_coverage(cloud(300, 4, 2 * i), cloud(300, 4, 2 * i + 1)).density for i in range(80)
    ]
    assert np.mean([(d.high - d.low) / (2 * 1.96) for d in drawn]) == pytest.approx(
        np.std([d.value for d in drawn], ddof=1), rel=0.2
    )


def test_dropped_modes_lower_recall_and_invented_ones_precision():
    centres = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])
    both = [
        np.concatenate([c + np.random.default_rng(s).normal(size=(100, 2)) for c in centres])
        for s in (0, 1)
    ]
    found = [precision_recall(both[0], both[1][: 100 * modes]) for modes in (4, 3, 2, 1)]
    assert all(a.recall.low > b.recall.high for a, b in itertools.pairwise(found))
    assert min(f.precision.value for f in found) > 0.95
    swapped = precision_recall(both[0][:200], both[1])
    assert swapped.precision.value == pytest.approx(0.5, abs=0.05) and swapped.recall.value > 0.95


def test_nearest_neighbours_against_brute_force():
    table = cdist(Y, X)
    own = cdist(X, X)
    np.fill_diagonal(own, np.inf)
    found = nearest_neighbours(X, Y)
    assert np.array_equal(found.index, table.argmin(1))
    assert np.allclose(found.distance, table.min(1), rtol=1e-9)
    assert found.copied.value == pytest.approx((table.min(1) < own.min(1)[table.argmin(1)]).mean())
    nearest = found.to_json()["nearest"]
    assert len(nearest) == 10 and tuple(nearest[0][:2]) == np.unravel_index(
        table.argmin(), table.shape
    )
    assert [distance for _, _, distance in nearest] == pytest.approx(
        sorted(table.min(1))[:10], rel=1e-9
    )


def test_copies_are_recognised_and_fresh_samples_are_not():
    rng = np.random.default_rng(0)
    copies = X[rng.integers(len(X), size=200)] + 1e-3 * rng.normal(size=(200, 6))
    assert nearest_neighbours(X, copies).copied.value == 1.0
    # The probability that a nearest neighbour is mutual is known in one and two dimensions (Cox
    # 1981): 2/3 and 6 pi/(8 pi + 3 sqrt 3).
    for d, truth in ((1, 2 / 3), (2, 6 * math.pi / (8 * math.pi + 27**0.5))):
        fresh = [
            nearest_neighbours(cloud(500, d, 2 * i), cloud(500, d, 2 * i + 1)).copied.value
            for i in range(12)
        ]
        assert np.mean(fresh) == pytest.approx(truth, abs=0.025)
    assert nearest_neighbours(X, Y + 100).copied.value == 0.0


# ------------------------------------------------------------ kernel and energy distance


def poly(a, b):
    return (a @ b.T / a.shape[1] + 1) ** 3


def test_kernel_distance_agrees_with_torchmetrics():
    from torchmetrics.image.kid import poly_mmd

    x, y = X[:200], Y[:200]
    oracle = float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y), degree=3, coef=1.0))
    assert kernel_distance(x, y, subsets=1).distance.value == pytest.approx(oracle, rel=1e-9)


def test_subsets_are_disjoint_and_their_mean_is_the_value():
    """By hand: the same shuffle, cut in three; the left-over samples are not used."""
    rng = np.random.default_rng(5)
    rows, columns = rng.permutation(230)[: 3 * 76], rng.permutation(310)[: 3 * 103]
    parts = []
    for a, b in zip(X[rows].reshape(3, 76, 6), Y[columns].reshape(3, 103, 6), strict=True):
        aa, bb = poly(a, a), poly(b, b)
        parts.append(
            (aa.sum() - aa.trace()) / (76 * 75)
            + (bb.sum() - bb.trace()) / (103 * 102)
            - 2 * poly(a, b).mean()
        )
    found = kernel_distance(X, Y, subsets=3, seed=5).distance
    assert found.value == pytest.approx(np.mean(parts), rel=1e-10)
    assert found.high - found.value == pytest.approx(
        4.302652730 * np.std(parts, ddof=1) / 3**0.5, rel=1e-8
    )  # t of 2 degrees of freedom


def test_a_biased_kernel_distance_is_seen():
    """The classic: keeping the diagonal. Over fresh samples of one distribution the mean must be 0
    within its own error."""
    ours, biased = [], []
    for i in range(60):
        x, y = cloud(40, 6, 2 * i), cloud(40, 6, 2 * i + 1)
        ours.append(kernel_distance(x, y, subsets=1).distance.value)
        biased.append(poly(x, x).mean() + poly(y, y).mean() - 2 * poly(x, y).mean())
    error = np.std(ours, ddof=1) / 60**0.5
    assert abs(np.mean(ours)) < 3 * error and np.mean(biased) > 5 * error


def test_kernel_distance_of_gaussians_in_closed_form():
    """Degree 1: the squared distance of the means over D. Degree 2 adds the covariances: |M - M'|^2
    with second moments M."""
    x, y = cloud(12000, 3, 10), cloud(12000, 3, 11, shift=0.5)
    assert kernel_distance(x, y, degree=1, subsets=30).distance.value == pytest.approx(
        0.25, abs=0.03
    )
    found = kernel_distance(x, y, degree=2, gamma=1.0, coef=0.0, subsets=30).distance
    truth = ((np.full((3, 3), 0.25)) ** 2).sum()
    assert found.low < truth < found.high and found.high - found.low < 0.5 * truth


def test_the_interval_of_the_kernel_distance_covers():
    truth = 0.3**2  # degree 1: the squared distance of the means over D
    drawn = [
        kernel_distance(
            cloud(200, 2, 2 * i), cloud(200, 2, 2 * i + 1, shift=0.3), degree=1
        ).distance
        for i in range(100)
    ]
    assert 88 <= sum(d.low < truth < d.high for d in drawn) <= 100


def test_energy_distance_against_brute_force_and_a_closed_form():
    n, m = len(X), len(Y)
    truth = (
        2 * cdist(X, Y).mean()
        - cdist(X, X).sum() / (n * (n - 1))
        - cdist(Y, Y).sum() / (m * (m - 1))
    )
    assert energy_distance(X, Y, subsets=1).distance.value == pytest.approx(truth, rel=1e-10)
    # N(0, 1) and N(0, 4): E|x - y| = sqrt(5) sqrt(2/pi) and so on.
    rng = np.random.default_rng(0)
    found = energy_distance(
        rng.normal(size=(20000, 1)), 2 * rng.normal(size=(20000, 1)), subsets=20
    ).distance
    closed = (2 * 5**0.5 - 2**0.5 - 8**0.5) * (2 / math.pi) ** 0.5
    assert found.low < closed < found.high and found.value == pytest.approx(closed, rel=0.1)


# ------------------------------------------------------------ sliced Wasserstein, inception score


def test_sliced_wasserstein_agrees_with_pot():
    oracle = ot.sliced_wasserstein_distance(X, Y, n_projections=8000, p=1, seed=0)
    found = sliced_wasserstein(X, Y, projections=2000, replicates=2).distance
    assert found.value == pytest.approx(
        oracle, rel=0.04
    )  # of directions drawn at random, whose error is about 0.7/sqrt(2000)
    one = sliced_wasserstein(X[:, :1], Y[:, :1], replicates=2).distance.value
    assert one == pytest.approx(ot.wasserstein_1d(X[:, 0], Y[:, 0], p=1), rel=1e-10)


def test_the_interval_of_the_sliced_wasserstein_distance_has_the_right_width():
    drawn = [
        sliced_wasserstein(cloud(90, 3, 2 * i), cloud(60, 3, 2 * i + 1, shift=1), 16, 20).distance
        for i in range(60)
    ]
    spread = np.std([d.value for d in drawn], ddof=1)
    assert np.mean([(d.high - d.low) / (2 * 1.96) for d in drawn]) == pytest.approx(
        spread, rel=0.25
    )


@pytest.mark.filterwarnings(
    "ignore"
)  # torchmetrics warns of its memory, and of the spread of a single split
def test_inception_score_agrees_with_torchmetrics():
    from torchmetrics.image.inception import InceptionScore

    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(90, 7)) * 2)

    class Known(torch.nn.Module):
        def forward(self, images):
            return logits[images[:, 0, 0, 0].long()]

    oracle = InceptionScore(feature=Known(), splits=1)
    oracle.update(torch.arange(90, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2))
    found = inception_score(logits.softmax(1), splits=1)
    assert found.score.value == pytest.approx(float(oracle.compute()[0]), rel=1e-6)
    assert (
        math.isnan(found.score.low) and found.to_json()["score"]["low"] is None
    )  # one split says nothing about the spread


def test_inception_score_of_splits():
    p = torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(5, 0.3), size=200))
    order = np.random.default_rng(3).permutation(200)
    parts = [p[order[i * 50 : (i + 1) * 50]] for i in range(4)]
    scores = [float((q * (q / q.mean(0)).log()).sum(1).mean().exp()) for q in parts]
    found = inception_score(p, splits=4, seed=3).score
    assert (
        found.value == pytest.approx(np.mean(scores), rel=1e-9)
        and 1 < found.low < found.value < found.high < 5
    )
    with pytest.raises(SteadyganError, match="softmax"):
        inception_score(p.log(), splits=4)
    with pytest.raises(SteadyganError, match="softmax"):
        inception_score(p * 0.9, splits=4)


# ------------------------------------------------------------ what all of them share

TWO_SAMPLES = {
    "frechet_distance": frechet_distance,
    "kernel_distance": kernel_distance,
    "energy_distance": energy_distance,
    "sliced_wasserstein": sliced_wasserstein,
    "precision_recall": precision_recall,
    "density_coverage": density_coverage,
    "nearest_neighbours": nearest_neighbours,
}
WORSE_IS_MORE = ("frechet_distance", "kernel_distance", "energy_distance", "sliced_wasserstein")


def numbers(record):
    return {name: e.value for name, e in record.estimates.items()}


@pytest.mark.parametrize("name", TWO_SAMPLES)
def test_numpy_and_torch_single_and_double_give_the_same(name):
    expected = TWO_SAMPLES[name](X, Y)
    assert (
        TWO_SAMPLES[name](torch.from_numpy(X), torch.from_numpy(Y)).to_json() == expected.to_json()
    )
    single = TWO_SAMPLES[name](torch.from_numpy(X).float(), Y.astype(np.float32))
    assert numbers(single) == pytest.approx(numbers(expected), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", TWO_SAMPLES)
def test_invariance_to_rotation(name):
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(6, 6)))[0]
    # Directions drawn at random are not rotated with the data, so there must be many of them.
    more, tolerance = (
        ({"projections": 3000, "replicates": 2}, 0.05)
        if name == "sliced_wasserstein"
        else ({}, 1e-9)
    )
    first, second = (TWO_SAMPLES[name](x, y, **more) for x, y in ((X, Y), (X @ turn, Y @ turn)))
    assert numbers(second) == pytest.approx(numbers(first), rel=tolerance)


@pytest.mark.parametrize("name", TWO_SAMPLES)
def test_independence_of_order(name):
    rng = np.random.default_rng(1)
    shuffled = TWO_SAMPLES[name](rng.permutation(X), rng.permutation(Y)).estimates
    for key, estimate in TWO_SAMPLES[name](X, Y).estimates.items():
        # Other subsets, so a little of another value; the rest is the same to rounding.
        tolerance = (
            (estimate.high - estimate.low) / 2
            if name in ("kernel_distance", "energy_distance")
            else 1e-9
        )
        assert shuffled[key].value == pytest.approx(estimate.value, abs=tolerance)


@pytest.mark.parametrize("name", WORSE_IS_MORE)
def test_symmetry_and_growth_with_noise(name):
    function, x = TWO_SAMPLES[name], cloud(600, 5, 0)
    if name in ("frechet_distance", "sliced_wasserstein"):
        assert function(x, x).distance.value == pytest.approx(0, abs=1e-12)
    assert function(X[:200], Y[:200]).distance.value == pytest.approx(
        function(Y[:200], X[:200]).distance.value,
        rel=1e-9 if name in ("frechet_distance", "sliced_wasserstein") else 0.3,
    )
    noise = np.random.default_rng(9).normal(size=(600, 5))
    found = [function(x, cloud(600, 5, 1) + s * noise).distance for s in (0.0, 0.7, 1.4, 2.8)]
    assert all(a.below(b) for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("name", TWO_SAMPLES)
def test_mistakes_are_answered(name):
    for x, y, answer in (
        (X, Y[:, :4], "same dimension, not 6 and 4"),
        (X, Y[0], r"\(N, D\)"),
        (X * math.nan, Y, "not finite"),
    ):
        with pytest.raises(SteadyganError, match=answer):
            TWO_SAMPLES[name](x, y)


def test_impossible_settings_are_answered():
    for k in (0, 230):
        with pytest.raises(SteadyganError, match="k must be between 1 and 229"):
            precision_recall(X, Y, k=k)
    for subsets in (0, 116):
        with pytest.raises(SteadyganError, match="ask for fewer parts"):
            kernel_distance(X, Y, subsets=subsets)


def test_records_speak_json_and_every_public_function_is_documented():
    record = precision_recall(X, Y).to_json()
    assert set(record) == {"method", "precision", "recall", "k", "samples"} and set(
        record["recall"]
    ) == {"value", "low", "high"}
    assert record["samples"] == [230, 310] and "Wilson" in record["method"]
    for name in distances.__all__:
        text = inspect.getdoc(getattr(distances, name))
        assert text and (not name.islower() or ("Reference" in text and ">>>" in text)), name


# ------------------------------------------------------------ intervals


def test_the_wilson_interval():
    assert share_of(torch.tensor([True] * 8 + [False] * 2)) == pytest.approx(
        (0.8, 0.49016, 0.94331), abs=1e-4
    )  # from Wilson's table
    assert (
        share_of(torch.ones(50, dtype=torch.bool)).high
        == 1.0
        > share_of(torch.ones(50, dtype=torch.bool)).low
        > 0.9
    )


def test_intervals_cover_at_the_rate_they_claim():
    rng = np.random.default_rng(0)
    means = [mean_of(torch.from_numpy(rng.normal(3.0, 2.0, size=8))) for _ in range(1000)]
    shares = [share_of(torch.from_numpy(rng.random(60) < 0.2)) for _ in range(1000)]
    for found, truth in ((means, 3.0), (shares, 0.2)):
        assert 0.93 < np.mean([e.low < truth < e.high for e in found]) < 0.97
    assert normal(1.0, 2.0) == pytest.approx((1.0, 1 - 3.92, 1 + 3.92), abs=1e-3)
    assert Estimate(1, 0.5, 1.5).below(Estimate(2, 1.6, 2.5)) and not Estimate(1, 0.5, 1.7).below(
        Estimate(2, 1.6, 2.5)
    )
    assert as_points("x", X).dtype == torch.float64
