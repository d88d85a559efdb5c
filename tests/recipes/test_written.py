"""A configuration as a file: what --dry-run prints is the same run when --config reads it."""

import pytest
import torch

from steadygan.cli import main, parse
from steadygan.cli.written import read
from steadygan.runs import checkpoint

TINY = "--steps 4 --batch 4 --network mlp:width=4 --log-every 2".split()


def weights(run):
    tree = checkpoint.load(checkpoint.latest(run))
    return {**tree["generator"], **{f"D{k}": v for k, v in tree["critic"].items()}}


def test_what_dry_run_prints_is_the_same_run_and_a_run_folder_is_it_too(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    given = ["train", "ring2d", *TINY, "--regularizer", "r1:gamma=0.3", "--seed", "5"]
    assert main([*given, "--dry-run"]) == 0
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    assert main(["validate", "run.yaml"]) == 0 and list(tmp_path.iterdir()) == [
        tmp_path / "run.yaml"
    ]
    assert main([*given, "--out", "a"]) == 0
    assert main(["train", "--config", "run.yaml", "--out", "b"]) == 0
    assert main(["train", "--config", "a", "--out", "c", "--seed", "6"]) == 0
    a, b, c = map(weights, (tmp_path / "a", tmp_path / "b", tmp_path / "c"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not all(torch.equal(a[key], c[key]) for key in a)  # the option overrides


def test_options_replace_what_a_file_gives_and_what_follows_still_follows(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "problem: ring2d\nregularizer: [r1:gamma=2, r2]\nregularize_generator: true\n"
        "optimizer: adam:lr=1e-4\nsteps: 500\nema: 1e-3\n"
    )
    words = "--regularizer js:gamma=3 --optimizer sgd:lr=0.5 --steps=40 --no-regularize-generator"
    assert main(["train", "--config", "run.yaml", *words.split(), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "- js:gamma=3\n" in said and "r1" not in said and "r2" not in said
    assert "regularize-generator: false" in said and "steps: 40\n" in said and "ema: 0.001" in said
    assert "critic-optimizer" not in said and "evaluate-every" not in said
    (tmp_path / "again.yaml").write_text(said)
    assert main(["train", "--config", "again.yaml", "--dry-run"]) == 0
    assert capsys.readouterr().out == said


def test_none_takes_back_what_a_file_gives_and_is_a_choice_in_braces(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    held = {
        "regularizer": "r1",
        "smoothing": "instance-noise",
        "augment": "ada",
        "constraint": "clip",
        "ema": "0.9",
        "metrics": "energy",
        "stop-on": "collapse",
        "track": "tensorboard",
    }
    lines = ["problem: ring2d", *(f"{name}: {value}" for name, value in held.items())]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    words = [word for name in held for word in (f"--{name}", "none")]
    assert main(["train", "--config", "run.yaml", *words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert main(["train", "ring2d", "--dry-run"]) == 0
    assert capsys.readouterr().out == said
    (tmp_path / "sweep.yaml").write_text("problem: ring2d\nregularizer: '{none,r1,js}'\n")
    assert main(["validate", "sweep.yaml"]) == 0
    assert "a sweep of 3 GANs" in capsys.readouterr().out


def test_a_value_that_is_called_as_an_option_replaces_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("problem: ring2d\nseed: 7\nsteps: 40\n")
    words = ["train", "--config", "run.yaml", "--out", "seed", "--init", "steps", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "seed: 7\n" in said and "steps: 40\n" in said


def test_many_gans_keep_their_braces(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", "ring2d", "--seeds", "2", "--regularizer", "r1:gamma={0.1,1}", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "seeds: 2\n" in said and "- r1:gamma={0.1,1}\n" in said
    (tmp_path / "many.yaml").write_text(said)
    assert main(["validate", "many.yaml"]) == 0
    assert "4 GANs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--optimizer", "adam:lr={0.001,0.0001}", "--critic-optimizer", "adam:lr=0.001"],
        ["--optimizer", "adam:lr=0.001", "--critic-optimizer", "adam:lr={0.001,0.0001}"],
    ],
)
def test_the_critics_learning_rates_are_kept_where_the_first_is_the_generators(
    tmp_path, monkeypatch, capsys, words
):
    monkeypatch.chdir(tmp_path)
    given = ["train", "ring2d", *TINY, *words]
    assert main([*given, "--dry-run"]) == 0
    (tmp_path / "many.yaml").write_text(capsys.readouterr().out)
    assert read(tmp_path / "many.yaml").planned() == parse(given).planned()
