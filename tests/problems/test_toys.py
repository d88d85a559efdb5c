"""The toys against constructions of their own: geometry, real samples under their own metric, the
metric trap, streams."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from steadygan.core.errors import SteadyganError
from steadygan.core.registry import build, spec
from steadygan.problems.networks.mlp import MLP
from steadygan.problems.networks.point import Point
from steadygan.problems.toys import (
    Bilinear,
    Circle2D,
    Dirac,
    Gaussian2D,
    Grid2D,
    Line2D,
    Lines2D,
    Mixture3D,
    Ring2D,
    Toy,
)

DENSITIES = (Mixture3D(), Ring2D(), Grid2D(), Gaussian2D(), Line2D(), Lines2D(), Circle2D())
MIXTURES = (Mixture3D(), Ring2D(), Grid2D())
CURVES = (Line2D(), Lines2D(), Circle2D())
CRITIC = nn.Identity()


def name(problem):
    return spec(problem).split(":")[0]


def draw(problem, n=5120, seed=0):
    return problem.stream(seed).draw(n).x


def mixture3d_by_scipy():
    """The centres and the plane's normal, built with scipy: rows times R is a turn by -pi/4,
    because scipy turns columns."""
    turn = Rotation.from_rotvec(-math.pi / 4 * np.array([1, -1, 0]) / math.sqrt(2))
    angles = np.arange(7) * 2 * np.pi / 7
    flat = np.stack([np.sin(angles), np.cos(angles), np.zeros(7)], axis=1)
    return turn.apply(flat) + np.ones(3) / math.sqrt(3), turn.apply([0, 0, 1])


def test_mixture3d_is_where_an_independent_construction_puts_it():
    centres, normal = mixture3d_by_scipy()
    ours = Mixture3D().centres.double().numpy()
    assert np.abs(ours - centres).max() < 1e-6
    # By hand: the plane's normal tilts towards (1, 1, .)/2, not away from it, which columns times R
    # would give.
    assert normal == pytest.approx([0.5, 0.5, math.sqrt(0.5)])
    assert np.abs((ours - 1 / math.sqrt(3)) @ normal).max() < 1e-6


def test_mixture3d_is_a_regular_heptagon_around_its_shift():
    centres = Mixture3D().centres.double()
    assert (centres - centres.roll(1, 0)).norm(dim=1).numpy() == pytest.approx(
        np.full(7, 2 * math.sin(math.pi / 7)), abs=1e-6
    )
    assert centres.mean(0).numpy() == pytest.approx(np.full(3, 1 / math.sqrt(3)), abs=1e-6)
    assert (centres - 1 / math.sqrt(3)).norm(dim=1).numpy() == pytest.approx(np.ones(7), abs=1e-6)


def test_the_noise_of_mixture3d_stays_in_its_plane():
    problem, (_, normal) = Mixture3D(), mixture3d_by_scipy()
    samples = draw(problem, 20_000).double()
    noise = samples - problem.centres[torch.cdist(samples, problem.centres.double()).argmin(1)]
    variance = torch.linalg.eigvalsh(noise.T.cov())
    assert variance[0] < 1e-12
    assert variance[1:].sqrt().tolist() == pytest.approx([0.01, 0.01], rel=0.03)
    assert (noise @ torch.as_tensor(normal)).abs().max() < 1e-6


def test_centres_of_the_planar_mixtures():
    ring = Ring2D().centres
    assert len(ring) == 8 and ring.norm(dim=1).tolist() == pytest.approx([2.0] * 8)
    assert (ring - ring.roll(1, 0)).norm(dim=1).tolist() == pytest.approx(
        [4 * math.sin(math.pi / 8)] * 8, rel=1e-5
    )
    assert sorted(map(tuple, Grid2D().centres.tolist())) == [
        (x, y) for x in (-4, -2, 0, 2, 4) for y in (-4, -2, 0, 2, 4)
    ]


@pytest.mark.parametrize("problem", MIXTURES, ids=name)
def test_real_samples_of_mixtures_score_as_real(problem):
    samples = draw(problem)
    metrics = problem.measure(samples, CRITIC)
    assert metrics["modes"] == len(problem.centres)
    within_3_std = metrics["hq3" if "hq3" in metrics else "hq"]
    # The noise is two-dimensional, so the distance over its std is Rayleigh: P(<= 3) = 1 -
    # exp(-9/2).
    assert within_3_std == pytest.approx(1 - math.exp(-4.5), abs=0.006)
    assert 0 < metrics["kl"] < 0.006
    noise = samples - problem.centres[torch.cdist(samples, problem.centres).argmin(1)]
    assert (noise.square().sum(1).mean() / 2).sqrt().item() == pytest.approx(problem.std, rel=0.03)


def test_real_samples_of_mixture3d_against_real():
    sw1 = [Mixture3D().measure(draw(Mixture3D(), seed=seed), CRITIC)["sw1"] for seed in range(4)]
    assert all(0.004 < each <= 0.020 for each in sw1)
    assert 0.007 < sum(sw1) / 4 < 0.015
    assert Mixture3D().measure(draw(Mixture3D()), CRITIC)["hq10"] == 1


def test_the_metric_trap_a_ring_lifted_off_its_plane():
    samples, normal = draw(Mixture3D()), mixture3d_by_scipy()[1]
    lifted = Mixture3D().measure(
        samples + 1.09 * torch.as_tensor(normal, dtype=torch.float32), CRITIC
    )
    assert lifted["kl"] < 0.006
    assert (lifted["modes"], lifted["hq10"], lifted["hq3"]) == (0, 0, 0)
    # In 3-D the mean projection of the lift is 1.09/2.
    assert lifted["sw1"] == pytest.approx(0.545, abs=0.06)


def test_half_of_the_modes():
    samples = draw(Ring2D(), 10_000)
    half = samples[samples[:, 0] + 0.1 * samples[:, 1] > 0]
    metrics = Ring2D().measure(half, CRITIC)
    assert metrics["modes"] == 4
    assert metrics["kl"] == pytest.approx(math.log(2), abs=0.004)
    assert metrics["sw1"] > 0.5


@pytest.mark.parametrize("problem", CURVES, ids=name)
def test_real_samples_of_curves_score_as_real(problem):
    samples = draw(problem)
    metrics = problem.measure(samples, CRITIC)
    assert (metrics["near"], metrics["coverage"]) == (1, 1)
    assert metrics["sw1"] < 0.03
    assert problem.foot(samples).distance.max() < 1e-6
    position = problem.foot(samples).position
    # Uniform along the curve: the largest gap between the empirical and the uniform distribution
    # function (Kolmogorov, 0.1 %).
    assert (
        position.sort().values - (torch.arange(5120) + 0.5) / 5120
    ).abs().max() < 1.95 / math.sqrt(5120)


def test_where_the_curves_lie():
    line = draw(Line2D())
    assert torch.allclose(line[:, 1], line[:, 0] / 2, atol=1e-6)
    assert line[:, 0].min().item() == pytest.approx(-1, abs=0.01) and line[
        :, 0
    ].max().item() == pytest.approx(1, abs=0.01)
    lines = draw(Lines2D())
    assert torch.allclose(lines.abs().max(dim=1).values, torch.ones(5120))
    assert lines.abs().min(dim=1).values.max().item() == pytest.approx(0.5, abs=0.01)
    assert torch.allclose(draw(Circle2D()).norm(dim=1), torch.ones(5120))


def test_near_is_two_sided():
    circle = draw(Circle2D(), 2000)
    assert [Circle2D().measure(circle * r, CRITIC)["near"] for r in (0.94, 0.96, 1.04, 1.06)] == [
        0,
        1,
        1,
        0,
    ]


def test_half_a_circle_covers_half():
    circle = draw(Circle2D())
    assert Circle2D().measure(circle[circle[:, 1] > 0], CRITIC)["coverage"] == 0.5


def test_the_gaussian_is_standard():
    samples = draw(Gaussian2D())
    assert samples.T.cov().flatten().tolist() == pytest.approx([1, 0, 0, 1], abs=0.06)
    assert Gaussian2D().measure(samples, CRITIC)["sw1"] < 0.04
    # W1 between N(0, 4) and N(0, 1) is E|Z| = sqrt(2/pi) in every direction.
    assert Gaussian2D().measure(2 * samples, CRITIC)["sw1"] == pytest.approx(
        math.sqrt(2 / math.pi), abs=0.04
    )


@pytest.mark.parametrize("problem", [*DENSITIES, Dirac(), Bilinear()], ids=name)
def test_streams_repeat_differ_by_seed_and_restore(problem):
    stream = problem.stream(3)
    first = stream.draw(10).x
    state = stream.state()
    second = stream.draw(10).x
    assert first.shape == (10, *problem.event) and first.dtype == torch.float32
    assert torch.equal(first, draw(problem, 10, seed=3))
    other = problem.stream(4)
    other.restore(state)
    assert torch.equal(other.draw(10).x, second)
    if not isinstance(problem, Dirac | Bilinear):
        assert not torch.equal(first, second) and not torch.equal(first, draw(problem, 10, seed=4))


@pytest.mark.parametrize("problem", DENSITIES, ids=name)
def test_metrics_ignore_the_order_and_leave_the_global_generator(problem):
    samples = draw(problem, 500)
    before = torch.get_rng_state()
    shuffled = samples[torch.randperm(500, generator=torch.Generator().manual_seed(0))]
    assert problem.measure(shuffled, CRITIC) == pytest.approx(
        problem.measure(samples, CRITIC), rel=1e-9
    )
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("problem", DENSITIES, ids=name)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e38])
def test_metrics_of_a_run_that_has_blown_up(problem, value):
    metrics = problem.measure(torch.full((20, *problem.event), value), CRITIC)
    assert metrics["sw1"] > 1e37
    for key in {"modes", "hq", "hq3", "hq10", "near", "coverage"} & metrics.keys():
        assert metrics[key] == 0
    assert not any(math.isnan(v) for v in metrics.values())


@pytest.mark.parametrize("problem", [Dirac(), Bilinear(dimension=3)], ids=name)
def test_point_games_measure_the_distance_from_their_equilibrium(problem):
    network = Point(theta=3.0, psi=-4.0)
    critic = network.critic(problem.event)
    samples = network.generator(problem.event, latent=1)(torch.zeros(5, 1))
    root = math.sqrt(problem.event[0])
    assert problem.measure(samples, critic) == pytest.approx(
        {"distance": 3 * root, "radius": 5 * root}
    )
    assert problem.measure(samples, CRITIC) == pytest.approx({"distance": 3 * root})
    assert problem.measure(samples * math.nan, critic) == {"distance": math.inf, "radius": math.inf}
    nn.init.constant_(critic.psi, math.nan)
    assert problem.measure(samples, critic) == {
        "distance": pytest.approx(3 * root),
        "radius": math.inf,
    }
    assert torch.equal(draw(problem, 4), torch.zeros(4, *problem.event))


@pytest.mark.parametrize("problem", [*DENSITIES, Dirac(), Bilinear()], ids=name)
def test_the_network_of_every_recipe_plays_its_problem(problem):
    network = build("network", problem.recipe.network)
    assert isinstance(network, MLP | Point)
    critic = network.critic(problem.event)
    samples = network.generator(problem.event, problem.recipe.latent)(
        torch.randn(30, problem.recipe.latent)
    )
    assert critic(samples).shape == (30,)
    found = problem.measure(samples, critic)
    assert all(math.isfinite(value) for value in found.values())
    assert tuple(found) == problem.numbers


def test_what_is_known_is_declared():
    for problem in (*DENSITIES, Dirac(), Bilinear()):
        assert isinstance(problem, Toy)
        assert (problem.centres is not None) == (problem in MIXTURES)
        assert problem.equilibrium == (
            {"theta": 0, "psi": 0} if isinstance(problem, Dirac | Bilinear) else None
        )


def test_specs_return_and_errors_say_what_is_wrong():
    for problem in (*DENSITIES, Dirac(), Bilinear(dimension=7)):
        assert build("problem", spec(problem)) == problem
    assert build("problem", "bilinear:dimension=7").event == (7,)
    with pytest.raises(SteadyganError, match=r"at least 2, not 1; .*'dirac'"):
        build("problem", "bilinear:dimension=1")
    with pytest.raises(SteadyganError, match="same dimension"):
        Ring2D().measure(torch.zeros(4, 3), CRITIC)
