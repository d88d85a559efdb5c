"""Chains in closed form: against autograd layer by layer, and against the separate path as a
whole."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_paths import GAMES, gradient
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from steadygan import Game, SteadyganError, build
from steadygan.core.gradients import critic_backward, decide
from steadygan.core.gradients.chain import quick
from steadygan.core.gradients.curves import CURVES
from steadygan.core.players import PLAYERS, Batch, OptimizerPlayers, plans
from steadygan.core.players.stacked import FleetPlayers, stack
from steadygan.runs.members import grid
from steadygan.training import Config, resume, train_fleet

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.3),
    "relu6": nn.ReLU6,
    "hardtanh": lambda: nn.Hardtanh(-0.5, 0.7),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": lambda: nn.Softplus(1.3, 2.0),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU("tanh"),
    "elu": lambda: nn.ELU(0.6),
    "none": nn.Identity,
}


def test_every_curve_is_tried():
    assert set(CURVES) == {type(make()) for make in ACTIVATIONS.values()} - {nn.Identity}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_of_curves_are_those_of_autograd(name):
    layer = ACTIVATIONS[name]()
    if type(layer) not in CURVES:
        return
    curve, rng = CURVES[type(layer)](layer), torch.Generator().manual_seed(0)
    a, q, r = torch.randn(3, 2000, dtype=torch.float64, generator=rng) * 2.5
    a.requires_grad_()
    h = layer(a)
    (one,) = torch.autograd.grad(h.sum(), a, create_graph=True)
    two = torch.autograd.grad(one.sum(), a)[0] if one.requires_grad else torch.zeros_like(a)
    a, h, one = a.detach(), h.detach(), one.detach()
    torch.testing.assert_close(curve.value(curve.gain * a), h, rtol=1e-13, atol=1e-15)
    at = h if curve.of_value else a
    kept = q.clone()
    torch.testing.assert_close(curve.first(q, at, keep=True), one * q, rtol=1e-12, atol=1e-13)
    assert torch.equal(q, kept)
    assert curve.straight == bool((two == 0).all())
    expected = one * q + two * r
    torch.testing.assert_close(curve.first(q.clone(), at), one * q, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(curve.second(q, r, at), expected, rtol=1e-11, atol=1e-12)
    low = a.float()
    if name == "tanh":
        found = curve.value(curve.gain * low).double()
        torch.testing.assert_close(found, layer(low.double()), rtol=0, atol=2e-7)
    else:
        assert torch.equal(curve.value(low.clone()), layer(low))


@st.composite
def chains(draw):
    """A chain of linear layers, its event and two batches of different meaning, in double."""
    event = draw(st.sampled_from([(1,), (3,), (2, 3)]))
    sizes = [torch.Size(event).numel(), *draw(st.lists(st.integers(1, 40), max_size=3)), 1]
    torch.manual_seed(draw(st.integers(0, 99)))
    layers = [nn.Flatten()] if len(event) > 1 else []
    for n, m in itertools.pairwise(sizes):
        kind = draw(st.sampled_from(sorted(ACTIVATIONS)))
        layers += [nn.Linear(n, m, bias=draw(st.booleans())), ACTIVATIONS[kind]()]
    if draw(st.booleans()):
        layers[-1] = nn.Identity()
    rows = draw(st.sampled_from([(2, 2), (5, 5), (7, 3)]))
    batches = tuple(torch.randn(n, *event, dtype=torch.float64) * 0.8 + 0.3 for n in rows)
    return nn.Sequential(*layers).double(), batches


@given(chains(), st.sampled_from(sorted(GAMES)))
@settings(max_examples=60, deadline=None)
def test_a_chain_is_the_separate_path(case, name):
    critic, (real, fake) = case
    if len(real) != len(fake) and name in ("wgan-gp", "relativistic, noisy"):
        real = real[: len(fake)]
    found, fast = gradient(GAMES[name], critic, "chain", (real, fake))
    reference, slow = gradient(GAMES[name], critic, "separate", (real, fake))
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.stack(found[:2]), torch.stack(reference[:2]), rtol=1e-12, atol=1e-13
    )
    for mine, theirs in zip(found[2:4], reference[2:4], strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.allclose(mine, theirs, rtol=1e-12)


def mlp(*middle, n=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n, 6), nn.Tanh(), *middle, nn.Linear(6, 1)).double()


def data(n=3, dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 5, n, dtype=dtype, generator=rng))


def test_weights_that_are_shared_frozen_or_computed():
    layer, critics = nn.Linear(6, 6), [mlp(nn.Linear(6, 6), nn.ELU()), mlp(nn.Linear(6, 6))]
    critics[0][0].weight.requires_grad_(False)
    critics[1][2] = spectral_norm(critics[1][2])
    for critic in (*critics, mlp(layer, nn.SiLU(), layer, nn.Tanh())):
        found, fast = gradient(GAMES["js"], critic, "auto", data())
        slow = gradient(GAMES["js"], critic, "separate", data())[1]
        assert found.path == "chain" and slow.norm() > 1e-2
        torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-12)


def test_it_accumulates_as_autograd_does():
    critic, seen = mlp(), []
    weight = critic[0].weight
    weight.grad = held = torch.ones_like(weight)
    weight.register_hook(lambda g: 2 * g)
    weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    critic_backward(GAMES["js"], critic, *data(), path="chain", scale=3.0)
    plain = mlp()
    GAMES["js"].critic_loss(plain, *data()).backward()
    torch.testing.assert_close(weight.grad, 1 + 6 * plain[0].weight.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(critic[2].bias.grad, 3 * plain[2].bias.grad)
    assert weight.grad is held and len(seen) == 1 and torch.equal(seen[0], weight.grad)


class Louder(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


def hooked(critic):
    critic[1].register_forward_hook(lambda module, inputs, out: 2 * out)
    return critic


@pytest.mark.parametrize(
    ("critic", "why"),
    [
        (hooked(mlp()), "Tanh has hooks"),
        (Louder(nn.Linear(3, 1)).double(), "Louder is neither"),
        (mlp(nn.Dropout(0.5)), "Dropout is neither"),
        (mlp(nn.ReLU()), "ReLU is not behind"),
        (mlp(nn.LayerNorm(6)), "LayerNorm is neither"),
        (mlp(nn.LeakyReLU(-0.1)), "LeakyReLU is not behind"),
        (torch.jit.trace(mlp(), data()[0]), "TopLevelTracedModule is neither"),
    ],
)
def test_what_is_no_chain_is_told_and_goes_another_way(critic, why):
    record, _ = gradient(GAMES["js"], critic, "auto", data())
    assert record.path != "chain"
    with pytest.raises(SteadyganError, match=why):
        critic_backward(GAMES["js"], critic, *data(), path="chain")


def test_a_hook_that_comes_later_ends_the_chain_at_that_step():
    critic = mlp()
    assert gradient(GAMES["js"], critic, "auto", data())[0].path == "chain"
    points = GAMES["js"].points(*data())
    assert decide(GAMES["js"], critic, points).path == "chain"
    hooked(critic)
    found = critic_backward(GAMES["js"], critic, *data())
    assert found.path == "joined" and "tanh" in found.why
    mine = torch.cat([p.grad.flatten() for p in critic.parameters()])
    torch.testing.assert_close(mine, gradient(GAMES["js"], critic, "separate", data())[1])


def test_half_precision_and_vectors_of_vectors_are_left_to_the_others():
    critic = mlp().float()
    with torch.autocast("cpu", torch.bfloat16):
        assert critic_backward(GAMES["js"], critic, *data(dtype=torch.float32)).path == "joined"
    rows = torch.randn(2, 4, 1, 3, dtype=torch.float64)
    assert critic_backward(GAMES["js"], mlp(), *rows).path == "joined"


def test_a_generator_in_closed_form_moves_as_by_autograd():
    network = build("network", "mlp:width=7,depth=2,activation=silu")
    found = []
    for chains in (False, True):
        torch.manual_seed(0)
        generator, critic = network.generator((2, 3), 4).double(), network.critic((2, 3)).double()
        rng = torch.Generator().manual_seed(1)
        real, z = (torch.randn(5, *s, dtype=torch.float64, generator=rng) for s in ((2, 3), (4,)))
        batch = Batch(real, z)
        players = OptimizerPlayers(
            Game("relativistic", "r1:gamma=1"),
            generator,
            critic,
            lambda batch=batch: batch,
            optimizers={
                "generator": torch.optim.SGD(generator.parameters(), 0.1),
                "critic": torch.optim.SGD(critic.parameters(), 0.1),
            },
            path="auto",
            chains=chains,
        )
        for _ in range(3):
            build("dynamics", "alternating").step(players)
        assert all(p.grad is None for p in critic.parameters())
        found.append(torch.cat([p.flatten() for p in (*generator.parameters(),)]))
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-13)
    assert type(quick(generator, learns=True)(z).grad_fn).__name__ == "ViewBackward0"


FLEETS = [("nonsaturating", "js:gamma=0.5"), ("wasserstein", "wgan-gp:gamma=3"), ("hinge", ())]
FLEETS += [("relativistic", ["r1:gamma=1", "lecam"], "instance-noise:sigma=0.2")]


def fleet(game, network, members, **settings):
    """Return the players of a fleet of small GANs in double precision, its data and draws fixed."""
    torch.manual_seed(0)
    nets = [(network.generator((2, 3), 4), network.critic((2, 3))) for _ in range(members)]
    pair = [stack(each).double() for each in zip(*nets, strict=True)]
    batch = Batch(*(torch.randn(members, 5, *s, dtype=torch.float64) for s in ((2, 3), (4,))))
    return FleetPlayers(
        [Game(*game)] * members,
        *pair,
        lambda: batch,
        rngs=[torch.Generator().manual_seed(i) for i in range(members)],
        optimizers={
            name: torch.optim.SGD(net.parameters(), 0.1)
            for name, net in zip(PLAYERS, pair, strict=True)
        },
        rates={name: [0.1, 0.2, *[0.1] * (members - 2)] for name in PLAYERS},
        **settings,
    )


def moved(players, dynamics, steps):
    """Return where steps lead, with what was noted on the way, flat."""
    for _ in range(steps):
        build("dynamics", dynamics).step(players)
    ends = [p.flatten() for name in PLAYERS for p in players.values(name).values()]
    ends += [players.terms.loss, players.terms.penalty, players.generator_loss]
    ends += [s.logits.flatten() for s in players.terms.scores.values()]
    return torch.cat([*ends, *players.context.memory.values()]).detach()


@pytest.mark.parametrize(
    ("dynamics", "activation", "share"),
    [
        ("alternating", "tanh", 1.0),
        ("simultaneous", "leaky-relu", 0.5),
        ("optimistic", "silu", 1.0),
    ],
)
def test_a_fleet_in_closed_form_moves_as_by_vmap(dynamics, activation, share):
    network = build("network", f"mlp:width=7,depth=2,activation={activation}")
    for game in FLEETS:
        ways = (fleet(game, network, 3, penalty_share=share, chains=c) for c in (False, True))
        found = [moved(players, dynamics, 3) for players in ways]
        torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)


def test_looks_stay_what_they_are_when_they_are_traced_and_taken_in_parts(monkeypatch):
    network, traced = build("network", "mlp:width=8,depth=2"), []
    trace = plans.trace_tree
    monkeypatch.setattr(plans, "trace_tree", lambda *a, **k: traced.append(a[1]) or trace(*a, **k))
    found = []
    for numbers in (2 * 5 * 8, 1 << 19):  # two and all members at a time
        monkeypatch.setattr(plans, "_CACHED", numbers)
        for often in (2, 100):
            monkeypatch.setattr(plans, "OFTEN", often)
            players = fleet(FLEETS[3], network, 5, chains=True)
            found.append(moved(players, "alternating", 3))
        assert torch.equal(*found[-2:])
    assert [len(given["batch"][0]) for given in traced] == [2, 2, 5, 5]
    torch.testing.assert_close(found[0], found[2], rtol=1e-12, atol=1e-13)


def test_a_fleet_that_was_begun_by_vmap_goes_on_by_it(tmp_path):
    problem, told = build("problem", "circle2d"), {}
    config = Config(network="mlp:width=8", regularizer=("r1",), steps=4, batch=8)
    for kind in ("new", "old"):
        path = tmp_path / kind
        train_fleet(problem, grid(replace(config, steps=2), 2), path, show=False)
        found = json.loads((path / "config.json").read_text())
        told[kind] = found.pop("critic_gradient")["path"]
        if kind == "old":
            (path / "config.json").write_text(json.dumps(found))
        resume(path, steps=4, show=False)
        told[kind] = told[kind], json.loads((path / "config.json").read_text())["critic_gradient"]
    assert told["new"][0] == told["new"][1]["path"] == "chain"
    assert told["old"][1]["path"] == "separate"


class Gained(nn.Linear):
    """A layer with a forward of its own, as those of equalized learning rates."""

    gain = 2.0

    def forward(self, x):
        return nn.functional.linear(x, self.weight * self.gain, self.bias)


def test_a_parametrized_layer_with_a_forward_of_its_own_is_no_link():
    critic = mlp(spectral_norm(Gained(6, 6)), nn.Tanh()).eval()
    found, mine = gradient(GAMES["js"], critic, "auto", data())
    assert found.path == "joined"
    slow = gradient(GAMES["js"], critic, "separate", data())[1]
    torch.testing.assert_close(mine, slow, rtol=1e-11, atol=1e-12)
    critic[2].gain = 1.0  # what a class does may hang on what no check of a copy has seen
    with pytest.raises(SteadyganError, match="ParametrizedGained has a forward of its own"):
        critic_backward(GAMES["js"], critic, *data(), path="chain")
