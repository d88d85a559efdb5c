"""What notebooks show: a run in its place while it trains; what comes from outside is escaped."""

import builtins
import json
import re

import pytest

from steadygan import SteadyganError, build
from steadygan.runs.reading import Run
from steadygan.runs.table import read_table
from steadygan.training import Config, grid, train, train_fleet

TINY = Config(steps=6, batch=4, log_every=1, evaluate_every=3, ema=0.0)
EVIL = "<script>alert(1)</script>"


class Notebook:
    """Stands in for IPython's display: what is shown, and how often it was drawn anew."""

    def __init__(self, monkeypatch):
        self.shown, self.updates = [], 0
        display = pytest.importorskip("IPython.display")
        monkeypatch.setattr("IPython.get_ipython", lambda: self)
        monkeypatch.setattr(display, "display", self.display)

    def display(self, html, display_id):
        assert display_id is True
        self.shown.append(html.data)
        return self

    def update(self, html):
        self.updates += 1
        self.shown[-1] = html.data


def test_a_run_is_drawn_anew_in_its_place_and_training_does_not_notice(tmp_path, monkeypatch):
    screen = Notebook(monkeypatch)
    problem = build("problem", "dirac")
    outcome = train(problem, TINY, tmp_path / "a", show="notebook")
    assert len(screen.shown) == 1 and screen.updates >= 1
    (html,) = screen.shown
    assert "6 of 6 steps" in html and "samples at step 6" in html and "critic loss" in html
    assert outcome._repr_html_() == html == Run.read(tmp_path / "a")._repr_html_()
    train(problem, TINY, tmp_path / "b", show=False)
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in "ab"]
    a, b = ([{**json.loads(line), "seconds": 0} for line in each] for each in lines)
    assert a == b


def test_a_screen_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    screen = Notebook(monkeypatch)
    monkeypatch.setattr(screen, "update", lambda html: 1 / 0)
    with pytest.warns(UserWarning, match="shows no more of the run"):
        outcome = train(build("problem", "dirac"), TINY, tmp_path / "a", show="notebook")
    assert outcome.state == "finished"


def test_outside_a_notebook_it_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    with pytest.raises(SteadyganError, match="this is none"):
        train(build("problem", "dirac"), TINY, tmp_path / "a", show="notebook")
    there = builtins.__import__

    def without(name, *given):
        if name.startswith("IPython"):
            raise ImportError(name)
        return there(name, *given)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SteadyganError, match=r"pip install 'steadygan\[notebook\]'"):
        train(build("problem", "dirac"), TINY, tmp_path / "a", show="notebook")
    assert not (tmp_path / "a").exists()


def test_many_gans_and_tables_show_themselves_and_what_they_hold_is_escaped(tmp_path):
    members = grid(TINY, seeds=2)
    outcome = train_fleet(build("problem", "dirac"), members, tmp_path / "many", show=False)
    assert "<td>2</td>" in outcome._repr_html_()
    train(build("problem", "dirac"), TINY, tmp_path / EVIL.replace("/", "|"), show=False)
    folder = tmp_path / EVIL.replace("/", "|")
    (folder / "warnings.jsonl").write_text(
        json.dumps({"step": 3, "kind": EVIL, "message": EVIL}) + "\n"
    )
    about = json.loads((folder / "config.json").read_text())
    about["config"]["regularizer"] = [EVIL]
    (folder / "config.json").write_text(json.dumps(about))
    html = Run.read(folder)._repr_html_()
    assert "<script" not in html and html.count("&lt;script&gt;") >= 4
    table = read_table([tmp_path])._repr_html_()
    assert "<script" not in table and "&lt;script&gt;" in table
    assert table.count("<tr>") == 4  # the heads, two members, one run


def test_a_diagnosis_shows_itself():
    import torch
    from torch import nn

    from steadygan import Batch, Game, diagnose

    D, G = nn.Linear(1, 1, bias=False), nn.Linear(1, 1)
    for p in (*D.parameters(), *G.parameters()):
        nn.init.zeros_(p)
    batch = Batch(torch.zeros(4, 1), torch.zeros(4, 1))
    found = diagnose(Game("minimax"), G, D, batch, dynamics="simultaneous", lr=0.1, critic_steps=0)
    html = found._repr_html_()
    assert '<span class="badge">unstable</span>' in html and "Try first:" in html
    assert re.search(r'<img class="wide" src="data:image/png;base64,', html)
