"""What makes training cheaper on request: lazy penalties, penalties on a part of the batch, one
batch for both players, bfloat16."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from critics import EVENT, MERGED, SEPARATE
from torch.nn import functional as F

from steadygan import Game, SteadyganError, build
from steadygan.core import Batch, Context, OptimizerPlayers
from steadygan.core.gradients import Decision, critic_gradient
from steadygan.core.players import PLAYERS
from steadygan.core.schedules import Exponential
from steadygan.problems.toys import Mixture3D
from steadygan.runs import checkpoint
from steadygan.training import Config, resume, train
from steadygan.training.decision import settle
from steadygan.training.single import Single


def data(rows=6):
    rng = torch.Generator().manual_seed(5)
    return tuple(
        scale * torch.randn(rows, *EVENT, generator=rng, dtype=torch.float64)
        for scale in (1.0, 0.7)
    )


def players(game, **settings):
    torch.manual_seed(2)
    critic, generator = (
        MERGED["plain"]().double(),
        torch.nn.Sequential(torch.nn.Linear(2, 192), torch.nn.Unflatten(1, EVENT)).double(),
    )
    optimizers = {
        name: torch.optim.SGD(net.parameters(), lr=0.01)
        for name, net in zip(PLAYERS, (generator, critic), strict=True)
    }
    rng = torch.Generator().manual_seed(1)
    draw = lambda: Batch(data()[0], torch.randn(6, 2, generator=rng, dtype=torch.float64))  # noqa: E731
    return OptimizerPlayers(
        game,
        generator,
        critic,
        draw,
        Context(progress=0.5),
        optimizers=optimizers,
        path="auto",
        **settings,
    )


@pytest.mark.parametrize("regularizer", ["r1:gamma=3", "js:gamma=2,anneal=0.1"])
def test_lazy_penalties_are_right_in_the_mean(regularizer):
    game = Game("minimax", regularizer)
    lazy, every = players(game, penalty_every=3), players(game)
    batch = every.draw()
    whole = every.gradient("critic", batch)
    parts = [lazy.gradient("critic", batch) for _ in range(3)]
    for key, g in whole.items():
        torch.testing.assert_close(sum(part[key] for part in parts) / 3, g, rtol=1e-10, atol=1e-13)
    assert lazy.updates == 3 and not torch.allclose(
        parts[0]["0.weight"], parts[1]["0.weight"], rtol=1e-3
    )
    # What is logged is the penalty of one update, also in those that take none.
    torch.testing.assert_close(lazy.terms.penalty, every.terms.penalty)


def test_lazy_keeps_what_is_no_gradient_penalty_and_scales_schedules():
    game = Game("minimax", ["lecam:gamma=0.5", "js:gamma=2,anneal=0.01", "r1:gamma=3"])
    off, on = game.lazy(1, 4), game.lazy(8, 4)
    assert [type(r).__name__ for r in off.regularizers] == ["LeCam"]
    assert on.strengths() == {
        "regularizers.0.gamma": 0.5,
        "regularizers.1.gamma": Exponential(8.0, 0.01),
        "regularizers.2.gamma": 12.0,
    }
    assert game.lazy(7, 1) is game


@pytest.mark.parametrize("path", ["merged", "joined"])
def test_a_penalty_on_part_of_the_batch(path):
    (real, fake), game = data(), Game("nonsaturating", ["js:gamma=2", "gp0:gamma=0.3"])
    critic = MERGED["deep"]().double()
    parameters = list(critic.parameters())
    rng = torch.Generator().manual_seed(3)
    found, gradients = critic_gradient(
        game, critic, real, fake, parameters, at=Context(rng=rng), path=path, share=0.4
    )
    # The same by hand: all six rows in the objective, the first three of each point in the penalty.
    u = torch.rand(6, generator=torch.Generator().manual_seed(3), dtype=torch.float64).view(
        -1, 1, 1, 1
    )
    loss, penalty = F.softplus(-critic(real)).mean() + F.softplus(critic(fake)).mean(), 0
    for x, weigh in (
        (real, lambda d: (1 - d.sigmoid()) ** 2),
        (fake, lambda d: d.sigmoid() ** 2),
        (u * real + (1 - u) * fake, None),
    ):
        x = x[:3].clone().requires_grad_()
        d = critic(x).flatten()
        squared = torch.autograd.grad(d.sum(), x, create_graph=True)[0].square().flatten(1).sum(1)
        penalty += (2 / 2 * weigh(d) * squared).mean() if weigh else 0.3 / 2 * squared.mean()
    torch.testing.assert_close(found.loss, loss + penalty, rtol=1e-10, atol=0)
    for mine, true in zip(gradients, torch.autograd.grad(loss + penalty, parameters), strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-9, atol=1e-12)
    assert (
        len(found.terms.scores["real"].logits) == 6
        and len(found.terms.scores["real"].gradient) == 3
    )


@pytest.mark.parametrize(
    "penalty", ["js:gamma=2,anneal=0.01", "r1:gamma=1,anneal=0.1,schedule=cosine"]
)
def test_an_annealed_penalty_is_settled_as_a_constant_one(penalty):
    torch.manual_seed(2)
    critic, given = MERGED["plain"](), (Config(penalty_share=0.5, batch=6, device="cpu"), EVENT, 0)
    assert settle(Game("nonsaturating", penalty), critic, *given) == Decision("merged")
    # A run that was decided before, by whatever reason, goes on as it began.
    before = Decision("separate", "as it was decided")
    given = (Config(batch=6, device="cpu"), EVENT, 0)
    assert settle(Game("nonsaturating", penalty), copy.deepcopy(critic), *given, before) == before


def test_part_of_a_batch_that_hangs_together_is_refused():
    critic = SEPARATE["batch norm"]().double()
    with pytest.raises(SteadyganError, match="keeps samples apart"):
        critic_gradient(
            Game("minimax", "r1"), critic, *data(), list(critic.parameters()), share=0.5
        )
    with pytest.raises(SteadyganError, match="penalty-share needs"):
        settle(
            Game("minimax", "r1"),
            critic.float(),
            Config(penalty_share=0.5, batch=6, device="cpu"),
            EVENT,
            0,
        )


def test_one_batch_for_both_players_is_a_plain_loop_with_one_batch():
    game = Game("nonsaturating", "r1:gamma=0.5")
    mine, calls = players(game, keep_fakes=True), []
    hook = mine.generator.register_forward_hook(lambda *given: calls.append(1))
    generator, critic, draw = (
        copy.deepcopy(mine.generator),
        copy.deepcopy(mine.critic),
        players(game).draw,
    )
    for _ in range(3):
        build("dynamics", "alternating:critic_steps=2,share=true").step(mine)
    hook.remove()
    assert len(calls) == 6  # a step: one for each critic update, none for the generator's
    steps = [torch.optim.SGD(net.parameters(), lr=0.01) for net in (generator, critic)]
    for _ in range(3):
        for _ in range(2):
            batch = draw()
            steps[1].zero_grad()
            game.critic_loss(
                critic, batch.real, generator(batch.latent).detach(), at=mine.context
            ).backward()
            steps[1].step()
        steps[0].zero_grad()
        game.generator_loss(critic, batch.real, generator(batch.latent), at=mine.context).backward()
        steps[0].step()
    for net, other in ((mine.generator, generator), (mine.critic, critic)):
        for p, q in zip(net.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)
    with pytest.raises(SteadyganError, match="critic-first"):
        build("dynamics", "alternating:share=true,order=generator-first")


def test_a_run_with_everything_resumes_with_the_same_bits(tmp_path):
    config = Config(
        regularizer=("js:gamma=0.1",), dynamics="alternating:share=true,critic_steps=2",
        optimizer="adam:lr=0.001,fused=true",
        penalty_every=3, penalty_share=0.5, precision="bfloat16", steps=8, batch=16,
        checkpoint_every=5, keep_checkpoints=5, log_every=1,
    )  # fmt: skip
    train(Mixture3D(), config, tmp_path / "whole", show=False)
    train(Mixture3D(), replace(config, steps=5), tmp_path / "part", show=False)
    resume(tmp_path / "part", steps=8, show=False)
    one, two = (
        checkpoint.load(next((tmp_path / run / "checkpoints").glob("*00000008*")))
        for run in ("whole", "part")
    )
    assert one["updates"] == two["updates"] == 16
    assert all(torch.equal(one["critic"][key], two["critic"][key]) for key in one["critic"])


def test_the_decision_is_in_the_run_folder_and_taken_up_again(tmp_path):
    train(Mixture3D(), Config(regularizer=("r1",), steps=2, batch=8), tmp_path / "run", show=False)
    described = json.loads((tmp_path / "run" / "config.json").read_text())
    assert described["critic_gradient"]["path"] == "chain"
    config = Config(regularizer=("r1",), steps=2, batch=8).resolve(Mixture3D())
    held = Single(Mixture3D(), config, decision=None).decision
    assert held._asdict() == described["critic_gradient"]
    assert Single(Mixture3D(), config, type(held)("separate", "as before")).decision == (
        "separate",
        "as before",
    )


def test_a_fused_optimizer_sees_each_element_in_its_place(tmp_path):
    # torch's fused kernels on the CPU walk through memory and look at no strides.
    critics, rng = [MERGED["deep"]() for _ in range(2)], torch.Generator().manual_seed(0)
    critics[1].load_state_dict(critics[0].state_dict())
    critics[1].to(memory_format=torch.channels_last)
    optimizers = [
        torch.optim.Adam(critic.parameters(), 0.1, fused=fused)
        for critic, fused in zip(critics, (False, True), strict=True)
    ]
    generator = torch.nn.Linear(1, 1)
    for _ in range(2):
        players = [
            OptimizerPlayers(
                Game(), generator, critic, lambda: None, optimizers={"generator": o, "critic": o}
            )
            for critic, o in zip(critics, optimizers, strict=True)
        ]
        for _ in range(3):
            gradient = {
                key: torch.randn(p.shape, generator=rng) for key, p in critics[0].named_parameters()
            }
            for player in players:
                player.move("critic", dict(gradient))
        for p, q in zip(critics[0].parameters(), critics[1].parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
        # And once more after a checkpoint, which knows no layouts.
        checkpoint.save(tmp_path / "state.safetensors", checkpoint.optimizer_state(optimizers[1]))
        optimizers[1] = torch.optim.Adam(critics[1].parameters(), 0.1, fused=True)
        checkpoint.restore_optimizer(optimizers[1], checkpoint.load(tmp_path / "state.safetensors"))
