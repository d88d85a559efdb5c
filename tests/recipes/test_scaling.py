"""The model of scaling in closed form, and its benchmark end to end at sizes without meaning."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("scaling")


def test_the_model_in_closed_form(scaling):
    machine = scaling.Machine(flops=1e6, launch=1e-3, bandwidth=1e3, latency=0.5)
    work = scaling.Work(flops_a_row=1e6, launched=4000, bytes=8000, messages=2)
    # Arithmetic takes a second a row, launching 4 s however few the rows.
    assert work.computing(64, machine) == 64 and work.computing(2, machine) == 4
    # A ring sends all but a share of the bytes twice.
    assert work.averaging(1, machine) == 0
    assert work.averaging(4, machine) == pytest.approx(1 + 2 * 3 / 4 * 8)
    four = work.row(4, machine)
    assert four["strong_speed_up"] == pytest.approx(64 / (16 + 13))
    assert four["weak_efficiency"] == pytest.approx(64 / (64 + 13))


def test_the_committed_figures_are_those_of_the_model(scaling):
    held = json.loads((BENCHMARKS / "scaling.json").read_text())
    assert held["inputs"]["rows"] == scaling.MODELLED and held["environment"]["cores"] == 2
    for each in held["cases"].values():
        work = scaling.Work(**each["work"])
        for row, n in zip(each["h100"], scaling.PROCESSES, strict=True):
            assert row == pytest.approx(work.row(n, scaling.H100))


@pytest.mark.slow
def test_the_benchmark_from_end_to_end(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "scaling.py"), "--tiny", "--out"]
    done = subprocess.run([*command, str(tmp_path / "out.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (case,) = json.loads((tmp_path / "out.json").read_text())["cases"].values()
    found = case["measured"]
    assert all(low <= middle <= high for low, middle, high in found.values())
    assert found["together"][0] >= found["averaging"][0] > 0
    assert case["work"]["bytes"] > 0 and "| DCGAN-32" in done.stdout
