"""Runs whose critic sees augmented images: resumed exactly, for many GANs at once, what is told."""

import json
from dataclasses import replace

import pytest
import torch

from steadygan import Config, SteadyganError, build
from steadygan.problems.images import Images
from steadygan.runs import checkpoint
from steadygan.runs.monitor import Monitor
from steadygan.training import resume, train, train_fleet
from training.test_trainer import rows, same, weights

DIGITS = Images(data="digits", resolution=8, channels=1)
CONFIG = Config(
    network="dcgan:width=2,norm=none,critic_norm=none",
    regularizer=("r1:gamma=1",),
    augment="ada:start=0.5,interval=2,images=400",
    steps=6,
    batch=8,
    latent=4,
    log_every=1,
    checkpoint_every=3,
    evaluate_every=6,
    device="cpu",
)


def test_a_resumed_run_has_the_same_bits_and_the_same_p(tmp_path):
    whole = train(DIGITS, CONFIG, tmp_path / "whole", show=False)
    train(DIGITS, replace(CONFIG, steps=3), tmp_path / "cut", show=False)
    resume(tmp_path / "cut", steps=6, show=False)
    assert same(weights(whole.path), weights(tmp_path / "cut"))
    trees = [checkpoint.load(checkpoint.latest(tmp_path / n)) for n in ("whole", "cut")]
    assert trees[0]["memory"].keys() == trees[1]["memory"].keys()
    assert all(torch.equal(t, trees[1]["memory"][key]) for key, t in trees[0]["memory"].items())
    told = [row["augment"] for row in rows(whole.path)]
    # A step of 2 x 8 / 400 every other update, up or down.
    assert told[0] == 0.5 and abs(abs(told[1] - told[0]) - 0.04) < 1e-6
    assert told == [row["augment"] for row in rows(tmp_path / "cut")]


def test_many_at_once_are_each_as_alone(tmp_path):
    members = [replace(CONFIG, seed=seed) for seed in (0, 1)]
    train_fleet(DIGITS, members, tmp_path / "many", show=False)
    alone = train(DIGITS, members[1], tmp_path / "one", show=False)
    for many, one in zip(rows(tmp_path / "many"), rows(alone.path), strict=True):
        for key in ("critic_loss", "penalty", "generator_loss", "augment", "augment_sign"):
            assert abs(many[key][1] - one[key]) < 1e-4 * max(1, abs(one[key])), key


def test_it_stands_in_the_configuration_and_is_for_images_only(tmp_path):
    done = train(
        DIGITS, replace(CONFIG, augment="diffaugment", steps=1), tmp_path / "a", show=False
    )
    held = json.loads((done.path / "config.json").read_text())["config"]["augment"]
    assert held == "diffaugment:ops=color/translation/cutout"
    assert "augment" not in rows(done.path)[0]
    with pytest.raises(SteadyganError, match="augment changes images"):
        Config(augment="ada").resolve(build("problem", "ring2d"))


def test_the_limit_is_named_once():
    monitor = Monitor(strongest=0.8)
    assert not monitor.observe(1, {"augment": 0.79, "augment_sign": 0.9})
    (said,) = monitor.observe(2, {"augment": 0.800000011920929, "augment_sign": 0.9})
    assert said.kind == "augment-limit" and "0.8" in said.message
    assert not monitor.observe(3, {"augment": 0.8, "augment_sign": 0.9})
