"""Noise on both distributions: how much, on which samples, and that every stochastic thing comes
from the context."""

import dataclasses
import math

import checks
import pytest
import torch

from steadygan.core import Context, Game, Samples, SteadyganError, build, names
from steadygan.core.schedules import Exponential
from support import Fixed

ALL = names("smoothing")


def seeded(seed: int = 0, **context) -> Context:
    return Context(rng=torch.Generator().manual_seed(seed), **context)


def batch(n: int = 8, event: tuple[int, ...] = (3,)) -> Samples:
    x = torch.arange(n * math.prod(event), dtype=torch.float64).reshape(n, *event)
    return Samples(x, torch.arange(n) * 10)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("event", checks.EVENTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_shape_dtype_and_the_global_random_state(name, event, dtype):
    samples = batch(8, event)._replace(x=batch(8, event).x.to(dtype))
    before, state = samples.x.clone(), torch.get_rng_state()
    out = build("smoothing", name)(samples, seeded())
    assert (
        out.x.shape == samples.x.shape and out.x.dtype == dtype and torch.equal(samples.x, before)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(out.x, samples.x)
    assert torch.equal(out.x, build("smoothing", name)(samples, seeded()).x)


@pytest.mark.parametrize(
    "spelling, variance",
    [("instance-noise:sigma=0.5", 0.25), ("explicit-noise:variance=0.25,nsr=2", 0.25)],
)
def test_noise_has_the_declared_moments(spelling, variance):
    """sigma is a standard deviation, variance a variance: the two spellings below are one
    strength."""
    x = torch.full((4000, 20), 1.7, dtype=torch.float64)
    noise = build("smoothing", spelling)(Samples(x), seeded()).x - x
    n = noise.numel()
    assert abs(noise.mean()) < 5 * (variance / n) ** 0.5
    assert abs(noise.var() / variance - 1) < 5 * (2 / n) ** 0.5
    assert abs(noise.pow(4).mean() / variance**2 / 3 - 1) < 0.05  # normal
    corr = torch.corrcoef(torch.stack([noise[:-1].flatten(), noise[1:].flatten()]))[0, 1]
    assert abs(corr) < 5 / n**0.5  # every sample its own


@pytest.mark.parametrize("nsr", [1, 2, 4, 8])
def test_explicit_noise_shows_the_first_samples_nsr_times_each(nsr):
    samples = batch(8)
    out = build("smoothing", f"explicit-noise:variance=0,nsr={nsr}")(samples, seeded())
    for i in range(8):
        assert torch.equal(out.x[i], samples.x[i // nsr])
        assert out.labels[i] == samples.labels[i // nsr]
    noisy = build("smoothing", f"explicit-noise:variance=1,nsr={nsr}")(samples, seeded()).x - out.x
    assert len(noisy.unique(dim=0)) == 8  # every copy has its own noise


def test_explicit_noise_refuses_a_batch_that_it_would_shorten():
    with pytest.raises(SteadyganError, match="a batch of 8 cannot be split"):
        build("smoothing", "explicit-noise:nsr=3")(batch(8), seeded())


@pytest.mark.parametrize(
    "spelling, what", [("instance-noise:sigma", "sigma"), ("explicit-noise:variance", "variance")]
)
def test_strengths(spelling, what):
    samples = Samples(torch.zeros(4, 2, dtype=torch.float64))
    plain = build("smoothing", f"{spelling}=0.5")
    size = plain(samples, seeded()).x
    as_tensor = dataclasses.replace(plain, **{what: torch.tensor(0.5, dtype=torch.float64)})
    torch.testing.assert_close(as_tensor(samples, seeded()).x, size)
    annealed = build("smoothing", f"{spelling}=0.5,anneal=0.01")
    assert getattr(annealed, what) == Exponential(0.5, 0.01)
    share = 0.1 if what == "sigma" else 0.1**0.5  # of the standard deviation, half way
    torch.testing.assert_close(annealed(samples, seeded(progress=0.5)).x, share * size)
    with pytest.raises(SteadyganError, match="progress"):
        annealed(samples, seeded())
    for bad in ("-1", "nan", "inf"):
        with pytest.raises(SteadyganError, match=what):
            build("smoothing", f"{spelling}={bad}")


def test_nsr_is_a_count():
    for bad in ("0", "-2", "1.5"):
        with pytest.raises(SteadyganError, match="nsr"):
            build("smoothing", f"explicit-noise:nsr={bad}")


def test_injected_draws_are_the_noise():
    nodes = torch.tensor([[-1.0], [0.5], [2.0], [4.0]], dtype=torch.float64)
    out = build("smoothing", "instance-noise:sigma=0.3")(
        Samples(torch.ones(4, 1, dtype=torch.float64)), Context(rng=Fixed(nodes))
    )
    torch.testing.assert_close(out.x, 1 + 0.3 * nodes)


# ------------------------------------------------------------ in a game


def test_penalties_and_both_losses_see_the_noisy_points():
    real, fake = checks.batches()
    game, plain = (
        Game("relativistic", ["r1r2:gamma=0.7"], smoothing="instance-noise:sigma=0.5"),
        Game("relativistic", ["r1r2:gamma=0.7"]),
    )
    draws = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    context, noise = Context(rng=Fixed(draws)), 0.5 * draws
    for name in ("critic_loss", "generator_loss"):
        smooth = getattr(game, name)(checks.critic_of, real, fake, at=context)
        torch.testing.assert_close(
            smooth, getattr(plain, name)(checks.critic_of, real + noise, fake + noise)
        )
        assert abs(smooth - getattr(plain, name)(checks.critic_of, real, fake)) > 1e-3
    scores = game.critic_terms(checks.critic_of, real, fake, at=context).scores
    torch.testing.assert_close(scores["real"].x, real + noise)
    torch.testing.assert_close(scores["fake"].x, fake + noise)


def test_real_and_generated_samples_have_their_own_noise():
    points = Game("minimax", smoothing="instance-noise").points(
        torch.zeros(4, 2), torch.zeros(4, 2), at=seeded()
    )
    assert (points["real"].x != points["fake"].x).all()


def test_interpolation_happens_between_noisy_samples():
    real, fake = checks.batches()
    draws = Fixed(normals=torch.ones(6, 3), uniforms=torch.full((6, 1), 0.25))
    points = Game("wasserstein", ["gp0"], smoothing="instance-noise:sigma=2").points(
        real, fake, at=Context(rng=draws)
    )
    torch.testing.assert_close(points["between"].x, 0.25 * (real + 2) + 0.75 * (fake + 2))


def test_labels_travel_to_every_point():
    """Through repeats on both sides; between and around real samples the real labels hold."""
    seen = []

    def critic(x, y):
        seen.append(y.tolist())
        return x.sum(1)

    real, fake = checks.batches()
    labels = torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([7, 8, 9, 10, 11, 12])
    game = Game("relativistic", ["r1r2", "gp0", "dragan"], smoothing="explicit-noise:nsr=3")
    game.critic_loss(critic, real, fake, labels=labels, at=seeded())
    ours, theirs = [1, 1, 1, 2, 2, 2], [7, 7, 7, 8, 8, 8]
    assert seen == [ours, theirs, ours, ours]
    seen.clear()
    game.generator_loss(critic, real, fake, labels=labels, at=seeded())
    assert sorted(seen) == [ours, theirs]


@pytest.mark.parametrize("name", ALL)
def test_documentation_and_spelling(name):
    checks.documents_itself(build("smoothing", name))
    checks.spells_itself(build("smoothing", name), "smoothing")
