"""CONTRIBUTING followed to the letter: each file is written, each command is run, each row of
mathematics is held against automatic differentiation."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import checks
import numpy as np
import pytest
import torch

from steadygan.analysis import jacobian
from steadygan.analysis.convergence import dirac_system
from steadygan.cli import main
from steadygan.core import Game, build, registry
from steadygan.experiments.registry import EXPERIMENTS
from steadygan.runs.reading import read_evaluations

PAGE = (Path(__file__).parent.parent.parent / "CONTRIBUTING.md").read_text()
SECTIONS = dict(re.findall(r"^### An? (\w+)\n(.*?)(?=^##)", PAGE, flags=re.S | re.M))
SHORT = {
    "train": ["--steps", "2", "--batch", "16", "--evaluate-every", "1", "--metrics-samples", "64"],
    "evaluate": [],
    "analyze": ["--json"],
    "reproduce": ["--scale", "tiny"],
}


def fences(title, language):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", SECTIONS[title], flags=re.S | re.M)
    return [text for name, text in found if name == language]


def blocks(title):
    """(file, what in it, text) of each block of Python, whose first line says where it goes."""
    return [
        re.fullmatch(r"# (\S+?)(?:, (\w+))?\n(.*)", text, flags=re.S).groups()
        for text in fences(title, "python")
    ]


def commands(title):
    (block,) = fences(title, "")
    return [shlex.split(line)[1:] for line in block.splitlines()]


@pytest.fixture
def followed(tmp_path, monkeypatch):
    """Follow a section: its file in a folder of its own, its names gone afterwards."""
    monkeypatch.chdir(tmp_path)
    for kind in registry.KINDS:
        registry.names(kind)
    entries = {kind: dict(held) for kind, held in registry._entries.items()}
    monkeypatch.setattr(registry, "_entries", entries)
    monkeypatch.setattr(registry, "_where", dict(registry._where))
    before = {*sys.modules}

    def follow(title):
        (name, _, text) = blocks(title)[0]
        Path(name).write_text(text)
        for words in commands(title):
            assert main([*words, *SHORT[words[0]]]) == 0
        return Path(name).stem

    yield follow
    for name in {*sys.modules} - before:
        if name.startswith("my_"):
            del sys.modules[name]


def test_there_is_one_of_each():
    assert [*SECTIONS] == ["regularizer", "objective", "network", "problem", "metric", "experiment"]
    assert all(len(commands(title)) >= 1 and blocks(title) for title in SECTIONS)


def row(title):
    """The row of mathematics of a section, as the table in the tests would hold it."""
    place, table, text = blocks(title)[1]
    assert (
        place == "tests/maths/closed_forms.py"
        and f"\n{table}" in Path(Path(__file__).parent.parent / "maths/closed_forms.py").read_text()
    )
    ((name, value),) = eval(f"{{{text}}}").items()
    return name, value


def spectrum(a, q):
    root = complex(q * q / 4 - a * a) ** 0.5
    return sorted([-q / 2 - root, -q / 2 + root], key=lambda v: (v.real, v.imag))


def measured(game):
    system = dirac_system(game, build("dynamics", "simultaneous"), 0.1)
    found = np.linalg.eigvals(jacobian(system.field, system.point()).numpy())
    return sorted(found, key=lambda v: (v.real, v.imag))


def test_a_regularizer(followed, capsys):
    followed("regularizer")
    name, damps = row("regularizer")
    made = build("regularizer", f"{name}:gamma=0.7")
    for check in checks.REGULARIZER_CHECKS:
        check(made)
    assert made.damping() == pytest.approx(damps(0.7))
    np.testing.assert_allclose(measured(Game("minimax", [made])), spectrum(0.5, damps(0.7)))
    rows = [json.loads(line) for line in next(Path("runs").glob("*/metrics.jsonl")).open()]
    assert rows[-1]["penalty"] > 0
    capsys.readouterr()


def test_an_objective(followed, capsys):
    followed("objective")
    (record,) = json.loads(capsys.readouterr().out)
    name, (a, w, b) = row("objective")
    made = build("objective", name)
    assert (made.coupling, made.curvature.critic, made.curvature.generator) == (a, w, b)
    np.testing.assert_allclose(measured(Game(made, ["r1:gamma=2"])), spectrum(a, 2.0), atol=1e-7)
    assert record["closed_form_eigenvalues"] is not None and record["objective"] == name
    # The declared bend, by differences: of both terms of the critic, and of the generator's.
    h = torch.tensor([1e-3], dtype=torch.float64)
    bend = made.critic(h, 0 * h) + made.critic(-h, 0 * h) + made.critic(0 * h, h)
    bend = bend + made.critic(0 * h, -h) - 4 * made.critic(0 * h, 0 * h)
    assert float(bend) / 1e-6 == pytest.approx(w, rel=1e-4)
    bend = made.generator(h, h) + made.generator(h, -h) - 2 * made.generator(h, 0 * h)
    assert float(bend) / 1e-6 == pytest.approx(b, rel=1e-4)
    checks.documents_itself(made)


def test_a_network(followed, capsys):
    followed("network")
    made = build("network", "shallow:width=5")
    for event in ((2,), (3, 4, 4)):
        assert made.critic(event)(made.generator(event, 7)(torch.randn(6, 7))).shape == (6, 1)
    assert "shallow:width=64" in next(Path("runs").glob("*/config.json")).read_text()
    capsys.readouterr()


def test_a_problem(followed, capsys):
    followed("problem")
    x = build("problem", "spiral2d:noise=0").stream(3).draw(4000).x
    assert float(x.norm(dim=1).mean()) == pytest.approx(1.0, abs=0.05)  # t uniform in [0, 2]
    rows = [json.loads(line) for line in next(Path("runs").glob("*/metrics.jsonl")).open()]
    assert rows[-1]["metrics"]["radius"] > 0
    capsys.readouterr()


def test_a_metric(followed, capsys):
    followed("metric")
    said = " ".join(capsys.readouterr().out.split())
    assert "distance to the nearest real one (vectors) ↓" in said
    (kept,) = read_evaluations(Path("runs/ring/evaluation.json"))
    assert (
        kept["numbers"]["nearest"]["better"] == "less" and kept["numbers"]["nearest"]["value"] > 0
    )
    assert Path("runs/ring/checkpoints/best.safetensors").is_file()


def test_an_experiment(followed, capsys, monkeypatch):
    monkeypatch.setattr("steadygan.experiments.registry.EXPERIMENTS", dict(EXPERIMENTS))
    followed("experiment")
    said = capsys.readouterr().out
    assert "verdict: holds" in said
    (result,) = Path("runs").rglob("result.json")
    assert json.loads(result.read_text())["rows"][0]["holds"] is True
    assert result.with_name("figure.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_files_pass_a_strict_checker(tmp_path):
    """As a user's own files would."""
    for title in SECTIONS:
        (name, _, text) = blocks(title)[0]
        (tmp_path / name).write_text(text)
    root = Path(__file__).parent.parent.parent
    cache = root / ".mypy_cache"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, *tmp_path.glob("*.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
