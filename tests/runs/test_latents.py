"""Ways between latents stay where latents are likely, and a seed's sample is its own."""

import math

import pytest
import torch

from steadygan.runs.config import Config
from steadygan.runs.latents import LATENTS, Normal, Uniform, path
from steadygan.runs.models import latent

LINE = torch.tensor([0.0, 0.25, 0.5, 1.0])


def test_the_way_between_normal_latents_is_an_arc_at_equal_angles():
    a, b = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 3.0])
    found = Normal(3).between(a, b, LINE)
    angles = torch.atan2(found[:, 2], found[:, 0])
    assert torch.allclose(found.norm(dim=1), torch.full((4,), 3.0), atol=1e-5)
    assert torch.allclose(angles, LINE * math.pi / 2, atol=1e-5)
    assert torch.equal(found[0], a) and torch.allclose(found[-1], b, atol=1e-6)


def test_the_way_between_normal_latents_keeps_the_distance_that_training_knows():
    rng, half = torch.Generator().manual_seed(0), torch.tensor([0.5])
    z = Normal(512).draw(20, rng)
    on = torch.cat([Normal(512).between(a, b, half) for a, b in zip(z, z.roll(1, 0), strict=True)])
    straight = (z + z.roll(1, 0)) / 2
    expected = 512**0.5
    assert (on.norm(dim=1) - expected).abs().max() < 0.1 * expected
    assert straight.norm(dim=1).max() < 0.8 * expected


@pytest.mark.parametrize("b", [[2.0], [-2.0], [6.0]])
def test_where_there_is_no_arc_the_way_is_straight(b):
    a, b = torch.tensor([3.0]), torch.tensor(b)
    assert torch.allclose(Normal(1).between(a, b, LINE), a + LINE[:, None] * (b - a))


def test_the_way_between_uniform_latents_stays_in_the_cube():
    a, b = torch.tensor([1.0, 0.9]), torch.tensor([-1.0, 0.9])
    found = Uniform(2).between(a, b, LINE)
    assert torch.allclose(found[:, 0], 1 - 2 * LINE) and torch.allclose(found[:, 1], b[1])
    assert found.abs().max() <= 1


@pytest.mark.parametrize("kind", LATENTS)
def test_a_path_goes_through_its_stops(kind):
    distribution = latent(Config(latent=4, latent_distribution=kind))
    stops = distribution.draw(3, torch.Generator().manual_seed(1))
    open_end, closed = (path(distribution, stops, 5, loop=loop) for loop in (False, True))
    assert (len(open_end), len(closed)) == (11, 15)
    for found in (open_end[::5], closed[::5]):
        assert torch.allclose(found, stops, atol=1e-6)
    assert torch.equal(closed[:10], open_end[:10])
    steps = (closed - closed.roll(-1, 0)).norm(dim=1).view(3, 5)
    # A leg's steps are equally long on a line, and turn at equal angles on an arc.
    assert (steps.max(1).values < 1.8 * steps.min(1).values).all()


def test_truncation_moves_towards_the_mean():
    z = torch.tensor([[2.0, -1.0]])
    assert torch.equal(Normal(2).truncated(z, 0.5), z / 2)
    assert torch.equal(Uniform(2).truncated(z, 1.0), z)
