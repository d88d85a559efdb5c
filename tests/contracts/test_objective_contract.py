"""Every registered objective: scaling, signs and derivatives, and that the generator's loss sees
real samples only where it says so."""

import math

import checks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygan.core import Game, SteadyganError, build, names
from support import dirac, field_jacobian, specs

ALL = specs("objective")
every = pytest.mark.parametrize("spelling", ALL)


def logits(n: int = 5, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Asymmetric logits inside (-1, 1), where every objective is strictly monotone: the hinge and
    least squares turn beyond."""
    real = torch.tensor([0.81, -0.35, 0.12, 0.55, -0.73], dtype=dtype)[:n]
    fake = torch.tensor([-0.62, 0.44, -0.91, 0.27, 0.08], dtype=dtype)[:n]
    return real, fake


def generator_loss(objective, real, fake):
    return objective.generator(real if objective.uses_real else real.new_empty(0), fake)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_are_finite_numbers_of_the_logits_dtype(spelling, dtype):
    objective = build("objective", spelling)
    for scale in (1.0, 20.0):  # a critic in training is sure of itself
        real, fake = (scale * x for x in logits(dtype=dtype))
        for loss in (objective.critic(real, fake), generator_loss(objective, real, fake)):
            assert loss.shape == () and loss.dtype == dtype and math.isfinite(loss)


@every
def test_derivatives(spelling):
    objective = build("objective", spelling)
    real, fake = (x.requires_grad_() for x in logits(3))
    assert torch.autograd.gradcheck(
        objective.critic, (real, fake)
    ) and torch.autograd.gradgradcheck(objective.critic, (real, fake))
    inputs = (real, fake) if objective.uses_real else (fake,)
    assert torch.autograd.gradcheck(lambda *x: generator_loss(objective, real, x[-1]), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: generator_loss(objective, real, x[-1]), inputs)


@every
def test_logits_are_large_on_real(spelling):
    """Each real logit that rises and each fake one that falls lowers the critic's loss; each fake
    one that rises the generator's."""
    objective = build("objective", spelling)
    real, fake = (x.requires_grad_() for x in logits())
    by_real, by_fake = torch.autograd.grad(objective.critic(real, fake), (real, fake))
    assert (by_real < 0).all() and (by_fake > 0).all()
    by_real, by_fake = torch.autograd.grad(
        generator_loss(objective, real, fake),
        (real, fake),
        allow_unused=True,
        materialize_grads=True,
    )
    assert (by_fake < 0).all()
    assert (by_real > 0).all() if objective.uses_real else (by_real == 0).all()


@every
def test_generator_sees_real_samples_only_if_it_says_so(spelling):
    game, seen = Game(spelling), []
    real, fake = checks.batches()

    def critic(x):
        seen.append(x)
        return checks.critic_of(x)

    if game.objective.uses_real:
        with pytest.raises(SteadyganError, match="pass them"):
            game.generator_loss(critic, None, fake)
        game.generator_loss(critic, real, fake)
        assert [x is fake or x is real for x in seen] == [True, True]
    else:
        with_real = game.generator_loss(critic, real, fake)
        assert len(seen) == 1 and seen[0] is fake
        assert with_real == game.generator_loss(critic, None, fake)


def coupling(spelling: str) -> float:
    """a at the Dirac-GAN's equilibrium, from equations.md: a half for the logistic games, 1 for the
    others."""
    logistic = (
        "minimax",
        "nonsaturating",
        "relativistic",
        "relativistic-average",
        "f-gan:divergence=gan",
        "f-gan:divergence=js",
    )
    return 0.5 if spelling in logistic else 1.0


@every
def test_coupling_at_the_dirac_equilibrium(spelling):
    """Logits are large on real here, so v = (psi f', -theta f') and the signs are those of the
    papers mirrored in psi."""
    a = coupling(spelling)
    expected = torch.tensor([[0.0, a], [-a, 0.0]], dtype=torch.float64)
    for batch in (1, 3):
        torch.testing.assert_close(
            field_jacobian(Game(spelling), dirac(batch=batch)), expected, rtol=0, atol=1e-12
        )


# Values on paper for real logits (1, -2) and fake logits (0.5, -1): softplus and the like spelled
# out in plain Python.
R, K = (1.0, -2.0), (0.5, -1.0)


def softplus(t: float) -> float:
    return math.log1p(math.exp(t))


def mean(*values: float) -> float:
    return sum(values) / len(values)


BY_HAND = {
    "minimax": (
        mean(softplus(-1), softplus(2)) + mean(softplus(0.5), softplus(-1)),
        -mean(softplus(0.5), softplus(-1)),
    ),
    "nonsaturating": (
        mean(softplus(-1), softplus(2)) + mean(softplus(0.5), softplus(-1)),
        mean(softplus(-0.5), softplus(1)),
    ),
    "wasserstein": (0.25, 0.25),
    "least-squares": (mean(0, 9) / 2 + mean(2.25, 0) / 2, mean(0.25, 4) / 2),
    "hinge": (mean(0, 3) + mean(1.5, 0), 0.25),
    "relativistic": (mean(softplus(-0.5), softplus(1)), mean(softplus(0.5), softplus(-1))),
    "relativistic-average": (
        mean(mean(softplus(-1.25), softplus(1.75)), mean(softplus(1), softplus(-0.5))),
        mean(mean(softplus(1.25), softplus(-1.75)), mean(softplus(-1), softplus(0.5))),
    ),
    "f-gan:divergence=kl": (
        -mean(2, -1) + mean(math.exp(0.5), math.exp(-1)),
        -mean(math.exp(0.5), math.exp(-1)),
    ),
    "f-gan:divergence=pearson": (0.5 + mean(0.0625 + 0.5, 0.25 - 1), -mean(0.0625 + 0.5, 0.25 - 1)),
}


@pytest.mark.parametrize("spelling", BY_HAND)
def test_values_by_hand(spelling):
    objective, (critic, generator) = build("objective", spelling), BY_HAND[spelling]
    real, fake = torch.tensor(R, dtype=torch.float64), torch.tensor(K, dtype=torch.float64)
    assert objective.critic(real, fake).item() == pytest.approx(critic, rel=1e-12)
    assert generator_loss(objective, real, fake).item() == pytest.approx(generator, rel=1e-12)


def test_f_gan_with_the_gan_divergence_is_the_minimax_game():
    real, fake = logits()
    for name in ("critic", "generator"):
        one, other = (
            getattr(build("objective", o), name)(real, fake)
            for o in ("minimax", "f-gan:divergence=gan")
        )
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", names("divergence"))
@settings(deadline=None, max_examples=20)
@given(st.floats(-2, 2), st.floats(0.2, 1.5))
def test_f_gan_bounds_the_divergence_from_below(name, shift, scale):
    """-L_D is the variational bound on D_f, reached at v* (Eqs. 5, 15): any other critic gives no
    more."""
    divergence, objective = (
        build("divergence", name),
        build("objective", f"f-gan:divergence={name}"),
    )
    # P and Q on four points, as counts over twelve equal atoms each.
    p, q = torch.tensor([5, 4, 2, 1]), torch.tensor([1, 3, 3, 5])
    ratio = p.double() / q
    exact = (q.double() / 12 * divergence.f(ratio)).sum()
    best = inverse_activation(divergence, divergence.slope(ratio))
    bound = -objective.critic(best.repeat_interleave(p), best.repeat_interleave(q))
    torch.testing.assert_close(bound, exact, rtol=1e-9, atol=1e-9)
    other = scale * best + shift
    assert -objective.critic(other.repeat_interleave(p), other.repeat_interleave(q)) <= exact + 1e-9


def inverse_activation(divergence, t):
    """v with g(v) = t, by bisection: g is increasing."""
    low, high = torch.full_like(t, -20), torch.full_like(t, 20)
    for _ in range(80):
        middle = (low + high) / 2
        below = divergence.activation(middle) < t
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def test_relativistic_pairs_sample_by_sample():
    real, fake = logits()
    loss = build("objective", "relativistic").critic
    order = torch.tensor([1, 0, 3, 4, 2])
    assert loss(real[order], fake[order]).item() == pytest.approx(
        loss(real, fake).item(), rel=1e-14
    )
    assert abs(loss(real[order], fake) - loss(real, fake)) > 1e-3
    with pytest.raises(SteadyganError, match="5 real against 4 fake"):
        loss(real, fake[:4])


@pytest.mark.parametrize("shape", [(5, 2), (2, 6), (3,), (), (6, 0)])
def test_the_critic_must_return_logits_for_every_sample(shape):
    real, fake = checks.batches()
    with pytest.raises(SteadyganError, match="one logit a sample"):
        Game("minimax").critic_loss(lambda x: torch.zeros(shape), real, fake)


@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 1, 1), (6, 1, 1, 1), (6, 1, 1, 1, 1)])
def test_logits_may_have_trailing_ones(shape):
    real, fake = checks.batches()
    loss = Game("relativistic").critic_loss(
        lambda x: checks.critic_of(x).reshape(shape), real, fake
    )
    assert loss == Game("relativistic").critic_loss(checks.critic_of, real, fake)


@every
def test_documentation_and_spelling(spelling):
    checks.documents_itself(build("objective", spelling))
    checks.spells_itself(build("objective", spelling), "objective")
