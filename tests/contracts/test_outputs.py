"""What a critic may return, how it is read, and how its outputs go through everything else."""

import checks
import pytest
import torch
from torch import nn

from steadygan.core import (
    Context,
    Game,
    OptimizerPlayers,
    Samples,
    SteadyganError,
    build,
    names,
    score,
    spec,
)
from steadygan.core.gradients import critic_backward, critic_gradient
from steadygan.core.players import Batch, FunctionalPlayers
from steadygan.core.reading import read
from steadygan.core.regularizers import GradientPenalty, Regularizer

ROWS = 4
T = [torch.randn(ROWS, 1, n, dtype=torch.float64) for n in (3, 5, 2, 7)]
MAP, LOGIT = torch.randn(ROWS, 1, 2, 3), torch.randn(ROWS, 1)


def sizes(out, reading="auto"):
    found = read(out, ROWS, reading)
    return [tuple(t.shape[1:]) for t in found.logits], [len(group) for group in found.features]


READ = {
    "one logit": (LOGIT, "auto", [()], []),
    "a map": (MAP, "auto", [(6,)], []),
    "scales": ([T[0], T[1], LOGIT], "auto", [(3,), (5,), (1,)], []),
    "a tuple of one": ((LOGIT,), "auto", [()], []),
    "logits and features": ((MAP, [T[0], T[1]]), "auto", [(6,)], [2]),
    "logits, no features": ((LOGIT, []), "auto", [()], [0]),
    "pairs": ([(T[0], [T[1]]), (T[2], [T[3], T[3]])], "auto", [(3,), (2,)], [1, 2]),
    "two lists": (([T[0], T[1]], [[T[2]], [T[3], T[3]]]), "auto", [(3,), (5,)], [1, 2]),
    "two lists, features together": (([T[0], T[1]], [[T[2], T[3]]]), "auto", [(3,), (5,)], [2]),
    "lists of one": ([[T[0]], [T[1]]], "auto", [(3,), (5,)], []),
    "a dict": ({"a": LOGIT, "b": MAP}, "auto", [(1,), (6,)], []),
    "a dict with features": ({"logits": MAP, "fmap": [T[0], T[1]]}, "auto", [(6,)], [2]),
    "a dict as of transformers": (
        {"logits": LOGIT, "hidden_states": (T[0], T[1]), "attentions": None, "feats": T[2]},
        "auto",
        [()],
        [2, 1],
    ),
    "a dict of lists": (
        {"p": [T[0], T[1]], "features": [[T[2]], [T[3]]]},
        "auto",
        [(3,), (5,)],
        [1, 1],
    ),
    "dicts in a list": ([{"l": MAP}, {"l": LOGIT, "features": T[0]}], "auto", [(6,), (1,)], [1]),
    "features by name beside": (
        (MAP, {"features": [T[0]], "attentions": None}),
        "auto",
        [(6,)],
        [1],
    ),
    "all by name beside": ((MAP, {"aux": LOGIT}), "all", [(6,), (1,)], []),
    "nothing by name beside": ((LOGIT, {"hidden": None}), "auto", [()], []),
    "nothing beside": ([T[0], None], "auto", [(3,)], []),
    "the last of each": ([[T[0], T[1], T[2]], [T[3], LOGIT]], "last", [(2,), (1,)], [2, 1]),
    "the last of one": ([T[0], T[1]], "last", [(5,)], [1]),
    "all of each": ([[T[0], T[1]], [T[3]]], "all", [(3,), (5,), (7,)], []),
    "half precision": (MAP.bfloat16(), "auto", [(6,)], []),
}


@pytest.mark.parametrize("what", READ)
def test_reading(what):
    out, reading, logits, features = READ[what]
    assert sizes(out, reading) == (logits, features)
    assert all(t.dtype in (torch.float32, torch.float64) for t in read(out, ROWS, reading).logits)


REFUSED = {
    "lists in a list": ([[T[0], T[1]], [T[2], T[3]]], "reading=last"),
    "a list between others": ([T[0], [T[1], T[2]], T[3]], "reading=last"),
    "a dict beside logits": (
        (MAP, {"block1": T[0], "block2": T[1]}),
        "dict of block1, block2: return",
    ),
    "too few rows": ([T[0], T[1][:3]], "expected one logit a sample"),
    "whole numbers": (torch.zeros(ROWS, dtype=torch.int64), "int64"),
    "nothing": ([], "no tensor of logits"),
    "features only": ({"features": [T[0]]}, "no tensor of logits"),
    "text": ("logits", "returned str"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused(what):
    out, says = REFUSED[what]
    with pytest.raises(SteadyganError, match=says):
        read(out, ROWS)


def test_one_sample_left():
    assert read(torch.tensor(0.3), 1).logits[0].shape == (1,)


# ------------------------------------------------------------ rules


@pytest.mark.parametrize("rule", names("outputs"))
def test_rules_document_and_spell_themselves(rule):
    checks.documents_itself(build("outputs", rule))
    checks.spells_itself(build("outputs", rule), "outputs")
    weighted = build("outputs", f"{rule}:over=mean,weights=1/0.5")
    assert weighted.weights == (1.0, 0.5) and build("outputs", spec(weighted)) == weighted


@pytest.mark.parametrize(
    "bad", ["each:signs=0", "each:exact=-1", "mean:weights=0/0", "sum:weights=-1/2"]
)
def test_bad_settings(bad):
    with pytest.raises(SteadyganError):
        build("outputs", bad)


class Two(nn.Module):
    """A map of four positions, and one logit; asked about a class where there is one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 6), nn.Tanh()).double()
        self.map, self.one = nn.Linear(6, 4).double(), nn.Linear(6, 1).double()
        self.embed = nn.Embedding(3, 6).double()

    def forward(self, x, y=None):
        h = self.body(x) + (0 if y is None else self.embed(y))
        return [(self.map(h), [h, h * 2]), (self.one(h), [])]


class Part(nn.Module):
    """One of the outputs as a critic of its own."""

    def __init__(self, whole, place):
        super().__init__()
        self.whole, self.place = whole, place

    def forward(self, *inputs):
        return self.whole(*inputs)[self.place]


def data(rows=6):
    return checks.batches((3,), n=rows)


def rng(seed=3):
    return torch.Generator().manual_seed(seed)


def test_losses_average_over_positions_and_add_up_over_outputs():
    critic, (real, fake) = Two(), data()
    (m_r, _), (o_r, _) = critic(real)
    (m_f, _), (o_f, _) = critic(fake)
    expected = [
        nn.functional.softplus(-a).mean() + nn.functional.softplus(b).mean()
        for a, b in ((m_r, m_f), (o_r, o_f))
    ]
    for rule, shares in (
        ("each", (1, 1)),
        ("each:over=mean", (0.5, 0.5)),
        ("each:weights=2/0.5", (2, 0.5)),
        ("mean:over=mean,weights=1/3", (0.25, 0.75)),
    ):
        game = Game("nonsaturating", outputs=rule)
        found = game.critic_loss(critic, real, fake)
        torch.testing.assert_close(found, sum(s * e for s, e in zip(shares, expected, strict=True)))
        theirs = sum(
            s * nn.functional.softplus(-t).mean() for s, t in zip(shares, (m_f, o_f), strict=True)
        )
        torch.testing.assert_close(game.generator_loss(critic, real, fake), theirs)
    with pytest.raises(SteadyganError, match="3 weights for 2 outputs"):
        Game("nonsaturating", outputs="each:weights=1/1/1").critic_loss(critic, real, fake)


@pytest.mark.parametrize("objective", names("objective"))
def test_weights_scale_penalties_as_they_scale_losses(objective):
    """The weighted game of two outputs is the weighted sum of two games of one, LeCam included."""
    critic, (real, fake) = Two(), data()
    regularizers = ["js:gamma=0.6", "r1:gamma=1", "lecam:gamma=0.3"]
    whole = Game(objective, regularizers, outputs="each:exact=9,weights=2/0.5")
    alone = Game(objective, regularizers, outputs="each:exact=9")
    parts = [alone.critic_loss(Part(critic, place), real, fake) for place in (0, 1)]
    found = whole.critic_loss(critic, real, fake)
    torch.testing.assert_close(found, 2 * parts[0] + 0.5 * parts[1], rtol=1e-12, atol=0)


def test_which_ran_is_said():
    critic, (real, fake) = Two(), data()
    said = {
        "each": "each of 5 logits in 2 outputs, by 1 draw of signs",
        "each:exact=5": "each of 5 logits in 2 outputs, one by one",
        "mean": "the mean of each of 2 outputs, 5 logits in all",
        "sum": "the sum of each of 2 outputs, 5 logits in all",
    }
    for rule, words in said.items():
        game = Game("nonsaturating", "js", outputs=rule)
        terms = game.critic_terms(critic, real, fake)
        assert terms.how == terms.detach().how == words
        found = critic_backward(game, critic, real, fake)
        assert found.terms.how == words and found.path == "joined" and words in found.why
    assert Game("nonsaturating").critic_terms(critic, real, fake).how == ""
    assert Game("nonsaturating", "js").critic_terms(checks.critic_of, real, fake).how == ""


class WithoutRoot(GradientPenalty):
    where = ("real",)

    def weight(self, point, logits):
        return logits.square()


class OfItsOwn(Regularizer):
    where = ("fake",)

    def penalty(self, scores, context):
        return scores["fake"].gradient.abs().sum()


@pytest.mark.parametrize(
    ("regularizer", "why"),
    [
        ("wgan-gp", "not linear"),
        ("wgan-lp", "not linear"),
        ("dragan", "not linear"),
        (WithoutRoot(), "without its root"),
        (OfItsOwn(), "no gradient penalty"),
    ],
)
def test_signs_are_refused_where_they_would_estimate_something_else(regularizer, why):
    critic, (real, fake) = Two(), data()
    if isinstance(regularizer, str):
        regularizer = build("regularizer", regularizer)

    def loss(rule):
        game = Game("wasserstein", outputs=rule)
        object.__setattr__(game, "regularizers", (regularizer,))
        return game.critic_loss(critic, real, fake)

    with pytest.raises(SteadyganError, match=f"{why}.*5 logits.*outputs='mean'"):
        loss("each")
    assert loss("mean").isfinite() and loss("each:exact=5").isfinite()


# ------------------------------------------------------------ with everything else


def gradients(loss, critic):
    found = torch.autograd.grad(
        loss, list(critic.parameters()), allow_unused=True, materialize_grads=True
    )
    return torch.cat([g.flatten() for g in found])


GAMES = {
    "js": {"regularizers": ["js:gamma=0.6", "r1:gamma=2"]},
    "noise": {"regularizers": ["r1r2"], "smoothing": "instance-noise:sigma=0.3"},
    "between": {"objective": "relativistic", "regularizers": ["gp0", "lecam"]},
    "in the generator": {"regularizers": ["js", "r2"], "regularize_generator": True},
}


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("name", GAMES)
def test_all_ways_give_the_same_gradient(name, labelled):
    """Loss, both paths and both kinds of players, with the same draws, signs included."""
    game = Game(**{"objective": "nonsaturating", **GAMES[name]})
    critic, (real, fake) = Two(), data()
    labels = (
        (torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([2, 2, 1, 0, 0, 1])) if labelled else None
    )
    expected = gradients(
        game.critic_loss(critic, real, fake, labels=labels, at=Context(rng=rng())), critic
    )
    for path in ("auto", "joined", "separate"):
        _, found = critic_gradient(
            game,
            critic,
            real,
            fake,
            list(critic.parameters()),
            labels=labels,
            at=Context(rng=rng()),
            path=path,
        )
        found = torch.cat(
            [
                (torch.zeros_like(p) if g is None else g).flatten()
                for g, p in zip(found, critic.parameters(), strict=True)
            ]
        )
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)

    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.by = nn.Parameter(torch.zeros(3, dtype=torch.float64))

        def forward(self, z, y=None):
            return z + self.by

    batch = Batch(real, fake, labels)
    for players in (
        FunctionalPlayers(game, Shift(), critic, lambda: batch, Context(rng=rng()), lr=0.1),
        OptimizerPlayers(
            game,
            Shift(),
            critic,
            lambda: batch,
            Context(rng=rng()),
            optimizers={},
            path="auto",
        ),
    ):
        found = players.gradient("critic", batch)
        torch.testing.assert_close(
            torch.cat([g.flatten() for g in found.values()]), expected, rtol=1e-10, atol=1e-12
        )
        moves = players.gradient("generator", batch)["by"]
        assert moves.abs().max() > 1e-6


def test_compiled_signs_do_not_come_from_a_generator():
    critic, (real, fake) = Two(), data()
    game = Game("nonsaturating", "js")
    with pytest.raises(SteadyganError, match="cannot draw the signs"):
        critic_backward(game, critic, real, fake, at=Context(rng=rng()), path="compiled")


def test_the_generators_regularized_loss_is_the_objective_minus_the_penalty():
    critic, (real, fake) = Two(), data()
    games = [Game("minimax", "r2:gamma=2", regularize_generator=flag) for flag in (False, True)]
    plain, less = (g.generator_loss(critic, real, fake, at=Context(rng=rng())) for g in games)
    penalty = games[0].critic_terms(critic, real, fake, at=Context(rng=rng())).penalty
    torch.testing.assert_close(less, plain - penalty, rtol=1e-12, atol=0)


def test_lazy_penalties_and_penalties_of_a_share():
    game, critic, (real, fake) = Game("nonsaturating", "js:gamma=0.6"), Two(), data()
    lazy = [
        game.lazy(update, 4).critic_terms(critic, real, fake, at=Context(rng=rng()))
        for update in (0, 1)
    ]
    assert lazy[1].penalty == 0
    now = game.critic_terms(critic, real, fake, at=Context(rng=rng())).penalty
    torch.testing.assert_close(lazy[0].penalty, 4 * now)
    half, _ = critic_gradient(
        game, critic, real, fake, list(critic.parameters()), at=Context(rng=rng()), share=0.5
    )
    few = game.critic_terms(critic, real[:3], fake[:3], at=Context(rng=rng()))
    whole = game.critic_terms(critic, real, fake, at=Context(rng=rng()))
    torch.testing.assert_close(half.penalty, few.penalty)
    torch.testing.assert_close(half.terms.objective, whole.objective)


def test_what_is_remembered_of_each_output():
    critic, (real, fake) = Two(), data()
    game, alone = Game("hinge", "lecam:gamma=1"), [Game("hinge", "lecam:gamma=1") for _ in range(2)]
    memory, own = {}, [{}, {}]
    for step in range(3):
        here = real + step, fake - step
        terms = game.critic_terms(critic, *here, at=Context(memory=memory))
        parts = []
        for place in (0, 1):
            part = alone[place].critic_terms(
                Part(critic, place), *here, at=Context(memory=own[place])
            )
            own[place] = alone[place].observe(part.scores, own[place])
            parts.append(part.penalty)
        torch.testing.assert_close(terms.penalty, parts[0] + parts[1])
        memory = game.observe(terms.scores, memory)
    assert set(memory) == {"lecam.real", "lecam.fake", "lecam.real@1", "lecam.fake@1"}
    assert memory["lecam.real@1"] == own[1]["lecam.real"] != memory["lecam.real"]


def test_features_are_handed_on():
    critic, (real, fake) = Two(), data()
    fake.requires_grad_()
    for settings in ({}, {"regularizers": ["r2"], "regularize_generator": True}):
        game = Game("nonsaturating", **settings)
        terms = game.generator_terms(critic, real, fake, at=Context(rng=rng()))
        assert terms.loss == game.generator_loss(critic, real, fake, at=Context(rng=rng()))
        for name, x in (("real", real), ("fake", fake)):
            (h, twice), none = terms.scores[name].features
            assert torch.equal(h, critic.body(x)) and torch.equal(twice, 2 * h) and none == ()
        matching = (
            (terms.scores["fake"].features[0][0] - terms.scores["real"].features[0][0]).abs().mean()
        )
        assert torch.autograd.grad(matching, fake)[0].abs().sum() > 0
    assert not Game("nonsaturating").generator_terms(critic, None, fake).scores.keys() - {"fake"}


def test_one_score_of_many_outputs_is_their_mean():
    critic, (real, _) = Two(), data()
    found = score(critic, Samples(real), gradient=True)
    (m, _), (o, _) = critic(real)
    torch.testing.assert_close(found.logits, (m.mean(1) + o.squeeze(1)) / 2)
    x = real.clone().requires_grad_()
    torch.testing.assert_close(
        found.gradient, torch.autograd.grad(score(critic, Samples(x)).logits.sum(), x)[0]
    )
    assert [t.shape for t in score(critic, Samples(real)).outputs] == [(6, 4), (6, 1)]


def test_sizes_that_differ_between_points_are_refused():
    critic = nn.Conv1d(1, 1, 2).double()
    real, fake = (
        torch.zeros(2, 1, 4, dtype=torch.float64),
        torch.zeros(2, 1, 3, dtype=torch.float64),
    )
    with pytest.raises(SteadyganError, match="different numbers of logits"):
        Game("nonsaturating", "r1r2").critic_loss(critic, real, fake)
