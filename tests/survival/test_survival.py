"""Kill and failing disk at every file operation of every command: afterwards the same command, or
resume, goes on and ends with the same bits and the same rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from steadygan.cli import main
from steadygan.runs import checkpoint
from steadygan.runs.format import is_run
from steadygan.runs.reading import Run
from survival.faults import KINDS, Faults, Killed

TINY = "--steps 4 --batch 2 --log-every 1 --evaluate-every 2 --checkpoint-every 2".split()
COMMANDS = {
    "train": ["train", "dirac", *TINY],
    "fleet": ["train", "dirac", *TINY, "--seeds", "2"],
}


def state(run: Path) -> dict:
    """What must be the same in the end: every tensor, every row but its clock, and the status."""
    tree = checkpoint.load(checkpoint.latest(run))
    rows = {}
    for name in ("metrics.jsonl", "warnings.jsonl"):
        path = run / name
        lines = path.read_text().splitlines() if path.exists() else []
        rows[name] = [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in lines]
    status = Run.read(run).status
    tree.pop("seconds")
    # One old checkpoint more is no loss, and half a file is none that anybody reads.
    files = sorted(
        str(p.relative_to(run))
        for p in run.rglob("*")
        if p.is_file() and p.parent.name != "checkpoints" and not p.name.endswith(".partial")
    )
    return {"tree": tree, "rows": rows, "ended": (status["state"], status["step"]), "files": files}


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def run_with(faults: Faults, argv: list[str]) -> object:
    try:
        with faults:
            return main(argv)
    except Killed:
        return "killed"


def recover(run: Path, argv: list[str]) -> None:
    """What a user does after a crash: resume, or where nothing was begun the same command."""
    if is_run(run) and Run.read(run).status.get("state") == "finished":
        return
    if main(["resume", str(run)]) != 0:
        assert main(argv) == 0


def attempt(argv: list[str], out: Path, n: int, kind: str, capsys, wanted: dict) -> None:
    """Make one operation fail, go on as a user would, and compare."""
    faults = Faults(out.parent, n, kind, lasting=kind == "ENOSPC")
    ended = run_with(faults, argv)
    at = f"{kind} at {n}, {faults.seen[n - 1]}, ended {ended}"
    said = capsys.readouterr().err
    assert "Traceback" not in said, at
    assert (ended == "killed") if kind == "kill" else ended in (0, 1, 2), at
    if ended != 0:
        recover(out, argv)
    assert same(state(out), wanted), at
    shutil.rmtree(out)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_training_survives_a_fault_at_any_operation(command, every, tmp_path, capsys):
    def argv(name: str) -> list[str]:
        return [*COMMANDS[command], "--out", str(tmp_path / name)]

    counting = Faults(tmp_path)
    assert run_with(counting, argv("whole")) == 0
    wanted = state(tmp_path / "whole")
    for n in counting.distinct():
        # Each operation fails in one of the ways, or in all.
        for kind in KINDS if every else (KINDS[n % 3],):
            attempt(argv("run"), tmp_path / "run", n, kind, capsys, wanted)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_resume_survives_a_fault_at_any_operation(every, tmp_path, capsys):
    argv = [*COMMANDS["train"], "--out", str(tmp_path / "whole")]
    begun = Faults(tmp_path)
    assert run_with(begun, argv) == 0
    wanted = state(tmp_path / "whole")
    middle = (
        begun.seen.index(
            "replace whole/checkpoints/step-00000002.safetensors.*".replace(
                "*", f"{os.getpid()}.partial"
            )
        )
        + 2
    )
    argv = [*COMMANDS["train"], "--out", str(tmp_path / "kept")]
    assert run_with(Faults(tmp_path, middle, "kill"), argv) == "killed"
    again = ["resume", str(tmp_path / "run")]
    shutil.copytree(tmp_path / "kept", tmp_path / "run")
    counting = Faults(tmp_path)
    assert run_with(counting, again) == 0
    shutil.rmtree(tmp_path / "run")
    for n in counting.distinct():
        for kind in KINDS if every else (KINDS[n % 3],):
            shutil.copytree(tmp_path / "kept", tmp_path / "run")
            attempt(again, tmp_path / "run", n, kind, capsys, wanted)


@pytest.mark.slow
def test_a_thousand_real_kills():
    """In a process of its own, because it forks, with one thread."""
    script = Path(__file__).with_name("campaign.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(script.parents[1]), *sys.path])}
    subprocess.run([sys.executable, str(script)], check=True, env=environment)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two runs on images and their data, to be read."""
    place = tmp_path_factory.mktemp("runs")
    pixels = np.random.default_rng(0).integers(0, 255, (48, 8, 8, 1), dtype=np.uint8)
    np.savez(place / "data.npz", x=pixels)
    images = ["--data", str(place / "data.npz"), "--resolution", "8", "--network", "mlp:width=4"]
    for name in ("a", "b"):
        assert main(["train", "images", *images, *TINY, "--out", str(place / name)]) == 0
    return place


# What each writes, as a glob in the folder that it is run on; the slow ones all write by the same
# writer as the first two.
READING = {
    "sample a --out grid.png": "grid.png",
    "evaluate a --data data.npz --samples 24 --features pixels --metrics energy": "a/*.json",
}
LONGER = {
    "report a": "a/report.html",
    "crosstest a b --data data.npz --samples 24 --picture matrix.png": "*/crosstest.json",
    "diagnose a --out page.html --budget 8": "page.html",
    "analyze dirac --plot plot.png": "plot.png",
    "reproduce roth-fig5 --scale tiny --out fig5": "fig5/*",
    "reproduce roth-fig6 --scale tiny --out fig6": "fig6/*.*",
}


@pytest.mark.parametrize(
    ("command", "every"),
    [
        *((c, False) for c in READING),
        *(pytest.param(c, True, marks=pytest.mark.slow) for c in READING | LONGER),
    ],
)
def test_what_reads_runs_survives_a_fault_at_any_operation(
    command, every, runs, tmp_path, monkeypatch, capsys
):
    pattern = (READING | LONGER)[command]

    def attempt(name: str, faults: Faults) -> tuple[object, list[str]]:
        place = tmp_path / name
        if not place.exists():
            shutil.copytree(runs, place)
        monkeypatch.chdir(place)
        monkeypatch.setenv("STEADYGAN_CACHE", str(place / "cache"))
        ended = run_with(faults, command.split())
        return ended, sorted(str(p.relative_to(place)) for p in place.glob(pattern))

    counting = Faults(tmp_path)
    ended, wanted = attempt("whole", counting)
    assert ended == 0 and wanted
    for n in counting.distinct():
        for kind in KINDS if every else (KINDS[n % 3],):
            faults = Faults(tmp_path, n, kind, lasting=kind == "ENOSPC")
            ended, _ = attempt("run", faults)
            at = f"{kind} at {n}, {faults.seen[n - 1]}, ended {ended}"
            assert "Traceback" not in capsys.readouterr().err, at
            assert (ended == "killed") if kind == "kill" else ended in (0, 2), at
            again, found = attempt("run", Faults(tmp_path))
            assert (again, found) == (0, wanted), at
            for path in found:
                if path.endswith(".json"):
                    json.loads(Path(path).read_text())
            shutil.rmtree(tmp_path / "run")
