"""Files are written whole or not at all, by one way; lines are read whatever a crash cut off."""

import errno
import fcntl
import json
import os
import pickle
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from steadygan import SteadyganError, build
from steadygan.evaluation.estimate import Estimate
from steadygan.evaluation.result import Evaluation, Protocol, store
from steadygan.runs import checkpoint, files
from steadygan.runs.files import Unwritable
from steadygan.runs.folder import RunFolder
from steadygan.runs.format import TRAINED, by_step
from steadygan.runs.monitor import Warning
from steadygan.runs.reading import Run, read_evaluations
from steadygan.runs.samples import read_picture, write_samples
from steadygan.training import Config, resume, train

GONE = 2**22 + 1
"""The number of no process: Linux counts up to 2**22."""


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_every_kind_of_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        folder = RunFolder.create(tmp_path / "run", {})
        folder.save_checkpoint(3, {"step": 3, "x": torch.zeros(2)}, keep=2)
        folder.samples(3, torch.zeros(4, 2))
        folder.samples(None, torch.zeros(4, 1, 8, 8))
        folder.log({"step": 3})
        folder.rewind(3)
        folder.write_status({})
    finally:
        os.umask(before)
    written = [path for path in folder.path.rglob("*") if path.is_file()]
    assert len(written) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o666 & ~umask}


def test_a_kill_while_writing_leaves_what_was_there_and_nothing_in_the_way(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    folder.samples(2, torch.zeros(4, 2))
    samples, held = folder.path / "samples", folder.path / "checkpoints"
    # What a killed process leaves, of this version and of earlier ones.
    for place in ("step-00000004.npz.partial", f"step-00000004.npz.{GONE}.partial"):
        (samples / place).write_bytes(b"half")
    (held / ".tmpAbCdEf").write_bytes(b"half")
    (folder.path / "metrics.jsonl.partial").write_bytes(b"half")
    folder.rewind(2)
    left = {path.name for path in folder.path.rglob("*") if path.is_file()}
    assert left == {"config.json", "step-00000002.npz"}


KILLED = """
import os, signal, sys
from pathlib import Path
from steadygan.runs import files
with files.{name}(Path(sys.argv[1])) as made:
    (made / "half").write_text("x") if {folder} else made.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["whole", "whole_folder"])
def test_what_a_killed_process_had_not_finished_goes_when_it_is_written_again(tmp_path, name):
    code = KILLED.format(name=name, folder=name == "whole_folder")
    for target in ("made", "made", "made.too"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / target)])
    # Each of the two names has left its last one.
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [re.fullmatch(r"(.+)\.\d+\.partial", path)[1] for path in left] == ["made", "made.too"]
    # That of a process that lives stays, and what is merely called so.
    alive = tmp_path / f"made.{os.getppid()}.partial"
    (tmp_path / "made.partial").write_text("x")
    alive.write_text("x")
    with getattr(files, name)(tmp_path / "made") as made:
        (made / "all").write_text("x") if name == "whole_folder" else made.write(b"all")
    left = {path.name for path in tmp_path.iterdir()}
    assert {"made", "made.partial", alive.name} < left and len(left) == 4
    files.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"made", "made.partial", alive.name}


def test_what_another_machine_writes_stays_whatever_the_number_of_its_process(tmp_path):
    code = "import os; print(os.getpid())"
    gone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    theirs = tmp_path / f"a.txt.{int(gone)}.partial"
    with theirs.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files.write_text(tmp_path / "a.txt", "ours")
        assert theirs.exists()
    files.write_text(tmp_path / "a.txt", "ours")
    assert not theirs.exists() and (tmp_path / "a.txt").read_text() == "ours"


def test_a_folder_is_listed_once_however_many_files_are_written_to_it(tmp_path, monkeypatch):
    listed, iterdir = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: listed.append(path) or iterdir(path))
    for i in range(20):
        files.write_text(tmp_path / f"{i}.txt", "x")
    assert listed == [tmp_path]


def test_a_folder_that_is_called_as_if_it_were_not_whole_is_not_in_the_way(tmp_path):
    config = Config(network="mlp:width=4", batch=4, steps=2)
    train(build("problem", "ring2d"), config, tmp_path / "run", show=False)
    samples = tmp_path / "run" / "samples"
    # Of exports: one that was killed, one by a process that had the number of this one, one that
    # another process is busy with.
    killed, before, busy = (f"out.{n}.partial" for n in (GONE, os.getpid(), os.getppid()))
    for name in (".tmp-mine", "mine.partial", killed, before, busy):
        (samples / name).mkdir()
        (samples / name / "file").write_text("x")
    assert resume(tmp_path / "run", steps=3, show=False).state == "finished"
    left = {path.name for path in samples.iterdir() if path.is_dir()}
    assert left == {".tmp-mine", "mine.partial", busy}


@pytest.mark.parametrize("state", ["finished", "interrupted", "running"])
def test_a_run_whose_checkpoints_are_gone_does_not_begin_again(tmp_path, state):
    config = Config(network="mlp:width=4", batch=4, steps=6, log_every=1, checkpoint_every=2)
    train(build("problem", "ring2d"), config, tmp_path / "run", show=False)
    folder, log = RunFolder.open(tmp_path / "run"), tmp_path / "run" / "metrics.jsonl"
    folder.write_status({"state": state, "step": 0 if state == "running" else 6})
    before = log.read_bytes()
    (tmp_path / "run" / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(SteadyganError, match="made 6 steps, and its checkpoints are gone"):
        resume(tmp_path / "run", steps=8, show=False)
    assert log.read_bytes() == before
    # One that was killed before its first checkpoint goes on from its beginning.
    folder.write_status({"state": "running", "step": 0})
    log.write_bytes(b"".join(before.splitlines(keepends=True)[:2]))
    assert resume(tmp_path / "run", steps=8, show=False).state == "finished"
    assert len(rows(log)) == 8


def test_a_folder_where_a_run_was_killed_before_it_was_described_is_free(tmp_path):
    path = tmp_path / "run"
    (path / "samples").mkdir(parents=True)
    (path / f"config.json.{GONE}.partial").write_text("{")
    RunFolder.create(path, {"a": 1})
    assert json.loads((path / "config.json").read_text()) == {"a": 1}
    assert sorted(each.name for each in path.iterdir()) == ["checkpoints", "config.json", "samples"]


def test_rewinding_drops_later_lines_and_a_torn_one_and_never_truncates(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run", {})
    metrics = folder.path / "metrics.jsonl"
    for step in (1, 2, 3, 4):
        folder.log({"step": step, "penalty": 0.5})
    folder.warn(Warning(3, "mode-loss", "gone"))
    with metrics.open("a") as file:
        file.write('{"step": 2, "pena')
    held = metrics.read_bytes()

    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(SteadyganError, match="No space left"):
            folder.rewind(2)
        assert metrics.read_bytes() == held
    folder.rewind(2)
    assert [row["step"] for row in rows(metrics)] == [1, 2]
    assert rows(folder.path / "warnings.jsonl") == []
    before = metrics.stat().st_ino
    folder.rewind(2)
    assert metrics.stat().st_ino == before  # nothing to drop, nothing written


def test_rewinding_that_is_killed_leaves_every_row_of_the_checkpoints_that_stay(
    tmp_path, monkeypatch
):
    folder = RunFolder.create(tmp_path / "run", {})
    for step in (1, 2, 3, 4):
        folder.log({"step": step})
        folder.samples(step, torch.zeros(2, 2))
        folder.save_checkpoint(step, {"step": step, "x": torch.zeros(1)}, keep=9)
    remove = files.remove

    def dying(path):
        remove(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "remove", dying)
    for _ in range(6):  # three checkpoints and three samples
        with pytest.raises(KeyboardInterrupt):
            folder.rewind(1)
        newest = checkpoint.load(checkpoint.latest(folder.path))["step"]
        assert [row["step"] for row in rows(folder.path / "metrics.jsonl")] == [1, 2, 3, 4]
        assert {1, newest} <= set(by_step(folder.path / "samples", ".npz"))
    monkeypatch.undo()
    folder.rewind(1)
    assert [row["step"] for row in rows(folder.path / "metrics.jsonl")] == [1]
    assert list(by_step(folder.path / "samples", ".npz")) == [1]


def test_rewinding_drops_what_was_measured_of_later_checkpoints(tmp_path):
    """Else numbers of two networks would stand under one step."""
    folder = RunFolder.create(tmp_path / "run", {})
    protocol = Protocol("pixels", "pixels", "none", "test.zip", "abc", (3, 8, 8), 100, 0)
    path = folder.path / "evaluation.json"
    for step in (2, 4):
        numbers = {"fd": Estimate(step, 0, 9)}
        store(folder.path, Evaluation("run", step, protocol, numbers, {}))
    folder.rewind(4)
    assert [each["step"] for each in read_evaluations(path)] == [2, 4]
    folder.rewind(2)
    assert [each["step"] for each in read_evaluations(path)] == [2]
    path.write_text('{"evaluations": [{}]}')
    folder.rewind(1)
    assert path.read_text() == '{"evaluations": [{}]}'


def test_steps_are_numbers_however_many_digits_they_have(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {})
    steps = (99_999_998, 99_999_999, 100_000_000, 1_000_000_001)
    for step in steps:
        folder.save_checkpoint(step, {"step": step, "x": torch.zeros(1)}, keep=2)
        folder.samples(step, torch.zeros(2, 2))
    assert checkpoint.load(checkpoint.latest(folder.path))["step"] == steps[-1]
    assert len(checkpoint.checkpoints(folder.path)) == 2
    assert [held.step for held in Run.read(folder.path).samples] == list(steps)
    folder.rewind(steps[1])
    assert list(by_step(folder.path / "samples", ".npz")) == list(steps[:2])


def test_a_follower_reads_what_is_new_since_its_last_look(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert files.read_lines(path) == ([], 0)
    files.append(path, {"step": 1})
    files.append(path, {"step": 2})
    found, end = files.read_lines(path)
    assert [row["step"] for row in found] == [1, 2] and end == path.stat().st_size
    assert files.read_lines(path, end) == ([], end)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 3, "pen')  # just being written
    assert files.read_lines(path, end) == ([], end)
    path.write_bytes(whole + b'{"step": 3, "penalty": 1}')  # all but its end
    found, later = files.read_lines(path, end)
    assert [row["step"] for row in found] == [3] and later == path.stat().st_size
    path.write_bytes(whole + b'{"step": 3, "penalty": 1}\n')
    files.append(path, {"step": 4, "metrics": {"a": 1}})
    found, later = files.read_lines(path, later)
    assert [row["step"] for row in found] == [4] and later == path.stat().st_size
    # Another file whose byte there is within a line, after a brace: all of it is new.
    path.write_bytes(b'{"step": 9, "metrics": {"a": 1}}\n')
    assert [row["step"] for row in files.read_lines(path, 31).rows] == [9]
    path.write_bytes(whole + b'{"step": 3}\n{"step": 4}\n{"step": 5}\n')
    later = path.stat().st_size
    # Resumed from an earlier step: the file is another one, and shorter.
    files.keep_lines(path, lambda row: row["step"] < 2)
    assert [row["step"] for row in files.read_lines(path, later).rows] == [1]


def test_a_long_file_is_read_in_looks_of_so_many_bytes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {i}}}\n' for i in range(50)))
    steps, end, looks = [], 0, 0
    while (found := files.read_lines(path, end, most=100)).rows:
        steps += [row["step"] for row in found.rows]
        end, looks = found.end, looks + 1
    assert steps == list(range(50)) and 5 < looks < 12
    # A line that does not fit into a look is read to its end, or nothing ever came after it.
    assert files.read_lines(path, 0, most=5) == ([{"step": 0}], 12)


def test_a_broken_line_is_named_by_its_number_from_wherever_one_looks(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step\n{"step": 4}\n')
    for since in (0, 12):
        with pytest.raises(SteadyganError, match=r"metrics\.jsonl, line 3 is not JSON"):
            files.read_lines(path, since)
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(SteadyganError, match="line 1 is not JSON"):
        files.read_lines(path)


def test_what_fails_while_it_is_written_leaves_no_trace(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), files.whole(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(SteadyganError, match=r"cannot be written: No such file or directory\."):
        files.write_json(tmp_path / "nowhere/a.json", {})


def test_what_cannot_be_written_is_said_from_another_process_too(tmp_path):
    told = Unwritable(tmp_path, OSError(errno.ENOSPC, "No space left on device"))
    heard = pickle.loads(pickle.dumps(told))
    assert type(heard) is Unwritable and str(heard) == str(told)


def test_a_picture_is_a_png_whatever_its_name(tmp_path):
    write_samples(tmp_path / "a.png", torch.zeros(4, 1, 8, 8))
    assert read_picture(tmp_path / "a.png").size == (16, 16)
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(SteadyganError, match="cannot be read as a picture"):
        read_picture(tmp_path / "b.png")


def test_a_run_that_was_killed_before_its_status_said_so_has_finished(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"config": {"steps": 5}})
    folder.write_status({"state": "running", "step": 0})
    folder.save_checkpoint(4, {"step": 4}, keep=2)
    assert Run.read(folder.path).status["state"] == "running"
    folder.save_checkpoint(5, {"step": 5}, keep=2)
    assert Run.read(folder.path).status == {"state": "finished", "step": 5}


def test_training_makes_what_the_format_says_and_nothing_else(tmp_path):
    config = Config(network="mlp:width=4", steps=2, batch=4, log_every=1, device="cpu")
    done = train(build("problem", "ring2d"), config, tmp_path / "run", show=False)
    resume(done.path, steps=3, show=False)
    names = {path.name for path in done.path.iterdir()}
    assert names <= set(TRAINED) and {"config.json", "status.json", "metrics.jsonl"} <= names


def test_the_folder_that_one_is_in_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(SteadyganError, match="the folder that you are in"),
        files.whole_folder(Path()),
    ):
        raise AssertionError("it began")
    assert list(tmp_path.iterdir()) == []
