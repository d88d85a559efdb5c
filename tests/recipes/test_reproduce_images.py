"""The experiments on images: a claim can fail, images are found or asked for, runs go on where they
stopped."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from steadygan import SteadyganError
from steadygan.cli import main
from steadygan.evaluation.crosstest import cross_test, judged
from steadygan.evaluation.estimate import Estimate
from steadygan.experiments import images
from steadygan.experiments.images import Quality, Trained
from steadygan.experiments.roth import cost as roth_cost
from steadygan.experiments.roth import crosstest as roth_crosstest
from steadygan.experiments.roth import images as roth_images
from steadygan.experiments.timing import Job, ratio, rounds
from steadygan.training import trainer


def run(
    folder: Path,
    losses=(1.4,) * 9,
    state="finished",
    seed=0,
    objective="nonsaturating",
    warnings=(),
):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": {"objective": objective}}))
    return Trained(
        "a run",
        seed,
        folder,
        state,
        9,
        1.0,
        tuple(warnings),
        tuple({"critic_loss": loss} for loss in losses),
    )


def quality(kid=0.3, spread=0.9):
    return Quality(Estimate(kid, kid - 0.01, kid + 0.01), spread)


# ------------------------------------------------------------ verdicts


def test_what_is_alive_and_what_is_not(tmp_path):
    whole = run(tmp_path / "whole")
    assert images.alive(whole, quality())
    assert not images.alive(run(tmp_path / "stopped", state="stopped"), quality())
    assert not images.alive(whole, quality(spread=0.24)) and images.alive(
        whole, quality(spread=0.26)
    )
    # 2 % of 2 log 2 = 0.0277: the median over the last third decides, so that neither a moment nor
    # the start does.
    assert not images.alive(run(tmp_path / "won", losses=[1.4] * 6 + [0.02, 0.5, 0.02]), quality())
    assert images.alive(
        run(tmp_path / "transient", losses=[0.02] * 6 + [1.2, 0.02, 1.2]), quality()
    )
    assert images.alive(
        run(tmp_path / "wgan", losses=[-3.0] * 9, objective="wasserstein"), quality()
    )


def test_rows_can_hold_and_fail(tmp_path):
    good, dead = (
        (run(tmp_path / "good"), quality()),
        (run(tmp_path / "dead", state="stopped", seed=1), quality(spread=0.1)),
    )
    assert images.stands("", [good, good], "").holds
    row = images.stands("", [good, dead], "")
    assert (
        row.holds is False
        and "seed 1: ended as stopped, its samples have 10% of the real spread" in row.why
    )
    assert "1 of 2 seeds" in row.measured
    assert images.falls("", [good, dead], "", "short").holds is True
    alive = images.falls("", [good, good], "", "short")
    assert alive.holds is None and alive.why == "short"


@pytest.mark.parametrize(
    ("ours", "theirs", "holds"),
    [
        ((0.2, 0.2), (0.3, 0.3), True),
        ((0.3, 0.3), (0.2, 0.2), False),
        ((0.2, 0.3), (0.3, 0.2), None),
        ((0.2, 0.2), (0.21, 0.3), None),
    ],
)
def test_nearer_needs_intervals_apart_in_every_seed(tmp_path, ours, theirs, holds):
    groups = [[(run(tmp_path), quality(kid)) for kid in each] for each in (ours, theirs)]
    assert images.nearer("", *groups, "").holds is holds


def test_the_crosstest_rows_are_what_arithmetic_demands():
    torch.manual_seed(0)
    real = torch.randn(2, 50) + 3
    # The first discriminator rejects the second's samples, the second takes the first's for real.
    ours = torch.stack(
        [
            torch.stack([-torch.rand(60) - 1, -torch.rand(60) - 1]),
            torch.stack([torch.rand(60) + 1, -torch.rand(60) - 1]),
        ]
    )
    wins = roth_crosstest.rows_of(
        cross_test(["regularized", "unregularized"], real, ours), "seed 0"
    )
    assert [row.holds for row in wins] == [True, True, True, True]
    loses = roth_crosstest.rows_of(
        cross_test(["regularized", "unregularized"], real, ours.flip(0, 1)), "seed 0"
    )
    assert [row.holds for row in loses] == [False, False, False, False]


def test_every_critic_judges_every_model():
    critics = [lambda x: x[:, 0], lambda x: -2 * x[:, 1]]
    real, samples = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        [torch.tensor([[5.0, 6.0]]), torch.tensor([[7.0, 8.0]])],
    )
    own, theirs = judged(critics, real, samples)
    assert own.tolist() == [[1, 3], [-4, -8]] and theirs.tolist() == [[[5], [7]], [[-12], [-16]]]


def test_factors_come_from_the_times(monkeypatch):
    def samples(textbook, merged, gp):
        each = {"none": 1.0, roth_cost._TEXTBOOK: textbook, roth_cost._HERE: merged, "WGAN-GP": gp}
        return {
            f"DCGAN/{name}": [(0.01 * k * cpu, 9.0) for k in (1, 2, 3)]
            for name, cpu in each.items()
        }

    assert [row.holds for row in roth_cost._factors("DCGAN", samples(1.4, 1.2, 6.0))] == [
        True,
        True,
        True,
    ]
    slow = roth_cost._factors("DCGAN", samples(1.9, 2.0, 1.5))
    assert [row.holds for row in slow] == [False, False, False] and slow[0].why


def test_the_cost_is_timed_again_and_its_runs_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["reproduce", "roth-cost", "--scale", "tiny", "--out", "out"]) == 0
    assert len(json.loads(Path("out/result.json").read_text())["rows"]) == 4


# ------------------------------------------------------------ timing


def test_rounds_count_a_unit_of_work_and_name_what_fails():
    def broken():
        raise ValueError("no such thing\nat all")

    def spin():
        sum(range(200_000))

    jobs = [
        Job("one", lambda: spin),
        Job("ten", lambda: lambda: [spin() for _ in range(10)], work=10),
        Job("broken", broken),
    ]
    found, failed = rounds(jobs, 5, 0.02, lambda line: None)
    assert failed == {"broken": "ValueError: no such thing"} and set(found) == {"one", "ten"}
    assert 0.5 < ratio(found, "ten", "one")["median"] < 2 and ratio(found, "ten", "broken") is None


# ------------------------------------------------------------ images, found and asked for


def test_images_are_looked_for_and_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEADYGAN_DATA", raising=False)
    with pytest.raises(
        SteadyganError, match=r"needs images.*give --data TRAIN TEST.*or set STEADYGAN_DATA"
    ):
        images.sources({"data": ("cifar10/train.zip", "cifar10/test.zip")})
    held = tmp_path / "held"
    held.mkdir()
    for name in ("a.zip", "b.zip"):
        (held / name).touch()
    monkeypatch.setenv("STEADYGAN_DATA", str(held))
    assert images.sources({"data": ("a.zip", "b.zip")}) == (
        str(held / "a.zip"),
        str(held / "b.zip"),
    )
    assert images.sources({"data": ("digits", "hf:name")}) == ("digits", "hf:name")


def test_the_command_takes_ones_own_images_and_says_where_it_makes_its_own(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "roth-fig5", "--data", "a", "b"]) == 2
    assert "makes its own data" in capsys.readouterr().err
    np.savez("mine.npz", np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8))
    assert (
        main(
            [
                "reproduce",
                "mescheder-images",
                "--scale",
                "tiny",
                "--data",
                "mine.npz",
                "mine.npz",
                "--out",
                "out",
            ]
        )
        == 0
    )
    result = json.loads(Path("out/result.json").read_text())
    assert result["settings"]["data"] == ["mine.npz", "mine.npz"]
    held = json.loads(next(Path("out").rglob("config.json")).read_text())["problem"]
    assert held["data"] == "mine.npz" and held["flip"]
    assert (
        main(
            [
                "reproduce",
                "mescheder-images",
                "--scale",
                "tiny",
                "--data",
                "digits",
                "digits",
                "--out",
                "out",
            ]
        )
        == 2
    )
    assert "holds another run" in capsys.readouterr().err


def test_an_interrupted_run_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["reproduce", "mescheder-images", "--scale", "tiny", "--out"]
    assert main([*argv, "whole"]) == 0
    note = trainer.Trainer._finite

    def pressed(self):
        if self.step == 2 and not self.game.regularizers:
            os.kill(os.getpid(), signal.SIGINT)
        return note(self)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "_finite", pressed)
        assert main([*argv, "halves"]) == 130
    assert not Path("halves/result.json").exists()
    assert main([*argv, "halves"]) == 0
    whole, halves = (
        json.loads(Path(out, "result.json").read_text())["rows"] for out in ("whole", "halves")
    )
    assert whole == halves
    # Killed after the last checkpoint and before the status said so.
    status = next(Path("halves").rglob("R1/seed-0/status.json"))
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "running", "step": 0}))
    assert main([*argv, "halves"]) == 0
    assert (
        json.loads(status.read_text())["state"] == "finished"
        and json.loads(status.read_text())["step"] == 4
    )


def test_networks_have_the_normalisation_that_their_method_allows():
    settings = images.TINY
    assert "critic_norm=batch" in images.config(settings, "DCGAN", 0).network
    assert "critic_norm=layer" in images.wgan_gp(settings, "DCGAN", 0).network
    assert (
        "norm=none,critic_norm=none,weight_std=0.08"
        in images.wgan_gp(settings, "no normalisation", 0).network
    )
    assert images.network("no normalisation", {**settings, "width": 64}).endswith("weight_std=0.02")
    assert images.network("no normalisation", {**settings, "width": 16}).endswith("weight_std=0.04")
    chosen = images.wgan_gp(settings, "tanh", 3, steps=7)
    assert (chosen.steps, chosen.seed, chosen.dynamics) == (7, 3, "alternating:critic_steps=5")


def test_every_architecture_and_noise_runs(tmp_path):
    settings = {
        **roth_images.FIG23.settings("tiny"),
        "architectures": ("tanh", "ResNet"),
        "steps": 1,
    }
    found = roth_images.fig23(settings, 1, tmp_path / "a")
    assert len(found.rows) == 14 and np.shape(found.data["cells"])[:2] == (2, 5)
    with pytest.raises(SteadyganError, match="cannot be split"):
        roth_images.fig4(
            {**roth_images.FIG4.settings("tiny"), "ratios": (3,), "steps": 1}, 1, tmp_path / "b"
        )
