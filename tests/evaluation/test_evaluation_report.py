"""Evaluations in the report: grouped by what may be compared, with intervals, and a lead only where
it is certain."""

import json
import re
from dataclasses import replace

import pytest

from steadygan import SteadyganError
from steadygan.evaluation.estimate import Estimate
from steadygan.evaluation.result import Evaluation, Protocol, store
from steadygan.report import write_report
from steadygan.report.evaluation import evaluation_tables
from steadygan.runs.reading import Run

PROTOCOL = Protocol(
    "effnet-lite0",
    "effnet-lite0 5e",
    "bilinear to 224 x 224, antialiased",
    "<b>test.zip</b>",
    "abc",
    (3, 8, 8),
    5000,
    0,
)


def run(folder, name):
    path = folder / name
    path.mkdir()
    (path / "config.json").write_text(
        json.dumps({"problem": {"name": "images"}, "config": {"regularizer": [], "steps": 9}})
    )
    return path


def keep(path, step, notes=(), how=PROTOCOL, **numbers):
    found = {key: Estimate(value, low, high) for key, (value, low, high) in numbers.items()}
    store(path, Evaluation(path.name, step, how, found, {}, notes))


def tables(page):
    section = page.split("<h2>Evaluation</h2>")[1].split("</section>")[0]
    return [
        re.findall(r"<td[^>]*>(.*?)</td>", table, flags=re.S)
        for table in re.findall(r"<table>(.*?)</table>", section, flags=re.S)
    ]


def test_a_table_for_each_protocol_and_a_lead_only_where_intervals_are_apart(tmp_path):
    first, second = run(tmp_path, "first"), run(tmp_path, "second")
    keep(
        first,
        300,
        fd=(12.345678, 11.5, 13.0),
        recall=(0.5, 0.4, 0.6),
        notes=("trained on these very images",),
    )
    keep(second, 300, fd=(20.0, 19.0, 21.0), recall=(0.65, 0.55, 0.75))
    keep(
        second, 600, how=replace(PROTOCOL, samples=1000), fd=(5.0, 4.0, 6.0), lpips=(0.2, 0.1, 0.3)
    )
    page = write_report([first, second], tmp_path / "page.html").read_text()
    large, small = tables(page)
    assert (
        "12.35" in large[2] and "[11.5, 13]" in large[2] and "0.65" in large[7] and len(large) == 8
    )
    assert "5" in small[2] and len(small) == 4
    assert (
        "FD (effnet-lite0) ↓" in page
        and "recall (effnet-lite0) ↑" in page
        and "LPIPS diversity</th>" in page
    )
    assert len(re.findall(r'class="value leads">12.35', page)) == 1 and not re.search(
        r'class="value leads">(20|0\.|5)', page
    )
    assert (
        "5,000 samples each against &lt;b&gt;test.zip&lt;/b&gt;" in page
        and "1,000 samples each" in page
    )
    assert "bilinear to 224 x 224, antialiased" in page and "trained on these very images" in page


def test_features_of_one_name_are_others_in_another_file(tmp_path):
    one = run(tmp_path, "one")
    for step, identity in ((300, "mine.py:f 5e"), (300, "mine.py:f 6f"), (600, "mine.py:f 5e")):
        how = replace(PROTOCOL, features="mine.py:f", identity=identity)
        keep(one, step, how=how, fd=(1.0, 0.5, 1.5))
    first, second = evaluation_tables([Run.read(one)])
    steps = [[row["step"] for row in table["rows"]] for table in (first, second)]
    assert steps == [[300, 600], [300]]


def test_numbers_that_were_not_taken_are_dashes_and_runs_without_evaluation_have_no_section(
    tmp_path,
):
    one = run(tmp_path, "one")
    assert "<h2>Evaluation</h2>" not in write_report(one, tmp_path / "none.html").read_text()
    keep(one, 300, fd=(1.0, 0.5, 1.5))
    keep(one, 600, kid=(0.02, 0.01, 0.03))
    (table,) = tables(write_report(one, tmp_path / "page.html").read_text())
    assert [cell.split(" ")[0] for cell in table] == ["300", "1", "–", "600", "–", "0.02"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"evaluations": [{}]}', '{"evaluations": [{"numbers": {"fd": {}}}]}']
)
def test_a_damaged_file_is_refused(tmp_path, text):
    one = run(tmp_path, "one")
    (one / "evaluation.json").write_text(text)
    with pytest.raises(SteadyganError, match="remove it and evaluate again"):
        write_report(one, tmp_path / "page.html")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("step", v) for v in ("9", [9], 0.5)),
        *((name, [1]) for name in ("samples", "seed", "features", "data", "average", "records")),
        ("fingerprint", {}),
        ("preparation", None),
        ("notes", "all of them"),
        ("numbers.fd.better", ["less"]),
        ("numbers.fd.name", 3),
        ("numbers.fd.low", None),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(tmp_path, place, value):
    one = run(tmp_path, "one")
    keep(one, 300, fd=(1.0, 0.5, 1.5))
    held = json.loads((one / "evaluation.json").read_text())
    *way, name = place.split(".")
    at = held["evaluations"][0]
    for part in way:
        at = at[part]
    at[name] = value
    (one / "evaluation.json").write_text(json.dumps(held))
    with pytest.raises(SteadyganError, match=rf"\({name} is .*remove it and evaluate again"):
        write_report(one, tmp_path / "page.html")


@pytest.mark.parametrize(
    ("key", "ours", "theirs", "leads"),
    [
        ("fd", (10, 9, 11), (13, 12, 14), (True, False)),
        ("fd", (10, 9, 12.5), (13, 12, 14), (False, False)),  # lower, but the intervals overlap
        ("fd", (10, 9, 12), (13, 12, 14), (False, False)),  # they touch
        ("recall", (0.5, 0.4, 0.55), (0.7, 0.6, 0.8), (False, True)),
        ("recall", (0.5, 0.4, 0.65), (0.7, 0.6, 0.8), (False, False)),
        ("lpips", (0.2, 0.1, 0.3), (0.5, 0.4, 0.6), (False, False)),  # no side is better
    ],
)
def test_a_number_leads_where_its_whole_interval_is_on_the_better_side(
    tmp_path, key, ours, theirs, leads
):
    for name, number in (("ours", ours), ("theirs", theirs)):
        keep(run(tmp_path, name), 300, **{key: number})
    (table,) = evaluation_tables([Run.read(tmp_path / name) for name in ("ours", "theirs")])
    assert tuple(row["cells"][0]["leads"] for row in table["rows"]) == leads
