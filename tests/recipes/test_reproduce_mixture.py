"""The experiments on the 3-D mixture: that their rows can fail, and that their fleets go on after
whatever interrupted them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steadygan.core.registry import build
from steadygan.experiments import fleets, mixture
from steadygan.experiments.fleets import Member
from steadygan.experiments.roth import annealing as roth_annealing
from steadygan.experiments.roth import f_divergences as roth_f_divergences
from steadygan.experiments.roth import mixture as roth_mixture
from steadygan.experiments.rules import Fate
from steadygan.experiments.spec import Source
from steadygan.runs import checkpoint
from steadygan.runs.folder import RunFolder
from steadygan.training import trained

NEAR, FAR = [0.03] * 6, [0.3] * 6


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(trained, "VECTORS", 64)


def member(modes, sw1, seed=0, hq3=None, last=6):
    steps = np.linspace(last / 6, last, 6).astype(int)
    metrics = {"modes": modes, "sw1": sw1, "hq3": [0.5] * 6 if hq3 is None else hq3}
    return Member(
        "js",
        seed,
        steps,
        {name: np.array(values, float) for name, values in metrics.items()},
        Path(),
        seed,
    )


STOOD = [7] * 6
FALLEN = [7, 7, 7, 0, 0, 0]
LATE = [7, 7, 7, 7, 7, 0]
BLOWN = [7, 7, np.nan, np.nan, np.nan, np.nan]


# ------------------------------------------------------------ who has fallen


NEVER = [0] * 6
SOURCE = Source("")


def rows(rule, length, *modes, sw1=NEAR):
    group = [
        member(m, BLOWN if m is BLOWN else sw1, seed, last=length) for seed, m in enumerate(modes)
    ]
    return rule("js", [group] if rule is mixture.keeps else group, SOURCE)


def test_every_run_has_a_fate():
    def fate(modes, sw1=NEAR, **more):
        return mixture.course(member(modes, sw1, **more)).fate

    assert fate(STOOD) is Fate.STANDS and fate(STOOD, FAR) is Fate.PARTLY
    assert fate([6] * 6) is Fate.PARTLY and fate(FALLEN) is Fate.FELL
    assert fate(BLOWN, BLOWN) is Fate.BLEW_UP and fate(NEVER) is Fate.UNLEARNED


def test_a_run_is_judged_by_what_followed_its_learning():
    def fate(modes):
        steps, near = np.arange(1, len(modes) + 1), np.full(len(modes), 0.03)
        metrics = {"modes": np.array(modes, float), "sw1": near}
        return mixture.course(Member("js", 0, steps, metrics, Path(), 0)).fate

    assert fate([2] * 26 + [7] * 4) is Fate.STANDS, "the last third has mostly what was before"
    assert fate([2] * 26 + [7] * 2 + [0] * 2) is not Fate.STANDS
    assert fate([7] * 26 + [0] * 4) is Fate.FELL, "and mostly what it has lost since"
    assert fate([7] * 29 + [0]) is Fate.STANDS, "one evaluation may mislead"
    assert fate([7] * 38 + [0] * 2) is Fate.STANDS and fate([7] * 36 + [0] * 4) is Fate.FELL


def test_a_critic_that_has_won_is_not_a_run_that_has_yet_to_learn():
    def fate(loss, indifferent):
        whole = member(NEVER, FAR)
        held = {**whole.metrics, "critic_loss": np.array([0.001] * 3 + [loss] * 3)}
        return mixture.course(replace(whole, metrics=held, indifferent=indifferent)).fate

    assert fate(0.02, 1.386) is Fate.WON and fate(0.03, 1.386) is Fate.UNLEARNED
    assert fate(-3.0, 0.0) is Fate.UNLEARNED, "a loss without a floor says nothing"


def test_unregularized_runs_collapse_or_not():
    def row(length, *modes):
        return rows(mixture.collapses, length, *modes)

    assert row(84_000, FALLEN, BLOWN, FALLEN).holds is True
    assert row(84_000, FALLEN, FALLEN, STOOD).holds is False
    assert row(6_000, FALLEN, FALLEN, STOOD).holds is None
    assert row(84_000, FALLEN, FALLEN, LATE).holds is None, "down at the very end"
    assert "seed 2 stands at 6,000, learned at 1,000" in row(6_000, FALLEN, FALLEN, STOOD).why


def test_who_never_learned_has_not_collapsed():
    once = [0, 7, 0, 0, 0, 0]
    assert mixture.learned(member(FALLEN, FAR)) == 1
    assert mixture.learned(member([0, 7, 0, 4, 5, 7], FAR)) == 4
    assert mixture.learned(member(NEVER, FAR)) is None
    assert mixture.learned(member(once, FAR)) is None
    assert rows(mixture.collapses, 84_000, NEVER, once, NEVER).holds is None
    assert rows(mixture.collapses, 84_000, FALLEN, FALLEN, FALLEN, NEVER).holds is True
    early = [0, np.nan, np.nan, np.nan, np.nan, np.nan]
    lost = [member(early, BLOWN, seed, last=84_000) for seed in range(2)]
    found = mixture.collapses("js", [*lost, member(FALLEN, FAR, 2, last=84_000)], SOURCE)
    said = "1 of 3 runs learned, 1 of these fell, 2 more blew up or lost to their critic before;"
    assert found.holds is True and found.measured.startswith(said)
    slow = [0, 0, 7, 7, 7, 7]  # from 36,000 on
    assert rows(mixture.collapses, 72_000, FALLEN, FALLEN, FALLEN, slow).holds is None


def test_whether_regularized_runs_keep_what_they_have_learned():
    assert rows(mixture.keeps, 84_000, STOOD, STOOD, STOOD, NEVER).holds is True
    assert rows(mixture.keeps, 84_000, STOOD, STOOD, FALLEN).holds is False
    assert rows(mixture.keeps, 84_000, STOOD, STOOD, BLOWN).holds is False
    assert rows(mixture.keeps, 6_000, STOOD, STOOD, STOOD).holds is None
    assert rows(mixture.keeps, 84_000, NEVER, NEVER, NEVER).holds is None
    assert rows(mixture.keeps, 84_000, STOOD, STOOD).holds is None, "two runs are too few"


def test_one_strength_does_not_speak_for_all():
    strong, weak = ([member(m, NEAR, seed, last=84_000) for seed, m in enumerate(modes)]
                    for modes in ([STOOD] * 3, [NEVER] * 3))  # fmt: skip
    assert mixture.keeps("", [strong, strong], SOURCE).holds is True
    assert mixture.keeps("", [strong, weak], SOURCE).holds is None
    fallen = [*strong[:2], member(FALLEN, NEAR, 2, last=84_000)]
    found = mixture.keeps("", [strong, fallen], SOURCE)
    assert found.holds is False
    assert found.measured.startswith("6 of 6 runs learned, 1 of these fell; 5 of 6 runs [")
    assert "js, seed 2 had learned and lost it at 84,000, learned at 14,000" in found.why


def test_whether_every_run_learns():
    assert rows(mixture.learns, 84_000, STOOD, STOOD, STOOD).holds is True
    assert rows(mixture.learns, 6_000, STOOD, STOOD, STOOD).holds is None
    assert rows(mixture.learns, 6_000, STOOD, STOOD, FALLEN).holds is False
    assert rows(mixture.learns, 6_000, STOOD, STOOD, NEVER).holds is None
    assert rows(mixture.learns, 84_000, STOOD, STOOD, NEVER).holds is False
    assert rows(mixture.learns, 84_000, STOOD, STOOD, STOOD, sw1=FAR).holds is False


@pytest.mark.parametrize(
    ("modes", "step"),
    [
        (STOOD, None),
        (FALLEN, 4),
        (LATE, 6),
        (BLOWN, 3),
        ([0] * 6, 1),
        ([7, 0, 7, 3, 4, 3], 6),
        ([0, 0, 0, 0, 0, 4], None),
    ],
)
def test_when_it_fell_for_good(modes, step):
    assert mixture.fell(member(modes, FAR)) == step


def test_settings_have_names_for_readers():
    groups = mixture.grouped(
        [
            Member(setting, 0, np.arange(1), {}, Path(), 0)
            for setting in ("unregularized", "js:gamma=1", "js:gamma=1,anneal=0.01")
        ]
    )
    assert list(groups) == ["unregularized", "JS, γ = 1", "JS, γ = 1, annealed"]


# ------------------------------------------------------------ annealed against constant


def pairs(count, differences):
    constant = [member(STOOD, [0.05] * 6, seed) for seed in range(count)]
    annealed = [
        member(STOOD, [0.05 + differences[seed]] * 6, seed) for seed in reversed(range(count))
    ]
    return constant, annealed


def nearer(*groups, metric="sw1"):
    return roth_annealing.ends_nearer("js", metric, *groups, SOURCE)


def test_the_annealed_run_is_compared_with_its_own_seed():
    closer, further = [-0.01] * 8, [0.01] * 8
    assert nearer(*pairs(8, closer)).holds is True and nearer(*pairs(8, further)).holds is False
    mixed = nearer(*pairs(8, [-0.01] * 5 + [0.01] * 3))
    assert mixed.holds is None and "5 of 8 seeds" in mixed.measured
    # By hand: seed 0 is 0.02 nearer, seed 1 0.01 further; unpaired, the two medians are equal to
    # within 0.005.
    assert "gain 0.005 (-0.01 to 0.02)" in nearer(*pairs(2, [-0.02, 0.01])).measured


def test_larger_shares_are_nearer_and_smaller_distances():
    constant = [member(STOOD, NEAR, s, hq3=[0.2] * 6) for s in range(8)]
    annealed = [member(STOOD, NEAR, s, hq3=[0.4] * 6) for s in range(8)]
    assert (
        nearer(constant, annealed, metric="hq3").holds is True
        and nearer(annealed, constant, metric="hq3").holds is False
    )


def test_runs_that_blew_up_are_infinitely_far():
    blown = [member(BLOWN, BLOWN, s) for s in range(8)]
    good = [member(STOOD, NEAR, s) for s in range(8)]
    assert (
        nearer(good, blown).holds is False
        and nearer(blown, good).holds is True
        and nearer(blown, blown).holds is None
    )


def test_ties_are_ties_and_four_of_four_are_too_few_for_a_sign_test():
    tied = nearer(*pairs(8, [0.0] * 8))
    assert tied.holds is None and "8 equal" in tied.measured
    assert nearer(*pairs(8, [-0.01] * 5 + [0.0] * 3)).holds is None
    assert nearer(*pairs(8, [-0.01] * 6 + [0.0] * 2)).holds is True
    # Four are judged by whether the runs lie apart, as said beforehand.
    apart, mixed = pairs(4, [-0.01] * 4), pairs(4, [-0.01] * 3 + [0.001])
    assert nearer(*apart).holds is True and nearer(*mixed).holds is None


def test_an_exchanged_sign_is_seen(monkeypatch):
    monkeypatch.setitem(roth_annealing._SIGN, "sw1", 1)
    assert nearer(*pairs(8, [-0.01] * 8)).holds is False


# ------------------------------------------------------------ divergences


def test_better_than_without_can_fail():
    def row(plain, regularized):
        return roth_f_divergences.better("kl", [plain] * 3, [regularized] * 3)

    good, bad = member(STOOD, NEAR), member(FALLEN, FAR)
    assert row(bad, good).holds is True and row(member(BLOWN, BLOWN), good).holds is True
    assert row(good, good).holds is None and row(good, bad).holds is False


def test_total_variation_has_no_regularizer(monkeypatch):
    assert roth_f_divergences.total_variation().holds is True
    curved = roth_f_divergences.torch.linspace
    monkeypatch.setattr(
        roth_f_divergences.torch, "linspace", lambda *args, **more: curved(*args, **more) ** 2
    )
    assert roth_f_divergences.total_variation().holds is False


def test_every_divergence_is_trained_with_its_own_regularizer(tmp_path):
    settings = {
        **roth_f_divergences.EXPERIMENT.settings("tiny"),
        "divergences": ("neyman",),
        "steps": 1,
    }
    found = roth_f_divergences.f_divergences(settings, 1, tmp_path)
    assert [row.claim.split(",")[0].split(":")[0] for row in found.rows] == [
        "neyman",
        "neyman",
        "total variation",
    ]
    for kind, regularizer in (
        ("unregularized", []),
        ("f-gan", ["f-gan:gamma=1,divergence=neyman"]),
    ):
        held = json.loads((tmp_path / "neyman" / kind / "shard-00/config.json").read_text())[
            "config"
        ]
        assert held["objective"] == "f-gan:divergence=neyman" and held["regularizer"] == regularizer
        assert held["dynamics"] == "alternating:critic_steps=5"


# ------------------------------------------------------------ fleets


def test_one_strength_runs_as_long_as_without_and_the_others_are_annealed_too(tmp_path):
    settings = {**roth_mixture.FIG1.settings("tiny"), "regularized_seeds": 1}
    found = roth_mixture.fig1(settings, 2, tmp_path)
    config = {
        name: json.loads((tmp_path / name / "config.json").read_text())
        for name in ("unregularized/shard-00", "js/shard-00", "js/shard-01", "js-long/shard-00")
    }
    assert [each["config"]["steps"] for each in config.values()] == [3, 2, 2, 3]
    members = [each["fleet"]["members"] for each in config.values()]
    assert [len(each) for each in members] == [2, 3, 3, 1]
    for each, more in zip(members[1:3], ("", ",anneal=0.01"), strict=True):
        assert [m["regularizer"][0] for m in each] == [
            f"js:gamma={g}{more}" for g in ("0.01", "0.1", "1")
        ]
    assert len(found.rows) == 9 and "γ = 0.1, 3 iterations" in found.rows[-1].claim


def test_shards_hold_whole_seeds():
    settings = {**mixture.TINY, "together": 8}
    wanted = mixture.members(settings, ["js:gamma=1", "js:gamma=2", "js:gamma=3"], 1, 5)
    resolved = [m.resolve(build("problem", "mixture3d")) for m in wanted]
    groups = fleets._grouped(resolved, 8)
    assert [sorted({m.seed for m in group}) for group in groups] == [[0, 1], [2, 3], [4]]
    assert all(len(group) % 3 == 0 for group in groups)
    assert len(fleets._grouped(resolved, None)) == 1 and len(fleets._grouped(resolved, 1)) == 5


def test_a_wide_latent_is_in_every_fleet(tmp_path):
    found = roth_mixture.latent15(roth_mixture.LATENT15.settings("tiny"), 1, tmp_path)
    held = [
        json.loads(path.read_text())["config"]
        for path in sorted(tmp_path.glob("*/*/shard-00/config.json"))
    ]
    assert [(c["latent"], c["dynamics"]) for c in held] == 2 * [
        (15, "alternating:critic_steps=5")
    ] + 2 * [(15, "alternating:critic_steps=1")]
    assert {row.claim.split(",")[0] for row in found.rows} == {"1 critic step", "5 critic steps"}


def test_of_a_wide_latent_one_step_without_a_regularizer_has_more_seeds(tmp_path):
    settings = {**roth_mixture.LATENT15.settings("tiny"), "regularized_seeds": 1}
    roth_mixture.latent15(settings, 2, tmp_path)
    places = ("one/unregularized", "one/js", "five/unregularized", "five/js")
    runs = [RunFolder.open(tmp_path / place / "shard-00") for place in places]
    assert [len(run.describe().members) for run in runs] == [2, 3, 1, 3]


def tiny(folder, **settings):
    settings = {**mixture.TINY, **settings}
    return mixture.trained(settings, mixture.members(settings, ["js:gamma=1"], 1, 2), folder)


def same(one, other):
    return all(
        np.array_equal(a.series(name), b.series(name))
        for a, b in zip(one, other, strict=True)
        for name in ("modes", "sw1")
    )


@pytest.mark.parametrize("killed", ["before the status", "at the first status"])
def test_a_fleet_that_was_killed_before_its_status_said_so_is_finished(tmp_path, killed):
    whole = tiny(tmp_path)
    told = json.loads((tmp_path / "shard-00/status.json").read_text())
    stale = {
        "state": "running",
        "step": 0,
        "reason": None,
        "seconds": 0.0,
        "members": [{"state": "running", "step": 0, "reason": None}] * 2,
    }
    (tmp_path / "shard-00/status.json").write_text(
        json.dumps(stale if killed == "at the first status" else {**told, "state": "running"})
    )
    again = tiny(tmp_path)
    assert same(again, whole)
    assert json.loads((tmp_path / "shard-00/status.json").read_text()) == told
    assert fleets.seconds(again) == told["seconds"]


def test_a_fleet_of_which_nothing_is_left_is_not_resumed(tmp_path):
    tiny(tmp_path)
    newest = checkpoint.latest(tmp_path / "shard-00")
    tree = checkpoint.load(newest)
    tree |= {
        "step": 2,
        "alive": tree["alive"] & False,
        "stopped": {"0": [1, "non-finite"], "1": [2, "non-finite"]},
    }
    checkpoint.save(newest, tree)
    folder = RunFolder(tmp_path / "shard-00")
    folder.write("status.json", {**folder.read("status.json"), "state": "running"})
    rows = (tmp_path / "shard-00/metrics.jsonl").read_text().splitlines()
    (tmp_path / "shard-00/metrics.jsonl").write_text(rows[0] + "\n")
    for step in (2, 3):
        (tmp_path / f"shard-00/samples/step-{step:08d}.npz").unlink()

    members = tiny(tmp_path)
    assert folder.read("status.json")["state"] == "stopped"
    assert [m["step"] for m in folder.read("status.json")["members"]] == [1, 2]
    # What it would have been evaluated at is there, as lost: its last numbers are not those of its
    # end.
    assert (
        list(members[0].steps) == [1, 2, 3]
        and np.isnan(members[0].late("sw1"))
        and np.isfinite(members[0].series("sw1")[0])
    )
    assert members[0].samples(3).shape == (1, 3) and np.isnan(members[0].samples(3)).all()
    assert mixture.course(members[0]).fate is Fate.BLEW_UP


def test_a_fleet_that_was_never_evaluated_has_fallen(tmp_path):
    tiny(tmp_path)
    (tmp_path / "shard-00/metrics.jsonl").write_text("")
    members = tiny(tmp_path)
    assert np.isnan(members[0].late("modes"))
    assert mixture.learns("js", members, SOURCE).holds is False


def test_an_interruption_adds_no_evaluation(tmp_path):
    whole = tiny(tmp_path, steps=6)
    rows = [
        json.loads(line) for line in (tmp_path / "shard-00/metrics.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    between = {**rows[0], "step": 3, "metrics": {name: [0.0, 0.0] for name in rows[0]["metrics"]}}
    (tmp_path / "shard-00/metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in (rows[0], between, *rows[1:]))
    )
    assert same(tiny(tmp_path, steps=6), whole)


def test_a_compiled_fleet_is_asked_for(tmp_path, monkeypatch):
    asked = []
    train = fleets.train_fleet
    monkeypatch.setattr(
        fleets, "train_fleet", lambda *args, compiled: asked.append(compiled) or train(*args)
    )
    tiny(tmp_path / "a", compiled=True)
    tiny(tmp_path / "b")
    assert asked == [True, False]


def test_pictures_of_fleets_of_different_lengths(tmp_path):
    groups = {"short": tiny(tmp_path / "a"), "long": tiny(tmp_path / "b", steps=6)}
    assert mixture.clouds({"short": groups["short"]})["heads"] == [
        "iteration 1",
        "iteration 2",
        "iteration 3",
    ]
    picture = mixture.clouds(groups)
    assert picture["titles"] == ["short, 3 iterations, seed 0", "long, 6 iterations, seed 0"]
    named = mixture.clouds({"short": groups["short"], "for 6 iterations": groups["long"]})
    assert named["titles"][1] == "for 6 iterations, seed 0"
    assert picture["heads"] == ["33 % of them", "67 % of them", "100 % of them"]
    with np.load(tmp_path / "b/shard-00/samples/step-00000006.npz") as held:
        assert np.array_equal(picture["cells"][1][2], held["samples"][0][:500])


def test_the_experiments_use_what_the_registry_offers():
    assert set(
        build("problem", "mixture3d").measure(
            build("problem", "mixture3d").stream(0).draw(50).x, None
        )
    ) >= set(roth_annealing._SIGN)
