"""Every registered dynamics: both players move, the graph and the caller's gradients stay, settings
that mean nothing are refused."""

import checks
import pytest
import torch

from steadygan.core import Context, Game, SteadyganError, build, names
from support import dirac, flat, functional, mlp, optimizer

ALL = names("dynamics")
VARIANTS = [
    *ALL,
    "alternating:critic_steps=2,generator_steps=3,order=generator-first",
    "consensus:gamma=0.3,alternating=true,critic_steps=2",
    "unrolled:steps=2,step_size=0.1,backprop=false",
]


@pytest.mark.parametrize("spelling", VARIANTS)
def test_moves_both_players_and_only_by_move(spelling):
    arena = mlp()
    game = Game("nonsaturating", ["r1:gamma=0.5"])
    before = [p.clone() for net in arena[:2] for p in net.parameters()]
    players = functional(game, arena, lr=0.1)
    build("dynamics", spelling).step(players)
    moved = [p for name in ("generator", "critic") for p in players.values(name).values()]
    # The last bias of a critic meets no gradient where real and fake logits balance; every matrix
    # must move.
    assert all((p - q).abs().max() > 1e-8 for p, q in zip(moved, before, strict=True) if p.ndim > 1)
    assert all(
        torch.equal(p, q)
        for p, q in zip([p for net in arena[:2] for p in net.parameters()], before, strict=True)
    )
    assert all(p.grad is None for net in arena[:2] for p in net.parameters())
    torch.autograd.grad(
        flat(players).sum(), list(arena.generator.parameters())
    )  # the step is differentiable


@pytest.mark.parametrize("spelling", VARIANTS)
def test_optimizer_players_leave_no_trace(spelling):
    """No graph, no ``.grad`` left behind, no flag changed, whatever the dynamics."""
    arena = mlp()
    players = optimizer(Game("nonsaturating", ["r1:gamma=0.5"]), arena, lr=0.1)
    before = flat(players).detach().clone()
    for _ in range(2):
        build("dynamics", spelling).step(players)
    assert (flat(players) - before).abs().max() > 1e-3
    for net in arena[:2]:
        for p in net.parameters():
            assert p.grad is None and p.requires_grad and p.is_leaf
    for values in players.previous.values():
        assert not any(g.requires_grad for g in values.values())


@pytest.mark.parametrize("spelling", VARIANTS)
def test_losses_are_there_for_the_log(spelling):
    players = optimizer(Game("nonsaturating", ["r1:gamma=0.5"]), mlp(), lr=0.1)
    build("dynamics", spelling).step(players)
    assert players.terms.loss.isfinite() and players.generator_loss.isfinite()
    torch.testing.assert_close(players.terms.loss, players.terms.objective + players.terms.penalty)


@pytest.mark.parametrize("spelling", VARIANTS)
def test_a_zero_learning_rate_moves_nobody(spelling):
    players = functional(Game("nonsaturating"), mlp(), lr=0.0)
    before = flat(players)
    build("dynamics", spelling).step(players)
    assert torch.equal(flat(players), before)


def test_players_learn_at_their_own_rates():
    start = torch.tensor([1.0, -0.5], dtype=torch.float64)
    unit, own = (
        functional(Game("wasserstein"), dirac(1.0, -0.5), lr=lr)
        for lr in (1.0, {"generator": 0.1, "critic": 0.4})
    )
    for players in (unit, own):
        build("dynamics", "simultaneous").step(players)
    torch.testing.assert_close(
        flat(own) - start, (flat(unit) - start) * torch.tensor([0.1, 0.4], dtype=torch.float64)
    )


def test_alternating_takes_a_fresh_batch_for_each_update():
    arena, drawn = dirac(1.0, -1.0), []
    players = functional(Game("minimax"), arena, lr=0.1)
    source = players.draw
    players.draw = lambda: drawn.append(1) or source()
    build("dynamics", "alternating:critic_steps=3,generator_steps=2").step(players)
    assert len(drawn) == 5
    drawn.clear()
    build("dynamics", "simultaneous").step(players)
    assert len(drawn) == 1


@pytest.mark.parametrize("order", ["critic-first", "generator-first"])
def test_alternating_moves_in_the_declared_order(order):
    moves = []
    players = functional(Game("minimax"), dirac(1.0, -1.0), lr=0.1)
    move = players.move
    players.move = lambda name, gradient: moves.append(name) or move(name, gradient)
    build("dynamics", f"alternating:critic_steps=2,generator_steps=1,order={order}").step(players)
    expected = ["critic", "critic", "generator"]
    assert moves == (expected if order == "critic-first" else ["generator", "critic", "critic"])
    assert build("dynamics", "alternating").order == "critic-first"


def test_memory_advances_with_the_critic():
    players = functional(
        Game("wasserstein", ["lecam:gamma=1,decay=0.5"]), dirac(1.0, -1.0), Context(), lr=0.1
    )
    build("dynamics", "alternating").step(players)
    assert (
        players.context.memory["lecam.fake"].item() == pytest.approx(-1.0)
        and players.context.memory["lecam.real"] == 0
    )
    psi = players.values("critic")["psi"].item()
    theta = players.values("generator")["theta"].item()
    build("dynamics", "alternating").step(players)
    assert players.context.memory["lecam.fake"].item() == pytest.approx(-0.5 + 0.5 * psi * theta)


@pytest.mark.parametrize("make", [functional, optimizer])
@pytest.mark.parametrize("spelling", VARIANTS)
def test_every_dynamics_remembers(spelling, make):
    """Whatever moves the critic observes it. A decay of 0 remembers the latest look, whatever was
    remembered before."""
    players = make(Game("wasserstein", ["lecam:gamma=1,decay=0"]), dirac(1.0, -0.5), lr=1e-4)
    for memory in ({}, {"lecam.real": torch.tensor(7.0), "lecam.fake": torch.tensor(7.0)}):
        players.context = Context(memory=memory)
        build("dynamics", spelling).step(players)
        assert players.context.memory["lecam.fake"].item() == pytest.approx(-0.5, abs=0.01)
        assert players.context.memory["lecam.real"] == 0


REFUSED = [
    "alternating:critic_steps=0",
    "alternating:generator_steps=0",
    "alternating:order=random",
    "alternating:critic_steps=1.5",
    "consensus:gamma=-1",
    "consensus:gamma=nan",
    "consensus:critic_steps=5",
    "consensus:alternating=perhaps",
    "unrolled:steps=0",
    "unrolled:step_size=0",
    "unrolled:step_size=inf",
]


@pytest.mark.parametrize("spelling", REFUSED)
def test_refuses_settings_that_mean_nothing(spelling):
    setting = spelling.partition(":")[2].partition("=")[0]
    with pytest.raises(SteadyganError, match=setting):
        build("dynamics", spelling)


@pytest.mark.parametrize("spelling", VARIANTS)
def test_documentation_and_spelling(spelling):
    checks.documents_itself(build("dynamics", spelling))
    checks.spells_itself(build("dynamics", spelling), "dynamics")
