"""The page about a sweep, from folders that are written by hand."""

import json
import math
import shutil

import pytest

from steadygan.core import SteadyganError
from steadygan.report.sweep import marginals, neighbours, parallel, write_sweep
from steadygan.runs.table import read_table

# gamma, rate, seed: sw1; None has fallen. The best by its mean is (1, 0.01), though not by one run.
RUNS = {
    (0.1, 0.01, 0): 0.5,
    (0.1, 0.01, 1): 0.7,
    (1, 0.01, 0): 0.2,
    (1, 0.01, 1): 0.4,
    (1, 0.1, 0): 0.1,
    (1, 0.1, 1): None,
    (10, 0.001, 0): 0.35,
    (10, 0.001, 1): 0.45,
}


@pytest.fixture
def place(tmp_path):
    for i, ((gamma, rate, seed), value) in enumerate(RUNS.items()):
        folder = tmp_path / "sweep" / f"<b>{i}"
        folder.mkdir(parents=True)
        optimizer = f"adam:lr={rate}"
        config = {"seed": seed, "regularizer": [f"r1:gamma={gamma}"], "optimizer": optimizer}
        config["critic_optimizer"] = optimizer
        about = {"problem": {"name": "ring2d"}, "config": config}
        (folder / "config.json").write_text(json.dumps(about))
        ended = {"state": "stopped", "step": 3, "reason": "<script>alert(1)</script>"}
        fine = {"state": "finished", "step": 9}
        (folder / "status.json").write_text(json.dumps(fine if value is not None else ended))
        line = {"step": 9, "metrics": {"sw1": value}}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return tmp_path / "sweep"


def test_the_best_is_that_of_the_mean_over_seeds_and_its_neighbours_differ_in_one_option(place):
    best, *others = neighbours(read_table([place]), "sw1")
    assert (best["settings"]["regularizer.gamma"], best["settings"]["optimizer.lr"]) == (1, 0.01)
    assert best["mean"] == pytest.approx(0.3) and best["interval"].seeds == 2 == best["seeds"]
    assert [other["changed"] for other in others] == [["regularizer"], ["optimizer"]]
    assert [other["mean"] for other in others] == pytest.approx([0.6, 0.1])
    assert [other["fallen"] for other in others] == [0, 1]  # lucky, and behind for what fell


def test_a_seed_that_was_trained_again_counts_once(place):
    shutil.copytree(place / "<b>2", place / "again")  # of the best: 0.2, and 0.4 by another seed
    best, *_ = neighbours(read_table([place]), "sw1")
    assert (best["seeds"], best["mean"]) == (2, pytest.approx(0.3)) and best["interval"].seeds == 2


def test_the_page_shows_all_and_runs_nothing(place):
    text = write_sweep(place).read_text()
    assert "<script>" not in text and "&lt;script&gt;alert(1)" in text and "<b>0" not in text
    assert text.count("data:image/png") == 3  # all at once, gamma, rate
    assert "7 finished" in text and "1 stopped" in text
    assert "http" not in text.replace("http-equiv", "")
    for i, folder in enumerate(place.glob("*/")):
        line = json.dumps({"step": 9, "metrics": {"modes": i, "kl": 2}})
        (folder / "metrics.jsonl").write_text(line + "\n")
    assert "The best by modes" in write_sweep(place).read_text()
    assert "The best by kl" in write_sweep(place, by="kl").read_text()


def test_pictures_show_what_differs(place):
    found = read_table([place])
    assert list(marginals(found, "sw1")) == ["gamma", "lr"]
    lines = parallel(found, "sw1").axes[0].lines
    drawn = [line for line in lines if len(line.get_xdata()) == 3 and line.get_alpha() == 0.75]
    assert len(drawn) == 7  # the eighth has no number and stops before it
    heights = sorted(float(line.get_ydata()[-1]) for line in drawn)
    expected = sorted((v - 0.1) / 0.6 for v in RUNS.values() if v is not None)
    assert heights == pytest.approx(expected, abs=0.02) and not math.isnan(heights[0])


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(SteadyganError, match="no run folder"):
        write_sweep(tmp_path)


def test_a_metric_that_no_run_has_is_refused(place):
    with pytest.raises(SteadyganError, match="no fid, only sw1"):
        write_sweep(place, by="fid")
