"""reproduce by the workers of a dask scheduler: one report as before, and what is there is kept.

The workers are threads of this process that are spoken to over TCP.
"""

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from steadygan import SteadyganError, build
from steadygan.cli import main
from steadygan.experiments import fleets, folders
from steadygan.experiments.workers import Workers, trained_by
from steadygan.sweeps import Cluster, Ended

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler():
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address=":0",
        silence_logs=50,
    ) as cluster:
        yield cluster.scheduler_address


def rows(out):
    return json.loads(Path(out, "result.json").read_text())["rows"]


def trained(out):
    """When what is below a folder was last trained."""
    return {path: path.stat().st_mtime_ns for path in Path(out).rglob("metrics.jsonl")}


@pytest.fixture
def nothing_is_trained_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def by_workers(patch):
        patch.setattr(fleets, "train_fleet", None)
        patch.setattr(folders, "resume", None)

    return by_workers


def test_fleets_are_those_of_one_process(scheduler, nothing_is_trained_here, monkeypatch):
    problem = build("problem", "ring2d")

    def made(folder, steps=3):
        config = fleets.Config(network="mlp:width=4", batch=4, steps=steps, evaluate_every=1)
        each = [replace(config, seed=i, regularizer=("r1",)) for i in range(3)]
        return fleets.fleet(problem, each, Path(folder))

    here = [made("here"), made("here", 4)]
    nothing_is_trained_here(monkeypatch)
    with Cluster(2, scheduler).opened() as train, trained_by(Workers(train, 2)):
        there = [made("there")]
        before = trained("there")
        made("there")
        assert trained("there") == before and len(before) == 2
        there.append(made("there", 4))
    assert not before.items() & trained("there").items()
    for one, other in zip(chain(*here), chain(*there), strict=True):
        assert one.metrics.keys() == other.metrics.keys() >= {"sw1"}
        for name, values in one.metrics.items():
            np.testing.assert_allclose(other.metrics[name], values, rtol=1e-4)


def test_images_are_those_of_one_process(scheduler, nothing_is_trained_here, monkeypatch, capsys):
    argv = ["reproduce", "mescheder-images", "--scale", "tiny", "--out"]
    assert main([*argv, "here"]) == 0
    nothing_is_trained_here(monkeypatch)
    assert main([*argv, "there", "--scheduler", scheduler]) == 0
    assert rows("here") == rows("there")
    before = trained("there")
    assert "finished at step" in capsys.readouterr().err
    assert main([*argv, "there", "--scheduler", scheduler]) == 0
    assert trained("there") == before and "finished" not in capsys.readouterr().err


def test_fleets_are_cut_for_the_workers(tmp_path):
    configs = [fleets.Config(seed=seed, steps=2) for seed in range(5)]
    workers = Workers(lambda tasks: [], 2)
    assert [len(g) for g in fleets._grouped(configs, None, workers)] == [3, 2]
    assert [len(g) for g in fleets._grouped(configs, 2, workers)] == [2, 2, 1]


def test_runs_that_failed_are_named_when_the_others_have_ended():
    ended = [Ended("/a/shard-00", "failed", 0, "no disk"), Ended("/a/shard-01", "finished", 2)]
    with pytest.raises(SteadyganError, match=r"1 of 2 runs failed \(shard-00: no disk\)"):
        Workers(lambda tasks: ended, 2).train([None, None])


def test_two_places_are_refused(capsys):
    argv = ["reproduce", "roth-fig6", "--scale", "tiny", "--workers", "2"]
    assert main([*argv, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "two places" in capsys.readouterr().err
