"""The atlas of stability: how settings are drawn, what stands, and that a claim can fail."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steadygan import build
from steadygan.core.players.stacked import game_of
from steadygan.experiments import atlas
from steadygan.experiments.atlas import ALL, Method, drawn, methods, stands
from steadygan.experiments.fleets import Member
from steadygan.runs.members import alike

TINY = atlas.EXPERIMENT.settings("tiny")


def member(**late):
    steps = np.arange(1, 7)
    usual = {"modes": 8.0, "sw1": 0.1, "critic_loss": 1.3}
    metrics = {name: np.full(6, value) for name, value in {**usual, **late}.items()}
    return Member("unregularized", 0, steps, metrics, Path("nowhere"), 0, 2 * math.log(2))


def test_the_settings_that_are_drawn_do_not_depend_on_how_many():
    assert len(set(ALL)) == 144
    assert drawn(48)[:10] == drawn(10) != drawn(10, seed=1)
    counts = {each: sum(s.objective == each for s in drawn(144)) for each in ("hinge", "minimax")}
    assert counts == {"hinge": 48, "minimax": 48}


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        ({}, True),
        ({"modes": 7.0}, False),
        ({"sw1": 0.31}, False),
        ({"critic_loss": 0.01}, False),
        ({"sw1": math.nan}, False),
    ],
)
def test_what_stands(late, expected):
    assert stands(member(**late), 8, 0.3) is expected


def test_one_bad_moment_is_not_a_fall_and_one_good_moment_no_stand():
    for values, expected in (([8, 8, 3, 8, 8, 8], True), ([3, 3, 3, 8, 3, 3], False)):
        held = member()
        held.metrics["modes"] = np.array(values, dtype=float)
        assert stands(held, 8, 0.3) is expected


@pytest.mark.parametrize("name", methods(1.0))
def test_a_method_changes_of_a_setting_what_it_says(name):
    setting = atlas.Setting(4.0, 5, "batch", "hinge", "rmsprop")
    found = atlas.config(TINY, setting, methods(3.0)[name], 7).resolve(build("problem", "ring2d"))
    plain = atlas.config(TINY, setting, Method(), 7).resolve(build("problem", "ring2d"))
    assert found.optimizer == "rmsprop:lr=0.004" and "critic_steps=5" in found.dynamics
    assert "norm=batch" in found.network and found.seed == 7
    differs = {k for k, v in found.to_json().items() if v != plain.to_json()[k]}
    expected = {
        "WGAN-GP": {"regularizer", "objective", "network"},
        "spectral norm": {"network"},
    }
    assert differs == expected.get(name, {"regularizer"})
    gammas = {
        "unregularized": [0, 0, 0],
        "JS": [3, 0, 0],
        "R1": [0, 3, 0],
        "R1 + R2": [0, 3, 3],
        "WGAN-GP": [20],
        "spectral norm": [],
    }
    assert list(found.game().strengths().values()) == gammas[name]


def test_a_structure_is_one_fleet():
    """And as few as there can be: two of one structure would not have two names."""
    problem, groups = build("problem", "ring2d"), {}
    for kind in methods(1.0).values():
        for setting in drawn(24):
            found = atlas.config(TINY, setting, kind, 0)
            groups.setdefault(atlas.structure(found), []).append(found)
    shared = set()
    for group in groups.values():
        first = replace(alike(problem, group)[0], optimizer="", critic_optimizer="", regularizer=())
        kinds = group[0].optimizer.partition(":")[0], repr(game_of([g.game() for g in group]))
        shared.add((first, kinds))
    assert len(shared) == len(groups) > 20


def test_a_claim_can_hold_fail_and_stay_open():
    plain = [0.0, 1 / 3] * 4
    for ours, expected in (([1.0] * 8, True), ([0.0] * 8, None), ([0.0, 0.0] * 4, None)):
        assert (
            atlas.more_often("ring2d", "JS", {"JS": ours, "unregularized": plain}, 3).holds
            is expected
        )
    worse = atlas.more_often("ring2d", "JS", {"JS": [0.0] * 8, "unregularized": [1.0] * 8}, 3)
    assert worse.holds is False and "less often in 8" in worse.measured


def test_the_bar_is_in_units_of_the_data():
    near, far = (atlas._of_the_mean(build("problem", name)) for name in ("mixture3d", "ring2d"))
    # The mean of |cos| over directions is 2/pi in the plane and 1/2 in space; radii are 1 and 2.
    assert far == pytest.approx(2 * 2 / math.pi, rel=0.03)
    assert near < far
