"""``steadygan crosstest`` end to end: trained toys, a picture, the report, and what it refuses."""

import json
import shutil

import pytest
import torch

from steadygan.cli import main
from steadygan.cli.crosstest import _comparable
from steadygan.core import SteadyganError
from steadygan.runs import checkpoint
from steadygan.runs.description import Description
from steadygan.runs.models import build_networks, load_critic
from steadygan.training import Config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for name, settings in {
        "short": ["--steps", "2"],
        "long": ["--steps", "300", "--regularizer", "js:gamma=0.1"],
    }.items():
        assert main(["train", "ring2d", *settings, "--batch", "64", "--out", str(root / name)]) == 0
    return root


def test_two_runs(runs, capsys):
    pair = [str(runs / name) for name in ("short", "long")]
    assert (
        main(["crosstest", *pair, "--samples", "500", "--json", "--picture", str(runs / "m.png")])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["names"] == ["short", "long"] and found["samples"] == [500, 500]
    assert all(
        sum(column) == pytest.approx(1)
        for matrix in found["confusion"]
        for column in zip(*matrix, strict=True)
    )
    # What was hardly trained is told from real samples by the one that was, whatever its own
    # discriminator says.
    assert found["auc"][1][0]["value"] > 0.7 and found["scores_auc"][1]["value"] > 0
    assert (runs / "m.png").stat().st_size > 5000
    for name in ("short", "long"):
        assert json.loads((runs / name / "crosstest.json").read_text()) == found
    assert main(["report", *pair, "--out", str(runs / "report.html")]) == 0
    assert found["verdict"] in (runs / "report.html").read_text()


def test_the_same_run_twice_is_undecided(runs, capsys):
    shutil.copytree(runs / "long", runs / "again", dirs_exist_ok=True)
    assert main(["crosstest", str(runs / "long"), str(runs / "again"), "--samples", "200"]) == 0
    assert "undecided: long ≈ again" in capsys.readouterr().out


def test_what_cannot_be_kept_is_shown_all_the_same(runs, tmp_path, capsys):
    pair = [str(shutil.copytree(runs / name, tmp_path / name)) for name in ("short", "long")]
    (tmp_path / "short" / "crosstest.json").unlink(missing_ok=True)
    (tmp_path / "short" / "crosstest.json").mkdir()
    capsys.readouterr()
    assert main(["crosstest", *pair, "--samples", "50", "--json"]) == 0
    said = capsys.readouterr()
    assert "short/crosstest.json cannot be written" in said.err and "Traceback" not in said.err
    kept = json.loads((tmp_path / "long" / "crosstest.json").read_text())
    assert json.loads(said.out) == kept


def test_the_critic_is_the_checkpoints_own(runs):
    described = json.loads((runs / "long" / "config.json").read_text())
    _, critic = build_networks(Config.from_json(described["config"]), (2,), 0)
    critic.load_state_dict(checkpoint.load(checkpoint.latest(runs / "long"))["critic"])
    x = torch.randn(65, 2)
    logits = load_critic(runs / "long", 64)(x)  # in parts of 64 and one more
    assert logits.shape == (65,) and logits.std() > 0
    torch.testing.assert_close(logits, critic(x).flatten().detach())


def test_refusals(runs, tmp_path, capsys):
    assert (
        main(
            ["train", "mixture3d", "--steps", "1", "--batch", "8", "--out", str(tmp_path / "other")]
        )
        == 0
    )
    capsys.readouterr()
    for arguments, why in {
        (str(runs / "long"),): "at least two",
        (str(runs / "long"), str(tmp_path / "other")): "its own shape only",
        (str(runs / "long"), str(tmp_path)): "no run folder",
        (str(runs / "nowhere"), "x", "--picture", "m.jpg"): "a picture ends in .png",
        (str(runs / "short"), str(runs / "long"), "--samples", "-4"): "at least 20, not -4",
        (str(runs / "short"), str(runs / "long"), "--samples", "0"): "at least 20, not 0",
        (str(runs / "short"), str(runs / "long"), "--samples", "1"): "at least 20, not 1",
    }.items():
        assert main(["crosstest", *arguments]) == 2
        assert why in capsys.readouterr().err
    shutil.copytree(runs / "long", tmp_path / "elsewhere")
    described = json.loads((tmp_path / "elsewhere" / "config.json").read_text())
    described["problem"]["std"] = 0.5
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps(described))
    assert main(["crosstest", str(runs / "long"), str(tmp_path / "elsewhere")]) == 2
    assert "different data" in capsys.readouterr().err
    described["classes"] = 3
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps(described))
    assert main(["crosstest", str(tmp_path / "elsewhere"), str(tmp_path / "elsewhere")]) == 2
    assert "class-conditional" in capsys.readouterr().err


def test_the_same_pixels_are_the_same_data_wherever_they_lay(tmp_path):
    def described(data, pixels):
        problem = {"name": "images", "data": data}
        raw = {"problem": problem, "event": [3, 8, 8], "classes": 0, "data": {"pixels": pixels}}
        return Description(tmp_path, raw)

    paths = [tmp_path, tmp_path]
    _comparable(paths, [described("/home/me/cats.zip", "5e"), described("cats.zip", "5e")])
    _comparable(paths, [described("cats.zip", "5e"), described("cats.zip", None)])
    with pytest.raises(SteadyganError, match="different data \\(data"):
        _comparable(paths, [described("/home/me/cats.zip", "5e"), described("cats.zip", None)])
    for where in ("/home/me/cats.zip", "cats.zip"):  # a file that was replaced keeps its name
        with pytest.raises(SteadyganError, match="different data \\(pixels: '5e' and '6f'"):
            _comparable(paths, [described(where, "5e"), described("cats.zip", "6f")])
