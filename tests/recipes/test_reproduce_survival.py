"""Survival curves and early warning: when a run has learned and collapsed, what is censored, what
is looked at, and that every claim can hold, fail and stay open."""

import math
from pathlib import Path

import numpy as np
import pytest

from steadygan import build
from steadygan.analysis.subjects import load_run
from steadygan.experiments.fleets import Member
from steadygan.experiments.roth import rates, survival, warning
from steadygan.experiments.roth.lives import Life, learning, life, standing
from steadygan.experiments.roth.warning import Looked, foretold, leads, looked
from steadygan.report.numbers import numbers
from steadygan.report.reproduction import draw
from steadygan.runs import checkpoint
from steadygan.training import Config, train_fleet

NAN = math.nan
SOUND = 2 * math.log(2)


def member(modes, loss=None, place=0, folder="nowhere", seed=0):
    metrics = {
        "modes": np.array(modes, dtype=float),
        "critic_loss": np.array(loss or [1.3] * len(modes)),
    }
    steps = 10 * np.arange(1, len(modes) + 1)
    return Member("unregularized", seed, steps, metrics, Path(folder), place, SOUND)


@pytest.mark.parametrize(
    ("modes", "loss", "expected"),
    [
        ([0, 5, 7, 7, 7, 7, 7, 7], None, Life(30, None, 60)),
        ([0, 6, 6, 6, 6, 6, 6, 6], None, Life(None, None, 60)),
        # One good moment has learned nothing, and one bad one has lost nothing.
        ([7, 0, 0, 7, 7, 2, 7, 7], None, Life(40, None, 60)),
        ([0, 7, 7, 7, 3, 3, 7, 7], None, Life(20, 50, 60)),
        ([0, 7, 7, 4, 4, 4, 4, 4], None, Life(20, None, 60)),
        ([0, 7, 7, 7, NAN, NAN, NAN, NAN], None, Life(20, 50, 60)),
        ([0, 7, 7, 7, 7, 7, 7, 7], [1.3] * 5 + [0.02] * 3, Life(20, 60, 60)),
        ([0, 0, 0, 0, 0, 0, 7, 7], None, Life(None, None, 60)),
        ([7, 7], None, Life(None, None, 0)),
    ],
)
def test_when_a_run_had_learned_and_collapsed(modes, loss, expected):
    assert life(member(modes, loss)) == expected


def test_what_is_censored():
    lives = [Life(20, 70, 90), Life(30, None, 90), Life(None, None, 90), Life(90, None, 90)]
    seen = learning(lives)
    assert seen.times.tolist() == [20, 30, 90, 90]
    assert seen.ended.tolist() == [True, True, False, True]
    seen = standing(lives)
    assert (seen.times.tolist(), seen.ended.tolist()) == ([50, 60, 0], [True, False, False])
    assert len(standing([Life(None, None, 90)]).times) == 0


def test_a_strength_that_stands_longer_falls_sooner_or_neither():
    stands, falls = [Life(10, None, 900)] * 9, [Life(200, 300 + 10 * i, 900) for i in range(9)]
    for ours, plain, expected in (
        (stands, falls, [True, True]),
        (falls, stands, [False, False]),
        (falls, falls, [None, None]),
        (stands, falls[:5] + stands[:1], [True, None]),
    ):
        rows = survival.compared("JS", ours, plain)
        assert [row.holds for row in rows] == expected
        assert [row.source.whose for row in rows] == ["ours", "ours"]


def test_the_picture_and_its_numbers():
    lives = {"a": [Life(10, 50, 90), Life(30, None, 90)], "b": [Life(None, None, 90)]}
    panels = [
        survival.panel("learned", "x", learning, lives, rising=True),
        survival.panel("stands", "x", standing, lives),
    ]
    assert panels[0]["curves"]["a"]["shares"][0].tolist() == [0, 0.5, 1]
    assert panels[1]["curves"]["a"]["risk"][0] == (0, 2) and panels[1]["end"] == 60
    assert [n for _, n in panels[1]["curves"]["b"]["risk"]] == [0] * 6
    line = {"title": "early", "x": "x", "y": "y", "lines": {"chance": ([0, 1], [0, 1])}}
    data = {"panels": panels, "early": [line]}
    assert len(draw("survival", data).axes) == 3
    rows = numbers("survival", data)
    assert ["stands", "a", "share", "40", "0.5"] in [row[:5] for row in rows]
    assert rows[-1] == ["early", "chance", "x", "1", "1", "", ""]


def planted(shift, collapses=12, seed=0):
    """Return looks of runs, some of which collapse, and values that are larger before that."""
    rng = np.random.default_rng(seed)
    lives = [Life(1000, 15_000 if i < collapses else None, 30_000) for i in range(24)]
    looks = [looked(each) for each in lives]
    return looks, [rng.normal(size=len(x.steps)) + shift * x.ill for x in looks]


def test_a_number_that_foretells_collapses_and_one_that_does_not():
    for shift, expected in ((4.0, [True, True]), (0.0, [False, None]), (-4.0, [False, False])):
        looks, values = planted(shift)
        rows, panels = foretold("runs", {"x": values}, looks)
        found = [row.holds for row in rows]
        assert found[0] is expected[0] and (expected[1] is None or found[1] is expected[1])
        assert len(panels[0]["lines"]) == 2 and len(panels[1]["lines"]["x"][1]) == 6
    looks, values = planted(4.0, collapses=5)
    assert [row.holds for row in foretold("runs", {"x": values}, looks)[0]] == [None, True]
    looks, values = planted(4.0, collapses=0)
    assert [row.holds for row in foretold("runs", {"x": values}, looks)[0]] == [None, None]


def test_how_early_alarms_come():
    steps = np.arange(1000, 9000, 1000)
    quiet = Looked(steps, np.full(8, False), None)
    ill = Looked(steps, steps >= 4500, 9500)
    late, early, never = (np.where(steps >= at, 9.0, 0.0) for at in (8000, 3000, 10_000))
    values = [np.linspace(0, 1, 8), late, early, never]
    # An alarm more than HORIZON before is none of this collapse's.
    assert leads(values, [quiet, ill, ill, ill], false=0.3) == [1500, 4500, 0]


def test_values_that_are_not_known_count_for_nothing():
    looks, values = planted(4.0)
    holes = [np.where(np.arange(len(v)) % 2 > 0, NAN, v) for v in values]
    for rows in (foretold("runs", {"x": v}, looks)[0] for v in (values, holes)):
        assert rows[0].holds is True


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return two members of a short fleet that was logged at every step and saved at every other,
    and looks at them."""
    monkeypatch.setattr(warning, "LOOKS", 2)
    small = {"steps": 6, "batch": 8, "network": "mlp:width=10", "evaluate_every": 6}
    kept = {"log_every": 1, "checkpoint_every": 2, "keep_checkpoints": 9, "device": "cpu"}
    configs = [Config(seed=seed, **small, **kept) for seed in (3, 4)]
    train_fleet(build("problem", "mixture3d"), configs, tmp_path / "run")
    runs = [member([7.0] * 6, place=i, folder=tmp_path / "run", seed=3 + i) for i in (0, 1)]
    return runs, [Looked(np.array(s), np.full(len(s), False), None) for s in ([2, 4], [4])]


def test_slopes_are_the_largest_since_the_look_before(run, tmp_path):
    logged = warning.Run.read(tmp_path / "run").logged
    norm = np.maximum(*(logged[f"gradient_norm_{x}"].values for x in ("real", "fake")))
    first, second = warning.slopes(*run)
    assert first.tolist() == [norm[:2, 0].max(), norm[2:4, 0].max()]
    assert second.tolist() == [norm[2:4, 1].max()]


def test_a_run_is_seen_as_it_was_at_a_step(run, tmp_path):
    tree = checkpoint.load(checkpoint.named(tmp_path / "run", "4"))
    subject, newest = (load_run(tmp_path / "run", 1, step) for step in (4, None))
    for key, value in subject.critic.state_dict().items():
        assert np.array_equal(value, tree["critic"][key][1])
    assert (subject.progress, newest.progress) == (4 / 6, 1.0)
    assert np.array_equal(subject.batch.latent, newest.batch.latent)


@pytest.mark.slow
def test_what_the_doctor_saw_is_kept(run, tmp_path, monkeypatch):
    monkeypatch.setattr(warning, "PRODUCTS", 20)
    kept = tmp_path / "doctor.json"
    first, second = warning.growth(*run, kept)
    assert (len(first), len(second)) == (2, 1) and kept.read_text().count("seed") == 3
    monkeypatch.setattr(warning, "load_run", None)
    assert np.array_equal(warning.growth(*run, kept)[0], first, equal_nan=True)
    pruned = [
        look._replace(steps=np.append(look.steps, 8), ill=np.append(look.ill, True))
        for look in run[1]
    ]
    again = warning.growth(run[0], pruned, kept)
    assert np.array_equal(again[0], [*first, NAN], equal_nan=True), "no checkpoint of step 8"
    thinned, _ = warning.growth(*run, kept, every=2)
    assert np.array_equal(thinned, [NAN, first[1]], equal_nan=True)
    ill = [look._replace(ill=~look.ill) for look in run[1]]
    assert np.array_equal(warning.growth(run[0], ill, kept, every=2)[0], first, equal_nan=True)


def ending(modes, sw1):
    held = member([modes] * 6)
    held.metrics["sw1"] = np.full(6, sw1)
    return held


def test_a_search_over_learning_rates_can_find_for_and_against():
    sound, lost = [ending(7, 0.03)] * 3, [ending(0, 0.9)] * 3
    nearer, blown = [ending(7, 0.02)] * 3, [ending(NAN, NAN)] * 3
    for ours, plain, expected in (
        ([sound] * 7, [lost] * 6 + [blown], [True, True]),
        ([lost] * 6 + [blown], [sound] * 7, [False, False]),
        ([sound] * 7, [lost] * 6 + [nearer], [True, False]),
        ([sound] * 5 + [lost] * 2, [lost] * 7, [None, True]),
        ([sound] * 7, [sound] * 7, [None, None]),
    ):
        found = dict(zip(rates.METHODS, (plain, ours), strict=True))
        rows = rates.compared("5 critic steps", found)
        assert [row.holds for row in rows] == expected
    assert (
        "at 0.016"
        in rates.compared("x", {**found, "JS, γ = 0.1": [lost] * 6 + [sound]})[1].measured
    )
    panels = rates.drawn("x", dict(zip(rates.METHODS, ([blown] * 7, [sound] * 7), strict=True)))
    assert len(draw("lines", {"panels": panels}).axes) == 2


def test_every_learning_rate_is_that_of_both_players():
    settings = rates.EXPERIMENT.settings("quick")
    found = [
        m.resolve(build("problem", "mixture3d"))
        for m in rates.asked(settings, "js:gamma=0.1", 5, 2)
    ]
    assert [(m.optimizer, m.seed) for m in found] == [
        (f"adam:lr={factor * 0.001:g}", seed) for factor in rates.FACTORS for seed in (0, 1)
    ]
    assert all(m.critic_optimizer == m.optimizer and "critic_steps=5" in m.dynamics for m in found)


def test_what_is_lengthened_are_lengths_and_no_critic_steps():
    longer = rates.EXPERIMENT.settings("long", steps=30_000)
    assert (longer["steps"], longer["critic_updates"]) == (30_000, (1, 5))
