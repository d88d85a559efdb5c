"""Data sets of the Hugging Face hub, by a stand-in for its package: no network."""

import sys
import types

import numpy as np
import pytest

from pictures import noise, png
from steadygan.core.errors import SteadyganError
from steadygan.problems.images import load_images


class Feature:
    def __init__(self, decode=True):
        self.decode = decode


class Names:
    def __init__(self, *names):
        self.names = list(names)


class Rows:
    """A table of columns; pictures are decoded unless their column was cast."""

    def __init__(self, rows, features):
        self.rows, self.features = rows, features

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, key):
        if isinstance(key, str):
            return [row[key] for row in self.rows]
        assert all(not isinstance(f, Feature) or not f.decode for f in self.features.values())
        return {column: self.rows[key][column] for column in self.features}

    def select_columns(self, columns):
        return Rows(self.rows, {column: self.features[column] for column in columns})

    def cast_column(self, column, feature):
        return Rows(self.rows, self.features | {column: feature})


@pytest.fixture
def hub(monkeypatch):
    """Return what makes a data set some/pets known, and the arguments that it was loaded with."""
    fake = types.ModuleType("datasets")
    fake.Image, fake.ClassLabel, fake.asked = Feature, Names, []

    def known(rows, **features):
        def load_dataset(name, config=None, *, split):
            fake.asked.append((name, config, split))
            if name != "some/pets":
                raise FileNotFoundError(f"no {name}")
            return Rows(rows, features)

        fake.load_dataset = load_dataset
        return fake.asked

    monkeypatch.setitem(sys.modules, "datasets", fake)
    return known


PIXELS = noise(4, 8, 8, 3)
ROWS = [
    {"id": i, "img": {"bytes": png(PIXELS[i]), "path": None}, "kind": i % 2, "size": i // 2}
    for i in range(4)
]


def test_the_columns_of_images_and_labels_are_found(hub):
    hub(ROWS, id=None, img=Feature(), kind=Names("cat", "dog"))
    loaded = load_images("hf:some/pets:test", 8)
    np.testing.assert_array_equal(loaded.pixels, PIXELS.transpose(0, 3, 1, 2))
    assert loaded.class_names == ("cat", "dog") and loaded.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(SteadyganError, match="'some/cars', split 'train', could not be loaded: no"):
        load_images("hf:some/cars", 8)
    hub(ROWS, id=None, kind=Names("cat", "dog"))
    with pytest.raises(SteadyganError, match="no column of images; its columns: id, kind"):
        load_images("hf:some/pets", 8)


def test_configuration_split_and_columns_are_named(hub):
    asked = hub(ROWS, img=Feature(), kind=Names("cat", "dog"), size=Names("big", "small"))
    for spelled, config, split in (
        ("some/pets", None, "train"),
        ("some/pets:test", None, "test"),
        ("some/pets:train[:50%]", None, "train[:50%]"),
        ("some/pets:fine:test", "fine", "test"),
        ("some/pets:split=test:config=fine:image=img", "fine", "test"),
    ):
        assert "several columns are: kind, size" in load_images(f"hf:{spelled}", 8).why
        assert asked[-1] == ("some/pets", config, split)
    sizes = load_images("hf:some/pets", 8, classes="column=size")
    assert sizes.class_names == ("big", "small") and sizes.labels.tolist() == [0, 0, 1, 1]
    assert load_images("hf:some/pets", 8, classes="column=colour").why.count("img, kind, size")
    assert load_images("hf:some/pets", 8, classes="none").labels is None
    for spelled, said in (
        ("some/pets:image=x", "no column of images is called 'x'; there are: img"),
        ("some/pets:label=kind", "nearest first: "),
        ("some/pets:a:b:c", "expected hf:NAME:CONFIG:SPLIT"),
    ):
        with pytest.raises(SteadyganError, match=said):
            load_images(f"hf:{spelled}", 8)
    hub([row | {"mask": row["img"]} for row in ROWS], img=Feature(), mask=Feature())
    assert len(load_images("hf:some/pets:image=mask", 8)) == 4
    hub([row | {"left": row["img"]} for row in ROWS], left=Feature(), mask=Feature())
    with pytest.raises(SteadyganError, match=r"several columns of images: left, mask\. Choose"):
        load_images("hf:some/pets", 8)


def test_each_column_of_images_is_kept_by_itself(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("STEADYGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(Rows, "_fingerprint", "5eed", raising=False)
    masks = noise(4, 8, 8, 3, seed=1)
    rows = [ROWS[i] | {"mask": {"bytes": png(masks[i]), "path": None}} for i in range(4)]
    hub(rows, img=Feature(), mask=Feature())
    for column, pixels in (("img", PIXELS), ("mask", masks)):
        loaded = load_images(f"hf:some/pets:image={column}", 8)
        np.testing.assert_array_equal(loaded.pixels, pixels.transpose(0, 3, 1, 2))


def test_missing_images_and_labels(hub):
    rows = [dict(row) for row in ROWS]
    rows[2]["img"], rows[1]["kind"] = None, None
    hub(rows, img=Feature(), kind=Names("cat", "dog"))
    with pytest.raises(SteadyganError, match=r"hf:some/pets:train\[2\] is broken: there is none"):
        load_images("hf:some/pets", 8)
    loaded = load_images("hf:some/pets", 8, broken="skip")
    assert loaded.labels is None and "lacks some of the labels" in loaded.why


def test_a_picture_that_starts_an_interpreter_is_not_opened(hub):
    rows = [dict(row) for row in ROWS]
    rows[1]["img"] = {
        "bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "path": "a.png",
    }
    hub(rows, img=Feature())
    with pytest.raises(SteadyganError, match=r"train\[1\] is broken: it is none of the formats"):
        load_images("hf:some/pets", 8)


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SteadyganError, match=r'pip install "steadygan\[hub\]"'):
        load_images("hf:some/pets", 8)
