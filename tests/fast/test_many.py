"""Critics of many outputs against brute force in double precision: one gradient for each logit."""

import copy

import pytest
import torch
from critics import PENALIZED

from many_outputs import MANY
from steadygan.core import Context, Game, build
from steadygan.core.gradients import critic_backward
from steadygan.core.reading import read

GAMES = PENALIZED | {
    "f-gan, lecam": ("f-gan:divergence=kl", ["f-gan:gamma=0.3,divergence=kl", "lecam:gamma=0.2"]),
}
LINEAR = [name for name in GAMES if name not in ("wgan-gp", "dragan")]


class Logged:
    """Uniform draws that are kept."""

    def __init__(self, seed=5):
        self.rng, self.seen = torch.Generator().manual_seed(seed), []

    def uniform(self, like):
        self.seen.append(torch.rand(like.shape, dtype=like.dtype, generator=self.rng))
        return self.seen[-1]


def arena(kind):
    make, event, reading = MANY[kind]
    torch.manual_seed(2)
    critic = make().double()
    real, fake = torch.randn(2, 3, *event, dtype=torch.float64) * 0.7
    labels = (torch.tensor([0, 2, 1]), torch.tensor([1, 1, 0])) if kind == "conditional" else None
    # One forward of spectral norm is one iteration: the copy that is compared makes none.
    return critic.eval(), real + 0.3, fake - 0.2, labels, reading


def jacobian(critic, samples, reading):
    """Logits (B, K) and input gradients (B, K, *event) of each output, one gradient a logit."""
    x = samples.x.detach().requires_grad_()
    out = critic(x) if samples.labels is None else critic(x, samples.labels)
    logits = read(out, len(x), reading).logits
    logits = [t.reshape(len(x), -1) for t in logits]
    slopes = [
        torch.stack(
            [
                torch.autograd.grad(t[:, k].sum(), x, create_graph=True)[0]
                for k in range(t.shape[1])
            ],
            1,
        )
        for t in logits
    ]
    return logits, slopes


def brute(game, critic, real, fake, labels, rule, drawn):
    """The loss from every logit's own gradient, each sum written out; with the game's draws."""
    draws = Logged()
    points = game.points(real, fake, labels=labels, at=Context(rng=draws))
    looks = {
        name: jacobian(critic, samples, game.outputs.reading) for name, samples in points.items()
    }
    loss = sum(
        game.objective.critic(r.flatten(), f.flatten())
        for r, f in zip(looks["real"][0], looks["fake"][0], strict=True)
    )
    signs = iter([2 * (u < 0.5).double() - 1 for u in drawn[len(draws.seen) :]])
    for regularizer in game.regularizers:
        if not regularizer.where:
            real_, fake_ = looks["real"][0], looks["fake"][0]
            loss = loss + regularizer.gamma / 2 * sum(
                (r - f.mean()).square().mean() + (f - r.mean()).square().mean()
                for r, f in zip(real_, fake_, strict=True)
            )
        for point in regularizer.where:
            total = 0.0
            combined = 0.0
            for logits, slopes in zip(*looks[point], strict=True):
                k = logits.shape[1]
                norms = slopes.flatten(2).square().sum(2)
                if rule in ("mean", "sum"):
                    logits, slopes = getattr(logits, rule)(1, True), getattr(slopes, rule)(1, True)
                    norms, k = slopes.flatten(2).square().sum(2), 1
                weight = regularizer.weight(point, logits)
                weight = torch.ones_like(norms) if weight is None else weight
                target = regularizer.target
                size = (norms.sqrt() - target).square() if target else norms
                total = total + (weight * size).sum() / k / len(logits)
                if rule == "signs":
                    factor = next(signs) * (weight / k).sqrt()
                    combined = combined + torch.einsum("bk,bk...->b...", factor, slopes)
            if rule == "signs":
                total = combined.square().sum() / len(combined)
            loss = loss + regularizer.gamma / 2 * total
    return loss


RULES = {"each": "each:exact=999", "signs": "each:exact=0", "mean": "mean", "sum": "sum"}
CASES = [
    *((game, "each") for game in GAMES),
    *((game, "signs") for game in LINEAR),
    *(("js", "mean"), ("wgan-gp", "mean"), ("js", "sum"), ("dragan", "sum")),
]
SMOOTH = ["smooth patch", "spectra", "spectra, split", "heads by name", "tokens"]
BACKWARD = [("js", "signs"), ("gp0", "signs"), ("r1", "each"), ("wgan-gp", "mean")]


def flat(gradients, parameters):
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(gradients, parameters, strict=True)
        ]
    )


@pytest.mark.parametrize("kind", MANY)
def test_every_rule_is_what_brute_force_gives(kind):
    critic, real, fake, labels, reading = arena(kind)
    parameters = list(critic.parameters())
    for name, rule in CASES:
        objective, regularizers = GAMES[name]
        rules = RULES[rule]
        outputs = build("outputs", f"{rules}{',' if ':' in rules else ':'}reading={reading}")
        game = Game(objective, regularizers, outputs=outputs)
        terms = game.critic_terms(
            critic, real, fake, labels=labels, at=Context(rng=(draws := Logged()))
        )
        expected = brute(game, critic, real, fake, labels, rule, draws.seen)
        torch.testing.assert_close(terms.loss, expected, rtol=1e-10, atol=1e-12)
        ours, theirs = (
            flat(torch.autograd.grad(loss, parameters, allow_unused=True), parameters)
            for loss in (terms.loss, expected)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10 * theirs.abs().max().item())
        if (name, rule) not in BACKWARD:
            continue
        moved = copy.deepcopy(critic)
        found = critic_backward(game, moved, real, fake, labels=labels, at=Context(rng=Logged()))
        alone = name in ("gp0", "wgan-gp") and kind not in SMOOTH
        one_map = kind in ("patch", "pixels", "conditional") and len(game.where) > 1
        assert found.path == ("merged" if alone or one_map else "joined"), (name, found.why)
        assert found.terms.how == terms.how
        torch.testing.assert_close(
            flat([p.grad for p in moved.parameters()], parameters),
            theirs,
            rtol=1e-8,
            atol=1e-10 * theirs.abs().max().item(),
        )
