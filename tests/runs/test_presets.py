"""Published recipes against their publications; what stands beside one overrides it."""

import json

import pytest
import torch
import yaml
from torch import nn

from steadygan import build, convert_gamma, names
from steadygan.cli import main
from steadygan.core.schedules import Cosine, Exponential
from steadygan.runs.averages import HalfLife

DIGITS = ["train", "images", "--data", "digits", "--resolution", "8", "--channels", "1"]

PUBLISHED = {  # gamma in the code's own convention, its end, lr, beta1, beta2, batch, latent
    "roth": (("roth", 2.0), 0.02, 2e-4, 0.5, 0.999, 64, 128),
    "mescheder": (("gan-stability", 10.0), None, 1e-4, None, None, 64, 256),
    "stylegan2-r1": (("stylegan2", 10.0), None, 2e-3, 0.0, 0.99, 32, 512),
    "r3gan": (("r3gan", 0.05), 0.005, 2e-4, 0.0, 0.9, 512, 64),
    "r3gan-ffhq64": (("r3gan", 2.0), 0.2, 2e-4, 0.0, 0.9, 256, 64),
}


@pytest.mark.parametrize("name", names("preset"))
def test_values_are_the_published_ones(name):
    (source, strength), end, lr, beta1, beta2, batch, latent = PUBLISHED[name]
    config = build("preset", name).config()
    (penalty,) = config.game().regularizers
    gamma = penalty.gamma if end is None else penalty.gamma(0.0)
    twice = 2.0 if source == "gan-stability" else 1.0  # no 1/2 before its coefficient
    assert gamma == twice * strength
    if source == "gan-stability":
        assert gamma == convert_gamma(source, strength)
    if end is not None:
        assert penalty.gamma(1.0) == pytest.approx(end)
        assert type(penalty.gamma) is (Cosine if source == "r3gan" else Exponential)
    optimizer = build("optimizer", config.optimizer)
    assert (optimizer.lr, config.batch, config.latent) == (lr, batch, latent)
    assert getattr(optimizer, "beta1", None) == beta1
    assert getattr(optimizer, "beta2", None) == beta2


def test_what_else_is_published():
    configs = {name: build("preset", name).config() for name in names("preset")}
    assert configs["stylegan2-r1"].penalty_every == 16
    assert build("ema", configs["stylegan2-r1"].ema) == HalfLife(10_000, None)
    assert build("optimizer", configs["mescheder"].optimizer).alpha == 0.99
    assert float(configs["mescheder"].ema) == 0.999 and float(configs["roth"].ema) == 0
    assert configs["r3gan"].game().regularizers[0].where == ("real", "fake")
    # A cosine from 0 to h over 20 million images is h/2 at half of them, and so is the ramp.
    for name, h in (("r3gan", 5e6), ("r3gan-ffhq64", 5e5)):
        ema = build("ema", configs[name].ema)
        assert ema.images == h and ema.ramp * 2e7 == h


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
