"""What players promise besides their numbers: whose gradient, which optimizer's state, and that a
saved point can be returned to."""

import pytest
import torch
from torch import nn

from steadygan.core import Batch, Game, build
from steadygan.core.players import PLAYERS
from support import dirac, flat, functional, jacobian, mlp, optimizer, start


@pytest.mark.parametrize("make", [functional, optimizer])
def test_gradient_is_partial_and_that_of_the_loss(make):
    arena = mlp()
    players = make(Game("relativistic", ["js:gamma=0.4"]), arena)
    batch = arena.batches[0]
    game, fake = players.game, arena.generator(batch.latent)
    losses = {
        "critic": game.critic_loss(arena.critic, batch.real, fake.detach()),
        "generator": game.generator_loss(arena.critic, batch.real, fake),
    }
    for name in PLAYERS:
        net = getattr(arena, name)
        expected = torch.autograd.grad(
            losses[name],
            list(net.parameters()),
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        found = players.gradient(name, batch)
        assert list(found) == [key for key, _ in net.named_parameters()]
        for g, e in zip(found.values(), expected, strict=True):
            torch.testing.assert_close(g, e, rtol=1e-12, atol=1e-14)
            assert g.requires_grad == players.keeps_graph or not e.any()


def test_optimizer_players_cut_the_graph():
    """The players do, the game never does: in the critic's turn the generator's pass is not
    recorded, and the log keeps no graph."""
    arena, fakes = mlp(), []
    arena.generator.register_forward_hook(
        lambda module, inputs, out: fakes.append(out.requires_grad)
    )
    players = optimizer(Game("nonsaturating", ["r2:gamma=1"]), arena)
    for name in ("critic", "generator"):
        players.gradient(name, arena.batches[0])
    assert fakes == [False, True]
    kept = [
        players.generator_loss,
        *players.terms[:3],
        *(t for s in players.terms.scores.values() for t in s if isinstance(t, torch.Tensor)),
    ]
    assert not any(t.requires_grad for t in kept)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_extragradient_advances_the_optimizers_state_once(kind):
    """Looking ahead is no step: one move's worth of averages, made of the gradient that was really
    stepped along."""
    arena = mlp()
    players = optimizer(Game("nonsaturating"), arena, lr=1e-2, kind=kind)
    for count in (1, 2, 3):
        build("dynamics", "extragradient").step(players)
        for name in PLAYERS:
            for p in getattr(arena, name).parameters():
                assert players.optimizers[name].state[p]["step"] == count


def test_extragradient_looks_ahead_with_the_optimizer_that_it_has():
    """With RMSprop by hand on the Dirac-GAN: look ahead from the state, return, step with the
    gradient found there."""
    players = optimizer(Game("wasserstein"), dirac(1.0, -0.5), lr=0.03, kind=torch.optim.RMSprop)
    theta, psi, v_t, v_p = 1.0, -0.5, 0.0, 0.0

    def moved(x, g, v):
        v = 0.99 * v + 0.01 * g * g
        return x - 0.03 * g / (v**0.5 + 1e-8), v

    for _ in range(3):
        build("dynamics", "extragradient").step(players)
        ahead_t, ahead_p = moved(theta, -psi, v_t)[0], moved(psi, theta, v_p)[0]
        (theta, v_t), (psi, v_p) = moved(theta, -ahead_p, v_t), moved(psi, ahead_t, v_p)
        assert flat(players).tolist() == pytest.approx([theta, psi], rel=1e-12)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_saved_point_can_be_returned_to_again_and_again(kind):
    arena = mlp()
    players = optimizer(Game("nonsaturating"), arena, lr=1e-2, kind=kind)
    dynamics = build("dynamics", "simultaneous")
    dynamics.step(players)
    point, ends = players.save(), []
    for _ in range(3):
        players.draw = arena.draw()
        dynamics.step(players)
        ends.append(flat(players).detach().clone())
        players.load(point)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[1], ends[2])


def test_functional_players_start_anywhere_and_leave_the_networks_alone():
    arena = mlp()
    point = {
        name: {k: p.detach() * 2 for k, p in getattr(arena, name).named_parameters()}
        for name in PLAYERS
    }
    here, there = (
        functional(Game("minimax"), arena, lr=0.1),
        functional(Game("minimax"), arena, lr=0.1),
    )
    there.point = point
    before = flat(here).detach().clone()
    for players in (here, there):
        build("dynamics", "alternating").step(players)
    assert (flat(here) - flat(there)).norm() > 1 and torch.equal(
        flat(functional(Game("minimax"), arena)), before
    )


def test_learning_rates_are_values_too():
    """A step is differentiable in the learning rate: d w'/d h = v."""
    h = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    players = functional(Game("wasserstein"), dirac(1.0, -0.5), lr=h)
    build("dynamics", "simultaneous").step(players)
    assert jacobian(flat(players), [h]).flatten().tolist() == pytest.approx([-0.5, -1.0])


def test_frozen_parameters_stay():
    arena = mlp()
    arena.critic[0].weight.requires_grad_(False)
    for make in (functional, optimizer):
        players = make(Game("nonsaturating", ["r1:gamma=1"]), arena, lr=0.1)
        before = arena.critic[0].weight.clone()
        assert "0.weight" not in players.values("critic")
        build("dynamics", "alternating").step(players)
        assert torch.equal(arena.critic[0].weight, before)


class Reflecting(nn.Module):
    """Ignores its input: nothing to learn from, and no reason to fall over."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor([0.3], dtype=torch.float64))

    def forward(self, x):
        return self.level.expand(len(x))


@pytest.mark.parametrize(
    "dynamics", ["simultaneous", "consensus", "unrolled:steps=2", "extragradient"]
)
@pytest.mark.parametrize("make", [functional, optimizer])
def test_a_critic_that_ignores_its_input_gives_zero_gradients(make, dynamics):
    arena = mlp()._replace(critic=Reflecting())
    players = make(Game("nonsaturating", ["js:gamma=1", "wgan-gp:gamma=1"]), arena, lr=0.1)
    before = flat(players).detach().clone()
    build("dynamics", dynamics).step(players)
    after = flat(players).detach()
    assert (
        torch.equal(after[:-1], before[:-1]) and after.isfinite().all()
    )  # the generator is told nothing


def test_unrolled_leaves_the_critic_where_it_is():
    """The inner steps are a thought: only its own simultaneous gradient moves the critic."""
    ends = []
    for spelling in ("unrolled:steps=4,step_size=0.5", "simultaneous"):
        players = functional(Game("minimax"), dirac(1.0, -0.5), lr=0.1)
        build("dynamics", spelling).step(players)
        ends.append(flat(players).tolist())
    assert ends[0][1] == ends[1][1] and abs(ends[0][0] - ends[1][0]) > 0.01


def test_the_latest_losses_are_those_of_the_latest_batches():
    arena = mlp()
    players = functional(Game("nonsaturating", ["r1:gamma=1"]), arena)
    for batch in arena.batches:
        for name in PLAYERS:
            players.gradient(name, Batch(*batch))
        fake = arena.generator(batch.latent)
        torch.testing.assert_close(
            players.terms.loss, players.game.critic_loss(arena.critic, batch.real, fake)
        )
        torch.testing.assert_close(
            players.generator_loss, players.game.generator_loss(arena.critic, None, fake)
        )
    assert len(start(players)) == len(list(arena.generator.parameters())) + len(
        list(arena.critic.parameters())
    )
