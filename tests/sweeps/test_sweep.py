"""The sweep as its user types it: which runs there are, where they are, what a second call does."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

from steadygan import SteadyganError, build
from steadygan.cli import main, parse
from steadygan.runs import checkpoint
from steadygan.runs.config import Config, problem_to_json
from steadygan.runs.lock import held
from steadygan.runs.table import read_table, runs_below
from steadygan.sweeps import Cluster, halving, plan
from steadygan.sweeps.plan import Task
from steadygan.sweeps.work import work

SWEEP = """\
problem: ring2d
steps: 12
batch: 4
network: mlp:width=4
log-every: 2
evaluate-every: 2
checkpoint-every: 2
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


def sweep(*words, out="out"):
    return main(["sweep", "sweep.yaml", "--out", out, "--workers", "1", *words])


def weights(folder):
    tree = checkpoint.load(checkpoint.latest(folder))
    return {**tree["critic"], **{f"G{key}": value for key, value in tree["generator"].items()}}


def test_small_games_are_packed_and_a_second_call_trains_only_what_is_new(place, capsys):
    many = ["--dynamics", "{alternating,simultaneous}", "--seeds", "2", "--dry-run"]
    assert sweep(*many, "--regularizer", "r1:gamma={0.1,1}") == 0
    assert "8 GANs in 2 runs" in capsys.readouterr().out
    (place / "axes.yaml").write_text(
        SWEEP + "seed: [0, 1, 4]\ndynamics: '{simultaneous,alternating}'\n"
    )
    assert main(["validate", "axes.yaml"]) == 0
    assert "a sweep of 6 GANs" in capsys.readouterr().out
    assert sweep("--regularizer", "r1:gamma={0.1,1}") == 0
    first = {f.name: (f / "metrics.jsonl").read_bytes() for f in runs_below(place / "out")}
    rows = read_table(["out"]).rows
    assert len(first) == 1 and len(rows) == 2 and {row.state for row in rows} == {"finished"}
    assert "1 finished" in capsys.readouterr().out and (place / "out" / "report.html").is_file()
    assert sweep("--regularizer", "r1:gamma={0.1,1,3}") == 0
    then = {f.name: (f / "metrics.jsonl").read_bytes() for f in runs_below(place / "out")}
    rows = read_table(["out"]).rows
    assert len(then) == 2 and len(rows) == 3 and all(then[name] == first[name] for name in first)
    assert {r.settings["regularizer.gamma"] for r in rows} == {0.1, 1.0, 3.0}


def test_of_several_problems_one_with_the_metric_is_enough_for_a_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text("problem: [dirac, ring2d]\nsteps: 2\nbatch: 2\n")
    assert sweep("--by", "sw1", "--dry-run") == 0
    assert sweep("--by", "fid", "--dry-run") == 2


def test_halving_keeps_the_best_with_the_bits_of_a_whole_run_and_says_who_was_stopped(
    place, capsys
):
    rates = ["--optimizer", "sgd:lr={1e-4,0.01,0.5,1}"]
    halved = [*rates, "--halving", "2", "--by", "sw1"]
    assert sweep(*halved) == 0
    said = capsys.readouterr().out
    assert "3 stopped" in said and "1 finished" in said
    rows = read_table(["out"]).rows
    assert sorted(row.step for row in rows) == [4, 4, 6, 12]
    assert all(
        row.reason.startswith("halving: rank") and "by sw1" in row.reason
        for row in rows
        if row.state == "stopped"
    )

    def early(row):
        lines = [json.loads(line) for line in (row.folder / "metrics.jsonl").open()]
        seen = [line["metrics"]["sw1"] for line in lines if line["step"] <= 4]
        return median(seen[len(seen) // 2 :])

    worst = sorted(rows, key=early)[2:]
    assert {row.step for row in worst} == {4}
    (best,) = (row for row in rows if row.state == "finished")
    assert sweep(*rates, "--together", "1", out="whole") == 0
    a, b = weights(best.folder), weights(place / "whole" / best.folder.name)
    assert all(torch.equal(a[key], b[key]) for key in a)
    before = {row.folder: (row.folder / "status.json").read_bytes() for row in rows}
    assert sweep(*halved) == 0  # nothing is left to do
    assert before == {folder: (folder / "status.json").read_bytes() for folder in before}


def test_two_at_once_do_not_decide_who_is_stopped(place, capsys):
    halved = ["--optimizer", "sgd:lr={1e-4,0.01}", "--halving", "2", "--by", "sw1"]
    with held(place / "out"):
        assert sweep(*halved) == 2
    assert "out is being written to by process" in capsys.readouterr().err
    assert not runs_below(place / "out") and sweep(*halved) == 0


def test_what_cannot_hold_runs_is_refused_before_anything_is_trained(place, capsys):
    (place / "file").write_text("x")
    assert main(["train", "--config", "sweep.yaml", "--out", "run"]) == 0
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for out, why in (("file", "file is no folder"), ("run", "run is a run itself")):
        capsys.readouterr()
        assert sweep(out=out) == 2
        said = capsys.readouterr()
        assert why in said.err and "choose another with --out" in said.err and not said.out
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("status", [{"state": 7}, {"step": "x"}, {"step": [1]}, {"step": math.inf}])
def test_a_run_whose_status_is_damaged_fails_with_a_sentence(place, capsys, status):
    assert sweep() == 0
    (run,) = runs_below(place / "out")
    (run / "status.json").write_text(json.dumps(status))
    capsys.readouterr()
    assert sweep() == 1
    said = capsys.readouterr().err
    assert f"status.json: {next(iter(status))} must be" in said and "remove it" in said
    (run / "status.json").unlink()
    assert main(["resume", str(run), "--steps", "14"]) == 0


@pytest.fixture
def ranked(place):
    """Learning rates, the best ones at the first rung first, and the runs that never waited."""
    rates = [f"{rate:g}" for rate in (1e-4, 0.01, 0.03, 0.1, 0.3, 0.5, 1, 2)]
    assert sweep(*grid(rates), "--together", "1", out="whole") == 0
    rows = {f"{row.settings['optimizer.lr']:g}": row for row in read_table(["whole"]).rows}

    def early(rate):
        lines = [json.loads(line) for line in (rows[rate].folder / "metrics.jsonl").open()]
        return median([line["metrics"]["sw1"] for line in lines if line["step"] <= 4][1:])

    return sorted(rates, key=early), rows


def grid(rates):
    return ["--optimizer", f"sgd:lr={{{','.join(rates)}}}"]


HALVED = ["--halving", "2", "--by", "sw1"]


def halved(rates):
    assert sweep(*grid(rates), *HALVED) == 0
    return {f"{row.settings['optimizer.lr']:g}": row for row in read_table(["out"]).rows}


def test_a_run_that_was_stopped_goes_on_where_more_runs_leave_it_among_the_best(ranked, capsys):
    rates, whole = ranked
    before = halved(rates[:4])
    assert sorted(row.step for row in before.values()) == [4, 4, 6, 12]
    rows = halved(rates)
    assert "6 stopped" in capsys.readouterr().out
    assert [rows[rate].step for rate in rates[4:]] == [4] * 4
    assert sorted(rows[rate].step for rate in rates[:4]) == [6, 6, 12, 12]
    assert all(
        f" of {8 if rate in rates[4:] else 4} by sw1" in row.reason
        and f"step {row.step};" in row.reason
        for rate, row in rows.items()
        if row.state == "stopped"
    )
    for rate in (rate for rate, row in rows.items() if row.state == "finished"):
        a, b = weights(rows[rate].folder), weights(whole[rate].folder)
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_had_ended_by_itself_stays_so_however_it_ranks_and_counts_once(ranked, capsys):
    rates, _ = ranked
    first = next(row for row in halved(rates[4:]).values() if row.state == "finished")
    before = (first.folder / "status.json").read_bytes()
    capsys.readouterr()
    rows = halved(rates)
    assert (first.folder / "status.json").read_bytes() == before
    assert "5 stopped, 3 finished" in capsys.readouterr().out
    told = {**json.loads(before), "state": "stopped", "reason": "non-finite: it was"}
    best = next(rows[rate].folder for rate in rates[:4] if rows[rate].state == "finished")
    (best / "status.json").write_text(json.dumps(told))
    halved(rates)
    assert "6 stopped, 2 finished" in capsys.readouterr().out
    assert json.loads((best / "status.json").read_text()) == told


def test_a_run_without_a_number_is_stopped_and_says_so(place, monkeypatch, capsys):
    value = halving._value

    def without(task, by, rung):
        return math.nan if "lr=0.01-" in task.folder else value(task, by, rung)

    monkeypatch.setattr(halving, "_value", without)
    for _ in range(2):
        row = halved(["0.01", "0.1", "0.3", "0.5"])["0.01"]
        assert (row.state, row.step) == ("stopped", 4)
        assert row.reason == "halving: sw1 is no number at step 4"
        assert "3 stopped, 1 finished" in capsys.readouterr().out


def test_a_run_that_has_fallen_stays_so_and_the_page_says_why(place):
    words = ["--optimizer", "sgd:lr={1e-3,1e30}", "--objective", "wasserstein", "--together", "1"]
    words += ["--network", "mlp:width=8,activation=relu", "--steps", "60"]
    assert sweep(*words) == 0 and sweep(*words) == 0
    rows = {row.settings["optimizer.lr"]: row for row in read_table(["out"]).rows}
    assert rows[0.001].state == "finished"
    assert rows[1e30].state == "stopped" and "non-finite" in rows[1e30].reason
    page = (place / "out" / "report.html").read_text()
    assert "non-finite" in page and "1 stopped" in page


def test_what_slurm_is_asked_for(place, capsys):
    pytest.importorskip("dask_jobqueue")
    (place / "slurm.yaml").write_text(
        "queue: gpu\ncores: 2\nmemory: 8GB\nwalltime: 01:30:00\njobs: 3\n"
        "job-extra-directives: [--gres=gpu:1]\njob-script-prologue: [source env.sh]\n"
    )
    assert sweep("--seeds", "2", "--slurm", "slurm.yaml", "--dry-run") == 0
    said = capsys.readouterr().out
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=2", "#SBATCH -t 01:30:00"):
        assert line in said
    assert "#SBATCH --gres=gpu:1" in said and "source env.sh" in said
    assert "dask_worker" in said and "3 x" in said
    assert not (place / "out").exists()


def test_the_device_is_the_workers(place):
    """A login node may have none of what its jobs have."""
    words = ["sweep", "sweep.yaml", "--device", "cuda", "--seeds", "3"]
    (place / "slurm.yaml").write_text("cores: 1\nmemory: 1GB\n")
    wanted = parse([*words, "--slurm", "slurm.yaml"]).wanted()
    (task,) = plan(wanted, place / "out")
    assert [member["device"] for member in task.members] == ["cuda"] * 3
    assert parse(["sweep", "sweep.yaml"]).wanted()[0].config.device == "auto"


def test_to_train_each_by_itself_is_said_where_it_helps(place):
    problem, configs = build("problem", "ring2d"), [Config(steps=1, batch=n) for n in (4, 8)]
    refused = Task("refused", problem_to_json(problem), tuple(c.to_json() for c in configs))
    assert "differ in batch" in work(refused).reason and "--together 1" in work(refused).reason
    assert "differ in batch" in work(replace(refused, fleet=True)).reason
    assert "--together" not in work(replace(refused, fleet=True)).reason
    fine = replace(refused, members=refused.members[:1] * 2)
    (place / "file").write_text("in the way")
    assert work(replace(fine, folder="file/run")).reason.endswith("Not a directory.")
    with held(place / "refused"):
        reason = work(fine).reason
    assert "is being written to" in reason and "--together" not in reason


@pytest.mark.parametrize(
    ("cluster", "fails", "said"),
    [
        (Cluster(2), "distributed.LocalCluster", "processes cannot be started here .* --workers 1"),
        (Cluster(2, "tcp://h:1"), "distributed.Client", "scheduler answers at tcp://h:1 .* start"),
        (
            Cluster(slurm=Path("s.yaml")),
            "dask_jobqueue.slurm.SLURMCluster",
            "jobs of s.yaml .*sbatch",
        ),
    ],
)
def test_workers_that_are_not_to_be_had_are_a_sentence(place, monkeypatch, cluster, fails, said):
    pytest.importorskip(fails.partition(".")[0])
    (place / "s.yaml").write_text("cores: 1\nmemory: 1GB\n")

    def full(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(fails, full)
    with pytest.raises(SteadyganError, match=said) as error:
        list(cluster.train([Task(name, {}, ()) for name in "ab"]))
    assert "Too many open files" in str(error.value) and "None" not in str(error.value)


def test_without_dask_it_trains_by_itself_and_says_what_is_missing(place, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    two = ["sweep", "sweep.yaml", "--seeds", "2", "--together", "1", "--steps", "2"]
    assert main([*two, "--out", "a", "--workers", "2"]) == 2
    assert "steadygan[sweep]" in capsys.readouterr().err and not (place / "a").exists()
    assert main([*two, "--out", "b"]) == 0
    assert len(runs_below(place / "b")) == 2
    # Nothing is left to train, so no worker is needed.
    assert main([*two, "--out", "b", "--workers", "2"]) == 0
