"""A run that is resumed knows its data: what has changed is said, and new data must be given."""

import json
import shutil
from dataclasses import replace

import pytest

from pictures import noise, png, write
from steadygan import SteadyganError
from steadygan.cli import main
from steadygan.problems.images import Images
from steadygan.runs.config import Config
from steadygan.runs.folder import RunFolder
from steadygan.training import resume, train

TINY = Config(network="mlp:width=4", steps=2, batch=4, latent=2)


def make(root, **classes):
    """Put so many images of each class into a folder; the value of their pixels is their number."""
    shutil.rmtree(root, ignore_errors=True)
    files = {
        f"{c}/{i}.png": noise(4, 4, 3, seed=100 * ord(c[0]) + i)
        for c in classes
        for i in range(classes[c])
    }
    return write(root, {name: png(pixels) for name, pixels in files.items()})


@pytest.fixture
def run(tmp_path):
    data = make(tmp_path / "data", b=6, c=6)
    train(Images(str(data), 4, conditional=True), TINY, tmp_path / "run", show=False)
    return tmp_path / "run"


def test_the_same_data_are_taken_wherever_they_lie(run, tmp_path):
    assert resume(run, steps=4, show=False).step == 4
    assert "history" not in json.loads((run / "config.json").read_text())
    shutil.move(tmp_path / "data", tmp_path / "moved")
    with pytest.raises(SteadyganError, match="does not exist"):
        resume(run, steps=6, show=False)
    assert main(["resume", str(run), "--steps", "6", "--data", str(tmp_path / "moved")]) == 0
    about = json.loads((run / "config.json").read_text())
    assert about["problem"]["data"] == str(tmp_path / "moved")
    assert about["history"] == [
        {"step": 4, "data": {"from": str(tmp_path / "data"), "changes": []}}
    ]


@pytest.mark.parametrize(
    "now, said",
    [
        ({"b": 6, "c": 7}, "12 images are 13; 6 of class c are 7"),
        ({"b": 7, "c": 5}, "6 of class b are 7; 6 of class c are 5"),
        ({"c": 6, "z": 6}, "the classes b, c are c, z"),
        ({"bb": 6, "c": 6}, "the classes b, c are bb, c"),
        ({"a": 2, "b": 6, "c": 6}, "12 images are 14; the classes b, c are a, b, c"),
    ],
)
def test_what_has_changed_is_said(run, tmp_path, now, said):
    before = (run / "config.json").read_bytes()
    make(tmp_path / "data", **now)
    with pytest.raises(SteadyganError, match=rf"have changed: {said}\. Put back .*--data"):
        resume(run, steps=4, show=False)
    assert (run / "config.json").read_bytes() == before
    if len(now) > 2:
        with pytest.raises(SteadyganError, match="on 2 classes, and its data have 3"):
            resume(run, steps=4, data=str(tmp_path / "data"), show=False)
        return
    assert resume(run, steps=4, data=str(tmp_path / "data"), show=False).step == 4
    (change,) = json.loads((run / "config.json").read_text())["history"]
    assert "; ".join(change["data"]["changes"]) == said
    # What it goes on with is what it knows from now on.
    assert resume(run, steps=6, show=False).step == 6


def test_other_pixels_and_other_labels_are_seen(run, tmp_path):
    picture = tmp_path / "data" / "b" / "3.png"
    pixels = noise(4, 4, 3, seed=100 * ord("b") + 3)
    pixels[2, 2, 1] ^= 1
    picture.write_bytes(png(pixels))
    with pytest.raises(SteadyganError, match="have changed: pictures are others"):
        resume(run, steps=4, show=False)
    make(tmp_path / "data", b=6, c=6)
    one, other = (tmp_path / "data" / c / "0.png" for c in "bc")
    content = one.read_bytes(), other.read_bytes()
    one.write_bytes(content[1])
    other.write_bytes(content[0])
    with pytest.raises(SteadyganError, match="have changed: pictures are others"):
        resume(run, steps=4, show=False)


def test_older_runs_and_toys_have_no_data_to_compare(run, tmp_path):
    about = json.loads((run / "config.json").read_text())
    del about["data"]
    (run / "config.json").write_text(json.dumps(about))
    make(tmp_path / "data", b=7, c=6)
    assert resume(run, steps=4, show=False).step == 4
    # It knows them from now on.
    make(tmp_path / "data", b=8, c=6)
    with pytest.raises(SteadyganError, match="13 images are 14"):
        resume(run, steps=6, show=False)
    assert main(["train", "dirac", "--steps", "1", "--out", str(tmp_path / "toy")]) == 0
    with pytest.raises(SteadyganError, match="makes its own samples: leave the data out"):
        resume(tmp_path / "toy", steps=2, data="digits", show=False)


def test_order_and_number_of_images_are_what_a_stream_continues_with(tmp_path):
    """A run that goes on with the same data in another place makes the same bits."""
    data = make(tmp_path / "data", b=6, c=6)
    names = ("whole", "parted")
    for name, steps in zip(names, (6, 2), strict=True):
        train(Images(str(data), 4), replace(TINY, steps=steps), tmp_path / name, show=False)
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", data)
    resume(tmp_path / "parted", steps=6, data=packed, show=False)
    one, other = ((tmp_path / n / "samples/step-00000006.png").read_bytes() for n in names)
    assert one == other


def test_a_folder_does_not_raise_the_limit_of_what_is_unpacked(run):
    """Which a stranger could have set; its reader can."""
    path = run / "config.json"
    about = json.loads(path.read_text())
    about["problem"]["limit"] = 1e9
    path.write_text(json.dumps(about))
    assert RunFolder.open(run).describe().problem().limit == 1
    assert main(["resume", str(run), "--steps", "4"]) == 0
    assert json.loads(path.read_text())["problem"]["limit"] == 1
    assert main(["resume", str(run), "--steps", "6", "--limit", "2"]) == 0
    assert json.loads(path.read_text())["problem"]["limit"] == 2
