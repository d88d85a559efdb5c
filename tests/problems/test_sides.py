"""Images whose sides differ, from a folder of pictures to samples, and sides of up to 256."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from steadygan import SteadyganError, evaluate
from steadygan.cli import main
from steadygan.problems.images import Images
from steadygan.problems.loading import load_images


@pytest.fixture
def photographs(tmp_path):
    """Twenty, each about twice as wide as high and larger than what is asked for."""
    folder, rng = tmp_path / "photographs", np.random.default_rng(0)
    folder.mkdir()
    for k in range(20):
        pixels = rng.integers(0, 256, (50 + k, 120, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:02d}.png")
    return folder


def test_the_largest_central_part_of_their_ratio_is_taken(photographs):
    wide = load_images(photographs, "48x32")
    assert wide.pixels.shape == (20, 3, 32, 48)
    with Image.open(photographs / "03.png") as image:
        own = ImageOps.fit(image, (48, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(wide.pixels[3].transpose(1, 2, 0), np.asarray(own))
    square = load_images(photographs, 32).pixels
    assert np.array_equal(load_images(photographs, "32x32").pixels, square)
    assert Images(data=str(photographs), resolution="48x32").event == (3, 32, 48)


@pytest.mark.parametrize("network", ["dcgan:width=2", "r3gan:width=16,group=4"])
def test_every_network_is_trained_on_them(photographs, network, tmp_path):
    words = ["--data", str(photographs), "--resolution", "48x32", "--network", network]
    words += ["--steps", "2", "--batch", "2", "--regularizer", "r1:gamma=1", "--log-every", "1"]
    assert main(["train", "images", *words, "--augment", "ada", "--out", f"{tmp_path}/r"]) == 0
    out = tmp_path / "one"
    assert main(["sample", f"{tmp_path}/r", "--seeds", "1-2", "--outdir", str(out)]) == 0
    with Image.open(next(out.iterdir())) as picture:
        assert picture.size == (48, 32)


@pytest.mark.parametrize(
    "network",
    [
        *("dcgan:width=1", "resnet:width=1"),
        pytest.param("r3gan:width=64,group=2,depth=1", marks=pytest.mark.slow),
    ],
)
def test_256_pixels_a_side_are_trained(network, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "large.npz", rng.integers(0, 256, (4, 256, 256, 3), np.uint8))
    words = ["--data", f"{tmp_path}/large.npz", "--resolution", "256", "--network", network]
    words += ["--steps", "2", "--batch", "1", "--latent", "4", "--evaluate-every", "9"]
    assert main(["train", "images", *words, "--out", f"{tmp_path}/r"]) == 0


@pytest.mark.parametrize(
    "given, why",
    [("48*32", "WIDTHxHEIGHT"), ("48x", "WIDTHxHEIGHT"), ("48x1", "2 pixels"), ("50x32", "48")],
)
def test_what_cannot_be_is_refused_with_a_sentence(photographs, given, why, tmp_path, capsys):
    words = ["--data", str(photographs), "--resolution", given, "--network", "dcgan:width=2"]
    assert main(["train", "images", *words, "--out", f"{tmp_path}/r"]) == 2
    assert why in capsys.readouterr().err


def test_runs_are_judged_at_their_own_sides(photographs, tmp_path):
    words = ["--data", str(photographs), "--resolution", "48x32", "--network", "mlp:width=4"]
    words += ["--steps", "1", "--batch", "2"]
    assert main(["train", "images", *words, "--out", f"{tmp_path}/r"]) == 0
    (found,) = evaluate(
        [tmp_path / "r"], str(photographs), metrics="energy", features="pixels", samples=20
    )
    assert found.protocol.event == (3, 32, 48) and "central part" in found.protocol.preparation
    small = tmp_path / "small"
    small.mkdir()
    for k in range(20):
        Image.fromarray(np.zeros((40, 47, 3), np.uint8)).save(small / f"{k}.png")
    with pytest.raises(SteadyganError, match="at least that size"):
        evaluate([tmp_path / "r"], str(small), metrics="energy", features="pixels", samples=20)
