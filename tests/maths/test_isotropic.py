"""Penalties by noise against what docs/derivations.md, section 8, says of them."""

import itertools

import pytest
import torch

from steadygan import Context, Game, SteadyganError, build
from steadygan.core.gradients import critic_backward

SIGNS = torch.tensor(list(itertools.product((1.0, -1.0), repeat=3)), dtype=torch.float64)
H = torch.tensor([[1.2, 0.5, -0.3], [0.5, -0.7, 0.9], [-0.3, 0.9, 0.4]], dtype=torch.float64)
G = torch.tensor([0.8, -1.1, 0.3], dtype=torch.float64)


class Told:
    """Signs that are told: the same for every sample."""

    def __init__(self, signs):
        self.signs = signs

    def uniform(self, like):
        return ((1 - self.signs) / 2).to(like).expand(like.shape)


def every(critic, spec, samples):
    """The penalty for all signs that there are."""
    game, found = Game("wasserstein", spec), []
    for signs in SIGNS:
        terms = game.critic_terms(critic, samples, samples, at=Context(rng=Told(signs)))
        found.append(terms.penalty)
    return torch.stack(found)


@pytest.mark.parametrize("name", ["isotropic-r1", "isotropic-r2"])
@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_mean_bias_and_variance_on_a_quadratic_critic(name, sigma):
    """E = |g|^2 + s^2 (tr(H)^2/4 + (|H|^2 - |diag H|^2)/2), and the variance of (e g)^2."""
    x = torch.zeros(1, 3, dtype=torch.float64)
    critic = lambda x: x @ G + 0.5 * torch.einsum("bi,ij,bj->b", x, H, x)  # noqa: E731
    found = every(critic, f"{name}:gamma=2,sigma={sigma}", x)
    off = H.square().sum() - H.diagonal().square().sum()
    bias = sigma**2 * (H.trace() ** 2 / 4 + off / 2)
    torch.testing.assert_close(found.mean(), G.square().sum() + bias, rtol=1e-10, atol=0)
    linear = every(lambda x: x @ G, f"{name}:gamma=2,sigma={sigma}", x)
    torch.testing.assert_close(linear.mean(), G.square().sum(), rtol=1e-12, atol=0)
    variance = 2 * (G.square().sum() ** 2 - G.pow(4).sum())
    torch.testing.assert_close(linear.var(correction=0), variance, rtol=1e-10, atol=0)


def test_bias_is_of_second_order_with_third_derivatives():
    """D = sum of e^(a x): tr H, g grad(tr H) and g d^3 D are known."""
    a = torch.tensor([0.7, -1.2, 0.5], dtype=torch.float64)
    x = torch.tensor([[0.2, -0.4, 0.9]], dtype=torch.float64)
    critic = lambda x: (a * x).exp().sum(1)  # noqa: E731
    g, h, t = (a**k * (a * x[0]).exp() for k in (1, 2, 3))
    # H is diagonal: its off-diagonal part is 0, and grad(tr H) = t.
    expected = h.sum() ** 2 / 4 + (g * t).sum() - 2 / 3 * (g * t).sum()
    errors = [
        every(critic, f"isotropic-r1:gamma=2,sigma={s}", x).mean() - g.square().sum()
        for s in (0.02, 0.01)
    ]
    assert 3.99 < errors[0] / errors[1] < 4.01
    torch.testing.assert_close(errors[1] / 0.01**2, expected, rtol=1e-3, atol=0)


def test_the_gradient_is_that_of_r1_in_the_mean_and_by_every_path():
    torch.manual_seed(0)
    critic = torch.nn.Sequential(
        torch.nn.Linear(3, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)
    ).double()
    real, fake = torch.randn(2, 4, 3, dtype=torch.float64)
    flat = lambda: torch.cat([p.grad.flatten() for p in critic.parameters()])  # noqa: E731

    def gradient(regularizers, rng=None, path="separate"):
        critic.zero_grad()
        game = Game("hinge", regularizers)
        critic_backward(game, critic, real, fake, at=Context(rng=rng), path=path)
        return flat()

    both = ["isotropic-r1:gamma=3,sigma=1e-4", "isotropic-r2:gamma=1,sigma=1e-4"]
    mean = torch.stack([gradient(both, Told(signs)) for signs in SIGNS]).mean(0)
    torch.testing.assert_close(mean, gradient(["r1:gamma=3", "r2:gamma=1"]), rtol=1e-5, atol=1e-7)
    mixed = ["r1:gamma=1", *both]
    for asked in (both, mixed):
        for path in ("auto", "joined", "differences"):
            found = gradient(asked, Told(SIGNS[3]), path)
            close = 1e-6 if path == "differences" else 1e-10
            expected = gradient(asked, Told(SIGNS[3]))
            assert (found - expected).norm() < close * expected.norm(), (path, asked)


def test_many_logits_are_each_their_own():
    critic = lambda x: x * torch.tensor([1.0, 2.0, 4.0], dtype=x.dtype)  # noqa: E731
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for outputs in ("each", "mean"):
        game = Game("wasserstein", "isotropic-r1:gamma=2", outputs=outputs)
        penalty = game.critic_terms(critic, x, -x, at=Context(rng=torch.Generator())).penalty
        assert penalty.item() == pytest.approx((1 + 4 + 16) / 3)


def test_sigma_is_a_size():
    for sigma in (0, -1, "inf"):
        with pytest.raises(SteadyganError, match="sigma"):
            build("regularizer", f"isotropic-r1:sigma={sigma}")
