"""A sweep on two local workers of which some are killed: every run ends, with the bits of a sweep
that nothing happened to."""

import json
import os
import signal
import threading
import time

import pytest
import torch

from steadygan.cli import main
from steadygan.runs import checkpoint
from steadygan.runs.table import runs_below

pytest.importorskip("distributed")


class Killer(threading.Thread):
    """Kills whoever trains a run that has come some way, a number of times, each in another run."""

    def __init__(self, out, kills):
        super().__init__(daemon=True)
        self.out, self.kills, self.hit = out, kills, []

    def run(self):
        while len(self.hit) < self.kills:
            time.sleep(0.02)
            for folder in sorted(self.out.glob("*")):
                kept = checkpoint.checkpoints(folder)
                if folder.name in self.hit or not kept or kept[-1].stem == "step-00000000":
                    continue
                status = json.loads((folder / "status.json").read_text())
                if status["state"] == "running":
                    os.kill(json.loads((folder / ".lock").read_text())["pid"], signal.SIGKILL)
                    self.hit.append(folder.name)
                    break


def tree(folder):
    found = checkpoint.load(checkpoint.latest(folder))
    return {key: value for key, value in found.items() if key != "seconds"}


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize(
    ("seeds", "kills"), [(2, 1), pytest.param(20, 2, marks=pytest.mark.slow)], ids=["few", "forty"]
)
def test_a_sweep_with_kills_ends_complete_and_equal(seeds, kills, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(
        "problem: ring2d\nbatch: 4\nnetwork: mlp:width=4\nsteps: 160\nlog-every: 80\n"
        "evaluate-every: 160\ncheckpoint-every: 16\ntogether: 1\n"
        f"regularizer: 'r1:gamma={{0.1,1}}'\nseeds: {seeds}\n"
    )
    killer = Killer(tmp_path / "hurt", kills)
    killer.start()
    assert main(["sweep", "sweep.yaml", "--out", "hurt", "--workers", "2"]) == 0
    killer.join(1)
    assert len(killer.hit) == kills
    assert main(["sweep", "sweep.yaml", "--out", "whole"]) == 0
    whole = runs_below(tmp_path / "whole")
    assert len(whole) == 2 * seeds == len(runs_below(tmp_path / "hurt"))
    for folder in whole:
        other = tmp_path / "hurt" / folder.name
        assert json.loads((other / "status.json").read_text())["state"] == "finished"
        assert same(tree(folder), tree(other)), folder.name
