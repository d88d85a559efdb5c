"""What may change on a run's way, one writer a run, and numerical ends."""

import json
import os
import struct
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from steadygan import SteadyganError
from steadygan.analysis.subjects import load_run
from steadygan.cli import main
from steadygan.core.players import PLAYERS
from steadygan.problems.toys import Dirac
from steadygan.runs import checkpoint, lock
from steadygan.runs.config import Config
from steadygan.runs.folder import RunFolder
from steadygan.runs.reading import Run
from steadygan.training import resume, train, train_fleet
from steadygan.training.watchers import Watcher

SMALL = Config(
    steps=4, batch=2, log_every=1, checkpoint_every=2, optimizer="adam:lr=0.1", device="cpu"
)


@pytest.fixture
def run(tmp_path):
    train(Dirac(), SMALL, tmp_path / "run", show=False)
    return tmp_path / "run"


def flip(path, bit=0x40):
    content = bytearray(path.read_bytes())
    (header,) = struct.unpack("<Q", content[:8])
    content[8 + header] ^= bit
    path.write_bytes(content)


def test_one_flipped_bit_is_seen_and_the_older_checkpoint_is_offered(run):
    older, newest = checkpoint.checkpoints(run)
    flip(newest, bit=1)
    with pytest.raises(SteadyganError, match=r"checksum.*--from .*step-00000002") as refused:
        resume(run, steps=6, show=False)
    assert str(newest) in str(refused.value)
    outcome = resume(run, steps=6, start=older, show=False)
    assert (outcome.state, outcome.step) == ("finished", 6)
    assert [r["step"] for r in map(json.loads, (run / "metrics.jsonl").open())] == [*range(1, 7)]


def test_from_an_older_checkpoint_the_same_bits_come_again(run):
    wanted = checkpoint.load(checkpoint.latest(run))["generator"]
    resume(run, start=checkpoint.checkpoints(run)[0], show=False)
    assert torch.equal(
        checkpoint.load(checkpoint.latest(run))["generator"]["theta"], wanted["theta"]
    )
    with pytest.raises(SteadyganError, match="is no checkpoint of"):
        resume(run, start=run / "config.json", show=False)


def test_another_learning_rate_keeps_the_moments_and_another_kind_begins_anew(run):
    before = checkpoint.load(checkpoint.latest(run))["optimizer"]["critic"]
    changes = {"optimizer": "adam:lr=0.001", "batch": 3}
    resume(run, steps=5, changes=changes, show=False)
    after = checkpoint.load(checkpoint.latest(run))["optimizer"]["critic"]
    assert after["groups"][0]["lr"] == 0.001 and after["state"]["0"]["step"] == 5
    beta = before["groups"][0]["betas"][0]
    first, second = before["state"]["0"]["exp_avg"], after["state"]["0"]["exp_avg"]
    assert not torch.equal(first, second) and (second - beta * first).abs() < 1  # of the same mean
    (entry,) = json.loads((run / "config.json").read_text())["history"]
    assert entry["step"] == 4 and entry["changed"]["batch"] == [2, 3]
    assert [text.partition(",")[0] for text in entry["changed"]["critic_optimizer"]] == [
        "adam:lr=0.1",
        "adam:lr=0.001",
    ]
    resume(run, steps=6, changes={"optimizer": "sgd:lr=0.01"}, show=False)
    assert len(json.loads((run / "config.json").read_text())["history"]) == 2


class Dying(Watcher):
    """Ends a resumed run before its first checkpoint."""

    def stepped(self, training):
        raise RuntimeError("killed")


@pytest.mark.parametrize("optimizer", ["adam:lr=0.001", "sgd:lr=0.001"])
def test_a_change_that_was_killed_before_it_was_saved_is_gone_on_with(run, optimizer):
    with pytest.raises(RuntimeError, match="killed"):
        changes = {"optimizer": optimizer}
        resume(run, steps=6, changes=changes, show=False, watchers=[Dying()])
    load_run(run)  # the doctor, too, takes the optimizer that the checkpoint was made with
    resume(run, show=False)
    after = checkpoint.load(checkpoint.latest(run))
    assert after["step"] == 6
    assert [after["optimizer"][name]["groups"][0]["lr"] for name in PLAYERS] == [0.001, 0.001]
    # Made by the one before, which is told to go on by the one now.
    resume(run, start=checkpoint.checkpoints(run)[0], show=False)
    again = checkpoint.load(checkpoint.latest(run))["optimizer"]["critic"]["groups"][0]
    assert again["lr"] == 0.001


def test_a_regularizer_on_the_way_is_what_a_fresh_step_with_it_gives(run, tmp_path):
    before = checkpoint.load(checkpoint.latest(run))
    changes = {"regularizer": ("r1:gamma=3",), "optimizer": "sgd:lr=0.5"}
    resume(run, steps=5, changes=changes, show=False)
    after = checkpoint.load(checkpoint.latest(run))
    theta, psi = before["generator"]["theta"], before["critic"]["psi"]
    # d/dpsi of softplus(psi theta) + softplus(0) + 3/2 psi^2, the logit large on real samples.
    slope = theta * torch.sigmoid(psi * theta) + 3 * psi
    assert after["critic"]["psi"] == pytest.approx((psi - 0.5 * slope).item(), rel=1e-5)


def test_what_cannot_change_is_refused(run):
    for changes, words in (
        ({"network": "mlp"}, "setting that can change"),
        ({"batch": 0}, "batch must be"),
        ({"optimizer": "adma"}, "adam"),
        ({"device": "cuda:99"}, "--device cpu"),
    ):
        with pytest.raises(SteadyganError, match=words):
            resume(run, steps=6, changes=changes, show=False)


def test_a_run_of_a_device_that_is_not_here_is_told_so_and_goes_on_elsewhere(run, capsys):
    config = run / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda:77"'))
    assert main(["resume", str(run), "--steps", "5"]) == 2
    assert "--device cpu" in capsys.readouterr().err
    assert main(["resume", str(run), "--steps", "5", "--device", "cpu"]) == 0


def test_another_runs_networks_are_the_start(run, tmp_path):
    train(Dirac(), SMALL, tmp_path / "next", init=run, show=False)
    ours = checkpoint.load(tmp_path / "next/checkpoints/step-00000002.safetensors")
    theirs = checkpoint.load(checkpoint.latest(run))["generator"]["theta"]
    alone = checkpoint.load(run / "checkpoints/step-00000002.safetensors")["generator"]["theta"]
    # Adam moves by at most its rate a step, from there.
    assert abs(ours["generator"]["theta"] - theirs) < 0.25
    assert not torch.equal(ours["generator"]["theta"], alone)
    assert RunFolder.open(tmp_path / "next").read("config.json")["init"]["step"] == 4


HOLD = "import sys, time; from pathlib import Path; from steadygan.runs.lock import held\n"
HOLD += "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_run_that_another_process_writes_to_is_refused_by_its_name(run):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, env=os.environ
    )
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(SteadyganError, match=f"process {other.pid} on "):
            resume(run, steps=6, show=False)
        with pytest.raises(SteadyganError, match=f"process {other.pid} on "):
            lock.held(run).__enter__()
    finally:
        other.kill()
        other.wait()
    assert resume(run, steps=6, show=False).state == "finished"  # the lock went with its process


def test_folders_that_are_named_at_once_are_different(tmp_path, monkeypatch):
    from steadygan.cli.arguments import fresh

    assert [fresh(tmp_path, "a b").name for _ in range(3)] == ["a-b", "a-b-2", "a-b-3"]


def test_an_overflowed_optimizer_ends_the_run_and_resume_is_not_the_advice(tmp_path, capsys):
    argv = ["train", "dirac", "--regularizer", "r1:gamma=1e30", "--steps", "20", "--batch", "2"]
    assert main([*argv, "--optimizer", "adam:lr=0.1", "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "non-finite" in said and "would end there again" in said
    assert "continue with" not in said
    run = Run.read(tmp_path / "run")
    assert run.status["state"] == "stopped" and len(run.warnings)
    for path in checkpoint.checkpoints(tmp_path / "run"):
        state = checkpoint.load(path)["optimizer"]["critic"]["state"]
        assert all(v.isfinite().all() for s in state.values() for v in s.values())


def still_for(still):
    rates = {**dict.fromkeys(PLAYERS, "sgd:lr=0.1"), still: "sgd:lr=1e-30"}
    return Config(
        steps=8,
        batch=2,
        optimizer=rates["generator"],
        critic_optimizer=rates["critic"],
        checkpoint_every=2,
    )


@pytest.mark.parametrize("still", PLAYERS)
def test_a_player_that_stands_while_the_other_moves_is_named(tmp_path, still):
    outcome = train(Dirac(), still_for(still), tmp_path / "run", show=False)
    assert (outcome.state, outcome.step) == ("stopped", 2)
    assert f"standstill: the {still} did not move" in outcome.reason


def test_a_resumed_run_knows_where_it_stood(run):
    kept = checkpoint.checkpoints(run)
    changes = {"critic_optimizer": "sgd:lr=1e-30"}
    outcome = resume(run, steps=8, changes=changes, show=False)
    assert (outcome.state, outcome.step) == ("stopped", 6) and "standstill" in outcome.reason
    assert checkpoint.checkpoints(run) == kept


def test_of_many_gans_those_that_stand_still_stop_alone(tmp_path):
    members = [replace(still_for(name), log_every=1) for name in PLAYERS]
    members.append(replace(members[0], optimizer="sgd:lr=0.1", critic_optimizer="sgd:lr=0.1"))
    train_fleet(Dirac(), members, tmp_path / "fleet", show=False)
    rows = [json.loads(line) for line in (tmp_path / "fleet" / "metrics.jsonl").open()]
    assert [x is None for x in rows[-1]["generator_loss"]] == [True, True, False]
