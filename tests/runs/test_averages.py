"""Averages of generators: what an old value counts, and profiles that are chosen afterwards."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from steadygan import Config, SteadyganError, build, load_generator
from steadygan.cli import main
from steadygan.evaluation.distances import energy_distance
from steadygan.problems.images import Images
from steadygan.runs import checkpoint
from steadygan.runs.averages import Average, canonical
from steadygan.runs.models import load_sampler
from steadygan.runs.profiles import combined, exponent
from steadygan.runs.reading import read_evaluations
from steadygan.runs.sampling import Sampler
from steadygan.training import resume, train, train_fleet


def followed(rule, steps, batch=1):
    """Return, for the last of some steps, how much the value of each step counts, by every average.

    A module's parameter at step s is the s-th unit vector.
    """
    module = nn.Linear(steps + 1, 1, bias=False).double()
    rows = torch.eye(steps + 1, dtype=torch.float64)
    module.weight.data = rows[:1].clone()
    average = Average(module, build("ema", rule), batch)
    for step in range(1, steps + 1):
        module.weight.data = rows[step : step + 1].clone()
        average.update(module, step)
    states = [average.module.state_dict(), *average.more().values()]
    return [state["weight"][0] for state in states]


def test_after_its_half_life_a_value_counts_a_half():
    """Of 640 images, 10 steps of 64."""
    (weights,) = followed("halflife:images=640", 40, batch=64)
    assert abs(weights[:31].sum() - 0.5) < 1e-12  # what was before the last 10 steps
    assert abs(weights[30] / weights[40] - 0.5) < 1e-12
    assert build("ema", "halflife:images=640").shares(1, 640) == (0.5,)


def test_a_ramp_lets_go_of_the_start():
    """h = min(images, ramp n): the first value counts the product of what each step keeps."""
    (ramped,) = followed("halflife:images=1000,ramp=0.5", 200, batch=10)
    expected = math.prod(0.5 ** (10 / min(1000, 0.5 * 10 * t)) for t in range(1, 201))
    assert abs(ramped[0] / expected - 1) < 1e-9
    (plain,) = followed("halflife:images=1000", 200, batch=10)
    assert abs(plain[0] - 0.25) < 1e-12 and ramped[0] < 0.01


def test_power_averages_weigh_steps_by_their_closed_form():
    steps, sigmas = 60, (0.05, 0.2)
    for weights, sigma in zip(followed("power:sigma=0.05/0.2", steps), sigmas, strict=True):
        g = exponent(sigma)
        s = torch.arange(steps + 1, dtype=torch.float64)
        expected = torch.cat([s[:1], (s[1:] ** (g + 1) - s[:-1] ** (g + 1)) / steps ** (g + 1)])
        assert (weights - expected).abs().max() < 1e-12
        mean = (weights * s).sum() / steps
        width = ((weights * s.square()).sum() / steps**2 - mean**2).sqrt()
        assert abs(width / sigma - 1) < 0.02


@pytest.mark.parametrize("sigma, g", [(0.05, 16.97), (0.1, 6.94), (12**-0.5, 0.0)])
def test_exponents_are_those_of_the_paper(sigma, g):
    assert abs(exponent(sigma) - g) < 5e-3


@pytest.mark.parametrize("sigma", [0.0, 1e-300, 0.3, float("nan")])
def test_a_width_that_no_profile_has_is_refused(sigma):
    with pytest.raises(SteadyganError, match="sigma is the width"):
        exponent(sigma)


def test_a_kept_profile_is_found_as_itself_and_one_between_by_both():
    held = [(t, sigma) for t in range(100, 1001, 100) for sigma in (0.05, 0.1)]
    x, gap = combined(held, (1000, 0.1))
    assert gap < 1e-6 and abs(x[-1] - 1) < 1e-6 and abs(sum(x) - 1) < 1e-6
    x, gap = combined(held, (1000, 0.15))
    assert 1e-4 < gap < 0.03 and abs(sum(x) - 1) < 0.01
    assert combined(held, (1000, 0.01))[1] > 0.3


GAN = Config(
    network="mlp:width=8",
    optimizer="adam:lr=0.01",
    steps=200,
    batch=16,
    checkpoint_every=10,
    log_every=200,
    evaluate_every=200,
    device="cpu",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("power") / "run"
    problem = build("problem", "ring2d")
    train(problem, Config(**{**vars(GAN), "ema": "power:sigma=0.05/0.1"}), path, show=False)
    train(
        problem, Config(**{**vars(GAN), "ema": "power:sigma=0.15"}), path / ".." / "own", show=False
    )
    return path


def far(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return sum((a - b).square().sum() for a, b in pairs).sqrt().item()


def test_a_profile_that_was_not_kept_is_nearly_that_which_is_followed(run):
    """On a trained toy: a hundredth of how far the kept averages are from it, and not nothing."""
    followed = load_generator(run.parent / "own")
    found, kept = load_generator(run, sigma=0.15), load_generator(run)
    assert 1e-6 < far(found, followed) < 0.02 * far(kept, followed)
    assert far(load_generator(run, sigma=0.05), kept) < 1e-4 * far(kept, followed)
    assert not found.training and found.latent == kept.latent


def test_sample_takes_it_and_says_what_cannot_be(run, capsys):
    out = run.parent / "points.npz"
    assert main(["sample", str(run), "--ema", "sigma=0.15", "--n", "4", "--out", str(out)]) == 0
    for words, why in (
        ("sigma=0.003", "within"),
        ("0.1", "such as sigma"),
        ("sigma=0.4", "0.2886"),
    ):
        assert main(["sample", str(run), "--ema", words]) == 2
        assert why in capsys.readouterr().err
    out = run.parent / "unaveraged.npz"
    assert main(["sample", str(run), "--ema", "none", "--n", "4", "--out", str(out)]) == 0
    bare = load_generator(run, averaged=False)
    z = Sampler.open(run).draw(4, 0)
    assert np.allclose(np.load(out)["samples"], bare(z).detach(), atol=1e-6)
    with pytest.raises(SteadyganError, match="--ema power"):
        (run / "none").mkdir(exist_ok=True)
        from steadygan.runs.profiles import reconstructed

        reconstructed(run / "none", 0.1, 10)


def test_averages_are_evaluated_side_by_side_and_kept_apart(run, tmp_path, capsys):
    whole = shutil.copytree(run, tmp_path / "run")
    words = ["--metrics", "energy", "--samples", "64", "--json", "--ema"]
    assert main(["evaluate", str(whole), *words, "none", "sigma=0.15", "sigma=0.150"]) == 0
    one, other = json.loads(capsys.readouterr().out)
    assert [one["average"], other["average"]] == ["none", "sigma=0.15"]
    assert one["numbers"]["energy"]["value"] != other["numbers"]["energy"]["value"]
    real = build("problem", "ring2d").stream(0).draw(64).x.double().numpy()
    x = load_sampler(whole, sigma=0.15)[0](64, 0).double().numpy()
    there = energy_distance(real, x).distance.value
    assert other["numbers"]["energy"]["value"] == pytest.approx(there, rel=1e-6)
    assert main(["evaluate", str(whole), *words[:-1]]) == 0
    held = read_evaluations(whole / "evaluation.json")
    assert [each["average"] for each in held] == ["kept", "none", "sigma=0.15"]
    assert main(["report", str(whole)]) == 0 and "sigma=0.15" in (whole / "report.html").read_text()


def test_what_is_exported_is_the_average_that_was_asked_for(run, tmp_path):
    assert main(["export", str(run), "--to", str(tmp_path / "wide"), "--ema", "sigma=0.15"]) == 0
    found = load_generator(tmp_path / "wide")
    assert far(found, load_generator(run, sigma=0.15)) == 0
    bare = load_generator(run, averaged=False)
    assert far(load_generator(tmp_path / "wide", averaged=False), bare) == 0
    assert "sigma=0.15, made after training" in (tmp_path / "wide" / "README.md").read_text()
    assert main(["export", str(run), "--to", str(tmp_path / "bare"), "--ema", "none"]) == 0
    assert far(load_generator(tmp_path / "bare"), bare) == 0
    assert "moving average" not in (tmp_path / "bare" / "README.md").read_text()


def test_averages_resume_with_the_same_bits_and_snapshots_after_it_are_dropped(run, tmp_path):
    small = {**vars(GAN), "ema": "power", "steps": 40, "checkpoint_every": 20}
    problem = build("problem", "ring2d")
    whole = train(problem, Config(**small), tmp_path / "whole", show=False)
    kept = checkpoint.load(tmp_path / "whole/averages/step-00000040.safetensors")
    last = checkpoint.load(checkpoint.latest(whole.path))
    assert [t["step"] for t in (kept, last)] == [40, 40] and kept["sigma"] == [0.05, 0.1]
    first = checkpoint.checkpoints(whole.path)[0]
    (tmp_path / "whole/averages/step-00000099.safetensors").write_bytes(b"of a later life")
    resume(whole.path, start=first, show=False)
    assert sorted(p.name[5:13] for p in (whole.path / "averages").iterdir()) == [
        "00000020",
        "00000040",
    ]
    again = checkpoint.load(tmp_path / "whole/averages/step-00000040.safetensors")
    for k in ("0", "1"):
        for key, t in kept["states"][k].items():
            assert torch.equal(t, again["states"][k][key])


def test_of_many_gans_each_has_its_own(tmp_path):
    members = [Config(**{**vars(GAN), "ema": "power", "steps": 20, "seed": s}) for s in (0, 1)]
    train_fleet(build("problem", "ring2d"), members, tmp_path / "many", show=False)
    alone = train(build("problem", "ring2d"), members[1], tmp_path / "one", show=False)
    many = load_generator(tmp_path / "many", member=1, sigma=0.08)
    assert far(many, load_generator(alone.path, sigma=0.08)) < 1e-3


@pytest.mark.parametrize(
    "given, why",
    [("power:sigma=0.3", "0.2886"), ("halflife:images=0", "above 0"), (1.5, r"\[0, 1\)")],
)
def test_what_cannot_be_is_refused(given, why):
    with pytest.raises(SteadyganError, match=why):
        Config(ema=given).resolve(Images(data="digits", resolution=8))


def test_a_number_stays_one():
    assert canonical("decay:decay=0.99") == canonical(0.99) == 0.99 and canonical("0") == 0.0
