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
from steadygan.experiments import images, pace, quality
from steadygan.experiments.images import ImageRun
from steadygan.experiments.quality import Quality
from steadygan.experiments.roth import cost as roth_cost
from steadygan.experiments.roth import crosstest as roth_crosstest
from steadygan.experiments.roth import images as roth_images
from steadygan.experiments.rules import Fate
from steadygan.experiments.spec import Source
from steadygan.experiments.timing import Job, ratio, rounds
from steadygan.runs.samples import write_samples
from steadygan.training import Config, single


def run(
    folder: Path,
    losses=(1.4,) * 9,
    state="finished",
    seed=0,
    objective="nonsaturating",
    warnings=(),
    step=9,
):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"config": {"objective": objective}}))
    return ImageRun(
        "a run",
        seed,
        folder,
        state,
        step,
        1.0,
        tuple(warnings),
        tuple({"critic_loss": loss} for loss in losses),
    )


SOURCE = Source("")


def found(kid=0.3, spread=0.9):
    return Quality(Estimate(kid, kid - 0.01, kid + 0.01), spread)


# ------------------------------------------------------------ verdicts


def fate(run, **more):
    return quality.course(run, found(**more)).fate


def test_how_runs_went(tmp_path):
    whole = run(tmp_path / "whole")
    assert fate(whole) is Fate.STANDS and fate(whole, spread=0.26) is Fate.STANDS
    assert fate(run(tmp_path / "stopped", state="stopped")) is Fate.BLEW_UP
    # 2 % of 2 log 2 = 0.0277: the median over the last third decides, so that neither a moment nor
    # the start does.
    assert fate(run(tmp_path / "won", losses=[1.4] * 6 + [0.02, 0.5, 0.02])) is Fate.WON
    assert fate(run(tmp_path / "moment", losses=[0.02] * 6 + [1.2, 0.02, 1.2])) is Fate.STANDS
    assert fate(run(tmp_path / "wgan", losses=[-3.0] * 9, objective="wasserstein")) is Fate.STANDS


def test_untrained_is_not_unstable(tmp_path):
    grids = tmp_path / "alike/samples"
    grids.mkdir(parents=True)
    pictures = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for name in ("real", "step-00000000"):
        write_samples(grids / f"{name}.png", pictures)
    for step in (3, 9):
        write_samples(grids / f"step-{step:08d}.png", 0.1 * pictures)
    alike = run(tmp_path / "alike")
    assert not alike.had_varied, "the first grid is of random weights"
    assert fate(alike, spread=0.1) is Fate.UNLEARNED
    write_samples(grids / "step-00000003.png", 0.3 * pictures)
    assert fate(run(tmp_path / "alike"), spread=0.1) is Fate.FELL
    assert fate(run(tmp_path / "alike"), spread=0.3) is Fate.STANDS


def test_rows_can_hold_and_fail(tmp_path):
    long, short = (
        [(run(tmp_path / "good", seed=i, step=step), found()) for i in range(3)]
        for step in (images.ENOUGH, images.ENOUGH - 1)
    )
    dead = (run(tmp_path / "dead", state="stopped", seed=1), found(spread=0.1))
    assert quality.stands("", long, SOURCE).holds is True
    assert quality.falls("", long, SOURCE).holds is False, "as long as is asked for, and alive"
    assert quality.stands("", short, SOURCE).holds is None
    assert quality.falls("", short, SOURCE).holds is None
    row = quality.stands("", [*short[:2], dead], SOURCE)
    assert row.holds is False and "seed 1 blew up at 9, with 10% of the real spread" in row.why
    assert "2 of 3 seeds" in row.measured
    assert quality.falls("", [*short[:2], dead], SOURCE).holds is True
    assert quality.stands("", short, SOURCE, enough=9).holds is True


@pytest.mark.parametrize(
    ("ours", "theirs", "holds"),
    [
        ((0.2, 0.21, 0.22), (0.3, 0.31, 0.32), True),
        ((0.3, 0.31, 0.32), (0.2, 0.21, 0.22), False),
        ((0.2, 0.21, 0.305), (0.3, 0.31, 0.32), None),
        ((0.2, 0.2), (0.3, 0.3), None),
    ],
)
def test_nearer_needs_trainings_apart(tmp_path, ours, theirs, holds):
    def row(step):
        groups = [
            [(run(tmp_path, step=step), found(kid)) for kid in each] for each in (ours, theirs)
        ]
        return quality.nearer("", *groups, SOURCE)

    assert row(images.ENOUGH).holds is holds
    short = row(images.ENOUGH - 1)
    assert short.holds is None and "seed 0 stands at 7,811" in short.why


def test_nearer_says_nothing_between_dead_runs(tmp_path):
    def group(kid, state):
        step = images.ENOUGH if state == "finished" else 9
        return [(run(tmp_path / state, state=state, step=step), found(kid)) for _ in range(3)]

    dead = group(0.9, "stopped")
    assert quality.nearer("", group(0.2, "stopped"), dead, SOURCE).holds is None
    assert quality.nearer("", group(0.2, "finished"), dead, SOURCE).holds is True
    assert quality.nearer("", dead, group(0.2, "finished"), SOURCE).holds is False


def crossed(wins=True):
    torch.manual_seed(0)
    real = torch.randn(2, 50) + 3
    # The first discriminator rejects the second's samples, the second takes the first's for real.
    ours = torch.stack(
        [
            torch.stack([-torch.rand(60) - 1, -torch.rand(60) - 1]),
            torch.stack([torch.rand(60) + 1, -torch.rand(60) - 1]),
        ]
    )
    return cross_test(["regularized", "unregularized"], real, ours if wins else ours.flip(0, 1))


def crosstest_rows(*outcomes):
    along = [{1: crossed(not wins), 2: crossed(wins)} for wins in outcomes]
    return [
        quantity.row([roth_crosstest.late(each, quantity) for each in along], [0.5], "").holds
        for quantity in roth_crosstest.QUANTITIES
    ]


def test_the_crosstest_rows_are_what_arithmetic_demands():
    assert crosstest_rows(True, True, True) == [True] * 4
    assert crosstest_rows(False, False, False) == [False] * 4
    assert crosstest_rows(True, True, False) == [None] * 4
    assert crosstest_rows(True, True) == [None] * 4, "two seeds are too few"


def test_the_crosstest_is_judged_over_its_last_third():
    along = {step: crossed(step in (1, 8, 9)) for step in range(1, 10)}
    assert roth_crosstest.late(along, roth_crosstest.QUANTITIES[2]) > 0
    assert roth_crosstest.late({**along, 8: crossed(False)}, roth_crosstest.QUANTITIES[2]) < 0


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

    def holds(*times):
        architecture = "no normalisation"
        held = {f"{architecture}/{k.split('/')[1]}": v for k, v in samples(*times).items()}
        return [row.holds for row in roth_cost._factors(architecture, held)]

    assert holds(1.4, 1.2, 6.0) == [True, True] and holds(1.9, 2.0, 1.5) == [False, False]
    assert holds(1.4, 1.4, 1.4) == [None, None]
    assert len(roth_cost._factors("DCGAN", samples(1.4, 1.2, 6.0))) == 1, "the same passes"


def test_who_is_sooner_is_judged_over_seeds():
    def holds(*times):
        races = [roth_cost.Race(0.3, {roth_cost._HERE: a, "WGAN-GP": b}, {}, 1.0) for a, b in times]
        return roth_cost._sooner(races).holds

    assert holds((1, 4), (2, 5), (3, 6)) is True and holds((4, 1), (5, 2), (6, 3)) is False
    assert holds((1, 4), (2, 5), (7, 6)) is None and holds((1, 4)) is None
    assert holds(*[(2, 3)] * 8, *[(4, 4)] * 3, (5, 4)) is True, "at the same moment none is later"


OURS = Config(regularizer=("js:gamma=1",), network="dcgan")
THEIRS = Config(regularizer=("gp1:gamma=10",), network="dcgan")


def test_a_pace_is_measured_once(tmp_path, monkeypatch):
    counted = []

    def rounds(jobs, *args):
        counted.append(len(jobs))
        times = zip(jobs, (1.0, 2.5), strict=True)
        return {job.name: [(seconds, 1.0)] * 3 for job, seconds in times}, {}

    monkeypatch.setattr(pace, "rounds", rounds)
    paced = [
        pace.as_long(steps, OURS, THEIRS, None, pace.PACED, tmp_path / "a/pace.json")
        for steps in (100, 1000)
    ]
    assert paced == [40, 400] and counted == [2]


def test_the_cost_is_timed_again_and_its_runs_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["reproduce", "roth-cost", "--scale", "tiny", "--out", "out"]) == 0
    assert len(json.loads(Path("out/result.json").read_text())["rows"]) == 2


def test_what_cannot_be_timed_is_named_and_why(tmp_path, monkeypatch, capsys):
    def without_memory(images, config):
        def make():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

        return make

    path = tmp_path / "pace.json"
    monkeypatch.setattr(pace, "iteration", without_memory)
    with pytest.raises(SteadyganError, match=r"js:gamma=1 on dcgan \(OutOfMemoryError: CUDA out"):
        pace.as_long(100, OURS, THEIRS, None, pace.PACED, path)
    assert not path.exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(roth_cost, "iteration", without_memory)
    assert main(["reproduce", "roth-cost", "--scale", "tiny"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "DCGAN/WGAN-GP (OutOfMemoryError: CUDA out of memory" in said


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
    timed, failed = rounds(jobs, 5, 0.02, lambda line: None)
    assert failed == {"broken": "ValueError: no such thing"} and set(timed) == {"one", "ten"}
    assert 0.5 < ratio(timed, "ten", "one")["median"] < 2 and ratio(timed, "ten", "broken") is None


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
    fallen = single.Single.fallen

    def pressed(self, logged):
        if self.step == 2 and not self.game.regularizers:
            os.kill(os.getpid(), signal.SIGINT)
        return fallen(self, logged)

    with monkeypatch.context() as patch:
        patch.setattr(single.Single, "fallen", pressed)
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
