"""Reproducing the papers through the real command line: every experiment at its tiny scale, and
that a claim can fail."""

import csv
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from steadygan import SteadyganError
from steadygan.cli import main
from steadygan.experiments import (
    atlas,
    atlas_images,
    fleets,
    folders,
    images,
    index,
    mixture,
    results,
)
from steadygan.experiments.index import _schedule, counted
from steadygan.experiments.mescheder import dirac as mescheder_dirac
from steadygan.experiments.mescheder import eigenvalues as mescheder_eigenvalues
from steadygan.experiments.mescheder import table1 as mescheder_table1
from steadygan.experiments.mescheder.grid import cells
from steadygan.experiments.registry import EXPERIMENTS
from steadygan.experiments.roth import mixture as roth_mixture
from steadygan.experiments.roth import noise as roth_noise
from steadygan.experiments.rules import FACT, LASTS, RULES, Fate
from steadygan.experiments.spec import (
    Experiment,
    Findings,
    Known,
    Row,
    Source,
    Whose,
    fact,
    number,
    printed,
    verdict,
)
from steadygan.training import fleet
from steadygan.training import trained as in_training

KEYS = set("claim expected source whose known rule tolerance measured holds why".split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "COMMITTED", tmp_path / "committed")
    monkeypatch.setattr(in_training, "VECTORS", 64)
    return tmp_path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_from_end_to_end(here, capsys, name):
    assert main(["reproduce", name, "--scale", "tiny", "--out", "out"]) == 0
    said = capsys.readouterr().out
    result = json.loads(Path("out/result.json").read_text())
    assert (
        result["name"] == name
        and result["scale"] == "tiny"
        and f"verdict: {result['verdict']}" in said
    )
    assert result["rows"] and all(
        row.keys() == KEYS and row["holds"] in (True, False, None) for row in result["rows"]
    )
    assert {
        "settings",
        "seeds",
        "date",
        "git",
        "environment",
        "seconds",
        "notes",
        "command",
        "cost",
        "source",
    } <= result.keys()
    assert result["verdict"] == verdict(result["rows"])
    assert all(row["rule"] in RULES and row["known"] in get_args(Known) for row in result["rows"])
    assert {row["whose"] for row in result["rows"]} <= {*get_args(Whose)}
    claims = [row["claim"] for row in result["rows"]]
    assert len(set(claims)) == len(claims)
    picture = Image.open("out/figure.png")
    assert (
        picture.format == "PNG"
        and np.asarray(picture.convert("L")).std() > 1
        and Path("out/figure.png").stat().st_size < 300_000
    )
    table = list(csv.reader(Path("out/figure.csv").read_text().splitlines()))
    assert len(table) > 1 and all(len(line) == len(table[0]) for line in table)
    assert result["series"] == table
    if not result["seeds"]:  # two iterations decide nothing, mathematics does
        assert all(row["holds"] for row in result["rows"])


def test_list_and_index_say_what_was_run_and_what_not(here, capsys):
    assert main(["reproduce", "--list", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in records] == list(EXPERIMENTS)
    assert all(
        r.keys() == {"name", "what", "source", "cost", "verdict"} and r["verdict"] is None
        for r in records
    )

    assert main(["reproduce", "roth-fig5"]) == 0
    assert main(["reproduce", "--index", "docs"]) == 0
    page = Path("docs/index.md").read_text()
    assert (
        Path("docs/reproduction/roth-fig5/figure.png").is_file()
        and "reproduction/roth-fig5/figure.png" in page
    )
    assert (
        re.search(r"\| holds \| [\d.]+ s of a busy core \|", page)
        and "| tilt of the plane in degrees | the papers' | 45 | from the authors' code |" in page
    )
    unrun = [name for name in EXPERIMENTS if name != "roth-fig5"]
    assert page.count("not run yet") == len(unrun) and all(
        f"| `{name}` |" in page for name in unrun
    )
    capsys.readouterr()
    assert main(["reproduce"]) == 0
    assert "not run yet" in capsys.readouterr().out
    assert main(["reproduce", "--list", "--json"]) == 0
    assert {r["name"]: r["verdict"] for r in json.loads(capsys.readouterr().out)}[
        "roth-fig5"
    ] == "holds"


def test_the_longest_result_counts_and_what_it_was_run_without_stays():
    def result(scale, architectures, holds):
        claims = [f"{each}, unregularized: unstable" for each in architectures]
        settings = {**EXPERIMENTS["roth-fig2-fig3"].settings(scale)}
        return {
            "name": "roth-fig2-fig3",
            "scale": scale,
            "settings": {**settings, "architectures": architectures, "data": ["a.zip"]},
            "rows": [{"claim": claim, "holds": holds} for claim in claims],
            "seeds": 3,
            "seconds": 60.0,
            "date": "2026-11-26",
        }

    quick = result("quick", ["DCGAN", "tanh", "ResNet"], None)
    there = {"roth-fig2-fig3": quick}
    assert [row["holds"] for _, row in counted(there)] == [None] * 3
    there["roth-fig2-fig3-long"] = result("long", ["DCGAN", "tanh"], True)
    found = [(title, row["claim"].split(",")[0]) for title, row in counted(there)]
    assert found == [
        ("roth-fig2-fig3-long", "DCGAN"),
        ("roth-fig2-fig3-long", "tanh"),
        ("roth-fig2-fig3", "ResNet"),
    ]
    (line,) = (line for line in _schedule(there) if line.startswith("| `roth-fig2-fig3` |"))
    assert "all of it but ResNet, no normalisation, 2026-11-26 |" in line
    assert line.endswith("| 1 of the papers', 0 of ours |")
    there["roth-fig2-fig3-long"] = result("long", ["DCGAN", "tanh", "ResNet"], False)
    assert [row["holds"] for _, row in counted(there)] == [False] * 3


@pytest.mark.parametrize("holds", [None, True])
def test_what_a_whole_long_run_leaves_open_says_what_would_decide_it(holds):
    experiment = EXPERIMENTS["roth-annealing"]
    result = {
        "name": experiment.name,
        "scale": "long",
        "settings": experiment.settings("long"),
        "rows": [{"claim": "learns all modes", "whose": "papers", "holds": holds}],
        "seeds": experiment.seeds("long"),
        "seconds": 60.0,
        "date": "2026-11-26",
    }
    lines = {
        key: _schedule(there) for key, there in {0: {}, 1: {"roth-annealing-long": result}}.items()
    }
    (before,), (after,) = (
        [line for line in each if experiment.name in line] for each in lines.values()
    )
    assert "not yet" in before and experiment.rest not in before
    assert "all of it" in after and (experiment.rest in after) == (holds is None)
    result["settings"]["steps"] -= 1000
    (short,) = [x for x in _schedule({"roth-annealing-long": result}) if experiment.name in x]
    assert "all of it at 4,000 of 5,000 iterations, 2026-11-26" in short


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["roth-fig7"], "Unknown experiment 'roth-fig7'. Available, nearest first: roth-fig"),
        (["roth-fig5", "--scale", "large"], "Unknown scale 'large'"),
        (["roth-fig5", "--scale", "long"], "Unknown scale 'long'"),
        (["roth-fig5", "--steps", "3"], "leave --steps out"),
        (["roth-fig5", "--only", "modes=3"], "by parts of 'modes': leave --only out"),
        (["roth-fig4", "--only", "gammas=1"], "all of it is --only variances=0.01,0.1,1"),
        (["roth-fig4", "--only", "variances"], "Unknown part of variances ''"),
        (["roth-fig4", "--only", "variances=1,2"], "Unknown part of variances '2'"),
        (["roth-fig6", "--steps", "3"], "at least 3000 at scale quick"),
        (["roth-fig5", "--seeds", "3"], "Nothing in roth-fig5 is random"),
        (["roth-fig6", "--seeds", "0"], "--seeds must be at least 1"),
        (["roth-fig5", "--index", "docs"], "give no NAME"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(here, capsys, argv, message):
    assert main(["reproduce", *argv]) == 2
    assert message in " ".join(capsys.readouterr().err.split()) and not list(here.iterdir())


def test_a_damaged_result_is_named(here, capsys):
    Path("runs/reproduction/roth-fig5").mkdir(parents=True)
    Path("runs/reproduction/roth-fig5/result.json").write_text("{")
    assert main(["reproduce", "--list"]) == 2
    assert "roth-fig5/result.json cannot be read" in capsys.readouterr().err


# ------------------------------------------------------------ a claim can fail


def holds(experiment: Experiment, tmp_path: Path, **settings) -> dict[str, bool | None]:
    found = experiment.run(
        {**experiment.settings("tiny"), **settings}, experiment.seeds("tiny"), tmp_path
    )
    return {row.claim: row.holds for row in found.rows}


def test_a_wrong_closed_form_is_seen(monkeypatch, tmp_path):
    wrong = {"R1": {"values": lambda g: mescheder_eigenvalues.damped(0.5, 1.001 * g)}}
    forms = [replace(f, **wrong.get(f.method, {})) for f in mescheder_eigenvalues.FORMS]
    monkeypatch.setattr(mescheder_eigenvalues, "FORMS", forms)
    found = holds(mescheder_eigenvalues.EXPERIMENT, tmp_path)
    assert [claim[:4] for claim, yes in found.items() if not yes] == ["R1: "]


def test_a_wrong_verdict_is_seen(monkeypatch, tmp_path):
    methods = [
        replace(m, recalled=(False, True)) if m.name == "unregularized" else m
        for m in mescheder_table1.METHODS
    ]
    monkeypatch.setattr(mescheder_table1, "METHODS", methods)
    found = holds(mescheder_table1.EXPERIMENT, tmp_path)
    assert (
        not found["unregularized, absolutely continuous"]
        and not found["unregularized, general"]
        and found["R1, general"]
    )


def test_a_wrong_radius_is_seen(monkeypatch, tmp_path):
    monkeypatch.setattr(
        mescheder_dirac,
        "METHODS",
        [replace(mescheder_dirac.METHODS[0], radii=("3.10", "1.43", "1.85"))],
    )
    found = [
        yes
        for claim, yes in holds(mescheder_dirac.EXPERIMENT, tmp_path).items()
        if "radius after" in claim
    ]
    assert found == [True, False, True]


def test_the_published_consensus_field_is_another_one():
    """The halved term vanishes to first order at the equilibrium and decides far from it."""
    assert mescheder_dirac.published(2, 500, 0.5) == pytest.approx(4.6e-33, rel=0.02)
    assert mescheder_dirac.published(2, 500, 1.0) == pytest.approx(11, abs=0.5)
    dynamics, game = mescheder_dirac._CONSENSUS[2], mescheder_dirac.METHODS[0].game
    ours = mescheder_dirac._radius(game, dynamics, 20)
    assert ours == pytest.approx(mescheder_dirac.published(2, 20, 1.0), rel=1e-12)
    assert ours != pytest.approx(mescheder_dirac.published(2, 20, 0.5), rel=1e-2)


def test_a_wrong_approximation_is_seen(monkeypatch):
    true = roth_noise.optimal
    monkeypatch.setattr(roth_noise, "optimal", lambda *args: lambda x: 1.02 * true(*args)(x))
    found = {row.claim: row.holds for row in [*roth_noise._optimal(["gan"]), *roth_noise._oracle()]}
    assert not found["f*′(ψ*) = p/q, every divergence"] and not found["Ω_JS = Ω_f at the optimum"]
    assert found["Ω_JS and Ω_f differ off the optimum"]


def test_a_wrong_mixture_is_seen(monkeypatch, tmp_path):
    monkeypatch.setattr(roth_mixture.Mixture3D, "centres", mixture.Mixture3D.centres * 1.01)
    found = holds(roth_mixture.FIG5, tmp_path)
    assert (
        not found["standard deviation within the plane"] and found["tilt of the plane in degrees"]
    )


def member(modes, sw1, seed=0):
    steps = np.arange(1, 7)
    return fleets.Member(
        "js",
        seed,
        steps,
        {"modes": np.array(modes, float), "sw1": np.array(sw1, float)},
        Path(),
        seed,
    )


def test_runs_stand_and_fall_by_their_last_third():
    good = member([0, 3, 7, 1, 7, 7], [0.3, 0.2, 0.1, 0.1, 0.03, 0.04])
    bad = member([7, 7, 7, 7, 2, 2], [0.03, 0.03, 0.03, 0.03, 0.3, 0.5], seed=1)
    blown = member([7, 7, 7, 7, np.nan, np.nan], [0.03] * 4 + [np.nan] * 2, seed=2)
    fates = [mixture.course(m).fate for m in (good, bad, blown)]
    assert fates == [Fate.STANDS, Fate.FELL, Fate.BLEW_UP]


def test_rows_and_verdicts():
    source = Source("")
    assert not number("", source, 1.0, float("nan"), 0.1).holds
    assert number("", source, 1.0, None, 0.1).holds is None
    assert not printed("", source, "1e-3", float("inf")).holds
    assert printed("", source, "2.6e4", 26_500).holds
    assert not printed("", source, "2.6e4", 26_700).holds
    papers, ours = (
        [{"whose": whose, "holds": holds} for holds in answers]
        for whose, answers in (("papers", (True, None)), ("ours", (False,)))
    )
    assert verdict(papers) == "1 of 2 hold, 1 undecided" and verdict(ours) == "does not hold"
    assert verdict(papers + ours) == "papers: 1 of 2 hold, 1 undecided; ours: does not hold"
    row = fact("", Source("", "ours", "derived here"), "", "", "", True)
    assert Findings((row,), "lines", {}).to_json()["verdict"] == "holds"
    with pytest.raises(SteadyganError, match="needs settings and cost"):
        replace(roth_mixture.FIG5, scales={})


def test_the_totals_count_the_papers_and_ours_apart_and_the_longest_of_an_experiment(here):
    def result(name, scale, *rows, rule=FACT, **settings):
        folder = here / results.folder_name(name, scale)
        folder.mkdir()
        shown = [
            Row(claim, Source("", whose), rule, "", "", "", holds) for claim, whose, holds in rows
        ]
        found = results.record(
            EXPERIMENTS[name], scale, settings, 3, Findings(tuple(shown), "lines", {}), 3600.0
        )
        (folder / "result.json").write_text(json.dumps(found))

    result("roth-fig6", "quick", ("a", "papers", False), ("b", "ours", None))
    result("roth-fig6", "long", ("a", "papers", True), ("b", "ours", True))
    result("roth-annealing", "quick", ("c", "papers", None), ("d", "ours", False))
    paper = {"batch": 512, "steps": 100_000}
    result("roth-fig1", "long", ("e", "papers", False), rule=LASTS, **paper)
    result("roth-latent15", "quick", ("f", "papers", False), rule=LASTS, **{**paper, "batch": 64})
    page = index.index(here)
    assert "| the papers', computed | 1 | 0 | 1 | 2 |" in page
    assert "| ours, computed | 1 | 1 | 0 | 2 |" in page
    assert "| the papers', of trainings at their own size | 0 | 1 | 0 | 1 |" in page
    assert "| the papers', of smaller or shorter trainings | 0 | 1 | 0 | 1 |" in page
    at_size, smaller, ours = page.split("What does not hold of ")[1:]
    assert "* [`roth-fig1`](#roth-fig1-long)\n    * e." in at_size
    assert "(batch 64 instead of 512)\n    * f." in smaller
    assert "* [`roth-annealing`](#roth-annealing)\n    * d." in ours
    assert page.count("    * ") == 3
    assert "| all of it, 2" in page
    assert "| not yet; [`roth-latent15`](#roth-latent15) has steps 100,000, seeds 3 | 0 of" in page
    assert "[`roth-fig6-long`](#roth-fig6-long) counts" in page
    assert page.count(") counts") == 1  # of the others one scale was run
    assert set(index.SCHEDULE) == {
        name for name, each in EXPERIMENTS.items() if "seeds" in each.scales["quick"]
    }
    in_turn = [
        line.split("`")[1]
        for line in page.split("## The schedule")[1].splitlines()
        if line.startswith("| `")
    ]
    assert in_turn[-3:] == ["roth-fig6", "roth-latent15", "roth-fig1"] and "## In short" not in page


def test_the_page_begins_with_what_is_written_by_hand(here):
    (here / "reproduction").mkdir()
    (here / "in-short.md").write_text("Most hold.\n")
    assert index.index(here / "reproduction").split("## ")[1] == "In short\n\nMost hold.\n\n"


def test_results_are_unicode_wherever_they_are_read(here, monkeypatch):
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, encoding="ascii": read(path, encoding))
    (here / "reproduction").mkdir()
    (here / "in-short.md").write_text("γ = 1 holds.\n", encoding="utf-8")
    assert "γ = 1 holds." in index.index(here / "reproduction")
    about = {"name": "", "scale": "", "settings": {}, "seeds": 0, "seconds": 0, "date": ""}
    held = {**about, "rows": [{"claim": "γ"}], "series": []}
    (here / "result.json").write_text(results.text(held), encoding="utf-8")
    assert results.load(here) == held


# ------------------------------------------------------------ fleets


def test_an_interrupted_fleet_goes_on(here, capsys, monkeypatch):
    argv = ["reproduce", "roth-fig6", "--scale", "tiny", "--seeds", "1", "--out"]
    assert main([*argv, "whole"]) == 0

    fallen = fleet.Fleet.fallen

    def pressed(self, logged):
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return fallen(self, logged)

    with monkeypatch.context() as patch:
        patch.setattr(fleet.Fleet, "fallen", pressed)
        assert main([*argv, "halves"]) == 130
    status = json.loads(Path("halves/fleets/unregularized/shard-00/status.json").read_text())
    assert (
        status["state"] == "interrupted"
        and status["step"] == 1
        and not Path("halves/result.json").exists()
    )
    assert main([*argv, "halves"]) == 0
    whole, halves = (
        json.loads(Path(out, "result.json").read_text())["rows"] for out in ("whole", "halves")
    )
    assert whole == halves
    capsys.readouterr()


def test_seeds_and_steps_are_added_and_only_what_is_missing_is_trained(here):
    argv = ["reproduce", "roth-fig6", "--scale", "tiny", "--out", "out"]

    def shards():
        held = sorted(Path("out/fleets/js").iterdir())
        read = [json.loads((shard / "config.json").read_text()) for shard in held]
        return [
            (each["config"]["steps"], sorted({m["seed"] for m in each["fleet"]["members"]}))
            for each in read
        ]

    assert main([*argv, "--seeds", "1"]) == 0 and shards() == [(3, [0])]
    first = Path("out/fleets/js/shard-00/samples/step-00000003.npz").read_bytes()
    assert main([*argv, "--seeds", "3"]) == 0 and shards() == [(3, [0]), (3, [1, 2])]
    assert Path("out/fleets/js/shard-00/samples/step-00000003.npz").read_bytes() == first
    assert main([*argv, "--seeds", "2", "--steps", "5"]) == 0
    assert shards() == [(5, [0]), (5, [1, 2])]
    result = json.loads(Path("out/result.json").read_text())
    assert result["settings"]["steps"] == 5 and result["command"].endswith("--seeds 2 --steps 5")
    lines = Path("out/fleets/js/shard-00/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5]


BUILT = {
    "mescheder-2d": lambda s: [cell.config(s, 0) for cell in cells(s)],
    "mescheder-images": lambda s: [images.config(s, "ResNet", 0)],
    "roth-fig4": lambda s: [images.config(s, "DCGAN", 0, regularizer=("js:gamma=1",))],
    "roth-fig6": lambda s: mixture.members(s, ["", "js:gamma=1"], 5, 1),
    "atlas": lambda s: [
        atlas.config(s, atlas.drawn(1)[0], method, 0) for method in atlas.methods(1.0).values()
    ],
    "atlas-images": lambda s: [
        atlas_images.config(s, atlas_images.drawn(1)[0], method, 0)
        for method in atlas_images.METHODS.values()
    ],
}
"""The configurations of experiments by their settings."""


@pytest.mark.parametrize("name", BUILT)
@pytest.mark.parametrize("scale", ["quick", "long"])
def test_a_longer_training_is_the_same_one(name, scale):
    def what(steps):
        settings = {**EXPERIMENTS[name].scales[scale], "steps": steps}
        return [folders.identity_of(None, config) for config in BUILT[name](settings)]

    steps = EXPERIMENTS[name].scales[scale]["steps"]
    assert what(steps) == what(7 * steps + 1)


def test_a_part_is_run_and_the_rest_another_time(here, monkeypatch):
    argv = ["reproduce", "mescheder-2d", "--scale", "tiny", "--seeds", "1", "--out", "out"]
    two = {**EXPERIMENTS["mescheder-2d"].scales["tiny"], "problems": ("line2d", "ring2d")}
    monkeypatch.setitem(EXPERIMENTS["mescheder-2d"].scales, "tiny", two)

    def rows():
        found = json.loads(Path("out/result.json").read_text())
        return {row["claim"].split(",")[0].split(":")[0] for row in found["rows"]}, found

    every = ["problems=ring2d", "problems=line2d"]
    assert EXPERIMENTS["mescheder-2d"].settings("tiny", only=every) == two
    assert main([*argv, "--only", "problems=line2d"]) == 0
    claims, found = rows()
    assert claims == {"line2d"} and found["settings"]["problems"] == ["line2d"]
    assert found["command"].endswith("--scale tiny --seeds 1 --only problems=line2d")
    kept = {path: path.stat().st_mtime_ns for path in Path("out").rglob("metrics.jsonl")}
    assert kept and main(argv) == 0 and rows()[0] == {"line2d", "ring2d"}
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    for path in Path("out").rglob("ring2d/**/status.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 1e6}))
    assert main(argv) == 0 and rows()[1]["seconds"] >= 1e6
    assert main([*argv, "--only", "problems=line2d"]) == 0 and rows()[1]["seconds"] < 1e6


def test_a_part_has_its_own_result_beside_that_of_the_whole(here, monkeypatch):
    two = {**EXPERIMENTS["mescheder-2d"].scales["tiny"], "problems": ("line2d", "ring2d")}
    monkeypatch.setitem(EXPERIMENTS["mescheder-2d"].scales, "tiny", two)
    argv = ["reproduce", "mescheder-2d", "--scale", "tiny", "--seeds", "1"]
    whole = results.RUNS / "mescheder-2d-tiny"
    part = results.RUNS / "mescheder-2d-tiny-problems-ring2d"
    assert main([*argv, "--only", "problems=line2d,ring2d"]) == 0
    kept = {path: path.read_bytes() for path in whole.glob("result.json")}
    trained = {path: path.stat().st_mtime_ns for path in whole.rglob("metrics.jsonl")}
    assert len(kept) == 1 and len(trained) > 1
    assert main([*argv, "--only", "problems=ring2d"]) == 0
    assert sorted(path.name for path in part.iterdir()) == [
        "figure.csv", "figure.png", "result.json",
    ]  # fmt: skip
    assert {path: path.read_bytes() for path in whole.glob("result.json")} == kept
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("metrics.jsonl")} == trained


def test_the_longest_counts_and_what_it_was_run_without_the_rest_does(here, monkeypatch):
    def result(steps, strengths, *rows, seeds=8, date="2026-01-02", title=None):
        shown = [Row(claim, Source(""), LASTS, "", "", "", holds) for claim, holds in rows]
        settings = {"steps": steps, "strengths": strengths}
        findings = Findings(tuple(shown), "lines", {})
        found = results.record(
            EXPERIMENTS["roth-annealing"], "long", settings, seeds, findings, 3600.0
        )
        folder = here / (title or results.folder_name("roth-annealing", "long", found["part"]))
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps({**found, "date": date}))

    tenth, one = ("JS, γ = 0.1, annealed: x", "JS, γ = 1: x")
    result(5000, ["0.1", "1"], (tenth, None), (one, True))
    result(5000, ["1"], (one, None), seeds=3, date="2026-01-03")
    result(60_000, ["0.1"], (tenth, False), date="2026-01-01")
    result(90_000, ["0.1"], (tenth, True), title="mine")
    there = results.gathered(here)
    assert list(there) == [
        "roth-annealing-long-strengths-1",
        "roth-annealing-long",
        "roth-annealing-long-strengths-0-1",
    ]
    (here / "roth-annealing-long-strengths-1/result.json").unlink()
    there = results.gathered(here)
    assert list(there) == ["roth-annealing-long", "roth-annealing-long-strengths-0-1"]
    assert [(title, row["holds"]) for title, row in index.counted(there)] == [
        ("roth-annealing-long-strengths-0-1", False),
        ("roth-annealing-long", True),
    ]
    page = index.index(here)
    assert "](#roth-annealing-long-strengths-0-1) (steps 60,000 instead of 100,000)" in page
    assert "| all of it, 2026-01-02 | 0 of the papers'" in page
    assert "1 undecided; 1 of its 2 claims count, the others in [`roth-annealing-long-str" in page
    assert "does not hold (without γ = 1) |" in page
    with monkeypatch.context() as patch:
        patch.setattr(results, "COMMITTED", here)
        (record,) = (each for each in results.listed() if each["name"] == "roth-annealing")
    assert record["verdict"] == "1 of 2 hold, 1 not"


def test_what_was_trained_for_longer_says_so(here, capsys):
    argv = ["reproduce", "roth-fig6", "--scale", "tiny", "--seeds", "1", "--out", "out"]
    assert main([*argv, "--steps", "5"]) == 0
    assert main(argv) == 2 and "give --steps 5" in " ".join(capsys.readouterr().err.split())


def test_a_longer_annealed_run_is_another_one(here):
    def trained(steps):
        settings = {**mixture.TINY, "steps": steps}
        wanted = mixture.members(settings, ["js:gamma=1", "js:gamma=1,anneal=0.01"], 1, 1)
        return [m.folder.name for m in mixture.trained(settings, wanted, Path("out"))]

    assert trained(3) == ["shard-00", "shard-01"] and trained(3) == ["shard-00", "shard-01"]
    assert trained(5) == ["shard-00", "shard-02"]


@pytest.mark.parametrize("left", [(), ("config.json",), ("config.json", "status.json")])
def test_a_fleet_killed_before_its_first_checkpoint_is_begun_again(here, left):
    settings = {**mixture.TINY, "steps": 3}
    wanted = mixture.members(settings, ["js:gamma=1"], 1, 1)
    whole = mixture.trained(settings, wanted, Path("whole"))
    shard = Path("out/shard-00")
    for name in ("samples", "checkpoints"):
        (shard / name).mkdir(parents=True)
    (shard / "checkpoints/step-00000000.safetensors.partial").touch()
    for name in left:
        (shard / name).write_text((whole[0].folder / name).read_text())
    again = mixture.trained(settings, wanted, Path("out"))
    assert np.array_equal(again[0].samples(3), whole[0].samples(3))
    (shard / "notes.txt").touch()
    next((shard / "checkpoints").glob("step-*")).unlink()
    with pytest.raises(SteadyganError, match=r"holds notes\.txt"):
        mixture.trained(settings, wanted, Path("out"))
