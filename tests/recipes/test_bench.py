"""The benchmark from end to end at sizes without meaning: it compares the right things, answers
every target, and fills its page."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHAT = [
    "merged / none",
    "merged / separate",
    "whole iteration with JS / none, same layout",
    "DCGAN, whole iteration with JS: textbook / ours",
    "ResNet, whole iteration with JS: textbook / ours",
    "lazy penalty k=4",
    "MLP, batch 512, JS: textbook / ours",
    "compiled / the textbook's one by one",
    "eager / our own one by one",
    "with its interval / its value alone",
    "Dirac simulation",
    "auto / separate",
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    here = tmp_path_factory.mktemp("bench")
    page, out = here / "page.md", here / "speed.json"
    page.write_text((ROOT / "docs/benchmarks.md").read_text())
    command = [
        sys.executable,
        str(ROOT / "benchmarks/speed.py"),
        "--tiny",
        "--out",
        str(out),
        "--page",
        str(page),
    ]
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(out.read_text()), page, ran.stdout


def test_every_target_has_a_row_and_says_why_where_it_has_no_figure(bench):
    results, _, printed = bench
    for what in WHAT:
        rows = [row for row in results["targets"] if what in row["what"]]
        assert rows and what in printed
        assert all(row["measured"] or row["why"] for row in rows)
    # A tiny run compiles nothing; all else runs.
    assert results["not_run"] == {}
    assert all("compiled" in row["what"] for row in results["targets"] if row["measured"] is None)


def test_the_textbook_computes_the_same_gradients(bench):
    results, *_ = bench
    compared = {
        f"{case}/{penalty}"
        for case in ("mlp", "dcgan", "dcgan-bn", "resnet")
        for penalty in ("none", "r1", "r1r2", "js", "wgan-gp")
    }
    assert set(results["textbook_agreement"]) == compared
    assert max(results["textbook_agreement"].values()) < 1e-12


def test_times_memory_and_environment_are_written(bench):
    results, *_ = bench
    for job in results["jobs"].values():
        assert (
            0 < job["cpu"]["q1"] <= job["cpu"]["median"] <= job["cpu"]["q3"]
            and job["wall"]["median"] > 0
        )
    assert results["jobs"]["dcgan/js/iteration/ours"]["peak_memory_mb"] > 0
    assert {
        "date",
        "commit",
        "cpu",
        "cores",
        "threads",
        "torch",
        "python",
        "load_at_start",
        "load_at_end",
    } <= results["environment"].keys()


def test_the_page_is_filled_and_has_its_picture(bench):
    results, page, printed = bench
    text = page.read_text()
    assert printed.strip() in text and results["environment"]["date"] in text
    assert page.with_suffix(".png").stat().st_size > 10_000
    assert text.count("<!-- ") == 2 * 6


def test_the_dirac_loops_follow_one_trajectory(monkeypatch):
    import torch

    from steadygan import Game
    from steadygan.analysis.portrait import simulate

    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import textbook

    ours = simulate(
        Game("minimax", "r1:gamma=0.5"), "simultaneous", [[1.0, -1.0]], lr=0.1, steps=7
    )[-1, 0]
    for loop in (textbook.dirac_autograd, textbook.dirac_numpy, textbook.dirac_floats):
        torch.testing.assert_close(
            torch.tensor(loop(1.0, -1.0, gamma=0.5, lr=0.1, steps=7), dtype=torch.float64),
            ours,
            rtol=1e-12,
            atol=0,
        )


@pytest.mark.slow
def test_public_critics_are_timed_and_the_page_is_filled(tmp_path):
    page, out = tmp_path / "page.md", tmp_path / "critics.json"
    page.write_text((ROOT / "docs/fast-penalties.md").read_text())
    script = str(ROOT / "benchmarks/critics.py")
    given = ["--rounds", "1", "--only", "four logits", "--out", str(out), "--page", str(page)]
    subprocess.run([sys.executable, script, *given], check=True, capture_output=True)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["R1"]["path"] == row["JS"]["path"] == "joined" and row["JS"]["ratio"]["median"] > 0
    assert "| PatchGAN of four logits (16) | joined " in page.read_text()
    assert "| DCGAN (32) |" not in page.read_text()
