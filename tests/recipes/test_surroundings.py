"""What a process finds around it: an environment of nonsense, a full disk, a folder of links."""

import os
import resource
import signal
import struct
import subprocess
import sys
import zlib
from contextlib import contextmanager

import pytest

from pictures import PETS, write
from steadygan import SteadyganError
from steadygan.cli import main
from steadygan.export.hub import files
from steadygan.runs.lock import held

TRAIN = ["train", "ring2d", "--network", "mlp:width=4", "--batch", "4", "--steps", "2"]


def steadygan(*words, flags=(), **environment):
    return subprocess.run(
        [sys.executable, *flags, "-m", "steadygan", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("count", ["abc", "2", ""])
def test_processes_that_nobody_started_are_a_sentence(tmp_path, monkeypatch, capsys, count):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", count)
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert f"WORLD_SIZE says {count!r}" in said and "unset WORLD_SIZE" in said
    assert not (tmp_path / "run").exists()
    monkeypatch.delenv("WORLD_SIZE")
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 0


def test_a_backend_that_is_none_is_a_sentence(tmp_path):
    assert main([*TRAIN, "--out", str(tmp_path / "run")]) == 0
    done = steadygan("report", str(tmp_path / "run"), MPLBACKEND="nonsense")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "'nonsense'" in done.stderr and "unset MPLBACKEND" in done.stderr


def test_without_docstrings_everything_has_its_name():
    done = steadygan("list", "regularizer", flags=["-OO"])
    assert done.returncode == 0 and "wgan-gp" in done.stdout, done.stderr


@contextmanager
def full():
    """Let no file grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, usual)


def test_a_lock_that_a_full_disk_does_not_take_names_the_file(tmp_path):
    refused = pytest.raises(SteadyganError, match=r"run/\.lock cannot be written")
    with refused, full(), held(tmp_path / "run"):
        pass
    with held(tmp_path / "run"):  # and is let go of
        pass


def test_a_sweep_that_measured_nothing_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(
        "problem: ring2d\nsteps: 4\nbatch: 4\nnetwork: mlp:width=4\nevaluate-every: 1\n"
        "optimizer: 'sgd:lr={0.1,0.2}'\nhalving: 2\nby: sw1\n"
    )
    (tmp_path / "sweep").mkdir()
    with held(tmp_path / "sweep"):
        pass
    with full():
        assert main(["sweep", "sweep.yaml", "--out", "sweep", "--workers", "1"]) == 2
    said = capsys.readouterr()
    assert "Errno" not in said.err + said.out and "none" not in said.err
    assert main(["sweep", "sweep.yaml", "--out", "sweep", "--workers", "1"]) == 0


def huge(width, height):
    """The beginning of a PNG of many pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_large_pictures_are_spoken_of_in_words(tmp_path, capsys):
    train = ["train", "images", "--resolution", "4", "--steps", "1", "--network", "mlp:width=4"]
    for name, side in (("large", 12_000), ("larger", 60_000)):
        data = write(tmp_path / name, PETS | {"dog/z.png": huge(side, side)})
        words = [*train, "--batch", "4", "--data", str(data), "--out", str(tmp_path / f"r{name}")]
        assert main([*words, "--broken", "skip"]) == 0
        assert "DecompressionBomb" not in capsys.readouterr().err
    words[-1] += "-again"
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "3600000000 pixels it is too large; make it smaller" in said and "attack" not in said


def test_what_a_link_leads_to_is_not_published(tmp_path):
    (tmp_path / "steadygan.json").write_text("{}")
    assert set(files(tmp_path)) == {"steadygan.json"}
    (tmp_path / "README.md").symlink_to("/etc/passwd")
    with pytest.raises(SteadyganError, match=r"README\.md is a link"):
        files(tmp_path)
