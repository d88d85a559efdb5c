"""Many GANs from the command line, and the page about them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from steadygan import SteadyganError
from steadygan.cli import main
from steadygan.report import Run, write_report
from steadygan.report.fleet import groups, quartiles, summary, table
from steadygan.runs.models import load_sampler

TINY = [
    "--network",
    "mlp:width=8",
    "--steps",
    "3",
    "--batch",
    "8",
    "--log-every",
    "1",
    "--evaluate-every",
    "9",
    "--device",
    "cpu",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_grid_of_seeds_and_strengths_is_trained_resumed_and_reported(here, capsys):
    argv = [
        "train",
        "ring2d",
        *TINY,
        "--seeds",
        "2",
        "--seed",
        "5",
        "--regularizer",
        "js:gamma=1",
        "--optimizer",
        "adam:lr={0.001,0.1}",
    ]
    assert main(argv) == 0
    path = Path(capsys.readouterr().out.strip())
    described = json.loads((path / "config.json").read_text())
    members = described["fleet"]["members"]
    assert [m["seed"] for m in members] == [5, 6, 5, 6] and not described["fleet"]["compiled"]
    assert [m["optimizer"] for m in members] == ["adam:lr=0.001"] * 2 + [
        "adam:lr=0.1"
    ] * 2 and "regularizer" not in members[0]
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3] and all(
        len(row["penalty"]) == 4 for row in rows
    )
    assert [len(row.get("metrics", {}).get("sw1", [])) for row in rows] == [0, 0, 4]
    assert np.load(path / "samples/step-00000003.npz")["samples"].shape == (4, 5120, 2)

    assert main(["resume", str(path), "--steps", "4"]) == 0
    assert json.loads((path / "status.json").read_text())["step"] == 4
    assert main(["sample", str(path)]) == 2 and "--member K" in capsys.readouterr().err
    assert (
        main(["sample", str(path), "--member", "4"]) == 2
        and "members 0 to 3, not 4" in capsys.readouterr().err
    )
    assert main(["sample", str(path), "--member", "2", "--n", "7", "--seed", "1"]) == 0
    with np.load(path / "sample-member2-step4-seed1.npz") as drawn:
        sample, _ = load_sampler(path, member=2)
        np.testing.assert_array_equal(drawn["samples"], sample(7, 1).numpy())
        assert not np.allclose(drawn["samples"], load_sampler(path, member=3)[0](7, 1).numpy())
    assert main(["report", str(path)]) == 0
    page = (path / "report.html").read_text()
    assert "4 GANs at once" in page and "adam:lr=0.1" in page and "<script" not in page
    assert not re.search(r"""(src|href)=["']?https?:""", page) and page.count("data:image/png") > 8
    assert page.count("<td>finished") == 4


def test_one_seed_without_braces_is_a_run_as_ever(here, capsys):
    assert main(["train", "ring2d", *TINY, "--regularizer", "{js:gamma=0.1}", "--out", "run"]) == 0
    assert "fleet" not in json.loads(Path("run/config.json").read_text())
    assert isinstance(
        json.loads(Path("run/metrics.jsonl").read_text().splitlines()[0])["penalty"], float
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--regularizer", "{r1,r2}"], "differ in more than their strengths"),
        (["--regularizer", "js:gamma={0.1"], "does not close"),
        (["--optimizer", "{adam,sgd}"], "more than the learning rate"),
        (["--seeds", "0"], "at least one seed"),
        (["--seeds", "2", "--smoothing", "explicit-noise:nsr=3"], "noise-to-signal ratio 3"),
        (["--compile"], "--compile is for many GANs at once"),
    ],
)
def test_what_cannot_be_trained_at_once_is_refused_and_makes_nothing(here, capsys, argv, message):
    assert main(["train", "ring2d", *TINY, *argv]) == 2
    said = capsys.readouterr()
    assert (
        message in " ".join(said.err.split())
        and "Traceback" not in said.err
        and not Path("runs").exists()
    )


def test_a_member_that_diverges_is_named_on_the_page_and_on_the_terminal(here, capsys):
    tiny = [
        *TINY,
        "--network",
        "mlp:width=8,activation=relu",
        "--steps",
        "12",
        "--objective",
        "wasserstein",
    ]
    assert (
        main(["train", "ring2d", *tiny, "--optimizer", "sgd:lr={0.01,1e30}", "--out", "run"]) == 0
    )
    assert "member 1 stopped at step" in capsys.readouterr().err
    run = Run.read(Path("run"))
    assert [row["state"] for row in table(run)] == [
        "finished",
        "stopped",
    ] and "non-finite" in table(run)[1]["reason"]
    assert [row["stopped"] for row in summary(run)] == [0, 1]
    assert (
        np.isnan(summary(run)[1]["last"]["sw1"]).all()
        and np.isfinite(summary(run)[0]["last"]["sw1"]).all()
    )
    page = write_report("run").read_text()
    assert "non-finite" in page and "not finite" in page


# ------------------------------------------------------------ the page


def fleet_folder(path, members, rows, status=None, event=(2,)):
    path.mkdir()
    config = {
        "problem": {"name": "ring2d"},
        "config": {"batch": 8},
        "event": list(event),
        "fleet": {"compiled": False, "members": members},
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if status:
        (path / "status.json").write_text(json.dumps(status))
    return path


def test_bands_are_quartiles_of_those_that_are_left():
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [np.nan, 7.0, np.inf, np.nan, 9.0], [np.nan] * 5])
    expected = [[2.0, 3.0, 4.0], [7.5, 8.0, 8.5], [np.nan] * 3]
    np.testing.assert_array_equal(quartiles(values), np.array(expected).T)


def test_settings_are_told_apart_and_summed_up(tmp_path):
    members = [
        {"regularizer": [f"js:gamma={g}"], "optimizer": "adam", "critic_optimizer": c, "seed": s}
        for g in (1, 2)
        for c in ("adam", "sgd")
        for s in (0, 1)
    ]
    rows = [
        {"step": step, "critic_loss": [0.5] * 8, "metrics": {"sw1": [step * i for i in range(8)]}}
        for step in (1, 2)
    ]
    run = Run.read(fleet_folder(tmp_path / "run", members, rows))
    assert list(groups(run)) == [
        "js:gamma=1, adam",
        "js:gamma=1, adam, critic sgd",
        "js:gamma=2, adam",
        "js:gamma=2, adam, critic sgd",
    ]
    assert groups(run)["js:gamma=1, adam, critic sgd"] == [2, 3]
    assert summary(run)[1]["last"] == {"sw1": [4.5, 5.0, 5.5]} and summary(run)[1]["count"] == 2
    assert [row["last"] for row in table(run)] == [[2.0 * i] for i in range(8)]


def test_a_fleet_that_has_just_started_has_a_page(tmp_path):
    page = write_report(fleet_folder(tmp_path / "run", [{"seed": 0}, {"seed": 1}], [])).read_text()
    assert "2 GANs at once" in page and "Curves" not in page


def test_everything_on_the_page_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    rows = [{"step": 1, "penalty": [1.0], "metrics": {evil: [1.0]}}]
    status = {
        "state": evil,
        "reason": evil,
        "members": [{"state": evil, "step": 1, "reason": evil}],
    }
    page = write_report(
        fleet_folder(tmp_path / "run", [{"seed": evil, "regularizer": [evil]}], rows, status)
    ).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_samples_of_images_are_shown(tmp_path):
    path = fleet_folder(tmp_path / "run", [{"seed": 0}, {"seed": 1}], [], event=(3, 4, 4))
    (path / "samples").mkdir()
    np.savez(path / "samples/step-00000001.npz", samples=np.zeros((2, 5, 3, 4, 4), np.float32))
    assert 'class="sheet pixels"' in write_report(path).read_text()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"step": 1, "penalty": [1.0]}, "each of the 2 members"),
        ({"step": 1, "metrics": {"sw1": 3.0}}, "each of the 2 members"),
        ({"step": 1, "penalty": ["a", 1.0]}, "a number or null"),
        ({"penalty": [1.0, 1.0]}, "whole number as its step"),
    ],
)
def test_a_damaged_fleet_is_refused(tmp_path, row, message):
    with pytest.raises(SteadyganError, match=message):
        write_report(fleet_folder(tmp_path / "run", [{"seed": 0}, {"seed": 1}], [row]))


def test_a_fleet_is_reported_alone(tmp_path):
    fleet, other = (fleet_folder(tmp_path / name, [{"seed": 0}], []) for name in "ab")
    with pytest.raises(SteadyganError, match="page of their own"):
        write_report([fleet, other])
