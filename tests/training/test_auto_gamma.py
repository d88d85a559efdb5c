"""gamma=auto: the rule on numbers that are known, one unit of length as good as another, and the
same bits in fleets and after a resume."""

import itertools
import json
import math
from dataclasses import replace

import pytest
import torch

from steadygan import Context, Game, SteadyganError, build, critic_backward, spec
from steadygan.analysis.portrait import simulate
from steadygan.core.auto import Auto
from steadygan.runs import checkpoint
from steadygan.training import Config, Watcher, resume, train
from steadygan.training.fleet import Fleet
from steadygan.training.single import Single

MIDDLE = math.sqrt(Auto.LOW * Auto.HIGH)
SMALL = Config(
    network="mlp:width=8",
    steps=10,
    batch=8,
    log_every=1,
    evaluate_every=10,
    checkpoint_every=2,
    device="cpu",
)


def scalars(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def looked(share, gamma=0.3, unit=2.0, gap=0.25):
    """What is remembered after the last update of a look, in which the share was known."""
    memory, gap = {"gamma": torch.tensor(gamma, dtype=torch.float64)}, share and gap
    size = share * abs(gap) / (2 * gamma)  # 4 (gamma/2 S)/|gap| = share
    for _ in range(Auto.INTERVAL):
        assert memory["gamma"] == gamma  # it moves with the last one only
        memory = Auto().observe(memory, *scalars(unit, size, gap))
    return {key: value.item() for key, value in memory.items()}


@pytest.mark.parametrize(
    ("share", "factor"),
    [
        (1.7 * Auto.HIGH, MIDDLE / Auto.HIGH / 1.7 if 1.7 * Auto.HIGH < 2 * MIDDLE else 0.5),
        (100 * Auto.HIGH, 1 / Auto.STEP),
        (Auto.LOW / 100, Auto.STEP),
        (1.02 * Auto.LOW, 1.0),
        (0.98 * Auto.HIGH, 1.0),
        (0.0, 1.0),  # a critic that is constant: 0/0
    ],
)
def test_gamma_moves_to_the_middle_of_the_band_by_at_most_a_step(share, factor):
    after = looked(share)
    assert after["gamma"] == pytest.approx(0.3 * factor, rel=1e-9)
    assert after["gamma.share"] == pytest.approx(share, rel=1e-9) or not share
    assert after["gamma.seen"] == after["gamma.size"] == after["gamma.gap"] == 0
    why = Auto.why(0.3, after["gamma"], share)
    assert ("above" in why) == (factor < 1) and f"0.3 -> {after['gamma']:.3g}" in why


def test_gamma_stays_within_bounds_and_a_gap_counts_by_its_size():
    low, high = (2.0 * bound for bound in Auto.BOUNDS)
    assert looked(1e-6, gamma=0.9 * high)["gamma"] == pytest.approx(high)
    assert looked(1e3, gamma=1.1 * low)["gamma"] == pytest.approx(low)
    assert looked(1e-3, gap=-0.25)["gamma"] == looked(1e-3)["gamma"] == 0.6


# ------------------------------------------------------------ through a game


def linear(w):
    return lambda x: x @ w


def batches(n=40):
    rng = torch.Generator().manual_seed(3)
    return (torch.randn(n, 2, generator=rng).double() + shift for shift in (0.7, -0.4))


@pytest.mark.parametrize("regularizer", ["js", "r1", "r1r2", "gp0"])
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_gamma_follows_the_square_of_the_datas_scale(regularizer, scale):
    """At a critic that sees the same in other units, whatever moves gamma is the same number."""
    game, (real, fake), found = Game("minimax", f"{regularizer}:gamma=auto,start=3"), batches(), []
    for c in (1.0, scale):
        w, memory = torch.tensor([0.3, -0.2]).double() / c, {}
        for _ in range(2 * Auto.INTERVAL + 3):
            at = Context(memory=memory, rng=torch.Generator().manual_seed(1))
            terms = game.critic_terms(linear(w), c * real, c * fake, at=at)
            memory = game.observe(terms.scores, memory)
        found.append((memory, terms))
    (one, first), (other, second) = found
    assert one["gamma"] != 3 * one["gamma.unit"]  # it has moved at all
    assert other["gamma"].item() == pytest.approx(scale**2 * one["gamma"].item(), rel=1e-9)
    assert second.loss.item() == pytest.approx(first.loss.item(), rel=1e-9)
    gap = first.scores["real"].logits.mean() - first.scores["fake"].logits.mean()
    before = Game("minimax", f"{regularizer}:gamma={one['gamma'].item()}")
    penalty = before.critic_terms(
        linear(torch.tensor([0.3, -0.2]).double()),
        real,
        fake,
        at=Context(rng=torch.Generator().manual_seed(1)),
    ).penalty
    # The share that the next look will find is that of the penalty which the game adds.
    per_update = 2 * one["gamma"] * one["gamma.size"] / one["gamma.gap"].abs()
    assert per_update.item() == pytest.approx((4 * penalty / gap.abs()).item(), rel=1e-9)


def test_the_share_of_a_critic_at_its_best_is_that_of_the_penalty_in_what_holds_it_back():
    """Two points at 1 and -1, D(x) = kx: s = P/(P + Q) up to the square of its small logits."""
    one = torch.ones(1, 1, dtype=torch.float64)
    for gamma in (20.0, 200.0):
        game, k = Game("minimax", f"r1:gamma={gamma}"), torch.zeros(1, dtype=torch.float64)
        for _ in range(300):
            k.requires_grad_()
            (slope,) = torch.autograd.grad(game.critic_loss(lambda x, k=k: x @ k, one, -one), k)
            k = (k - slope / (gamma + 0.5)).detach()
        terms = game.critic_terms(linear(k), one, -one)
        q = 2 * k.item() ** 2 / 8
        share = 4 * terms.penalty.item() / (2 * k.item())
        assert share == pytest.approx(terms.penalty.item() / (terms.penalty.item() + q), rel=1e-3)


def test_the_penalty_starts_at_a_share_of_the_variance_and_memory_has_no_graph():
    real, fake = batches()
    w = torch.tensor([0.3, -0.2]).double().requires_grad_()
    game = Game("nonsaturating", "r2:gamma=auto,start=0.5")
    terms = game.critic_terms(linear(w), real, fake)
    unit = real.var(0, correction=0).mean()
    assert terms.penalty.item() == pytest.approx((0.5 * unit / 2 * w.square().sum()).item())
    kept = {"lecam.real": torch.zeros(())}
    after = game.observe(terms.scores, kept)
    assert not any(value.requires_grad for value in after.values()) and set(after) > set(kept)
    # All real samples at one point, as in the Dirac-GAN: the distance to the others stands in.
    point = game.critic_terms(linear(w), torch.ones_like(real), fake)
    unit = (fake - 1).square().mean()
    assert point.penalty.item() == pytest.approx((0.5 * unit / 2 * w.square().sum()).item())


def test_a_spared_penalty_keeps_what_is_remembered():
    real, fake = batches()
    game, memory = Game("minimax", "js:gamma=auto"), {}
    full = game.critic_terms(linear(torch.ones(2).double()), real, fake)
    lazy = game.lazy(0, 4).critic_terms(linear(torch.ones(2).double()), real, fake)
    assert lazy.penalty.item() == pytest.approx(4 * full.penalty.item())
    memory = game.lazy(0, 4).observe(lazy.scores, {})
    assert memory == game.observe(full.scores, {})  # as it counts on average
    spared = game.lazy(1, 4).critic_terms(linear(torch.ones(2).double()), real, fake)
    assert spared.penalty == 0 and game.lazy(1, 4).observe(spared.scores, memory) == memory
    assert game.observe(spared.scores, memory) == memory


# ------------------------------------------------------------ spelling and refusals


def test_it_is_spelled_and_built_alike():
    for text in ("js:gamma=auto", "r1:gamma=auto,start=1", "f-gan:gamma=auto,divergence=kl"):
        built = build("regularizer", text)
        assert spec(built) == text and build("regularizer", spec(built)) == built
    config = replace(SMALL, regularizer=("gp0:gamma=auto,start=0.5",))
    assert config.resolve(build("problem", "ring2d")).regularizer == ("gp0:gamma=auto,start=0.5",)


@pytest.mark.parametrize(
    ("objective", "regularizers", "match"),
    [
        ("minimax", "wgan-gp:gamma=auto", "pull towards 0"),
        ("minimax", "lecam:gamma=auto", "pull towards 0"),
        ("minimax", "js:gamma=auto,anneal=0.1", "not annealed"),
        ("minimax", "js:gamma=auto,start=-1", "start"),
        ("minimax", "js:gamma=1,start=1", "start"),
        ("minimax", ["r1:gamma=auto", "r2:gamma=auto"], "r1r2"),
        ("wasserstein", "r1:gamma=auto", "linear"),
    ],
)
def test_what_it_cannot_do_is_refused(objective, regularizers, match):
    with pytest.raises(SteadyganError, match=match):
        Game(objective, regularizers)


def test_many_logits_and_closed_forms_are_refused():
    x = torch.randn(4, 3)
    with pytest.raises(SteadyganError, match="one logit"):
        critic_backward(Game("hinge", "r1:gamma=auto"), torch.nn.Linear(3, 9), x, x + 1)
    with pytest.raises(SteadyganError, match="give a number"):
        build("regularizer", "r1:gamma=auto").damping()
    with pytest.raises(SteadyganError, match="give a number"):
        simulate(Game("minimax", "r1:gamma=auto"), "simultaneous", [[1.0, 1.0]], 0.1, 2)
    with pytest.raises(SteadyganError, match="sigma=auto"):
        build("smoothing", "instance-noise:sigma=auto")


# ------------------------------------------------------------ trained


@pytest.fixture
def restless(monkeypatch):
    """Looks of two updates, after nearly each of which gamma moves."""
    monkeypatch.setattr(Auto, "INTERVAL", 2)
    monkeypatch.setattr(Auto, "LOW", 0.99 * MIDDLE)
    monkeypatch.setattr(Auto, "HIGH", 1.01 * MIDDLE)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("lazy", [{}, {"penalty_every": 2, "penalty_share": 0.5}])
def test_a_member_finds_the_gamma_that_it_finds_alone(restless, double, lazy):
    problem = build("problem", "circle2d")
    members = [
        replace(SMALL, regularizer=(f"js:gamma=auto,start={start}",), seed=seed, **lazy)
        for start, seed in ((0.1, 0), (4.0, 1))
    ]
    fleet = Fleet(problem, members)
    for _ in range(9):
        fleet.advance()
    for i, config in enumerate(fleet.members):
        alone = Single(problem, config)
        for _ in range(9):
            alone.advance()
        for name, value in alone.players.context.memory.items():
            assert abs(value - fleet.players.context.memory[name][i]) < 1e-10, name
        for key, p in alone.players.values("critic").items():
            assert (p - fleet.players.values("critic")[key][i]).abs().max() < 1e-10
    gammas = fleet.players.context.memory["gamma"] / fleet.players.context.memory["gamma.unit"]
    assert ((gammas / torch.tensor([0.1, 4.0])).log().abs() > 0.5).all()  # each has moved


class Press(Watcher):
    """Someone who presses Ctrl-C after the fifth step."""

    def stepped(self, training):
        training.interrupt.seen |= training.step == 5


def test_a_resumed_run_finds_the_same_bits_and_tells_the_same_moves(restless, tmp_path):
    config = replace(SMALL, regularizer=("r1r2:gamma=auto,start=3",))
    problem = build("problem", "ring2d")
    train(problem, config, tmp_path / "whole", show=False)
    train(problem, config, tmp_path / "cut", show=False, watchers=[Press()])
    assert resume(tmp_path / "cut", show=False).step == 10
    trees = [checkpoint.load(checkpoint.latest(tmp_path / name)) for name in ("whole", "cut")]
    for part in ("generator", "critic", "memory"):
        assert all(torch.equal(v, trees[1][part][k]) for k, v in trees[0][part].items()), part
    told = [(tmp_path / name / "warnings.jsonl").read_text() for name in ("whole", "cut")]
    assert told[0] == told[1]
    moves = [json.loads(line) for line in told[0].splitlines()]
    rows = [json.loads(t) for t in (tmp_path / "whole/metrics.jsonl").read_text().splitlines()]
    steps = [b["step"] for a, b in itertools.pairwise(rows) if b["gamma"] != a["gamma"]]
    # Every move, at its step, with its reason.
    assert len(steps) > 2 and [m["step"] for m in moves if m["kind"] == "gamma-moved"] == steps
    assert all("share of the critic's pull" in move["message"] for move in moves)
