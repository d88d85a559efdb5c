"""Values spelled START..END: what they are at each step, alone, resumed and in fleets."""

import json
import math
from dataclasses import replace

import pytest
import torch

from steadygan import Config, SteadyganError, build
from steadygan.core.registry import spec
from steadygan.core.schedules import Exponential, Ramp, scaled, strength_at
from steadygan.runs import checkpoint
from steadygan.training import grid, resume, train, train_fleet
from steadygan.training.watchers import Watcher

GAN = Config(
    network="mlp:width=8",
    regularizer=("r1:gamma=2..0.5",),
    optimizer="adam:lr=0.004..0.001,beta1=0,beta2=0.9..0.99",
    ema="halflife:images=0..100",
    ramp="linear:images=80",
    batch=8,
    steps=20,
    log_every=1,
    evaluate_every=20,
    checkpoint_every=5,
    device="cpu",
)


class Seen(Watcher):
    """Keeps what the optimizers and the game were told in each step."""

    def __init__(self):
        self.rows = []

    def stepped(self, training):
        players = training.trained.players
        groups = [players.optimizers[n].param_groups[0] for n in ("generator", "critic")]
        told = [(g["lr"], *g["betas"]) for g in groups]
        (penalty,) = players.game.regularizers
        gamma = strength_at(penalty.gamma, players.context.progress)
        self.rows.append([*told[0], *told[1], gamma])


def between(start, end, step, ramp=10):
    x = min(1.0, step / ramp)
    return (1 - x) * start + x * end


def last(run):
    return checkpoint.load(checkpoint.latest(run))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    seen = Seen()
    path = tmp_path_factory.mktemp("ramps") / "whole"
    train(build("problem", "ring2d"), GAN, path, show=False, watchers=[seen])
    return path, seen.rows


def test_every_step_has_the_numbers_of_its_images(whole):
    """Eighty images of batches of 8 are ten steps; from there on the values stay."""
    _, rows = whole
    assert len(rows) == 20
    for step, row in enumerate(rows):
        player = [between(0.004, 0.001, step), 0, between(0.9, 0.99, step)]
        assert row == pytest.approx([*player, *player, between(2, 0.5, step)], rel=1e-12)


def test_lines_tell_the_learning_rates(whole):
    """That of the step just made; of runs whose optimizers stay as they are there is none."""
    lines = [json.loads(line) for line in (whole[0] / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    for line in lines:
        told = line["learning_rate_generator"], line["learning_rate_critic"]
        assert told == pytest.approx((between(0.004, 0.001, line["step"] - 1),) * 2, rel=1e-6)


def test_the_numbers_move_the_networks_as_torch_would(tmp_path, whole):
    """Adam of torch, told by hand, on the gradients of the run: two steps of the generator."""
    path = tmp_path / "two"
    kept = []

    class Gradients(Watcher):
        def began(self, training):
            players = training.trained.players
            move = players.move
            self.start = [p.detach().clone() for p in players.generator.parameters()]

            def moved(player, gradient):
                if player == "generator":
                    kept.append([g.clone() for g in gradient.values()])
                move(player, gradient)

            players.move = moved

        def ended(self, training, ending):
            self.end = [p.detach().clone() for p in training.trained.generator.parameters()]

    seen = Gradients()
    train(build("problem", "ring2d"), replace(GAN, steps=2), path, show=False, watchers=[seen])
    own = [p.requires_grad_() for p in seen.start]
    adam = torch.optim.Adam(own)
    for step, gradients in enumerate(kept):
        adam.param_groups[0]["lr"] = between(0.004, 0.001, step)
        adam.param_groups[0]["betas"] = (0, between(0.9, 0.99, step))
        for p, g in zip(own, gradients, strict=True):
            p.grad = g
        adam.step()
    for mine, theirs in zip(own, seen.end, strict=True):
        torch.testing.assert_close(mine.detach(), theirs, rtol=1e-5, atol=1e-7)


def test_a_resumed_run_has_the_same_bits_and_a_longer_one_the_same_images(whole, tmp_path):
    path = tmp_path / "part"
    problem = build("problem", "ring2d")
    train(problem, replace(GAN, steps=5), path, show=False)
    seen = Seen()
    resume(path, steps=20, show=False, watchers=[seen])
    assert seen.rows == whole[1][5:]
    one, other = last(whole[0]), last(path)
    for part in ("generator", "critic", "ema"):
        for key, value in one[part].items():
            assert torch.equal(value, other[part][key]), (part, key)


def test_a_fleet_s_members_are_those_alone(whole, tmp_path):
    given = replace(GAN, optimizer="adam:lr={0.004..0.001,0.002},beta1=0,beta2=0.9..0.99")
    members = grid(given)
    train_fleet(build("problem", "ring2d"), members, tmp_path / "many", show=False)
    many, one = last(tmp_path / "many"), last(whole[0])
    for part in ("generator", "critic", "ema"):
        for key, value in one[part].items():
            torch.testing.assert_close(many[part][key][0], value, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(many[part][key][1], value, rtol=1e-4, atol=1e-5)


def test_spelling_shape_and_scale():
    assert spec(build("optimizer", "sgd:lr=1e-1..0.05")) == "sgd:lr=0.1..0.05"
    assert build("regularizer", "r1:gamma=5..0").gamma == Ramp(5.0, 0.0)
    assert spec(build("regularizer", "js:gamma=2,anneal=0.01")) == "js:gamma=2,anneal=0.01"
    assert spec(build("smoothing", "instance-noise:sigma=1..0")) == "instance-noise:sigma=1..0"
    ramp = Ramp(2.0, 1.0, until=0.5)
    assert ramp(0.125) == pytest.approx(1 + (1 + math.cos(math.pi / 4)) / 2)
    assert ramp(0.5) == ramp(0.75) == 1.0 and scaled(ramp, 3)(0.25) == pytest.approx(4.5)
    assert scaled(Exponential(2.0, 0.01), 3) == Exponential(6.0, 0.01)


@pytest.mark.parametrize(
    "given, why",
    [
        ({"optimizer": "adam:beta2=0.9..1"}, "below 1"),
        ({"optimizer": "adam:lr=1..x"}, "not a number"),
        ({"optimizer": "adam:eps=1..2"}, "not a number"),
        ({"regularizer": ("r1:gamma=1..-1",)}, ">= 0"),
        ({"regularizer": ("r1:gamma=1..2,anneal=0.1",)}, "schedule"),
        ({"ramp": "cosine:images=0"}, "above 0"),
        ({"ramp": "square"}, "cosine, linear"),
    ],
)
def test_what_cannot_be_is_refused(given, why):
    with pytest.raises(SteadyganError, match=why):
        replace(GAN, **given).resolve(build("problem", "ring2d"))
