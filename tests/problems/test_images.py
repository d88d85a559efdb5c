"""Images as a problem: the stream is what it says, bit for bit."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pictures import PETS, noise, png, write, zipped
from steadygan.core.errors import SteadyganError
from steadygan.core.registry import build, describe, spec
from steadygan.problems import images as module
from steadygan.problems.images import EpochStream, Images, load_images

# --- the stream


def numbered(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images whose upper left pixel is their number and whose right half is darker, and
    labels that tell the number too."""
    pixels = noise(count, 3, 4, 4)
    pixels[:, :, :, 0], pixels[:, :, :, -1] = np.arange(count)[:, None, None], 255
    return pixels, np.arange(count) * 10


def as_bytes(x: torch.Tensor) -> np.ndarray:
    return ((x + 1) * 127.5).round().to(torch.uint8).numpy()


def test_values_are_exactly_the_bytes_mapped_to_minus_one_to_one():
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 2, 8, 8)
    x = EpochStream(pixels, None, flip=False, seed=0).draw(2).x
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 1
    np.testing.assert_array_equal(
        np.sort(x.numpy().ravel()),
        np.arange(256, dtype=np.float32) / np.float32(127.5) - np.float32(1),
    )


def test_each_epoch_shows_every_image_once_in_a_fresh_order():
    stream = EpochStream(*numbered(20), flip=False, seed=0)
    epochs = [stream.draw(20).labels.tolist() for _ in range(3)]
    assert all(sorted(epoch) == list(range(0, 200, 10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0] and epochs[0] != sorted(epochs[0])


def test_a_label_follows_its_image_through_shuffling_flips_and_epochs():
    pixels, labels = numbered(11)
    batch = EpochStream(pixels, labels, flip=True, seed=4).draw(50)
    for x, label in zip(as_bytes(batch.x), batch.labels, strict=True):
        original = pixels[label // 10]
        assert (x == original).all() or (x == original[:, :, ::-1]).all()
    assert batch.labels.dtype == torch.int64


def test_flips_are_horizontal_fair_and_fresh_in_each_epoch():
    pixels, labels = numbered(200)
    stream = EpochStream(pixels, labels, flip=True, seed=0)
    flipped = []
    for _ in range(2):
        batch = stream.draw(200)
        mirrored = (as_bytes(batch.x)[:, 0, 0, 0] == 255)[np.argsort(batch.labels.numpy())]
        expected = np.where(mirrored[:, None, None, None], pixels[..., ::-1], pixels)
        np.testing.assert_array_equal(as_bytes(batch.x)[np.argsort(batch.labels.numpy())], expected)
        flipped.append(mirrored)
    assert abs(np.mean(flipped) - 0.5) < 0.1 and abs((flipped[0] == flipped[1]).mean() - 0.5) < 0.15
    plain = EpochStream(pixels, labels, flip=False, seed=0).draw(200)
    np.testing.assert_array_equal(as_bytes(plain.x), pixels[plain.labels.numpy() // 10])


@pytest.mark.parametrize("sizes", [[1] * 50, [50], [7] * 7 + [1], [13, 26, 11], [49, 1]])
def test_the_sizes_of_batches_do_not_change_the_samples(sizes):
    whole = EpochStream(*numbered(13), flip=True, seed=5).draw(50)
    stream = EpochStream(*numbered(13), flip=True, seed=5)
    parts = [stream.draw(n) for n in sizes]
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


@pytest.mark.parametrize("stop", range(6))
def test_a_restored_stream_continues_bit_for_bit(stop):
    straight, broken = (EpochStream(*numbered(13), flip=True, seed=6) for _ in range(2))
    expected = [straight.draw(7) for _ in range(8)]
    for _ in range(stop):
        broken.draw(7)
    state = broken.state()
    assert (
        state["position"].shape == ()
        and state["position"].dtype == torch.int64
        and int(state["position"]) == 7 * stop
    )
    fresh = EpochStream(*numbered(13), flip=True, seed=6)
    fresh.draw(30)  # a stream that has gone ahead is set back just as well
    fresh.restore(state)
    for batch in expected[stop:]:
        again = fresh.draw(7)
        assert torch.equal(again.x, batch.x) and torch.equal(again.labels, batch.labels)


def test_seeds_differ_and_the_global_generators_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (
        EpochStream(*numbered(30), flip=True, seed=seed).draw(30).x for seed in (-1, -1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (
        torch.equal(before[0], torch.get_rng_state())
        and (before[1] == np.random.get_state()[1]).all()
    )


def test_bad_draws_and_positions_are_refused():
    stream = EpochStream(*numbered(3), flip=True, seed=0)
    with pytest.raises(SteadyganError, match="at least one sample"):
        stream.draw(0)
    for state in ({"rng": torch.zeros(3)}, {"position": torch.tensor(-1)}):
        with pytest.raises(SteadyganError, match="no position in a stream of images"):
            stream.restore(state)


def test_drawing_does_not_change_the_images():
    pixels, labels = numbered(5)
    before = pixels.copy()
    EpochStream(pixels, labels, flip=True, seed=0).draw(40)
    np.testing.assert_array_equal(pixels, before)


# --- the problem


def test_the_problem_is_spelled_built_and_described(tmp_path):
    assert spec(build("problem", "images:data=digits,resolution=8,channels=1,flip=false")) == (
        "images:data=digits,resolution=8,channels=1,flip=false"
    )
    assert build("problem", "images") == Images() and build("problem", spec(Images())) == Images()
    entry = next(entry for entry in describe("problem") if entry.name == "images")
    assert set(entry.settings) == {
        "data",
        "resolution",
        "channels",
        "flip",
        "broken",
        "conditional",
        "classes_from",
        "value_range",
        "limit",
    }
    with pytest.raises(SteadyganError, match="channels must be"):
        build("problem", "images:channels=2")


def test_the_problem_loads_once_on_first_use(tmp_path, monkeypatch):
    path = zipped(tmp_path / "pets.zip", PETS)
    problem, calls = Images(data=str(path), resolution=8, conditional=True), []
    assert problem.event == (3, 8, 8)
    monkeypatch.setattr(
        module,
        "load_images",
        lambda *args, **kwargs: calls.append(args) or load_images(*args, **kwargs),
    )
    assert not calls and problem.classes == 3
    batch = problem.stream(0).draw(4)
    assert len(calls) == 1 and batch.x.shape == (4, 3, 8, 8) and batch.labels.shape == (4,)
    assert problem.load() is problem.load()
    assert problem == Images(data=str(path), resolution=8, conditional=True)
    assert torch.equal(problem.stream(1).draw(9).x, problem.stream(1).draw(9).x)
    plain = Images(data=str(path), resolution=8)
    assert plain.classes == 0 and plain.stream(0).draw(4).labels is None


@pytest.mark.parametrize("names, why", [("ab", "in no folders"), (("only/a", "only/b"), "only")])
def test_conditional_needs_classes(tmp_path, names, why):
    root = write(tmp_path, {f"{name}.png": PETS["dog/0.png"] for name in names})
    problem = Images(data=str(root), resolution=8, conditional=True)
    for use in (lambda: problem.classes, lambda: problem.stream(0), problem.load):
        with pytest.raises(SteadyganError, match=f"at least two classes, and .* has none: .*{why}"):
            use()


def test_the_images_describe_themselves(tmp_path):
    found = Images(str(zipped(tmp_path / "a.zip", PETS)), 8, conditional=True).describe()
    assert found["images"] == 9 and found["classes"] == {"ape": 3, "dog": 3, "horse": 3}
    again = Images(str(write(tmp_path / "b", PETS)), 8, conditional=True).describe()
    assert found == again
    plain = Images(str(tmp_path / "b"), 8).describe()
    assert plain == {k: v for k, v in found.items() if k not in ("classes", "labels")}
    other = PETS | {"dog/0.png": png(noise(9, 9, 3))}
    changed = Images(str(zipped(tmp_path / "c.zip", other)), 8, conditional=True).describe()
    assert {k for k in found if found[k] != changed[k]} == {"pixels"}


@pytest.mark.skipif(
    not (Path(os.environ.get("STEADYGAN_DATA", "")) / "cifar10/train.zip").is_file(),
    reason="set STEADYGAN_DATA to a folder that holds cifar10/train.zip",
)
def test_the_real_cifar_zip():
    loaded = load_images(Path(os.environ["STEADYGAN_DATA"]) / "cifar10/train.zip", 32)
    assert loaded.pixels.shape == (50000, 3, 32, 32) and not loaded.broken
    assert (
        np.bincount(loaded.labels).tolist() == [5000] * 10 and loaded.class_names[0] == "airplane"
    )
    np.testing.assert_allclose(
        loaded.pixels.mean((0, 2, 3)) / 255, [0.4914, 0.4822, 0.4465], atol=0.002
    )
