"""The regularizer in both objectives: what counts as faster and as unstable, and which seeds can
say so."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steadygan import SteadyganError
from steadygan.experiments import fleets, mixture
from steadygan.experiments.roth import generator_regularized as experiment


def member(modes, seed=0):
    steps = 10 * np.arange(1, len(modes) + 1)
    return fleets.Member("js:gamma=1", seed, steps, {"modes": np.array(modes, float)}, Path(), seed)


SLOW, FAST = [0, 0, 0, 7, 7, 7, 7, 7, 7], [0, 7, 7, 7, 7, 7, 7, 7, 7]
SHAKY, NEVER = [0, 7, 7, 7, 7, 7, 7, 5, 7], [0, 3, 3, 3, 5, 5, 6, 6, 7]


def test_the_two_measures():
    assert experiment.first(member(SLOW)) == 40 and experiment.first(member(FAST)) == 20
    assert experiment.first(member([1, 2, math.nan])) == math.inf
    assert experiment.late_share(member(FAST)) == 1 and experiment.late_share(
        member(SHAKY)
    ) == pytest.approx(2 / 3)
    assert math.isnan(experiment.late_share(member(NEVER))), "it cannot lose what it had not"


def rows(critic, both, count=8):
    return experiment.claims(
        "JS", [member(critic, i) for i in range(count)], [member(both, i) for i in range(count)]
    )


def test_faster_and_unstable_in_all_seeds():
    faster, shaky = rows(SLOW, SHAKY)
    assert (
        faster.holds
        and "8 of 8 seeds that differ" in faster.measured
        and "critic 40 (40 to 40), both 20 (20 to 20)" in faster.measured
    )
    assert shaky.holds and faster.why == shaky.why == ""


def test_the_other_way_round():
    faster, shaky = rows(SHAKY, SLOW)
    assert (
        faster.holds is False
        and shaky.holds is False
        and shaky.why == "the other way round in 8 of 8 seeds"
    )


def test_too_few_or_equal_seeds_decide_nothing():
    faster, shaky = rows(SLOW, FAST, count=3)
    assert faster.holds is None and "chance" in faster.why
    assert (
        shaky.holds is None
        and shaky.why == "the seeds do not differ"
        and "equal in all of 3 seeds" in shaky.measured
    )


def test_seeds_that_never_learned_say_nothing_about_stability():
    critic = [member(FAST, i) for i in range(8)]
    _, shaky = experiment.claims(
        "JS", critic, [member(NEVER if i < 2 else SHAKY, i) for i in range(8)]
    )
    assert (
        shaky.holds
        and "6 of 6 seeds that differ" in shaky.measured
        and "in the 6 of 8 seeds that can say" in shaky.measured
    )
    _, none = experiment.claims("JS", critic, [member(NEVER, i) for i in range(8)])
    assert none.holds is None and "in the 0 of 8 seeds" in none.measured


def test_both_arms_train_what_they_say_from_the_same_seeds(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        experiment,
        "trained",
        lambda settings, wanted, folder: (
            asked.update({folder.name: wanted}) or mixture.trained(settings, wanted, folder)
        ),
    )
    found = experiment.run(experiment.EXPERIMENT.settings("tiny"), 1, tmp_path)
    assert [m.regularize_generator for m in asked["critic"] + asked["both"]] == [
        False,
        False,
        True,
        True,
    ]
    assert [m.seed for m in asked["critic"]] == [m.seed for m in asked["both"]]
    assert len(found.rows) == 4 and len(found.data["panels"][0]["lines"]) == 4
    held = json.loads((tmp_path / "both/config.json").read_text())["config"]
    assert held["regularize_generator"] is True


def test_warnings_are_counted_by_kind(tmp_path):
    assert experiment.warnings(tmp_path) == "none"
    lines = [
        {"step": 1, "kind": kind, "message": f"member {i}: so"}
        for i, kind in enumerate(("mode-loss", "critic-won", "mode-loss"))
    ]
    (tmp_path / "warnings.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert experiment.warnings(tmp_path) == "critic-won in 1, mode-loss in 2"


def test_a_fleet_older_than_the_setting_is_the_same_one(tmp_path):
    wanted = mixture.members(experiment.EXPERIMENT.settings("tiny"), ["js:gamma=1"], 1, 1)
    first = mixture.trained(experiment.EXPERIMENT.settings("tiny"), wanted, tmp_path / "js")
    path = tmp_path / "js/config.json"
    held = json.loads(path.read_text())
    del held["config"]["regularize_generator"]
    path.write_text(json.dumps(held))
    again = mixture.trained(experiment.EXPERIMENT.settings("tiny"), wanted, tmp_path / "js")
    assert np.array_equal(first[0].samples(2), again[0].samples(2))
    with pytest.raises(SteadyganError, match="holds another run"):
        mixture.trained(
            experiment.EXPERIMENT.settings("tiny"),
            [replace(m, regularize_generator=True) for m in wanted],
            tmp_path / "js",
        )
