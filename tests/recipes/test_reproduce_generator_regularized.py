"""The regularizer in both objectives: what counts as faster and as unstable, and which seeds can
say so."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

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
    assert shaky.holds


def test_the_other_way_round():
    faster, shaky = rows(SHAKY, SLOW)
    assert faster.holds is False and shaky.holds is False


def test_too_few_or_equal_seeds_decide_nothing():
    faster, shaky = rows(SLOW, FAST, count=2)
    assert faster.holds is None
    assert shaky.holds is None and "equal in all of 2 seeds" in shaky.measured
    faster, _ = experiment.claims(
        "JS",
        [member(SLOW, i) for i in range(8)],
        [member(FAST if i else SHAKY, i) for i in range(8)],
    )
    assert faster.holds is True
    half = [member(FAST if i < 6 else [0] * 4 + [7] * 5, i) for i in range(8)]
    faster, _ = experiment.claims("JS", [member(SLOW, i) for i in range(8)], half)
    assert faster.holds is None and "6 of 8 seeds that differ" in faster.measured


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
    held = json.loads((tmp_path / "minimax/both/shard-00/config.json").read_text())["config"]
    assert held["regularize_generator"] is True


def test_warnings_are_counted_by_kind_and_of_the_members_that_were_asked_for(tmp_path):
    group = [replace(member(FAST, seed), folder=tmp_path) for seed in range(3)]
    assert experiment.warnings(group) == "none"
    lines = [
        {"step": 1, "kind": kind, "message": f"member {i}: so"}
        for i, kind in enumerate(("mode-loss", "critic-won", "mode-loss"))
    ]
    (tmp_path / "warnings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert experiment.warnings(group) == "critic-won in 1, mode-loss in 2"
    assert experiment.warnings(group[:2]) == "critic-won in 1, mode-loss in 1"
    assert experiment.warnings([replace(group[0], place=10)]) == "none"


def test_fleets_of_seeds_that_were_not_asked_for_do_not_count(tmp_path):
    settings = experiment.EXPERIMENT.settings("tiny")
    for seeds in (1, 2):
        experiment.run(settings, seeds, tmp_path)
    added = tmp_path / "minimax/both/shard-01"
    status = json.loads((added / "status.json").read_text())
    (added / "status.json").write_text(json.dumps({**status, "seconds": 1e6}))
    warning = {"step": 1, "kind": "critic-won", "message": "member 0: so"}
    (added / "warnings.jsonl").write_text(json.dumps(warning) + "\n")
    one, two = (experiment.run(settings, seeds, tmp_path) for seeds in (1, 2))
    assert one.seconds < 1e6 <= two.seconds
    assert [any("critic-won in 1" in note for note in each.notes) for each in (one, two)] == [
        False,
        True,
    ]


def test_the_other_loss_is_a_claim_of_its_own(tmp_path):
    settings = {
        **experiment.EXPERIMENT.settings("tiny"),
        "objectives": ("minimax", "nonsaturating"),
    }
    found = experiment.run(settings, 1, tmp_path)
    claims = [row.claim for row in found.rows]
    assert len(claims) == 8 and sum("nonsaturating, JS" in claim for claim in claims) == 4
    held = json.loads((tmp_path / "nonsaturating/both/shard-00/config.json").read_text())["config"]
    assert held["objective"] == "nonsaturating" and held["regularize_generator"] is True


def test_a_fleet_older_than_the_setting_and_without_shards_is_the_same_one(tmp_path):
    settings = experiment.EXPERIMENT.settings("tiny")
    wanted = mixture.members(settings, ["js:gamma=1"], 1, 1)
    first = mixture.trained(settings, wanted, tmp_path / "new")
    (tmp_path / "new/shard-00").rename(tmp_path / "old")
    path = tmp_path / "old/config.json"
    held = json.loads(path.read_text())
    del held["config"]["regularize_generator"]
    path.write_text(json.dumps(held))
    again = mixture.trained(settings, wanted, tmp_path / "old")
    assert again[0].folder == tmp_path / "old"
    assert len(first) == 1 and not list((tmp_path / "old").glob("shard-*"))
    other = [replace(m, regularize_generator=True) for m in wanted]
    assert mixture.trained(settings, other, tmp_path / "old")[0].folder.name == "shard-00"
