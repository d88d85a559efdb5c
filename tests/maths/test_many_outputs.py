"""Penalties of many outputs: what signs estimate, enumerated; how each, mean and sum relate."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from steadygan.core import Context, Game, names, register, unregister
from steadygan.core.regularizers import JensenShannon
from support import normal_nodes

SIGNED = ["js", "r1", "r1r2", "gp0", *(f"f-gan:divergence={name}" for name in names("divergence"))]


class Given:
    """Uniform draws: interpolation in the middle, and signs that are told, one after the other."""

    def __init__(self, signs):
        self.signs = iter(signs)

    def uniform(self, like):
        if like.ndim == 1:
            return torch.full_like(like, 0.4)
        drawn = [next(self.signs) for _ in range(like.numel())]
        return torch.tensor([0.25 if s > 0 else 0.75 for s in drawn], dtype=like.dtype).reshape(
            like.shape
        )


class Two(nn.Module):
    """Two outputs of two positions and one, smooth, that see one another's input."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(3, 5), nn.Tanh()).double()
        self.a, self.b = nn.Linear(5, 2).double(), nn.Linear(5, 1).double()

    def forward(self, x):
        h = self.body(x)
        return [self.a(h), self.b(h)]


def batches(rows, seed=1):
    rng = torch.Generator().manual_seed(seed)
    real, fake = (torch.randn(rows, 3, generator=rng, dtype=torch.float64) for _ in range(2))
    return 0.8 * real + 0.4, 0.6 * fake - 0.5


def penalty(game, critic, real, fake, rng=None):
    """(value, gradient in the critic's parameters)."""
    found = game.critic_terms(critic, real, fake, at=Context(rng=rng)).penalty
    slopes = torch.autograd.grad(
        found, list(critic.parameters()), allow_unused=True, materialize_grads=True
    )
    return torch.cat([found.detach().reshape(1), *(g.flatten() for g in slopes)])


def enumerated(regularizer, critic, rows, outputs="each:exact=0"):
    """The mean over all signs of value and gradient, and the values; one point's signs at a time.

    The penalty is a sum over points and samples, each with signs of its own: those of one point are
    run through while the others' are held, and all are the same expectation.
    """
    game = Game("nonsaturating", regularizer, outputs=outputs)
    real, fake = batches(rows)
    found = [
        penalty(game, critic, real, fake, Given(itertools.chain(signs * len(game.where))))
        for signs in itertools.product((1, -1), repeat=3 * rows)
    ]
    return torch.stack(found).mean(0), torch.stack(found)[:, 0]


def exact(regularizer, critic, rows):
    game = Game("nonsaturating", regularizer, outputs="each:exact=9")
    return penalty(game, critic, *batches(rows), Given([]))


def apart(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("regularizer", SIGNED)
def test_all_signs_average_to_the_exact_sum(regularizer):
    """Value and gradient, because the signs do not depend on the parameters while the roots do."""
    critic = Two()
    assert apart(enumerated(regularizer, critic, 1)[0], exact(regularizer, critic, 1)) < 1e-13


def test_signs_are_independent_from_sample_to_sample():
    critic = Two()
    assert apart(enumerated("js", critic, 2)[0], exact("js", critic, 2)) < 1e-13


def test_a_detached_root_is_noticed():
    """The planted bug: as a constant, the root of the weight takes its share of the gradient."""

    @register("regularizer", "js-detached")
    @dataclass(frozen=True)
    class Detached(JensenShannon):
        """JS whose root has no graph. Reference: none, it is wrong."""

        def root(self, point, logits):
            return super().root(point, logits).detach()

    try:
        critic = Two()
        found, true = enumerated(Detached(), critic, 2)[0], exact("js", critic, 2)
    finally:
        unregister(Detached)
    assert abs(found[0] - true[0]) < 1e-13  # the value says nothing
    assert 0.05 < ((found - true)[1:].norm() / true[1:].norm()).item() < 0.5


def test_several_draws_average():
    """As many draws as logits would cost what the exact sum costs, which is then taken."""
    critic, (real, fake) = Two(), batches(2)
    one, two, three = (Game("minimax", "js", outputs=f"each:exact=0,signs={n}") for n in (1, 2, 3))
    rng = torch.Generator().manual_seed(3)
    drawn = torch.randint(2, (2, 2, 6), generator=rng) * 2 - 1  # points, draws, signs of one draw
    separate = [
        penalty(one, critic, real, fake, Given(drawn[:, i].flatten().tolist())) for i in range(2)
    ]
    together = penalty(two, critic, real, fake, Given(drawn.flatten().tolist()))
    assert apart(together, torch.stack(separate).mean(0)) < 1e-13
    assert apart(penalty(three, critic, real, fake, Given([])), exact("js", critic, 2)) < 1e-13
    said = [g.critic_terms(critic, real, fake).how for g in (one, two, three)]
    assert [s.partition("outputs, ")[2] for s in said] == [
        "by 1 draw of signs",
        "by 2 draws of signs",
        "one by one",
    ]


def test_the_variance_of_signs():
    """2 sum_{k != l} M_kl^2, M_kl = sqrt(b_k w_k b_l w_l) grad D_k . grad D_l, for one sample."""
    critic, (real, fake) = Two(), batches(1)
    x = real.clone().requires_grad_()
    logits = torch.cat(critic(x), 1)
    slopes = torch.stack(
        [torch.autograd.grad(v, x, retain_graph=True)[0].flatten() for v in logits[0]]
    )
    share = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)  # 1/K of each output
    for regularizer, root in (
        ("r1:gamma=2", torch.ones(3)),
        ("js:gamma=2", (-logits[0]).sigmoid()),
    ):
        a = (share.sqrt() * root.detach()).unsqueeze(1) * slopes
        m = a @ a.T
        expected = 2 * (m.square().sum() - m.diagonal().square().sum())
        game = Game("nonsaturating", regularizer, outputs="each:exact=0")
        values = [
            penalty(game, critic, real, fake, Given([*signs, *[1] * 3]))[0]
            for signs in itertools.product((1, -1), repeat=3)
        ]
        assert torch.stack(values).var(correction=0).item() == pytest.approx(
            expected.item(), rel=1e-12
        )


def test_signs_from_a_generator_are_unbiased():
    """Within four standard errors; and the same seed gives the same bits."""
    critic, (real, fake), true = Two(), batches(4), exact("js", Two(), 4)
    game = Game("nonsaturating", "js", outputs="each:exact=0")
    rng = torch.Generator().manual_seed(9)
    found = torch.stack([penalty(game, critic, real, fake, rng) for _ in range(400)])
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - true).abs() < 4 * error + 1e-15).all() and error[0] > 1e-4
    a, b = (penalty(game, critic, real, fake, torch.Generator().manual_seed(8)) for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, found[0])


# ------------------------------------------------------------ each, mean and sum


class Linear(nn.Module):
    """K positions with the given gradients, (K, n)."""

    def __init__(self, slopes):
        super().__init__()
        self.slopes = nn.Parameter(slopes)

    def forward(self, x):
        return x @ self.slopes.T


def r1(critic, outputs):
    real, fake = batches(3)
    return (
        Game("hinge", "r1:gamma=2", outputs=outputs).critic_terms(critic, real, fake).penalty.item()
    )


def test_the_mean_lies_between_nothing_and_each():
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        critic = Linear(torch.randn(4, 3, generator=rng, dtype=torch.float64))
        assert 0 < r1(critic, "mean") < r1(critic, "each")
        assert r1(critic, "sum") == pytest.approx(16 * r1(critic, "mean"), rel=1e-12)


def test_positions_that_look_elsewhere_and_positions_that_agree():
    apart = Linear(torch.diag(torch.tensor([1.3, -0.4, 2.0], dtype=torch.float64)))
    assert r1(apart, "mean") == pytest.approx(r1(apart, "each") / 3, rel=1e-12)
    assert r1(apart, "sum") == pytest.approx(r1(apart, "each") * 3, rel=1e-12)
    alike = Linear(torch.tensor([[0.3, -1.0, 0.2]], dtype=torch.float64).expand(3, 3).clone())
    assert r1(alike, "mean") == pytest.approx(r1(alike, "each"), rel=1e-12)
    opposed = Linear(torch.tensor([[1.0, 0.2, 0.0], [-1.0, -0.2, 0.0]], dtype=torch.float64))
    assert r1(opposed, "mean") == pytest.approx(0, abs=1e-15) and r1(opposed, "each") > 1


def test_the_penalty_of_each_is_what_noise_does():
    """Roth's argument for a map: two positions, each optimal for the coordinate that it sees."""
    nodes, gamma = normal_nodes(1000).flatten(), 1e-3
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    real = torch.stack([nodes, 0.5 * nodes[order]], 1)
    fake = torch.stack([0.4 + 1.1 * nodes, 0.2 + 0.6 * nodes[order]], 1)

    def critic(x):
        """log p/q of each coordinate."""
        p = -0.5 * (x / torch.tensor([1.0, 0.5])).square() - torch.tensor([1.0, 0.5]).log()
        q = -0.5 * ((x - torch.tensor([0.4, 0.2])) / torch.tensor([1.1, 0.6])).square()
        return p - q + torch.tensor([1.1, 0.6]).log()

    def loss(noise):
        moved = [(x.unsqueeze(0) + noise).reshape(-1, 2) for x in (real, fake)]
        return Game("minimax").critic_loss(critic, *moved)

    noise = math.sqrt(gamma) * normal_nodes(64)
    done = loss(noise.unsqueeze(1).expand(-1, 1, 2)) - loss(torch.zeros(1, 1, 2))
    ratios = {
        rule: (
            Game("minimax", f"js:gamma={gamma}", outputs=rule)
            .critic_terms(critic, real, fake)
            .penalty
            / done
        ).item()
        for rule in ("each", "mean", "sum")
    }
    assert ratios["each"] == pytest.approx(1, abs=0.01)
    assert ratios["mean"] < 0.7 and ratios["sum"] > 1.3
