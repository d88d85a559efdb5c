"""Published recipes against their publications; what stands beside one overrides it."""

import json
import math

import pytest
import torch
import yaml
from torch import nn

from steadygan import build, convert_gamma, names
from steadygan.cli import main
from steadygan.core.schedules import Exponential, Ramp, ends
from steadygan.runs.averages import HalfLife
from steadygan.runs.ramps import Cosine

DIGITS = ["train", "images", "--data", "digits", "--resolution", "8", "--channels", "1"]

PUBLISHED = {  # gamma in the code's own convention, its end, lr, beta1, beta2, batch, latent
    "roth": (("roth", 2.0), 0.02, 2e-4, 0.5, 0.999, 64, 128),
    "mescheder": (("gan-stability", 10.0), None, 1e-4, None, None, 64, 256),
    "stylegan2-r1": (("stylegan2", 10.0), None, 2e-3, 0.0, 0.99, 32, 512),
    "r3gan": (("r3gan", 0.05), 0.005, (2e-4, 5e-5), 0.0, (0.9, 0.99), 512, 64),
    "r3gan-ffhq64": (("r3gan", 2.0), 0.2, (2e-4, 5e-5), 0.0, (0.9, 0.99), 256, 64),
}


@pytest.mark.parametrize("name", names("preset"))
def test_values_are_the_published_ones(name):
    (source, strength), end, lr, beta1, beta2, batch, latent = PUBLISHED[name]
    config = build("preset", name).config()
    penalty = build("regularizer", config.regularizer[0])
    gamma = penalty.gamma if end is None else penalty.gamma(0.0)
    twice = 2.0 if source == "gan-stability" else 1.0  # no 1/2 before its coefficient
    assert gamma == twice * strength
    if source == "gan-stability":
        assert gamma == convert_gamma(source, strength)
    if end is not None:
        assert penalty.gamma(1.0) == pytest.approx(end)
        assert type(penalty.gamma) is (Ramp if source == "r3gan" else Exponential)
    optimizer = build("optimizer", config.optimizer)
    assert (ends(optimizer.lr), config.batch, config.latent) == (several(lr), batch, latent)
    assert getattr(optimizer, "beta1", None) == beta1
    assert ends(getattr(optimizer, "beta2", None)) == several(beta2)


def several(value):
    return value if isinstance(value, tuple) else (value,)


def test_what_else_is_published():
    configs = {name: build("preset", name).config() for name in names("preset")}
    assert configs["stylegan2-r1"].penalty_every == 16
    assert build("ema", configs["stylegan2-r1"].ema) == HalfLife(10_000, None)
    assert build("optimizer", configs["mescheder"].optimizer).alpha == 0.99
    assert float(configs["mescheder"].ema) == 0.999 and float(configs["roth"].ema) == 0
    assert configs["r3gan"].game().regularizers[0].where == ("real", "fake")
    for name, h in (("r3gan", 5e6), ("r3gan-ffhq64", 5e5)):
        ema = build("ema", configs[name].ema)
        assert ends(ema.images) == (0, h) and ema.ramp is None
        assert build("ramp", configs[name].ramp) == Cosine(2e7)


def published(images, start, end):
    """Return what R3GAN's code has after so many images: half a cosine over 20 million."""
    return end + (start - end) * (1 + math.cos(math.pi * min(images, 2e7) / 2e7)) / 2


@pytest.mark.parametrize("step", [0, 7_000, 19_531, 39_062, 50_000])
def test_r3gan_s_burn_in_is_the_published_one(step):
    """At steps of 512 images, whatever the training's length: gamma, rates, beta2, half-life."""
    images = 512 * step
    for steps in (60_000, 50_000):
        config = build("preset", "r3gan").config(steps=steps)
        (penalty,) = config.game().regularizers
        assert penalty.gamma(step / steps) == pytest.approx(published(images, 0.05, 0.005))
        for adam in config.optimizers(step).values():
            assert adam.lr == pytest.approx(published(images, 2e-4, 5e-5))
            assert adam.beta2 == pytest.approx(published(images, 0.9, 0.99)) and adam.beta1 == 0
        (share,) = config.ramped(build("ema", config.ema)).shares(step + 1, 512, step / steps)
        h = published(images, 0, 5e6)
        assert share == pytest.approx(1 - 0.5 ** (512 / h) if h else 1)


def test_r3gan_s_stages_are_the_published_ones():
    """Widths, cardinalities, two blocks of expansion 2 each; the last of a block has no bias."""
    network = build("network", build("preset", "r3gan-ffhq64").config().network)
    with torch.device("meta"):
        generator = network.generator((3, 64, 64), 64)
    grouped = [m for m in generator.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [(m.in_channels // 2, m.groups) for m in grouped] == [(768, 96)] * 8 + [(384, 48)] * 2
    plain = [m for m in generator.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    biased = [m for m in plain if m.bias is not None]
    assert all(m.out_channels == 2 * m.in_channels for m in biased) and len(biased) == 10


NARROW = {"roth": "dcgan:width=2", "mescheder": "resnet:width=2", "stylegan2-r1": "resnet:width=2"}


@pytest.mark.parametrize("name", names("preset"))
def test_each_trains_and_says_so(name, tmp_path):
    narrow = NARROW.get(name, "r3gan:width=16,group=4")
    words = ["--preset", name, "--network", narrow, "--batch", "4", "--steps", "3"]
    assert main([*DIGITS, *words, "--log-every", "1", "--out", str(tmp_path / "run")]) == 0
    held = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert held["preset"] == name and held["batch"] == 4 and held["network"].startswith(narrow[:6])
    assert held["regularizer"] == list(build("preset", name).settings()["regularizer"])


def dry(capsys, *words):
    assert main([*words, "--dry-run"]) == 0
    return capsys.readouterr().out


def test_whatever_stands_beside_a_preset_overrides_it_and_files_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--regularizer", "none", "--penalty-every=1", "--ema", "0.9"]
    said = dry(capsys, *DIGITS, "--preset", "stylegan2-r1", *words)
    held = yaml.safe_load(said)
    assert held["regularizer"] == ["none"] and held["penalty-every"] == 1 and held["ema"] == 0.9
    assert held["optimizer"] == "adam:lr=0.002,beta1=0,beta2=0.99"
    (tmp_path / "a.yaml").write_text(said)
    assert dry(capsys, "train", "--config", "a.yaml") == said
    other = yaml.safe_load(dry(capsys, "train", "--config", "a.yaml", "--preset", "roth"))
    assert other["regularizer"] == ["js:gamma=2,anneal=0.01"] and other["batch"] == 64
    (tmp_path / "b.yaml").write_text("problem: ring2d\npreset: roth\nnetwork: mlp\nbatch: 5\n")
    found = yaml.safe_load(dry(capsys, "train", "--config", "b.yaml", "--seed", "1"))
    assert found["batch"] == 5 and found["latent"] == 128 and found["seed"] == 1
    assert (
        main([*DIGITS, "--preset", "rot"]) == 2 and "nearest first: roth" in capsys.readouterr().err
    )
