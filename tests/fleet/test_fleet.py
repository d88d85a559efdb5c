"""A fleet: a member is the same GAN trained alone, whatever happens to the others, and a stopped
fleet continues with the same bits."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from steadygan import SteadyganError, build, register
from steadygan.core.couples import Couples
from steadygan.core.players import PLAYERS
from steadygan.core.players.members import finite
from steadygan.core.registry import unregister
from steadygan.problems import Images
from steadygan.problems.networks import MLP
from steadygan.runs import checkpoint
from steadygan.runs.members import grid
from steadygan.runs.models import load_member
from steadygan.runs.optimizers import SGD
from steadygan.training import Config, Watcher, resume, train, train_fleet
from steadygan.training.fleet import Fleet
from steadygan.training.single import Single

CIRCLE = build("problem", "circle2d")
SMALL = Config(
    network="mlp:width=8",
    steps=6,
    batch=8,
    log_every=2,
    evaluate_every=3,
    checkpoint_every=2,
    optimizer="sgd:lr=0.05",
    device="cpu",
)


class Press(Watcher):
    """Someone who presses Ctrl-C at a step."""

    def __init__(self, step):
        self.step = step

    def stepped(self, training):
        training.interrupt.seen |= training.step == self.step


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def steps(trainer, count, total=10):
    for k in range(count):
        trainer.players.context = replace(trainer.players.context, progress=k / total)
        trainer.dynamics.step(trainer.players)


def fleet_of(configs, problem=CIRCLE, **settings):
    return Fleet(problem, configs, **settings)


def differences(fleet, problem=CIRCLE, count=5):
    """The largest difference of any parameter, buffer, loss, moving average or stream of a member
    from the same GAN trained alone."""
    steps(fleet, count)
    worst = 0.0
    for i, config in enumerate(fleet.members):
        alone = Single(problem, config)
        steps(alone, count)
        pairs = [
            (p, fleet.players.values(name)[key][i])
            for name in PLAYERS
            for key, p in alone.players.values(name).items()
        ]
        pairs += [
            (alone.players.terms.loss, fleet.players.terms.loss[i]),
            (alone.players.terms.penalty, fleet.players.terms.penalty[i]),
        ]
        pairs += [(alone.players.generator_loss, fleet.players.generator_loss[i])]
        pairs += [
            (t, getattr(fleet.players, name).get_buffer(key)[i])
            for name in PLAYERS
            for key, t in getattr(alone, name).named_buffers()
        ]
        pairs += [
            (value, fleet.players.context.memory[key][i])
            for key, value in alone.players.context.memory.items()
        ]
        worst = max(worst, *((a - b).abs().max().item() for a, b in pairs))
        assert torch.equal(alone.latents[0].get_state(), fleet.latents[i].get_state())
        assert torch.equal(alone.noises[0].get_state(), fleet.players.rngs[i].get_state())
    return worst


# Everything that a step can depend on; members differ in seed and, within braces, in strengths and
# learning rates.
GAMES = {
    "none": {},
    "wgan-gp": {"objective": "wasserstein", "regularizer": ("wgan-gp:gamma={1,20}",)},
    "js annealed": {"objective": "minimax", "regularizer": ("js:gamma={0.5,2},anneal=0.01",)},
    "instance noise": {"smoothing": "instance-noise:sigma={0.1,1}", "regularizer": ("r1",)},
    "annealed noise": {
        "smoothing": "instance-noise:sigma=0.5,anneal=0.1",
        "regularizer": ("gp0", "dragan"),
    },
    "explicit noise": {"smoothing": "explicit-noise:variance={0.01,0.1},nsr=4"},
    "lecam": {"regularizer": ("lecam:gamma={0.1,1}", "r2")},
    "auto": {"regularizer": ("js:gamma=auto,start={0.1,5}", "lecam")},
    "critic steps": {
        "dynamics": "alternating:critic_steps=3,order=generator-first",
        "regularizer": ("r1r2",),
    },
    "shared batch": {"dynamics": "alternating:share=true"},
    "simultaneous": {"dynamics": "simultaneous", "objective": "relativistic-average"},
    "consensus": {"dynamics": "consensus:gamma=0.5", "smoothing": "instance-noise"},
    "extragradient": {
        "dynamics": "extragradient",
        "regularizer": ("lecam",),
        "optimizer": "sgd:lr={0.01,0.1}",
    },
    "optimistic": {"dynamics": "optimistic", "regularizer": ("r1:gamma={0,3}",)},
    "unrolled": {
        "dynamics": "unrolled:steps=2",
        "critic_optimizer": "sgd:lr={0.02,0.2}",
        "smoothing": "instance-noise",
    },
    "unrolled without backprop": {"dynamics": "unrolled:steps=3,step_size=0.1,backprop=false"},
    "clip": {
        "objective": "wasserstein",
        "constraint": "clip:c=0.1",
        "optimizer": "sgd:lr={0.01,0.5}",
    },
    "lazy": {"penalty_every": 3, "regularizer": ("r1:gamma={1,3},anneal=0.1", "lecam")},
    "lazy, in other rounds": {
        "penalty_every": 2,
        "dynamics": "alternating:critic_steps=3",
        "regularizer": ("dragan:gamma={1,3}",),
    },
    "a share": {"penalty_share": 0.4, "regularizer": ("js:gamma={1,3}", "wgan-gp", "lecam")},
    "a lazy share": {
        "penalty_share": 0.5,
        "penalty_every": 2,
        "regularizer": ("r1r2:gamma={1,3}",),
    },
    "adam": {"optimizer": "adam:lr={0.001,0.1},beta1=0.5"},
    "rmsprop and momentum": {
        "optimizer": "rmsprop:lr={0.001,0.1}",
        "critic_optimizer": "sgd:lr=0.1,momentum=0.9",
    },
    "batch norm": {
        "network": "mlp:width=8,norm=batch,critic_norm=batch",
        "regularizer": ("js:gamma={0.5,2}", "r2:gamma={0,3}", "lecam"),
        "dynamics": "alternating:critic_steps=2",
        "smoothing": "instance-noise:sigma=0.2",
    },
    "batch norm, a shared batch": {
        "network": "mlp:width=8,norm=batch,critic_norm=batch",
        "regularizer": ("r1:gamma={0,2}",),
        "dynamics": "alternating:share=true",
    },
    "batch norm, unrolled": {
        "network": "mlp:width=8,norm=batch,critic_norm=batch",
        "regularizer": ("r1:gamma={0,2}",),
        "dynamics": "unrolled:steps=2",
    },
    "batch norm, unrolled, a penalty on generated samples": {
        "network": "mlp:width=8,critic_norm=batch",
        "regularizer": ("js:gamma={0.5,2}", "r2"),
        "dynamics": "unrolled:steps=2",
    },
    "batch norm, consensus, penalties at samples that hang on each other": {
        "network": "mlp:width=8,critic_norm=batch",
        "regularizer": ("r2:gamma={1,3}", "gp0"),
        "dynamics": "consensus:gamma=0.1",
        "optimizer": "sgd:lr=0.001",
    },
    "batch norm, lazy": {
        "network": "mlp:width=8,critic_norm=batch",
        "regularizer": ("r1:gamma={0,2}",),
        "penalty_every": 3,
        "objective": "relativistic-average",
    },
    "spectral norm": {
        "network": "mlp:width=8,norm=batch,critic_norm=spectral",
        "regularizer": ("wgan-gp:gamma={1,20}",),
        "objective": "wasserstein",
        "dynamics": "alternating:critic_steps=2",
    },
    "spectral norm, unrolled, a penalty on generated samples": {
        "network": "mlp:width=8,critic_norm=spectral",
        "regularizer": ("js:gamma={0.5,2}",),
        "dynamics": "unrolled",
    },
}


@pytest.mark.parametrize("game", GAMES)
def test_a_member_is_the_same_gan_trained_alone(double, game):
    members = grid(replace(SMALL, **GAMES[game]), seeds=(0, 7))
    assert differences(fleet_of(members)) < 1e-10


@dataclass(frozen=True)
class ManyHeaded(MLP):
    """An MLP whose critic has a map of five logits and one logit more. Reference: a test."""

    def critic(self, event, classes=None):
        """Return both heads on one body."""
        return _Heads(super().critic(event, classes), self.width)


class _Heads(torch.nn.Module):
    def __init__(self, whole, width):
        super().__init__()
        self.body, self.whole = whole.features, whole.head
        self.map = torch.nn.Linear(width, 5)

    def forward(self, x):
        h = self.body(x)
        return {"whole": self.whole(h), "map": self.map(h)}


@pytest.fixture
def many_headed():
    yield register("network", "many-headed")(ManyHeaded)
    unregister(ManyHeaded)


@pytest.mark.parametrize("regularizer", [("js:gamma={0.5,2}", "lecam"), ("gp0", "r1:gamma={1,9}")])
def test_a_member_of_many_outputs_is_the_same_gan_trained_alone(double, many_headed, regularizer):
    """Its signs, too, come from its own stream of noise."""
    members = grid(
        replace(SMALL, network="many-headed:width=8", regularizer=regularizer), seeds=(0, 7)
    )
    fleet = fleet_of(members)
    assert differences(fleet) < 1e-10
    assert {s.outputs[1].shape[1:] for s in fleet.players.terms.scores.values()} == {(8, 5)}


@dataclass(frozen=True)
class Bound(MLP):
    """A critic that is a chain, one of whose biases is not its own. Reference: a test."""

    how: str = "tied"

    def critic(self, event, classes=None):
        """Return the critic."""
        sizes = [(2, 8), (8, 8), (8, 1)]
        first, second, last = (torch.nn.Linear(*size) for size in sizes)
        if self.how == "tied":
            second.bias = first.bias
        else:
            parametrize.register_parametrization(second, "bias", torch.nn.Softplus())
        return torch.nn.Sequential(first, torch.nn.Tanh(), second, torch.nn.Tanh(), last)


@pytest.mark.parametrize("how", ["tied", "computed"])
def test_a_bias_that_is_not_the_layers_own_is_there_all_the_same(double, how):
    register("network", "bound")(Bound)
    try:
        given = replace(SMALL, network=f"bound:width=8,how={how}", regularizer=("r1",))
        assert differences(fleet_of(grid(given, seeds=2))) < 1e-10
    finally:
        unregister(Bound)


@dataclass(frozen=True)
class Fourier(MLP):
    """A critic of random features, held in one way or another. Reference: a test."""

    how: str = "buffer"

    def critic(self, event, classes=None):
        """Return the critic behind its features."""
        return torch.nn.Sequential(_Features(self.how), super().critic((8,), classes))


class _Features(torch.nn.Module):
    def __init__(self, how):
        super().__init__()
        layer = torch.nn.Linear(2, 8)
        B = torch.eye(2, 8) if how == "fixed" else layer.weight.detach().T.clone()
        if how == "buffer":
            self.register_buffer("B", B)
        else:
            self.B = {"list": [B], "layer": (layer,)}.get(how, B)
        self.how = how

    def forward(self, x):
        if self.how == "layer":
            return self.B[0](x)
        return torch.sin(x @ (self.B[0] if self.how == "list" else self.B))


@pytest.mark.parametrize("how", ["buffer", "fixed", "plain", "list", "layer"])
def test_what_members_hold_without_registering_it_is_refused_where_it_differs(double, how):
    register("network", "fourier")(Fourier)
    try:
        members = grid(replace(SMALL, network=f"fourier:width=8,how={how}"), seeds=2)
        if how in ("buffer", "fixed"):
            assert differences(fleet_of(members)) < 1e-10
        else:
            with pytest.raises(SteadyganError, match=r"differ in 0\.B, .*register_buffer"):
                fleet_of(members)
    finally:
        unregister(Fourier)


@dataclass(frozen=True)
class Crowded(MLP):
    """An MLP whose critic sees the deviation of its batch. Reference: a test."""

    def critic(self, event, classes=None):
        """Return the critic behind what couples its samples."""
        return torch.nn.Sequential(_Deviation(), super().critic(event, classes))


class _Deviation(torch.nn.Module):
    couples = Couples("deviation of the minibatch", "batch")

    def forward(self, x):
        return x * (1 + x.std(0).mean())


def test_members_whose_samples_see_each_other_are_the_same_gans_trained_alone(double):
    register("network", "crowded")(Crowded)
    try:
        given = replace(SMALL, network="crowded:width=8", regularizer=("js:gamma={0.5,2}", "lecam"))
        assert differences(fleet_of(grid(given))) < 1e-10
        with pytest.raises(SteadyganError, match=r"its layer 0 \(_Deviation\) couples samples"):
            fleet_of(grid(replace(given, penalty_share=0.5)))
    finally:
        unregister(Crowded)


@dataclass(frozen=True)
class Odd(ManyHeaded):
    """A critic of many outputs behind batch normalisation. Reference: a test."""

    def critic(self, event, classes=None):
        """Return the critic."""
        return torch.nn.Sequential(torch.nn.BatchNorm1d(2), super().critic(event, classes))


@dataclass(frozen=True)
class Cumulative(MLP):
    """Batch normalisation by the mean of all batches so far. Reference: a test."""

    def critic(self, event, classes=None):
        """Return the critic."""
        norm = torch.nn.BatchNorm1d(2, momentum=None)
        return torch.nn.Sequential(norm, super().critic(event, classes))


@pytest.mark.parametrize(
    ("kind", "message"),
    [(Odd, "many outputs that every pass changes"), (Cumulative, "cannot be evaluated for many")],
)
def test_batch_norm_that_cannot_be_taken_at_once_is_refused(kind, message):
    register("network", "odd")(kind)
    try:
        given = replace(SMALL, network="odd:width=8", regularizer=("r1",))
        with pytest.raises(SteadyganError, match=message):
            fleet_of(grid(given, seeds=2))
    finally:
        unregister(kind)


def test_what_changes_no_buffer_keeps_them_to_the_bit(double):
    """Preparing, logging and sampling look at networks whose passes change them."""
    given = replace(SMALL, network="mlp:width=8,norm=batch,critic_norm=batch")
    fleet = fleet_of(grid(replace(given, regularizer=("r2:gamma={1,2}",))))
    steps(fleet, 2)
    held = {name: [t.clone() for t in getattr(fleet.players, name).buffers()] for name in PLAYERS}
    fleet.rows(), fleet.sample(), fleet.measure(fleet.sample()), fleet._prepare()
    for name in PLAYERS:
        pairs = zip(held[name], getattr(fleet.players, name).buffers(), strict=True)
        assert all(torch.equal(before, after) for before, after in pairs)
    counted = [t for key, t in fleet.players.critic.named_buffers() if key.endswith("tracked")]
    # Two batches for the critic and one for the generator, twice.
    assert counted and all(t.tolist() == [6, 6] for t in counted)


def test_members_differ_from_each_other(double):
    """The test above could not fail if every member were the same one."""
    fleet = fleet_of(grid(replace(SMALL, regularizer=("r1:gamma={0.1,9}",)), seeds=2))
    steps(fleet, 5)
    weights = next(iter(fleet.players.values("critic").values()))
    assert all((weights[i] - weights[j]).abs().max() > 1e-4 for i in range(4) for j in range(i))


def traced(monkeypatch):
    """Trace as for compilation, but run the traced operations as they are: what is wrong with a
    trace shows without a compiler's minute."""
    seen = []
    monkeypatch.setattr(torch, "compile", lambda graph, dynamic: seen.append(graph) or graph)
    return seen


SLOW = [
    pytest.param(game, marks=pytest.mark.slow)
    for game in ("js annealed", "consensus", "extragradient", "batch norm, unrolled")
]


@pytest.mark.parametrize(
    "game",
    [
        "annealed noise",
        "lecam",
        "auto",
        "unrolled",
        "adam",
        "a lazy share",
        "batch norm",
        "batch norm, a shared batch",
        "spectral norm",
        *SLOW,
    ],
)
def test_the_traced_gradients_are_the_same(double, monkeypatch, game):
    graphs = traced(monkeypatch)
    assert (
        differences(fleet_of(grid(replace(SMALL, **GAMES[game]), seeds=2), compiled=True)) < 1e-10
    )
    assert graphs


@pytest.mark.parametrize("compiled", [False, True])
def test_half_precision_is_as_near_as_that_of_one_gan(monkeypatch, compiled):
    traced(monkeypatch)
    config = replace(SMALL, precision="bfloat16", batch=64, regularizer=("js:gamma={0.5,2}",))
    fleet = fleet_of(grid(config, seeds=2), compiled=compiled)
    for name in PLAYERS:
        with fleet.precision():
            found = fleet.players.gradient(name, fleet._draw())
        for i, member in enumerate(fleet.members):
            mine, (theirs, exact) = (
                flat({key: g[i] for key, g in found.items()}),
                (gradient(name, replace(member, precision=p)) for p in ("bfloat16", "float32")),
            )
            assert 1e-4 < (mine - exact).norm() / exact.norm() < 0.1
            assert 1e-4 < (theirs - exact).norm() / exact.norm() < 0.1


def gradient(name, config):
    """A player's first gradient, of the batches that a fleet's member sees in that place."""
    alone = Single(CIRCLE, config)
    for _ in range(PLAYERS.index(name)):
        alone._draw()
    with alone.precision():
        return flat(alone.players.gradient(name, alone._draw()))


def flat(values):
    return torch.cat([values[key].flatten() for key in sorted(values)])


@pytest.mark.slow
def test_the_compiled_gradients_are_the_same(double):
    members = grid(
        replace(
            SMALL, regularizer=("js:gamma={0.5,2},anneal=0.01", "lecam"), smoothing="instance-noise"
        ),
        seeds=2,
    )
    assert differences(fleet_of(members, compiled=True)) < 1e-10


@pytest.mark.parametrize("norms", ["norm=none,critic_norm=none", "norm=batch,critic_norm=batch"])
def test_conditional_images_too(norms):
    problem = Images(data="digits", resolution=8, channels=1, flip=False, conditional=True)
    config = replace(
        SMALL,
        network=f"dcgan:width=4,{norms}",
        batch=4,
        latent=4,
        regularizer=("js:gamma={0.1,1}",),
    )
    fleet = fleet_of(grid(config), problem)
    x = fleet.sample()
    assert x.shape == (2, 64, 1, 8, 8)
    for i, member in enumerate(fleet.members):
        torch.testing.assert_close(x[i], Single(problem, member).sample()[0])
    assert differences(fleet, problem, count=2) < 1e-6  # images are read in single precision


# ------------------------------------------------------------ members that fall


def test_one_number_that_is_not_finite_ends_its_member():
    weights, losses = torch.zeros(4, 2, 2), torch.tensor([0.0, 1.0, torch.nan, 2.0])
    weights[1, 0, 1] = -torch.inf
    found = {"gradient": {"w": weights, "b": torch.ones(4, 2)}, "generator_loss": losses}
    assert finite(found).tolist() == [True, False, False, True]


def test_a_member_that_diverges_does_not_touch_the_others(tmp_path):
    config = replace(
        SMALL,
        objective="wasserstein",
        network="mlp:width=8,activation=relu",
        steps=40,
        evaluate_every=20,
        optimizer="sgd:lr={0.01,1e30}",
    )
    healthy = replace(config, optimizer="sgd:lr={0.01,0.02}")
    done = train_fleet(CIRCLE, grid(config, seeds=2), tmp_path / "x", show=False)
    assert [m.state for m in done.members] == [
        "finished",
        "finished",
        "stopped",
        "stopped",
    ] and done.state == "finished"
    assert all(
        "non-finite" in m.reason and 0 < m.step < 40 and not m.metrics for m in done.members[2:]
    )
    theirs = train_fleet(CIRCLE, grid(healthy, seeds=2), tmp_path / "y", show=False)
    mine, theirs = (checkpoint.load(checkpoint.latest(each.path)) for each in (done, theirs))
    for name in PLAYERS:
        for key, p in mine[name].items():
            assert torch.equal(p[:2], theirs[name][key][:2]) and p.isfinite().all()
    last = rows(done.path)[-1]
    assert last["critic_loss"][2:] == [None, None] and None not in last["critic_loss"][:2]
    assert last["metrics"]["sw1"][2:] == [None, None] and None not in last["metrics"]["sw1"][:2]
    assert [m["state"] for m in json.loads((done.path / "status.json").read_text())["members"]] == [
        m.state for m in done.members
    ]
    assert "member 2: " in (done.path / "warnings.jsonl").read_text()


def test_a_member_that_has_ended_keeps_its_averages():
    given = replace(SMALL, network="mlp:width=8,norm=batch,critic_norm=batch")
    fleet = fleet_of(grid(given, seeds=3))
    steps(fleet, 2)
    fleet.stop(1, "for a test")
    held = {name: [t.clone() for t in getattr(fleet.players, name).buffers()] for name in PLAYERS}
    steps(fleet, 2)
    for name in PLAYERS:
        for before, after in zip(held[name], getattr(fleet.players, name).buffers(), strict=True):
            same = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert same == [False, True, False]


def test_when_no_member_is_left_the_fleet_stops(tmp_path):
    config = replace(
        SMALL,
        objective="wasserstein",
        network="mlp:width=8,activation=relu",
        steps=200,
        optimizer="sgd:lr=1e30",
    )
    done = train_fleet(CIRCLE, grid(config, seeds=2), tmp_path / "x", show=False)
    assert (done.state, done.reason) == ("stopped", "no member is left") and done.step < 200
    with pytest.raises(SteadyganError, match="no member left"):
        resume(done.path, show=False)


def test_a_member_stops_on_the_trouble_that_was_asked_for(tmp_path):
    """The member whose critic learns fast wins and stays where it was; the one whose critic hardly
    learns goes on."""
    config = replace(
        SMALL,
        steps=400,
        log_every=5,
        evaluate_every=400,
        checkpoint_every=5,
        keep_checkpoints=100,
        batch=32,
        optimizer="adam:lr=0.0001",
        critic_optimizer="adam:lr={0.00001,0.1}",
    )
    done = train_fleet(
        build("problem", "mixture3d"),
        grid(replace(config, stop_on=("critic-won",))),
        tmp_path / "x",
        show=False,
    )
    slow, fast = done.members
    assert slow.state == "finished" and slow.step == 400
    assert (
        fast.state == "stopped"
        and fast.step < 400
        and "critic-won" in fast.reason
        and fast.metrics["sw1"] > 0
    )
    last = rows(done.path)[-1]
    assert last["critic_loss"][1] is None and last["metrics"]["sw1"][1] is not None
    stopped = done.path / f"checkpoints/step-{fast.step:08d}.safetensors"
    before, after = (
        [load_member(done.path, i, path)[1:] for i in (0, 1)]
        for path in (stopped, checkpoint.latest(done.path))
    )
    moved = [
        [
            not torch.equal(p, q)
            for m, n in zip(*each, strict=True)
            for p, q in zip(m.parameters(), n.parameters(), strict=True)
        ]
        for each in zip(before, after, strict=True)
    ]
    assert all(moved[0]) and not any(moved[1])


# ------------------------------------------------------------ the folder


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_the_figures_and_samples_are_those_of_runs_of_their_own(double, tmp_path):
    members = grid(
        replace(
            SMALL, optimizer="adam:lr=0.01", regularizer=("r1:gamma={1,5},anneal=0.1",), ema=0.9
        ),
        seeds=(2, 3),
    )
    done = train_fleet(CIRCLE, members, tmp_path / "fleet", show=False)
    for i, member in enumerate(members):
        alone = train(CIRCLE, member, tmp_path / f"{i}", show=False)
        for mine, theirs in zip(rows(done.path), rows(alone.path), strict=True):
            metrics, expected = mine.pop("metrics", {}), theirs.pop("metrics", {})
            assert mine["step"] == theirs["step"] and mine.keys() == theirs.keys()
            for key in mine.keys() - {"step", "seconds"}:
                assert mine[key][i] == pytest.approx(theirs[key], rel=1e-9), key
            assert {key: values[i] for key, values in metrics.items()} == pytest.approx(
                expected, rel=1e-6
            )
        for step in (0, 3, 6):
            names = [path / f"samples/step-{step:08d}.npz" for path in (done.path, alone.path)]
            mine, theirs = (np.load(name)["samples"] for name in names)
            assert mine.shape == (4, 5120, 2)
            np.testing.assert_allclose(mine[i], theirs, rtol=1e-5, atol=1e-6)
        config, generator, critic = load_member(done.path, i)
        assert (config.seed, config.regularizer) == (member.seed, member.regularizer)
        tree = checkpoint.load(checkpoint.latest(alone.path))
        for mine, theirs in (
            (generator.state_dict(), tree["ema"]),
            (critic.state_dict(), tree["critic"]),
        ):
            assert all(
                torch.allclose(value, theirs[key], rtol=1e-9, atol=1e-12)
                for key, value in mine.items()
            )
        assert done.members[i].metrics == {
            key: values[i] for key, values in rows(done.path)[-1]["metrics"].items()
        }


RESUMED = {
    "lazy and a share": {
        "regularizer": ("r1:gamma={1,9}",),
        "penalty_every": 4,
        "penalty_share": 0.5,
        "log_every": 1,
    },
    "adam, averages": {"optimizer": "adam:lr={0.001,0.01}", "ema": 0.9},
    "batch norm, averages": {
        "network": "mlp:width=8,norm=batch,critic_norm=batch",
        "regularizer": ("r1:gamma={1,9}",),
        "ema": 0.9,
    },
    "lecam, optimistic, noise": {
        "regularizer": ("lecam:gamma={1,2},anneal=0.1",),
        "dynamics": "optimistic",
        "smoothing": "instance-noise",
        "optimizer": "sgd:lr=0.05,momentum=0.9",
    },
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_fleet_has_the_same_bits(tmp_path, case):
    members = grid(replace(SMALL, **RESUMED[case]), seeds=2)
    whole = train_fleet(CIRCLE, members, tmp_path / "whole", show=False)
    cut = train_fleet(CIRCLE, members, tmp_path / "cut", show=False, watchers=[Press(3)])
    assert (cut.state, cut.step) == ("interrupted", 3) and cut.members[0].state == "interrupted"
    done = resume(cut.path, show=False)
    assert (done.state, done.step) == ("finished", 6)
    a, b = (checkpoint.load(checkpoint.latest(path)) for path in (whole.path, done.path))
    for name in (*PLAYERS, "ema", "memory", "latent", "noise"):
        assert a[name].keys() == b[name].keys() and all(
            torch.equal(t, b[name][key]) for key, t in a[name].items()
        )
    assert a["metrics"] == b["metrics"] and [m.metrics for m in whole.members] == [
        m.metrics for m in done.members
    ]
    assert a["monitors"] == b["monitors"]
    assert [row | {"seconds": 0} for row in rows(done.path)] == [
        row | {"seconds": 0} for row in rows(whole.path)
    ]


def test_a_finished_fleet_can_be_extended_and_one_gan_is_none(tmp_path):
    done = train_fleet(CIRCLE, grid(replace(SMALL, steps=2), seeds=2), tmp_path / "x", show=False)
    with pytest.raises(SteadyganError, match="already made its 2 steps"):
        resume(done.path, show=False)
    assert resume(done.path, steps=3, show=False).step == 3
    alone = train(CIRCLE, replace(SMALL, steps=1), tmp_path / "alone", show=False)
    with pytest.raises(SteadyganError, match="one GAN, which has no members"):
        load_member(alone.path, 0)
    with pytest.raises(SteadyganError, match="members 0 to 1, not 2"):
        load_member(done.path, 2)


# ------------------------------------------------------------ what cannot be


def test_a_grid_is_every_combination_with_every_seed():
    config = Config(regularizer=("js:gamma={0.1,1}", "{r1,r2}"), optimizer="adam:lr={1,2}", seed=5)
    members = grid(config, seeds=2)
    assert len(members) == 16 and len(set(members)) == 16
    assert (
        [m.seed for m in members[:2]] == [5, 6]
        and members[0].regularizer == ("js:gamma=0.1", "r1")
        and members[0].optimizer == "adam:lr=1"
    )
    assert grid(Config(), seeds=(3, 9)) == [Config(seed=3), Config(seed=9)]
    with pytest.raises(SteadyganError, match="at least one seed"):
        grid(config, seeds=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": "hinge"}, "differ in objective"),
        ({"network": "mlp:width=9"}, "differ in network"),
        ({"dynamics": "simultaneous"}, "differ in dynamics"),
        ({"batch": 9}, "differ in batch"),
        ({"latent": 3}, "differ in latent"),
        ({"ema": 0.5}, "differ in ema"),
        ({"regularizer": ("r2:gamma=1",)}, "differ in more than their strengths"),
        ({"regularizer": ("r1:gamma=1", "r1:gamma=1")}, "differ in more than their strengths"),
        ({"smoothing": "instance-noise"}, "differ in more than their strengths"),
        ({"optimizer": "adam"}, "more than the learning rate of their optimizer"),
        (
            {"optimizer": "sgd:lr=0.1,momentum=0.5"},
            "more than the learning rate of their optimizer",
        ),
        ({"critic_optimizer": "rmsprop"}, "more than the learning rate of their critic_optimizer"),
    ],
)
def test_members_of_another_structure_are_refused(tmp_path, changes, message):
    config = replace(SMALL, regularizer=("r1:gamma=1",))
    with pytest.raises(SteadyganError, match=message):
        train_fleet(CIRCLE, [config, replace(config, **changes)], tmp_path / "x", show=False)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "network": "mlp:width=8,critic_norm=batch",
                "regularize_generator": True,
                "regularizer": ("r2",),
            },
            "cannot be evaluated for many",
        ),
        ({"smoothing": "explicit-noise:nsr=3"}, "8 cannot be split at noise-to-signal ratio 3"),
        ({"gradient_path": "merged"}, "leave gradient_path out"),
        ({"steps": 0}, "steps must be a whole number"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(tmp_path, changes, message):
    with pytest.raises(SteadyganError, match=message):
        train_fleet(CIRCLE, grid(replace(SMALL, **changes), seeds=2), tmp_path / "x", show=False)
    assert not (tmp_path / "x").exists()


def test_no_member_and_an_unknown_optimizer_are_refused(tmp_path):
    """An optimizer of one's own may move parameters together, which many at once would not show."""
    with pytest.raises(SteadyganError, match="at least one member"):
        train_fleet(CIRCLE, [], tmp_path / "x", show=False)

    @register("optimizer", "mine")
    @dataclass(frozen=True)
    class Mine(SGD):
        """SGD under another name. Reference: this test."""

    try:
        with pytest.raises(SteadyganError, match=r"'mine:lr=0.1' is not known to move every"):
            members = grid(replace(SMALL, critic_optimizer="mine:lr=0.1"), seeds=2)
            train_fleet(CIRCLE, members, tmp_path / "x", show=False)
    finally:
        unregister(Mine)
    assert not (tmp_path / "x").exists()
