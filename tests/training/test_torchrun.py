"""One training on several processes is the training of one: numbers, files, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import on_ranks
import pytest
import torch
from on_ranks import USUAL, games, moved, normalized
from safetensors.torch import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from steadygan import SteadyganError, build
from steadygan.core.batchnorm import WholeBatchNorm
from steadygan.runs import checkpoint
from steadygan.runs.files import read_json, read_lines
from steadygan.training import Config, resume, train
from steadygan.training.ranks import Ranks
from steadygan.training.single import Single

ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def torchrun(count, *words):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    return [*command, "--standalone", *words]  # on a port that is free


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """What four processes trained, of which one has four rows and three have three."""
    folder = tmp_path_factory.mktemp("four")
    done = subprocess.run(
        torchrun(4, on_ranks.__file__, str(folder)), env=ENV, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_four_processes_give_what_one_gives(four):
    found = load_file(four / "found.safetensors")
    assert len(found) > 17 and any("relativistic-average" in name for name in found)
    for name, config in [*games(), *normalized()]:
        alone = moved(config)
        torch.testing.assert_close(found[name], alone, rtol=1e-12, atol=1e-12, msg=name)
        other = moved(replace(config, seed=1))
        assert not torch.allclose(found[name], other, rtol=1e-3), name


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are listed by Linux")
def test_no_thread_outlives_the_group(four):
    """One that asks for the interpreter while that ends aborts a training that is through."""
    left = [file.read_text().splitlines() for file in four.glob("threads-*")]
    assert len(left) == 4 and not any("gloo" in name for names in left for name in names)


def parameters(folder):
    tree = checkpoint.load(checkpoint.latest(folder))
    return torch.cat([p.flatten() for name in ("generator", "critic") for p in tree[name].values()])


def test_a_run_of_four_is_a_run_and_goes_on_alone(four, tmp_path):
    problem, config = build("problem", "ring2d"), Config(**USUAL)
    train(problem, replace(config, steps=12), tmp_path / "alone", show=False)
    assert resume(four / "run", steps=12, show=False).state == "finished"
    torch.testing.assert_close(
        parameters(four / "run"), parameters(tmp_path / "alone"), rtol=1e-12, atol=1e-12
    )
    rows, others = (
        read_lines(run / "metrics.jsonl").rows for run in (four / "run", tmp_path / "alone")
    )
    assert [r["step"] for r in rows] == [r["step"] for r in others]
    for row, other in zip(rows, others, strict=True):
        assert row["penalty"] == pytest.approx(other["penalty"], rel=1e-10, abs=1e-12)
        assert row["critic_loss"] == pytest.approx(other["critic_loss"], rel=1e-12)


def near(ours, other):
    """Check that two trees are the same to rounding, but for the time that they took."""
    if isinstance(ours, dict):
        assert list(ours) == list(other)
        for key in ours.keys() - {"seconds"}:
            near(ours[key], other[key])
    elif isinstance(ours, list):
        for one, another in zip(ours, other, strict=True):
            near(one, another)
    elif isinstance(ours, torch.Tensor):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-10, equal_nan=True)
    else:
        assert ours == (pytest.approx(other, 1e-9, 1e-12) if isinstance(ours, float) else other)


def test_many_that_four_dealt_out_are_as_on_one(four, tmp_path):
    """Those that leave the finite numbers end alone; all went on, on four and then on one."""
    alone, dealt = tmp_path / "alone", four / "many"
    on_ranks.many(alone, 12)
    assert resume(dealt, steps=12, show=False).state == "finished"
    trees = [checkpoint.load(checkpoint.latest(folder)) for folder in (dealt, alone)]
    assert trees[0]["alive"].tolist() == [True] * 3 + [False] * 3
    near(*trees)
    for file in ("metrics.jsonl", "warnings.jsonl"):
        near(*(read_lines(folder / file).rows for folder in (dealt, alone)))
    near(*(read_json(folder / "status.json") for folder in (dealt, alone)))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_every_game_on_any_number_of_processes(tmp_path, count):
    words = torchrun(count, on_ranks.__file__, str(tmp_path), "all")
    subprocess.run(words, env=ENV, check=True)
    found = load_file(tmp_path / "found.safetensors")
    assert len(found) >= 150
    for name, config in [*games(everything=True), *normalized(everything=True)]:
        torch.testing.assert_close(found[name], moved(config), rtol=1e-11, atol=1e-11, msg=name)


# ------------------------------------------------------------ how it ends


def endless(folder, count=2):
    words = "ring2d --steps 1000000 --batch 8 --network mlp:width=8 --device cpu".split()
    words += ["--checkpoint-every", "20", "--out", str(folder)]
    return subprocess.Popen(
        torchrun(count, "-m", "steadygan", "train", *words),
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(there, seconds=120):
    for _ in range(10 * seconds):
        if found := there():
            return found
        time.sleep(0.1)
    raise AssertionError("waited too long")


def ranks_of(process):
    """Return the pids of a launcher's processes."""
    listed = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    return [int(pid) for pid in listed]


def test_a_rank_that_dies_ends_all_with_a_checkpoint(tmp_path):
    process = endless(tmp_path / "run")
    try:
        until(lambda: len(checkpoint.checkpoints(tmp_path / "run")) > 1)
        os.kill(ranks_of(process)[1], signal.SIGKILL)
        started = time.monotonic()
        process.wait(60)
        assert process.returncode != 0 and time.monotonic() - started < 45
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    made = checkpoint.load(checkpoint.latest(tmp_path / "run"))["step"]
    ended = resume(tmp_path / "run", steps=made + 3, show=False)
    assert ended.state == "finished" and ended.step == made + 3 > 20


def test_a_signal_ends_all_at_one_step(tmp_path):
    process = endless(tmp_path / "run")
    try:
        until(lambda: len(checkpoint.checkpoints(tmp_path / "run")) > 1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: launcher and ranks alike
        process.wait(60)
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["state"] == "interrupted"
    assert checkpoint.load(checkpoint.latest(tmp_path / "run"))["step"] == status["step"]


def killing(*words):
    """Return what the script of kills tells; in a process of its own, because it forks."""
    script = Path(__file__).parents[1] / "survival" / "kill_ranks.py"
    paths = os.pathsep.join([str(script.parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, str(script), *words],
        env={**ENV, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_full_disk_and_numbers_that_are_not_finite_end_both(tmp_path):
    found = killing("--faults", str(tmp_path))
    assert found["full disk"] == [[2, 2], "running", 0]  # there was no room for how it ended
    assert found["not finite"] == [[1, 0], "stopped", 0]  # the second leaves speaking to the first


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing():
    """Of one or of all of two or three, which go on as three or two."""
    assert killing("--kills", "40")["runs"] >= 3


# ------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"batch": 1}, "no row for each"),
        ({"dynamics": "unrolled:steps=1"}, "unrolled takes inner steps"),
        ({"dynamics": "consensus", "regularizer": ("lecam",)}, "consensus differentiates means"),
        (
            {"network": "mlp:width=8,critic_norm=batch", "gradient_path": "differences"},
            "by the paths auto and separate",
        ),
        ({"penalty_share": 0.5, "regularizer": ("r1",)}, "penalty-share"),
    ],
)
def test_what_several_processes_would_train_otherwise_is_refused(more, why):
    config = Config(**{**USUAL, **more}).resolve(build("problem", "ring2d"))
    with pytest.raises(SteadyganError, match=why):
        Single(build("problem", "ring2d"), config, ranks=Ranks(0, 2))


def test_batch_normalisation_is_of_the_whole_batch_unless_local_is_asked_for():
    problem = build("problem", "ring2d")
    for asked, exchange in (("local", False), ("synchronized", True), (None, True)):
        config = Config(**{**USUAL, "network": "mlp:width=8,norm=batch", "batchnorm": asked})
        single = Single(problem, config.resolve(problem), ranks=Ranks(0, 2))
        normal = next(m for m in single.generator.modules() if isinstance(m, _BatchNorm))
        assert isinstance(normal, WholeBatchNorm) == exchange == single.players.exchange


def test_rows_are_shared_out_whole():
    for n, count in ((13, 4), (8, 2), (5, 5)):
        parts = [Ranks(i, count).mine(torch.arange(n)) for i in range(count)]
        assert torch.cat(parts).tolist() == list(range(n))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
