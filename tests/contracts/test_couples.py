"""What is declared of samples that see each other, against what the objects do."""

import pytest
import torch
from torch import nn

from steadygan.core import Context, Game, build
from steadygan.core.couples import Couples, coupled, couples_in, couples_of
from support import mlp, specs

WAYS = [
    *((spelling, [], None) for spelling in specs("objective")),
    *(("minimax", [spelling], None) for spelling in specs("regularizer")),
    *(
        ("minimax", ["r1r2"], s)
        for s in ("instance-noise", "explicit-noise:nsr=1", "explicit-noise:nsr=2")
    ),
]


class Same:
    """The same draw for every sample, so that none depends on a batch's size."""

    def normal(self, like):
        return torch.full_like(like, 0.8)

    def uniform(self, like):
        return torch.full_like(like, 0.37)


def losses(game, real, fake):
    """Both losses, with a critic whose logits are far apart."""
    critic = mlp(seed=3).critic
    with torch.no_grad():
        critic[-1].weight.mul_(3)
    at = Context(rng=Same())
    ours = game.critic_loss(critic, real, fake, at=at)
    return torch.stack([ours, game.generator_loss(critic, real, fake, at=at)]).detach()


@pytest.mark.parametrize(("objective", "regularizers", "smoothing"), WAYS)
def test_the_loss_of_a_batch_is_the_mean_of_its_parts_unless_it_says_otherwise(
    objective, regularizers, smoothing
):
    game, rng = Game(objective, regularizers, smoothing), torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 8, 3, generator=rng, dtype=torch.float64)
    whole = losses(game, real, fake)
    # Parts of different content: the first four samples, which explicit noise takes, and the rest.
    parts = [losses(game, real[part], fake[part]) for part in (slice(0, 4), slice(4, 8))]
    apart = torch.stack(parts).mean(0)
    assert torch.allclose(whole, apart, rtol=1e-12, atol=1e-14) == (not couples_in(game))


def test_means_are_means():
    """With the means held, what a part of the batch adds does not depend on the other part."""
    rng = torch.Generator().manual_seed(2)
    parts = torch.randn(4, 2, 6, generator=rng, dtype=torch.float64)
    a, b, c, d = parts - parts.mean(2, keepdim=True) + 0.3
    objective = build("objective", "relativistic-average")

    def loss(*parts):
        return objective.critic(*torch.cat(parts, 1))

    gained = loss(a, c) - loss(a, d), loss(b, c) - loss(b, d)
    torch.testing.assert_close(*gained, rtol=1e-12, atol=1e-14)
    assert gained[0].abs() > 1e-3 and objective.couples.by == "means"


def test_networks_say_what_couples_their_samples():
    class Spread(nn.Module):
        couples = Couples("deviation of the minibatch", "batch")

        def forward(self, x):
            return torch.cat([x, x.std(0).mean().expand(len(x), 1)], 1)

    norm = nn.BatchNorm1d(3)
    network = nn.Sequential(nn.Linear(2, 3), norm, nn.InstanceNorm1d(3), Spread())
    assert {path: c.by for path, c in couples_of(network).items()} == {"1": "means", "3": "batch"}
    assert set(couples_of(network.eval())) == {"3"}
    without = nn.BatchNorm1d(3, track_running_stats=False).eval()
    assert couples_of(without)[""].by == "means"
    said = "couples samples, by deviation of the minibatch"
    assert coupled(network) == f"its layer 3 (Spread) {said}"
    assert coupled(network[3]) == f"it (Spread) {said}"
    assert coupled(nn.Sequential(nn.Linear(2, 4), nn.GroupNorm(2, 4), nn.LayerNorm(4))) == ""


def test_games_say_what_couples_their_samples():
    game = Game("relativistic-average", ["r1", "lecam", "dragan"], "explicit-noise:nsr=4")
    found = {name: (c.by, c.samples) for name, c in couples_in(game).items()}
    assert found == {
        "RelativisticAverage": ("means", "all"),
        "LeCam": ("means", "all"),
        "DRAGAN": ("means", "real"),
        "ExplicitNoise": ("batch", "all"),
    }
