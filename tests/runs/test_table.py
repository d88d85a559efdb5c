"""Many runs as one table, from folders that are written by hand: what differs, how each ended, and
intervals over seeds against scipy's own."""

import csv
import io
import json
import math

import numpy as np
import pytest
import scipy.stats

from steadygan.cli import main
from steadygan.cli.table import _csv, _harmless
from steadygan.core.registry import build, names
from steadygan.runs import table
from steadygan.runs.format import is_run
from steadygan.runs.table import Row, better, by_seed, read_table, runs_below

RECORDED = {"objective": "nonsaturating", "optimizer": "adam:lr=0.001", "batch": 8, "steps": 40}


def run(place, values, *, status=None, members=None, **settings):
    place.mkdir(parents=True)
    config = {**RECORDED, "critic_optimizer": RECORDED["optimizer"], "seed": 0, **settings}
    about = {"problem": {"name": "ring2d"}, "config": config}
    if members:
        about["fleet"] = {"members": members}
    (place / "config.json").write_text(json.dumps(about))
    (place / "metrics.jsonl").write_text(json.dumps({"step": 40, "metrics": values}) + "\n")
    if status:
        (place / "status.json").write_text(json.dumps(status))


@pytest.fixture
def place(tmp_path):
    done = {"state": "finished", "step": 40}
    for seed, value in enumerate((0.2, 0.5, 0.9)):
        settings = {"seed": seed, "regularizer": ["r1:gamma=0.1"], "device": f"cuda:{seed}"}
        run(tmp_path / "many" / f"a{seed}", {"sw1": value}, status=done, **settings)
    why = {"state": "stopped", "step": 7, "reason": "=collapse"}
    run(tmp_path / "b", {"sw1": None}, status=why, regularizer=["r1:gamma=3"])
    endings = [done, {"state": "stopped", "step": 3, "reason": "fell"}]
    members = [{"seed": i, "regularizer": ["r2:gamma=1"]} for i in (4, 5)]
    run(tmp_path / "f", {"sw1": [1.5, None]}, status={**done, "members": endings}, members=members)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text("{")
    return tmp_path


def test_rows_say_what_differs_and_how_each_ended(place):
    found = read_table([place])
    assert [row.run for row in found.rows] == ["b", "c", "f", "f", "many/a0", "many/a1", "many/a2"]
    assert found.differing == ["regularizer", "regularizer.gamma"]  # not device, not the seed
    b, c, fine, fell = found.rows[:4]
    assert (b.state, b.step, b.reason) == ("stopped", 7, "=collapse")
    assert c.state == "damaged" and "config.json" in c.reason
    assert (fine.member, fine.seed, fine.metrics["sw1"]) == (0, 4, 1.5)
    assert (fell.state, fell.step, math.isnan(fell.metrics["sw1"])) == ("stopped", 3, True)


def test_a_run_that_is_named_twice_counts_once(place):
    """Else its seeds would, and the intervals over them be too narrow."""
    once = [row.folder for row in read_table([place]).rows]
    many = place / "many"
    twice = read_table([many / "a1", many / ".." / "many" / "a1", many, place]).rows
    assert sorted(row.folder.resolve() for row in twice) == sorted(once)


def test_intervals_over_seeds_are_students(place):
    found = read_table([place])
    (group,) = (g for g in found.groups if len(g) == 3)
    mean, low, high, count = found.interval(group, "sw1")
    values = np.array([0.2, 0.5, 0.9])
    sem = values.std(ddof=1) / math.sqrt(3)
    assert (low, high) == pytest.approx(scipy.stats.t.interval(0.95, 2, values.mean(), sem))
    assert (mean, count) == (pytest.approx(8 / 15), 3)
    pair = next(g for g in found.groups if len(g) == 2)
    assert found.interval(pair, "sw1") is None  # one of two has fallen


def test_a_seed_that_was_trained_again_counts_once(place, capsys, monkeypatch):
    many = place / "many"
    once = read_table([many])
    before = once.interval(once.rows, "sw1")
    for name, value in (("again", 0.5), ("fell", None)):
        run(many / name, {"sw1": value}, seed=1, regularizer=["r1:gamma=0.1"])
    found = read_table([many])
    (group,) = found.groups
    assert len(group) == 5 and found.interval(group, "sw1") == pytest.approx(before)
    run(many / "z", {"sw1": None}, seed=9, regularizer=["r1:gamma=0.1"])  # enters nothing
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["table", str(many)]) == 0
    assert "all   3      0.533" in capsys.readouterr().out
    assert len(by_seed([Row("a", many), Row("b", many), Row("c", many, seed=3)])) == 3


def test_a_side_is_better_as_metrics_declare_it():
    sides = {"more": max, "less": min, None: None}
    for metric in names("metric"):
        for key, number in build("metric", metric).numbers.items():
            assert better(key) is sides[number.better], key


def test_every_format_holds_the_same_rows(place, capsysbinary):
    parquet = pytest.importorskip("pyarrow.parquet")

    def said(*words):
        assert main(["table", str(place), *words]) == 0
        return capsysbinary.readouterr().out

    plain = json.loads(said("--json"))
    lines = list(csv.DictReader(io.StringIO(said("--csv").decode())))
    rows = parquet.read_table(io.BytesIO(said("--parquet"))).to_pylist()
    assert rows == plain and len(lines) == 7
    for row, line in zip(plain, lines, strict=True):
        assert {k: "" if v is None else str(v) for k, v in row.items() if k != "reason"} == {
            k: v for k, v in line.items() if k != "reason"
        }
    assert lines[0]["reason"] == "'=collapse"  # no formula
    assert _csv([{"=HYPERLINK()": 1, "-b": "+2"}]) == b"'=HYPERLINK(),'-b\n1,'+2\n"
    assert _harmless("\x1b[31mred") == "\\x1b[31mred" and _harmless(0.5) == 0.5
    assert plain[4]["sw1.seeds"] == 3 and plain[0]["sw1.mean"] is None


def test_a_narrow_terminal_shows_what_differs_and_names_the_rest(tmp_path, capsys, monkeypatch):
    for i in range(3):
        numbers = {"hq": 0.25, **{f"number{k}": i + k / 8 for k in range(8)}}
        run(
            tmp_path / f"{'long' * 9}-{i}",
            numbers,
            status={"state": "finished", "step": 9},
            batch=i,
        )
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["table", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["run", "batch", "seed"] and max(map(len, lines[:4])) <= 80
    assert lines[4].startswith("hq, number") and "number0" in lines[0] and "hq" not in lines[0]
    assert lines[2].split()[0] == "longl…nglong-1"


def test_a_terminal_of_80_columns_shows_it(place, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["table", str(place / "many"), str(place / "f")]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "0.533" in said and "[-0.339, 1.41]" in said


def test_a_folder_that_may_not_be_entered_hides_no_other(tmp_path, monkeypatch):
    for name in ("a", "closed", "z"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")

    def entered(folder):  # as where permissions bind, which they do not for root
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied", str(folder / "config.json"))
        return is_run(folder)

    monkeypatch.setattr(table, "is_run", entered)
    assert [folder.name for folder in runs_below(tmp_path)] == ["a", "z"]
