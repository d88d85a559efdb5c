"""Metrics while training: they choose the best checkpoint, survive a resume, and change nothing
that is trained."""

import json
import math
from dataclasses import replace

import pytest
import torch

from steadygan import SteadyganError
from steadygan.cli import main
from steadygan.problems.toys import Ring2D
from steadygan.runs import checkpoint
from steadygan.runs.models import load_sampler
from steadygan.training import Config, grid, resume, train, train_fleet


class Told:
    """A judge whose numbers are written beforehand."""

    size = 7

    def __init__(self, *values):
        self.values, self.seen = list(values), []

    def __call__(self, samples):
        assert samples.shape == (7, 2)
        self.seen.append(samples)
        return {"told": self.values.pop(0)}

    def improves(self, found, best):
        return best is None or found["told"] < best["told"]


CONFIG = Config(steps=5, batch=8, evaluate_every=1, checkpoint_every=1, keep_checkpoints=9)


def best(run):
    return checkpoint.load(run / checkpoint.BEST)["step"]


def kept(run, step):
    return checkpoint.named(run, str(step))


def test_the_best_is_kept_and_nothing_else_changes(tmp_path):
    judge = Told(math.inf, 3.0, 1.0, 1.0, 2.0)
    train(Ring2D(), CONFIG, tmp_path / "judged", show=False, judge=judge)
    train(Ring2D(), CONFIG, tmp_path / "plain", show=False)
    assert best(tmp_path / "judged") == 3 and not (tmp_path / "plain" / checkpoint.BEST).exists()
    told = [
        json.loads(line)["metrics"]["told"]
        for line in (tmp_path / "judged" / "metrics.jsonl").read_text().splitlines()
    ]
    assert told == [None, 3.0, 1.0, 1.0, 2.0]
    one, two = (checkpoint.load(checkpoint.latest(tmp_path / name)) for name in ("judged", "plain"))
    assert all(torch.equal(one["critic"][key], two["critic"][key]) for key in one["critic"])
    assert len({x.sum().item() for x in judge.seen}) == 5  # the same latents, five generators


@pytest.mark.parametrize(("later", "expected"), [((2.5, 2.5), 2), ((2.5, 1.5), 5)])
def test_resuming_remembers_the_best(tmp_path, later, expected):
    train(
        Ring2D(),
        Config(**{**CONFIG.__dict__, "steps": 3}),
        tmp_path / "run",
        show=False,
        judge=Told(math.inf, 2.0, 3.0),
    )
    resume(tmp_path / "run", steps=5, show=False, judge=Told(*later))
    assert best(tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("before", "expected"), [((1.0, 2.0, 3.0, 4.0), 1), ((3.0, 2.0, 1.0, 4.0), 4)]
)
def test_a_best_of_steps_that_are_made_again_is_dropped(tmp_path, before, expected):
    config = replace(CONFIG, steps=4)
    run = train(Ring2D(), config, tmp_path / "run", show=False, judge=Told(*before)).path
    resume(run, start=kept(run, 2), show=False, judge=Told(6.0, 5.0))
    assert best(run) == expected


def test_of_many_only_the_best_of_steps_that_are_made_again_are_dropped(tmp_path):
    members = grid(replace(CONFIG, steps=4), seeds=2)
    judge = Told(5.0, 5.0, 1.0, 4.0, 3.0, 1.0, 3.0, 3.0)  # best at steps 2 and 3
    run = train_fleet(Ring2D(), members, tmp_path / "many", show=False, judge=judge).path
    resume(run, start=kept(run, 2), show=False, judge=Told(2.0, 9.0, 2.0, 8.0))
    assert [load_sampler(run, run / checkpoint.BEST, member=i)[1] for i in (0, 1)] == [2, 4]
    resume(run, start=kept(run, 1), show=False)
    assert not (run / checkpoint.BEST).exists()


def test_each_of_many_is_judged_and_keeps_its_own_best(tmp_path):
    """Member 0 is best at step 2, member 1 at step 3; a resume remembers both."""
    members = grid(replace(CONFIG, steps=3, optimizer="sgd:lr=0.1"), seeds=2)
    judge = Told(5.0, 4.0, 1.0, 3.0, 2.0, 1.0)
    done = train_fleet(Ring2D(), members, tmp_path / "many", show=False, judge=judge)
    assert [m.metrics["told"] for m in done.members] == [2.0, 1.0]
    alone = train(
        Ring2D(), members[0], tmp_path / "alone", show=False, judge=(one := Told(3, 2, 1))
    )
    for mine, theirs in zip(judge.seen[::2], one.seen, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    resume(done.path, steps=5, show=False, judge=Told(0.5, 2.0, 2.0, 2.0))
    kept = done.path / checkpoint.BEST
    for member, step in ((0, 4), (1, 3)):
        sample, at = load_sampler(done.path, kept, member=member)
        there = done.path / f"checkpoints/step-{step:08d}.safetensors"
        assert at == step
        assert torch.equal(sample(9, 1), load_sampler(done.path, there, member=member)[0](9, 1))
    assert alone.state == "finished"


def test_metrics_that_are_configured_are_measured(tmp_path):
    config = replace(CONFIG, steps=2, metrics="energy,sliced-wasserstein", metrics_samples=50)
    done = train(Ring2D(), config, tmp_path / "one", show=False)
    (many,) = train_fleet(Ring2D(), [config], tmp_path / "many", show=False).members
    row = [json.loads(line) for line in (done.path / "metrics.jsonl").read_text().splitlines()][-1]
    assert row["metrics"]["energy"] > 0 and row["metrics"]["sliced_wasserstein"] > 0
    assert many.metrics["energy"] == pytest.approx(row["metrics"]["energy"], rel=1e-3)
    assert best(done.path) in (1, 2)
    for begin in (
        train,
        lambda problem, config, *rest, **more: train_fleet(problem, [config], *rest, **more),
    ):
        wrong = replace(CONFIG, metrics="energy,no-such-metric")
        with pytest.raises(SteadyganError, match="Unknown metric 'no-such-metric'"):
            begin(Ring2D(), wrong, tmp_path / "refused", show=False)
        assert not (tmp_path / "refused").exists()


def test_code_that_a_folder_names_runs_only_when_it_is_given_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = replace(CONFIG, steps=1, metrics="energy", metrics_samples=50)
    run = train(Ring2D(), config, tmp_path / "run", show=False).path
    (run / "mine.py").write_text("open('ran', 'w')\nf = lambda x: x.flatten(1)\n")
    described, named = json.loads((run / "config.json").read_text()), f"{run}/mine.py:f"
    described["config"]["features"] = named
    (run / "config.json").write_text(json.dumps(described))
    with pytest.raises(SteadyganError, match="names code"):
        resume(run, steps=2, show=False)
    assert main(["resume", str(run), "--steps", "2"]) == 2
    assert "--features" in capsys.readouterr().err and not (tmp_path / "ran").exists()
    assert main(["resume", str(run), "--steps", "2", "--features", named]) == 0
    assert (tmp_path / "ran").exists()
    plain = train(Ring2D(), replace(config, metrics=""), tmp_path / "plain", show=False).path
    with pytest.raises(SteadyganError, match="leave the features out"):
        resume(plain, steps=2, features=named, show=False)


def test_from_the_command_line(tmp_path, capsys):
    run = tmp_path / "run"
    settings = ["--steps", "4", "--batch", "8", "--evaluate-every", "2"]
    assert (
        main(
            [
                "train",
                "ring2d",
                *settings,
                "--metrics",
                "energy,sliced-wasserstein",
                "--metrics-samples",
                "50",
                "--out",
                str(run),
            ]
        )
        == 0
    )
    assert main(["resume", str(run), "--steps", "6"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = {row["step"]: row["metrics"]["energy"] for row in rows if "metrics" in row}
    assert set(values) == {2, 4, 6} and values[best(run)] == min(values.values())
    assert (
        main(
            [
                "evaluate",
                str(run),
                "--metrics",
                "energy",
                "--samples",
                "50",
                "--checkpoints",
                "best",
                "--json",
            ]
        )
        == 0
    )
    capsys.readouterr()
    for wrong, why in {
        ("--metrics", "nonsense"): "Unknown metric",
        ("--metrics", "energy", "--metrics-samples", "3"): "at least",
    }.items():
        assert main(["train", "ring2d", *settings, *wrong, "--out", str(tmp_path / "refused")]) == 2
        assert why in capsys.readouterr().err and not (tmp_path / "refused").exists()
