"""The metrics of point clouds against closed forms and against scipy."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance

from steadygan.core.errors import SteadyganError
from steadygan.problems.measures import (
    Foot,
    coverage,
    high_quality,
    mode_occupancy,
    modes_covered,
    occupancy_kl,
    onto_circle,
    onto_segments,
    share_within,
    sliced_wasserstein,
)

CENTRES = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 7.0]])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_occupancy_counts_by_hand():
    samples = torch.tensor(
        [
            [0.1, 0, 0],
            [0, 0, 0.1],
            [3, 0.05, 0],
            [3, 0, 0.3],
            [0, 5, 0],
            [9, 9, 9],
            [1.5, 0, 0],
            [0, 0, 7.0],
        ]
    )
    assert torch.equal(
        mode_occupancy(samples, CENTRES, 0.2), torch.tensor([2, 1, 1, 1]).double() / 8
    )
    assert high_quality(samples, CENTRES, 0.2) == 5 / 8
    assert high_quality(samples, CENTRES, 0.31) == 6 / 8
    assert modes_covered(samples, CENTRES, 0.2, at_least=0.125) == 4
    assert modes_covered(samples, CENTRES, 0.2, at_least=0.126) == 1


def test_distances_use_every_coordinate():
    lifted = CENTRES + torch.tensor([0.0, 0.0, 1.0])
    assert high_quality(lifted, CENTRES, 0.99) == 0
    assert high_quality(lifted, CENTRES, 1.01) == 1


def test_the_radius_is_two_sided_and_inclusive():
    samples = torch.tensor([[0.25]])
    centre = torch.zeros(1, 1)
    assert (high_quality(samples, centre, 0.25), high_quality(samples, centre, 0.2499)) == (1, 0)
    # Far from the origin and in float32 the difference of squares would lose this distance
    # entirely.
    far = torch.tensor([[4096.0, 0.0]])
    assert high_quality(far + torch.tensor([0.0, 0.01]), far.expand(30, 2), 0.0099) == 0


def test_a_sample_counts_once_where_radii_overlap():
    occupancy = mode_occupancy(
        torch.tensor([[0.4], [0.6], [0.7]]), torch.tensor([[0.0], [1.0]]), radius=2.0
    )
    assert occupancy.tolist() == pytest.approx([1 / 3, 2 / 3])


def test_one_percent_is_enough_and_less_is_not():
    samples = torch.zeros(200, 3)
    samples[:2] = CENTRES[1]
    assert modes_covered(samples, CENTRES, 0.1) == 2
    samples[0] = CENTRES[0]
    assert modes_covered(samples, CENTRES, 0.1) == 1


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([1, 1, 1, 1], 0), ([2, 2, 0, 0], math.log(2)), ([5, 0, 0, 0], math.log(4))],
)
def test_occupancy_kl_closed_forms(counts, expected):
    samples = CENTRES.repeat_interleave(torch.tensor(counts), dim=0) + 0.3
    assert occupancy_kl(samples, CENTRES) == pytest.approx(expected, abs=1e-12)


def test_occupancy_kl_is_taken_from_the_samples_to_the_uniform():
    samples = CENTRES.repeat_interleave(torch.tensor([7, 1, 1, 1]), dim=0)
    assert occupancy_kl(samples, CENTRES) == pytest.approx(
        0.7 * math.log(2.8) + 0.3 * math.log(0.4)
    )


@pytest.mark.parametrize(
    ("shift", "expected"),
    [([0.0, 3.0, -4.0], 5 / 2), ([3.0, -4.0], 5 * 2 / math.pi), ([-2.0], 2.0)],
)
def test_sw1_of_a_shift_is_the_mean_projection(shift, expected):
    x = torch.randn(50, len(shift), generator=rng())
    # E|<v, u>| is |v|/2 on the sphere, 2|v|/pi on the circle, |v| on the line.
    assert sliced_wasserstein(x, x + torch.tensor(shift), 10_000, rng(1)) == pytest.approx(
        expected, rel=0.02
    )


def test_sw1_is_zero_on_the_same_set_and_symmetric_and_ignores_order():
    x, y = torch.randn(300, 3, generator=rng()), torch.rand(300, 3, generator=rng(1)) + 1
    assert sliced_wasserstein(x, x[torch.randperm(300, generator=rng())]) == 0
    forth, back = sliced_wasserstein(x, y), sliced_wasserstein(y, x)
    assert forth == back > 0.5
    assert forth == pytest.approx(
        sliced_wasserstein(x.flip(0), y[torch.randperm(300, generator=rng())]), rel=1e-12
    )


def test_sw1_is_rotation_invariant_in_the_limit_and_scales():
    x, y = (
        torch.randn(200, 3, generator=rng()) * torch.tensor([3.0, 1.0, 0.1]),
        torch.randn(200, 3, generator=rng(1)) + 1,
    )
    turn = torch.linalg.qr(torch.randn(3, 3, generator=rng(2)))[0]
    assert sliced_wasserstein(x @ turn, y @ turn, 4_000) == pytest.approx(
        sliced_wasserstein(x, y, 4_000), rel=0.03
    )
    assert sliced_wasserstein(10 * x, 10 * y) == pytest.approx(
        10 * sliced_wasserstein(x, y), rel=1e-6
    )


@pytest.mark.parametrize("sizes", [(40, 40), (41, 17), (6, 9), (1, 5)])
def test_in_one_dimension_sw1_is_scipys_wasserstein(sizes):
    x, y = (
        torch.randn(sizes[0], 1, generator=rng()),
        torch.randn(sizes[1], 1, generator=rng(1)) ** 3,
    )
    assert sliced_wasserstein(x, y, 1) == pytest.approx(
        wasserstein_distance(x[:, 0].double(), y[:, 0].double()), rel=1e-12
    )


def test_sw1_depends_on_nothing_but_its_generator():
    x, y = torch.randn(20, 3, generator=rng()), torch.randn(20, 3, generator=rng(1))
    before = torch.get_rng_state()
    assert sliced_wasserstein(x, y, 8) == sliced_wasserstein(x, y, 8)
    assert (
        sliced_wasserstein(x, y, 8, rng(3))
        == sliced_wasserstein(x, y, 8, rng(3))
        != sliced_wasserstein(x, y, 8, rng(4))
    )
    assert torch.equal(before, torch.get_rng_state())


def test_segments_by_hand():
    # An L: lengths 4 and 2, so the corner is at two thirds.
    ell = torch.tensor([[[0.0, 0.0], [4.0, 0.0]], [[4.0, 0.0], [4.0, 2.0]]])
    foot = onto_segments(torch.tensor([[1.0, -0.5], [5.0, 1.0], [-3.0, 4.0], [4.0, 3.0]]), ell)
    assert foot.distance.tolist() == pytest.approx([0.5, 1.0, 5.0, 1.0])
    assert foot.position.tolist() == pytest.approx([1 / 6, 5 / 6, 0.0, 1.0])


def test_circle_by_hand():
    foot = onto_circle(torch.tensor([[0.0, -1.5], [-3.0, 0.0], [2.0, 1e-12]]), radius=2.0)
    assert foot.distance.tolist() == pytest.approx([0.5, 1.0, 0.0])
    assert foot.position.tolist() == pytest.approx([0.75, 0.5, 0.0], abs=1e-9)


def test_coverage_counts_only_bins_reached_from_close_by():
    foot = Foot(torch.tensor([0.0, 0.05, 0.2, 0.0]), torch.tensor([0.0, 0.26, 0.6, 1.0]))
    assert coverage(foot, 0.1, bins=4) == 3 / 4
    assert coverage(foot, 0.3, bins=4) == 1
    assert coverage(foot, 0.01, bins=4) == 1 / 2
    assert share_within(foot.distance, 0.1) == 3 / 4


def test_samples_that_are_not_finite_lie_nowhere():
    samples = CENTRES.clone()
    samples[0, 1], samples[1, 0] = math.nan, -math.inf
    assert mode_occupancy(samples, CENTRES, 0.1).tolist() == [0, 0, 0.25, 0.25]
    assert high_quality(samples, CENTRES, 0.1) == 0.5
    assert occupancy_kl(samples, CENTRES) == math.inf
    assert sliced_wasserstein(samples, CENTRES) == sliced_wasserstein(CENTRES, samples) == math.inf
    plane = samples[:, :2]
    segment = torch.tensor([[[0.0, 0.0], [0.0, 9.0]]])
    assert share_within(onto_segments(plane, segment).distance, 0.1) == 0.5
    assert coverage(onto_segments(plane, segment), 0.1, bins=9) == 2 / 9
    assert coverage(onto_circle(plane, 5.0), 0.1) == 1 / 50


def test_gradients_and_integers_are_accepted():
    samples = torch.zeros(3, 1, requires_grad=True)
    assert high_quality(samples, torch.zeros(1, 1, dtype=torch.int64), 1) == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mode_occupancy(torch.zeros(0, 3), CENTRES, 1), "at least one"),
        (lambda: mode_occupancy(torch.zeros(3), CENTRES, 1), r"\(N, d\)"),
        (lambda: high_quality(torch.zeros(4, 2), CENTRES, 1), "not 2 and 3"),
        (lambda: high_quality(torch.zeros(4, 3), CENTRES, 0.0), "radius must be a number > 0"),
        (lambda: high_quality(torch.zeros(4, 3), CENTRES, math.nan), "radius must be a number > 0"),
        (lambda: sliced_wasserstein(torch.zeros(4, 3), torch.zeros(4, 2)), "not 3 and 2"),
        (lambda: sliced_wasserstein(torch.zeros(4, 3), torch.zeros(4, 3), 0), "projections"),
        (lambda: onto_circle(torch.zeros(4, 3), 1.0), r"\(N, 2\)"),
        (lambda: onto_segments(torch.zeros(4, 2), torch.zeros(2, 2)), r"\(S, 2, 2\)"),
        (lambda: onto_segments(torch.zeros(4, 2), torch.zeros(1, 2, 2)), "length zero"),
        (lambda: coverage(Foot(torch.zeros(1), torch.zeros(1)), 0.1, bins=0), "bins"),
    ],
)
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(SteadyganError, match=says):
        call()
