"""Samples from anywhere: the same pictures in any spelling are the same samples, or asked about."""

import numpy as np
import pytest
import torch

from pictures import encoded, noise, png, write, zipped
from steadygan.cli import main
from steadygan.core.errors import SteadyganError
from steadygan.evaluation.samples import load_samples, read_samples, samples_event
from steadygan.problems.readers import Reading
from steadygan.runs.samples import write_samples

PIXELS = noise(24, 8, 8, 3)
TRUTH = PIXELS.transpose(0, 3, 1, 2)
KINDS = {
    "bytes": PIXELS,
    "16 bits": PIXELS.astype(np.uint16) * 257,
    "big-endian": (PIXELS.astype(np.uint16) * 257).astype(">u2"),
    "floats to 1": (PIXELS / 255).astype(np.float32),
    "floats from -1": (PIXELS / 127.5 - 1).astype(np.float16),
    "floats to 255": PIXELS.astype(np.float64),
}


@pytest.mark.parametrize("layout", [(0, 1, 2, 3), (0, 3, 1, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_any_kind_and_layout_are_the_same_samples(tmp_path, kind, layout):
    array = KINDS[kind].transpose(layout)
    np.save(tmp_path / "a.npy", array)
    for key in ("samples", "arr_0", "anything"):
        np.savez_compressed(tmp_path / f"{key}.npz", **{key: array})
    for name in ("a.npy", "samples.npz", "arr_0.npz", "anything.npz"):
        path = str(tmp_path / name)
        assert samples_event(path) == (3, 8, 8)
        np.testing.assert_array_equal(load_samples(path, 24), TRUTH)


def test_pictures_are_the_same_samples(tmp_path):
    files = {f"{i:02d}": pixels for i, pixels in enumerate(PIXELS)}
    packed = zipped(tmp_path / "a.zip", {f"{n}.png": png(p) for n, p in files.items()})
    webp = {f"{n}.webp": encoded(p, "WEBP", lossless=True) for n, p in files.items()}
    for path in (packed, write(tmp_path / "b", webp)):
        np.testing.assert_array_equal(load_samples(str(path), 24), TRUTH)


def test_what_sample_wrote_is_read_as_it_was_meant(tmp_path):
    """Samples without a dark pixel, which would pass for floats in [0, 1], say what they are."""
    x = torch.from_numpy(TRUTH / 127.5 - 1).float()
    bright = x.abs()
    for name, written in (("all", x), ("bright", bright), ("beyond", 1.5 * x)):
        path = tmp_path / f"{name}.npz"
        write_samples(path, written)
        expected = ((written.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
        found = load_samples(str(path), 24)
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1
    assert load_samples(str(tmp_path / "bright.npz"), 24).min() >= 127
    vectors = np.random.default_rng(0).normal(size=(9, 2))
    write_samples(tmp_path / "v.npz", torch.from_numpy(vectors))
    np.save(tmp_path / "v.npy", vectors)
    for name in ("v.npz", "v.npy"):
        path = str(tmp_path / name)
        assert samples_event(path) == (2,)
        np.testing.assert_allclose(load_samples(path, 9), vectors, rtol=1e-6)


@pytest.mark.parametrize("at", [0, 7, 23])
def test_one_odd_image_does_not_turn_the_others_grey(tmp_path, at):
    grey = noise(8, 8, seed=5)
    for odd in (grey, grey.astype(np.uint16) * 257):
        files = {f"{i:02d}.png": png(p) for i, p in enumerate(PIXELS)} | {f"{at:02d}.png": png(odd)}
        path = str(zipped(tmp_path / "a.zip", files))
        assert samples_event(path) == (3, 8, 8)
        found = load_samples(path, 24)
        np.testing.assert_array_equal(np.delete(found, at, 0), np.delete(TRUTH, at, 0))
        np.testing.assert_array_equal(found[at], np.stack([grey] * 3))
    only = {f"{i}.png": png(noise(8, 8, seed=i)) for i in range(3)}
    assert samples_event(str(zipped(tmp_path / "b.zip", only))) == (1, 8, 8)


@pytest.fixture
def broken(tmp_path):
    """A zip of 30 images of which one is none, and what evaluate and train are told."""
    files = {f"{i:02d}.png": png(noise(8, 8, 3, seed=i)) for i in range(30)}
    good = zipped(tmp_path / "good.zip", files)
    bad = zipped(tmp_path / "bad.zip", files | {"15.png": b"<html>404</html>"})
    return str(good), str(bad)


def test_broken_images_are_refused_by_name_or_skipped_everywhere(tmp_path, broken, capsys):
    good, bad = broken
    some = ["--features", "pixels", "--samples", "20", "--metrics", "fd"]
    for argv in ([good, "--data", bad], [bad, "--data", good]):
        assert main(["evaluate", *argv, *some]) == 2
        said = capsys.readouterr().err
        assert "15.png is broken: it is none of the formats PNG" in said and "--broken skip" in said
        assert main(["evaluate", *argv, *some, "--broken", "skip"]) == 0
    assert samples_event(bad, Reading("skip")) == (3, 8, 8)
    assert len(read_samples(bad, 29, reading=Reading("skip")).x) == 29
    with pytest.raises(SteadyganError, match="holds 29 samples"):
        read_samples(bad, 30, reading=Reading("skip"))
    train = "train images --resolution 8 --network mlp:width=4 --steps 1 --batch 4 --metrics fd"
    argv = [*train.split(), "--features", "pixels", "--metrics-samples", "20", "--data", bad]
    assert main([*argv, "--out", str(tmp_path / "a")]) == 2
    assert main([*argv, "--broken", "skip", "--out", str(tmp_path / "b")]) == 0


def test_no_image_that_can_be_read_is_an_error(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": b"x", "b.png": b"y"})
    with pytest.raises(SteadyganError, match="None of the 2 images can be read"):
        samples_event(str(path), Reading("skip"))


def test_values_that_could_mean_two_things_are_asked_about(tmp_path, capsys):
    np.save(tmp_path / "a.npy", PIXELS / 255 * 3 - 1)
    np.save(tmp_path / "b.npy", PIXELS)
    a, b = (str(tmp_path / f"{n}.npy") for n in "ab")
    argv = ["evaluate", a, "--data", b, "--features", "pixels", "--samples", "24"]
    assert main([*argv, "--metrics", "fd"]) == 2
    assert "--value-range=-1..2" in "".join(capsys.readouterr().err.split())
    np.testing.assert_array_equal(
        read_samples(a, 24, reading=Reading(value_range="-1..2")).x, TRUTH
    )
    assert main([*argv, "--metrics", "fd", "--value-range=-1..2"]) == 0
