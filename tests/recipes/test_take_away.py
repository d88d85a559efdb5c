"""What a trained generator makes, taken away: samples, walks and exported folders."""

import sys

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from steadygan.cli import main
from steadygan.core import SteadyganError
from steadygan.runs import checkpoint
from steadygan.runs.sampling import Sampler

DIGITS = "images --data digits --resolution 8 --channels 1 --conditional --no-flip"
SMALL = "--network dcgan:width=4,norm=layer --batch 8 --steps 2 --ema 0.5 --checkpoint-every 1"


def steadygan(line, *more):
    return main([*line.split(), *map(str, more)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "digits"
    measured = "--metrics fd --features pixels --metrics-samples 40 --evaluate-every 1"
    assert steadygan(f"train {DIGITS} {SMALL} {measured} --out", out) == 0
    return out


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "points"
    assert steadygan("train ring2d --steps 1 --batch 8 --network mlp:width=4 --out", out) == 0
    return out


def pixels(path):
    return np.asarray(Image.open(path), np.int16)


def test_a_seed_has_one_picture_whatever_stands_beside_it(run, tmp_path):
    assert steadygan("sample", run, "--seeds", "3-6", "--outdir", tmp_path / "many") == 0
    assert steadygan("sample", run, "--seeds", "5", "--outdir", tmp_path / "one") == 0
    assert steadygan("sample", run, "--seeds", "5,3", "--out", tmp_path / "grid.png") == 0
    many = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert many == [f"seed{i:04d}.png" for i in (3, 4, 5, 6)]
    five, three = pixels(tmp_path / "many/seed0005.png"), pixels(tmp_path / "many/seed0003.png")
    assert (five == pixels(tmp_path / "one/seed0005.png")).all() and (five != three).any()
    grid = pixels(tmp_path / "grid.png")
    assert (grid == np.concatenate([five, three])).all()
    for seeds, name in (("0-39", "all"), ("33", "alone")):
        assert steadygan("sample", run, "--seeds", seeds, "--out", tmp_path / f"{name}.npz") == 0
    both = (np.load(tmp_path / f"{name}.npz")["samples"] for name in ("all", "alone"))
    assert np.array_equal(next(both)[33], next(both)[0])  # to the bit, and not to the pixel only


def test_the_samples_are_those_of_the_module_with_that_class(run, tmp_path):
    options = ("--seeds", "1,2", "--class", "7", "--truncation", "0.5")
    assert steadygan("sample", run, *options, "--out", tmp_path / "x.npz") == 0
    assert steadygan("sample", run, *options, "--outdir", tmp_path, "--format", "jpg") == 0
    sampler = Sampler.open(run)
    z, y = sampler.of_seeds([1, 2]), torch.tensor([7, 7])
    with torch.no_grad():
        expected = sampler.generator(z / 2, y)
        assert (expected - sampler.generator(z, y)).abs().max() > 1e-3
        assert (expected - sampler.generator(z / 2, y - 1)).abs().max() > 1e-3
    found = np.load(tmp_path / "x.npz")["samples"]
    assert np.abs(found - expected.numpy()).max() < 1e-5
    # The class is in the name: another class's pictures in the same folder replace none.
    jpg = pixels(tmp_path / "seed0002-07-7.jpg")
    assert np.abs(jpg - (expected[1, 0].numpy() + 1) * 127.5).max() < 12


def test_all_classes_are_a_row_each(run, tmp_path):
    assert steadygan("sample", run, "--n", "3", "--class", "all", "--out", tmp_path / "a.png") == 0
    assert steadygan("sample", run, "--n", "3", "--class", "4", "--out", tmp_path / "b.npz") == 0
    grid = pixels(tmp_path / "a.png")
    assert grid.shape == (80, 24)
    four = (np.load(tmp_path / "b.npz")["samples"][:, 0] + 1) * 127.5
    assert np.abs(grid[32:40] - np.concatenate(list(four), 1)).max() < 0.6
    assert steadygan("sample", run, "--seeds", "0", "--class", "all", "--outdir", tmp_path) == 0
    assert len(list(tmp_path.glob("seed0000-*-*.png"))) == 10


def test_checkpoints_have_names(run, capsys):
    kept = checkpoint.checkpoints(run)
    assert checkpoint.named(run, "last") == checkpoint.named(run) == kept[-1]
    assert checkpoint.named(run, "1") == kept[0] != checkpoint.named(run, "2")
    assert checkpoint.named(run, "best") == checkpoint.best(run)
    with pytest.raises(SteadyganError, match="those it keeps: 1, 2"):
        checkpoint.named(run, "3")
    assert steadygan("sample", run, "--checkpoint", "best", "--n", "1") == 0
    assert "the best by fd is step" in capsys.readouterr().err


def test_a_walk_is_a_strip_or_a_film(run, tmp_path):
    strip, film = tmp_path / "strip.png", tmp_path / "film.mp4"
    assert steadygan("walk", run, "--seeds", "0-2", "--frames", "4", "--out", strip) == 0
    assert pixels(strip).shape == (8, 9 * 8)
    assert steadygan("sample", run, "--seeds", "1", "--class", "0", "--outdir", tmp_path) == 0
    middle = pixels(tmp_path / "seed0001-00-0.png")  # the walk goes through the seeds' own pictures
    assert np.abs(pixels(strip)[:, 32:40] - middle).max() <= 1
    more = ("--seeds", "0-3", "--walks", "2", "--frames", "3", "--loop", "--fps", "10")
    for name in ("film.gif", "film.webp"):
        assert steadygan("walk", run, *more, "--scale", "4", "--out", tmp_path / name) == 0
        with Image.open(tmp_path / name) as found:
            assert (found.n_frames, found.size, found.info["loop"]) == (6, (64, 32), 0)
    assert steadygan("walk", run, *more, "--scale", "3", "--class", "all", "--out", film) == 2
    assert steadygan("walk", run, *more, "--scale", "4", "--out", film) == 0
    reader = imageio_ffmpeg.read_frames(str(film))
    about = next(reader)
    assert (about["size"], about["fps"], len(list(reader))) == ((64, 32), 10.0, 6)
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def test_vectors_are_numbers_and_a_picture(points, tmp_path):
    for name in ("x.npz", "x.csv", "x.png"):
        assert steadygan("sample", points, "--n", "20", "--out", tmp_path / name) == 0
    rows = np.loadtxt(tmp_path / "x.csv", delimiter=",", skiprows=1)
    assert np.abs(rows - np.load(tmp_path / "x.npz")["samples"]).max() < 1e-6
    assert pixels(tmp_path / "x.png").shape[0] > 200


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sample RUN --class cat", "Unknown class 'cat'. Available, nearest first"),
        ("sample RUN --outdir x", "such as --seeds 0-99"),
        ("sample RUN --seeds 4-2", "runs backwards"),
        ("sample RUN --seeds 1;2", "whole numbers and ranges"),
        ("sample RUN --truncation 1.5", "--truncation must be between 0"),
        ("sample RUN --format csv", "makes no sense here: samples are images"),
        ("sample RUN --format npz --out a.png", "leave one of them out"),
        ("sample RUN --checkpoint 7", "keeps no checkpoint of step 7"),
        ("sample POINTS --class 0", "has no classes"),
        ("sample POINTS --seeds 0 --outdir x", None),
        ("sample POINTS --checkpoint best", "keeps no best checkpoint"),
        ("sample POINTS --format jpg", "samples are vectors"),
        ("walk POINTS --out a.png", "samples of POINTS are vectors"),
        ("walk RUN --out a.avi", "ends in .png (a strip)"),
        ("walk RUN --out a.png --seeds 0-2 --walks 2", "equally many"),
        ("walk RUN --out a.gif --fps 60", "more than 50 pictures a second"),
        ("walk RUN --out a.gif --fps 0.001", "at least 0.01 pictures a second"),
        ("walk RUN --out a.png --scale 100000000", "take a smaller --scale"),
        ("walk RUN --out a.webp --scale 4000", "at most 16,383 a side"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    run, points, tmp_path, monkeypatch, capsys, line, why
):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(run), "POINTS": str(points)}
    words = [places.get(word, word) for word in line.split()]
    assert main(words) == (2 if why else 0)
    err = capsys.readouterr().err
    assert not why or why.replace("POINTS", str(points)) in err
    assert not list(tmp_path.glob("a.*"))


def test_an_mp4_without_its_package_is_refused_before_anything_is_made(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert steadygan("walk", run, "--out", "a.mp4") == 2
    assert 'pip install "steadygan[video]"' in capsys.readouterr().err
