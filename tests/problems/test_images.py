"""Images: what is read, what is refused, and that the stream is what it says, bit for bit."""

import gzip
import io
import os
import pickle
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steadygan.core.errors import SteadyganError
from steadygan.core.registry import build, describe, spec
from steadygan.problems import images as module
from steadygan.problems.images import EpochStream, Images, load_images


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


PETS = {
    f"{animal}/{i}.png": png(noise(9, 9, 3, seed=10 * i + len(animal)))
    for animal in ("dog", "horse", "ape")
    for i in range(3)
}


# --- folders and zips


def test_a_zip_and_the_same_folder_give_identical_arrays(tmp_path):
    litter = {"__MACOSX/dog/._0.png": b"x", "dog/.hidden.png": b"x", "notes.txt": b"x"}
    folder = load_images(write(tmp_path / "pets", PETS | litter), 8)
    archive = load_images(zipped(tmp_path / "pets.zip", PETS | litter), 8)
    assert folder.class_names == archive.class_names == ("ape", "dog", "horse")
    assert (
        folder.pixels.shape == (9, 3, 8, 8)
        and folder.pixels.dtype == np.uint8
        and folder.pixels.flags.c_contiguous
    )
    np.testing.assert_array_equal(folder.pixels, archive.pixels)
    np.testing.assert_array_equal(folder.labels, archive.labels)
    np.testing.assert_array_equal(folder.labels, [0, 0, 0, 1, 1, 1, 2, 2, 2])


def test_images_come_in_the_order_of_their_names_unchanged_at_their_own_size(tmp_path):
    originals = {
        name: noise(8, 8, 3, seed=seed)
        for seed, name in enumerate(["b.png", "a.png", "deep/er/c.png", "B.png"])
    }
    loaded = load_images(
        write(tmp_path, {name: png(pixels) for name, pixels in originals.items()}), 8
    )
    np.testing.assert_array_equal(
        loaded.pixels,
        np.stack([originals[name] for name in sorted(originals)]).transpose(0, 3, 1, 2),
    )


def test_a_folder_is_labelled_only_if_every_image_lies_in_a_sub_folder(tmp_path):
    inside = load_images(
        write(tmp_path / "a", {f"train/{name}": content for name, content in PETS.items()}), 4
    )
    assert inside.class_names == ("ape", "dog", "horse")
    mixed = load_images(write(tmp_path / "b", PETS | {"cover.png": png(noise(4, 4))}), 4)
    assert mixed.labels is None and mixed.class_names == ()


def test_progress_counts_up_to_all(tmp_path):
    seen = []
    load_images(
        zipped(tmp_path / "a.zip", {f"{i}.png": png(noise(4, 4)) for i in range(40)}),
        4,
        progress=lambda *at: seen.append(at),
    )
    assert seen == sorted(seen) and seen[-1] == (40, 40)


# --- what happens to one image


def one(
    tmp_path: Path,
    image: Image.Image,
    resolution: int,
    channels: int = 3,
    suffix: str = "png",
    **save: object,
) -> np.ndarray:
    for name in "ab":
        image.save(tmp_path / f"{name}.{suffix}", **save)
    loaded = load_images(tmp_path, resolution, channels=channels).pixels
    np.testing.assert_array_equal(loaded[0], loaded[1])
    return loaded[0]


@pytest.mark.parametrize("axis", [0, 1])
def test_the_crop_is_the_central_square(tmp_path, axis):
    long = noise(8, 14, 3)
    pixels = long if axis == 1 else long.transpose(1, 0, 2)
    square = pixels[:, 3:11] if axis == 1 else pixels[3:11]
    np.testing.assert_array_equal(
        one(tmp_path, Image.fromarray(np.ascontiguousarray(pixels)), 8), square.transpose(2, 0, 1)
    )


def test_the_reduction_is_antialiased(tmp_path):
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    grey = one(tmp_path, Image.fromarray(checkerboard), 16, channels=1).astype(float)
    assert abs(grey - 127.5).max() < 3


def test_a_large_jpeg_decoded_at_reduced_size_stays_within_two_levels(tmp_path):
    photo = Image.fromarray(noise(30, 40, 3)).resize((640, 480), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "a.jpg", quality=92)
    with Image.open(tmp_path / "a.jpg") as exact:
        central = exact.resize((16, 16), Image.Resampling.LANCZOS, box=(80, 0, 560, 480))
    Image.fromarray(noise(8, 8)).save(tmp_path / "b.png")
    reduced = load_images(tmp_path, 16).pixels[0].transpose(1, 2, 0)
    assert abs(reduced.astype(int) - np.asarray(central).astype(int)).max() <= 2


def test_enlarging_is_allowed(tmp_path):
    assert (
        one(tmp_path, Image.new("RGB", (3, 2), (10, 20, 30)), 8)
        == np.array([10, 20, 30])[:, None, None]
    ).all()


def test_grey_becomes_rgb_and_rgb_becomes_grey(tmp_path):
    grey = noise(6, 6)
    np.testing.assert_array_equal(one(tmp_path, Image.fromarray(grey), 6), np.stack([grey] * 3))
    assert (
        one(tmp_path, Image.new("RGB", (6, 6), (255, 0, 0)), 6, channels=1) == 76
    ).all()  # 0.299 R + 0.587 G + 0.114 B


@pytest.mark.parametrize("mode, transparent", [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0)), ("P", 0)])
def test_transparency_is_composited_on_white(tmp_path, mode, transparent):
    options = {"transparency": 0} if mode == "P" else {}
    assert (one(tmp_path, Image.new(mode, (6, 6), transparent), 6, **options) == 255).all()


def test_half_transparent_red_on_white_is_pink(tmp_path):
    np.testing.assert_allclose(
        one(tmp_path, Image.new("RGBA", (4, 4), (255, 0, 0, 128)), 4)[:, 0, 0],
        [255, 127, 127],
        atol=1,
    )


def test_sixteen_bit_grey_levels_are_scaled_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    np.testing.assert_array_equal(
        one(tmp_path, Image.fromarray(levels), 8, channels=1)[0], levels >> 8
    )


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    pixels = noise(8, 8, 3)
    np.testing.assert_array_equal(
        one(tmp_path, Image.fromarray(pixels), 8, exif=exif),
        np.rot90(pixels, -1).transpose(2, 0, 1),
    )


# --- broken images and bad input


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", [b"not an image", PETS["dog/1.png"][:60], b"", png(noise(1, 1))])
def test_a_broken_image_is_refused_by_name_or_skipped_and_counted(tmp_path, packed, damage):
    files = PETS | {"dog/1.png": damage}
    path = zipped(tmp_path / "pets.zip", files) if packed else write(tmp_path / "pets", files)
    with pytest.raises(SteadyganError, match=r"pets(\.zip)?/dog/1\.png is broken: .*broken=skip"):
        load_images(path, 8)
    loaded = load_images(path, 8, broken="skip")
    whole = load_images(
        zipped(
            tmp_path / "whole.zip",
            {name: content for name, content in PETS.items() if name != "dog/1.png"},
        ),
        8,
    )
    assert (
        len(loaded.broken) == 1
        and "dog/1.png: " in loaded.broken[0]
        and " at 0x" not in loaded.broken[0]
        and len(loaded) == 8
    )
    np.testing.assert_array_equal(loaded.pixels, whole.pixels)
    np.testing.assert_array_equal(loaded.labels, whole.labels)


def test_absurdly_large_images_count_as_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(SteadyganError, match=r"big\.png is broken: .*decompression bomb"):
        load_images(write(tmp_path, {"big.png": png(noise(20, 20)), "a.png": png(noise(4, 4))}), 4)
    monkeypatch.setattr("steadygan.problems.readers.LARGEST_FILE", 50)
    with pytest.raises(SteadyganError, match=r"a\.png is broken: the file alone"):
        load_images(zipped(tmp_path / "a.zip", {"a.png": png(noise(9, 9)), "b.png": b""}), 4)


def test_floats_whose_range_is_unknown_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(SteadyganError, match="floats"):
        load_images(write(tmp_path, {"b.png": png(noise(4, 4))}), 4)


def test_all_broken_is_an_error_even_when_skipping(tmp_path):
    with pytest.raises(SteadyganError, match=r"Only 0 of the 2 images.*a\.png"):
        load_images(write(tmp_path, {"a.png": b"", "b.png": b""}), 4, broken="skip")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("missing", None, "does not exist"),
        ("notes.txt", b"x", "of no kind that can be read"),
        ("photo.jpg", b"x", "single image"),
        ("empty.zip", "zip", r"holds no images: looked.*\*\.png"),
        ("bad.zip", b"x", "cannot be read"),
        ("bad.npz", b"x", "without unpickling"),
        ("empty.npy", b"", "cannot be read"),
        ("bad.tar.gz", b"x", "cannot be read"),
        (
            "cut-images-idx3-ubyte.gz",
            gzip.compress(bytes([0, 0, 8, 3]) + bytes(999))[:-9],
            "cannot be read",
        ),
        ("odd-images-idx3-ubyte", bytes(16), "no IDX file"),
        (
            "cut-images-idx3-ubyte",
            bytes([0, 0, 8, 3]) + np.array([9, 4, 4], ">u4").tobytes() + bytes(99),
            "announces 144 bytes .* holds 99",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content == "zip":
        zipped(path, {"readme.txt": b"x"})
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(SteadyganError, match=message) as refusal:
        load_images(path, 8)
    assert name in str(refusal.value)


def test_other_bad_input(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SteadyganError, match=r"holds no images: looked.*\.png"):
        load_images(tmp_path / "empty", 8)
    with pytest.raises(SteadyganError, match=r"holds 1 image\(s\); at least two"):
        load_images(write(tmp_path / "single", {"a.png": png(noise(4, 4))}), 8)
    with pytest.raises(SteadyganError, match="resolution must be"):
        load_images("digits", 1)
    with pytest.raises(SteadyganError, match="channels must be"):
        load_images("digits", 8, channels=2)
    with pytest.raises(SteadyganError, match="Unknown choice for broken 'ignore'"):
        load_images("digits", 8, broken="ignore")
    with pytest.raises(SteadyganError, match="No images were named"):
        Images().stream(0)


# --- memory


def test_memory_mapped_pixels_equal_those_in_memory(tmp_path):
    path = zipped(tmp_path / "a.zip", PETS | {"ape/0.png": b"broken"})
    inside, mapped = (
        load_images(path, 8, broken="skip"),
        load_images(path, 8, broken="skip", memory_limit=100),
    )
    assert isinstance(mapped.pixels, np.memmap) and not isinstance(inside.pixels, np.memmap)
    np.testing.assert_array_equal(inside.pixels, mapped.pixels)
    batches = [
        EpochStream(a.pixels, a.labels, flip=True, seed=3).draw(20) for a in (inside, mapped)
    ]
    assert torch.equal(batches[0].x, batches[1].x) and torch.equal(
        batches[0].labels, batches[1].labels
    )


def test_a_full_disk_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(SteadyganError, match="TMPDIR"):
        load_images("digits", 8, memory_limit=100)


# --- arrays


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "NHWA"])
@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("arr_0", "arr_1")])
def test_npz_in_every_layout(tmp_path, layout, keys):
    pixels = noise(5, 6, 6) if layout == "NHW" else noise(5, 6, 6, 3)
    expected = np.stack([pixels] * 3, 1) if layout == "NHW" else pixels.transpose(0, 3, 1, 2)
    stored = {
        "NCHW": expected,
        "NHWA": np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], -1)
        if layout == "NHWA"
        else None,
    }
    labels = np.array([7, 3, 3, 5, 7])
    np.savez(tmp_path / "a.npz", **{keys[0]: stored.get(layout, pixels), keys[1]: labels[:, None]})
    loaded = load_images(tmp_path / "a.npz", 6)
    np.testing.assert_array_equal(loaded.pixels, expected)
    assert loaded.labels.tolist() == [2, 0, 0, 1, 2] and loaded.class_names == ("3", "5", "7")


def test_npy_and_the_only_array_of_an_npz(tmp_path):
    pixels = noise(4, 1, 6, 6)
    np.save(tmp_path / "a.npy", pixels)
    np.savez_compressed(tmp_path / "a.npz", faces=pixels)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(load_images(tmp_path / name, 6, channels=1).pixels, pixels)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((3, 6, 6))}, r"must be uint8.*float64"),
        ({"images": noise(6, 6, 3)}, r"shape \(6, 6, 3\); expected"),
        ({"images": noise(6, 6)}, r"shape \(6, 6\); expected"),
        ({"images": noise(5, 6, 6, 2)}, "C = 1, 3"),
        ({"images": noise(5, 3, 6, 3)}, "NHWC and as NCHW"),
        (
            {"images": noise(5, 6, 6), "labels": np.arange(4)},
            r"5 images, but labels of shape \(4,\)",
        ),
        ({"images": noise(5, 6, 6), "labels": np.ones(5)}, "whole numbers"),
        (
            {"left": noise(5, 6, 6), "right": noise(5, 6, 6)},
            "holds the arrays left, right; expected",
        ),
        ({"images": np.array([{}, {}])}, "without unpickling"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SteadyganError, match=message):
        load_images(tmp_path / "a.npz", 6)


# --- CIFAR's pickles


def as_python_2(content: dict) -> bytes:
    """Assemble the opcodes that Python 2 wrote: byte strings (T) and arrays rebuilt by
    numpy.core.multiarray."""

    def write(value: object) -> bytes:
        if isinstance(value, bytes):
            return b"T" + len(value).to_bytes(4, "little") + value
        if isinstance(value, int):
            return b"J" + value.to_bytes(4, "little")
        if isinstance(value, list):
            return b"](" + b"".join(map(write, value)) + b"e"
        if isinstance(value, dict):
            return b"}(" + b"".join(write(key) + write(item) for key, item in value.items()) + b"u"
        rebuilt = (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + write(b"b") + b"tR"
        )
        dtype = (
            b"cnumpy\ndtype\n("
            + write(b"u1")
            + b"K\x00K\x01tR(K\x03"
            + write(b"|")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        )
        return (
            rebuilt
            + b"(K\x01("
            + b"".join(write(size) for size in value.shape)
            + b"t"
            + dtype
            + b"I00\n"
            + write(value.tobytes())
            + b"tb"
        )

    return b"\x80\x02" + write(content) + b"."


def cifar(writer=as_python_2, batches: int = 2) -> tuple[dict[str, bytes], np.ndarray, list[int]]:
    pixels, labels = noise(3 * batches, 3072), [1, 0, 2] * batches
    files = {
        f"data_batch_{i + 1}": {
            b"data": pixels[3 * i : 3 * i + 3],
            b"labels": labels[3 * i : 3 * i + 3],
        }
        for i in range(batches)
    }
    files["batches.meta"] = {b"label_names": [b"plane", b"car", b"bird"]}
    return (
        {name: writer(content) for name, content in files.items()},
        pixels.reshape(-1, 3, 32, 32),
        labels,
    )


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("protocol", ["python 2", 2, 4])
def test_cifar_10_from_its_archive_and_from_the_extracted_folder(tmp_path, protocol):
    files, pixels, labels = cifar(
        as_python_2 if protocol == "python 2" else lambda content: pickle.dumps(content, protocol)
    )
    files["test_batch"] = b"not to be read"
    for path in (
        tarred(tmp_path / "cifar-10-python.tar.gz", files),
        write(tmp_path / "extracted", files),
    ):
        loaded = load_images(path, 32)
        np.testing.assert_array_equal(loaded.pixels, pixels)
        assert [loaded.class_names[i] for i in loaded.labels] == [
            ("plane", "car", "bird")[i] for i in labels
        ]


def test_cifar_100(tmp_path):
    train = {b"data": noise(4, 3072), b"coarse_labels": [0, 0, 0, 0], b"fine_labels": [1, 0, 1, 0]}
    files = {
        "train": as_python_2(train),
        "meta": as_python_2(
            {b"fine_label_names": [b"apple", b"bee"], b"coarse_label_names": [b"all"]}
        ),
    }
    loaded = load_images(tarred(tmp_path / "cifar-100-python.tar.gz", files), 32)
    assert loaded.class_names == ("apple", "bee") and loaded.labels.tolist() == [1, 0, 1, 0]


class Payload:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    mark = tmp_path / "executed"
    assert (
        pickle.loads(pickle.dumps(Payload(os.mkdir, str(mark)))) is None and mark.exists()
    )  # the payload works where it is let
    mark.rmdir()
    for payload in (
        Payload(os.mkdir, str(mark)),
        Payload(eval, f"__import__('os').mkdir({str(mark)!r})"),
    ):
        for name in ("data_batch_1", "batches.meta"):
            files = cifar()[0] | {name: pickle.dumps({b"data": payload, b"labels": [0]}, 2)}
            with pytest.raises(
                SteadyganError,
                match=rf"{name} is no CIFAR file that can be read safely.*asks to run",
            ):
                load_images(tarred(tmp_path / "cifar-10-python.tar.gz", files), 32)
    assert not mark.exists()


@pytest.mark.parametrize(
    "batch, message",
    [
        (b"", "EOFError"),
        (pickle.dumps([1]), "read safely"),
        (pickle.dumps({b"data": np.zeros((3, 3072)), b"labels": [0, 0, 0]}, 2), "f8"),
        (pickle.dumps({b"data": noise(3, 3071), b"labels": [0, 0, 0]}, 2), "read safely"),
        (as_python_2({b"data": noise(3, 3072), b"labels": [0, 0, 3]}), "not one of the 3 classes"),
        (as_python_2({b"data": noise(3, 3072), b"labels": [0, 0]}), "labels of shape"),
    ],
)
def test_damaged_cifar_batches_are_refused(tmp_path, batch, message):
    with pytest.raises(SteadyganError, match=message):
        load_images(write(tmp_path, cifar()[0] | {"data_batch_1": batch}), 32)


def test_a_tar_without_cifar_says_what_to_do(tmp_path):
    with pytest.raises(SteadyganError, match=r"no CIFAR batches.*repack"):
        load_images(tarred(tmp_path / "photos.tar.gz", {"a.png": png(noise(4, 4))}), 8)


# --- IDX, digits, the hub


def idx(values: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    )


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_and_their_labels(tmp_path, packed):
    pixels, labels = noise(5, 28, 28), np.array([4, 0, 4, 9, 0], np.uint8)
    files = {
        "train-images-idx3-ubyte": idx(pixels),
        "train-labels-idx1-ubyte": idx(labels),
        "t10k-images-idx3-ubyte": idx(pixels[:2]),
    }
    write(
        tmp_path,
        {
            name + ".gz" * packed: gzip.compress(content) if packed else content
            for name, content in files.items()
        },
    )
    for path in (tmp_path, tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)):
        loaded = load_images(path, 28, channels=1)
        np.testing.assert_array_equal(loaded.pixels[:, 0], pixels)
        assert [loaded.class_names[i] for i in loaded.labels] == list("40490")
    assert load_images(tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * packed), 28).labels is None


def test_several_idx_files_to_choose_from_are_listed(tmp_path):
    write(
        tmp_path,
        {f"{name}-train-images-idx3-ubyte": idx(noise(2, 4, 4)) for name in ("letters", "digits")},
    )
    with pytest.raises(
        SteadyganError, match=r"several IDX.*digits-train-images-idx3-ubyte, letters"
    ):
        load_images(tmp_path, 8)


def test_digits_are_the_bundled_ones(monkeypatch):
    datasets = pytest.importorskip("sklearn.datasets")
    loaded, bundle = load_images("digits", 8, channels=1), datasets.load_digits()
    np.testing.assert_allclose(loaded.pixels[:, 0], bundle.images * 255 / 16, atol=0.5)
    np.testing.assert_array_equal(loaded.labels, bundle.target)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SteadyganError, match=r'pip install "steadygan\[digits\]"'):
        load_images("digits", 8)


def hub(rows: list[dict], features: dict) -> types.ModuleType:
    """Build what this package uses of the datasets library, without a network."""

    class Rows:
        def __init__(self, columns):
            self.features = {column: features[column] for column in columns}

        def __len__(self):
            return len(rows)

        def __getitem__(self, key):
            return (
                [row[key] for row in rows]
                if isinstance(key, str)
                else {column: rows[key][column] for column in self.features}
            )

        def select_columns(self, columns):
            return Rows(columns)

    def load_dataset(name, split):
        if (name, split) not in (("some/pets", "train"), ("some/pets", "test")):
            raise FileNotFoundError(f"no {name}")
        return Rows(features)

    fake = types.ModuleType("datasets")
    fake.Image, fake.ClassLabel, fake.Value = Feature, Names, object
    fake.load_dataset = load_dataset
    return fake


class Feature:
    pass


class Names:
    def __init__(self, *names):
        self.names = list(names)


def test_the_hub_finds_the_columns_of_images_and_labels(monkeypatch):
    pixels = noise(4, 8, 8, 3)
    rows = [{"id": i, "img": Image.fromarray(pixels[i]), "kind": i % 2} for i in range(4)]
    monkeypatch.setitem(
        sys.modules,
        "datasets",
        hub(rows, {"id": None, "img": Feature(), "kind": Names("cat", "dog")}),
    )
    loaded = load_images("hf:some/pets:test", 8)
    np.testing.assert_array_equal(loaded.pixels, pixels.transpose(0, 3, 1, 2))
    assert loaded.class_names == ("cat", "dog") and loaded.labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(
        SteadyganError, match="'some/cars', split 'train', could not be loaded: no some/cars"
    ):
        load_images("hf:some/cars", 8)
    rows[2]["img"], rows[1]["kind"] = None, None
    with pytest.raises(SteadyganError, match=r"hf:some/pets:train\[2\] is broken"):
        load_images("hf:some/pets", 8)
    assert load_images("hf:some/pets", 8, broken="skip").labels is None
    monkeypatch.setitem(
        sys.modules, "datasets", hub(rows, {"id": None, "kind": Names("cat", "dog")})
    )
    with pytest.raises(SteadyganError, match="no column of images; its columns: id, kind"):
        load_images("hf:some/pets", 8)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SteadyganError, match=r'pip install "steadygan\[hub\]"'):
        load_images("hf:some/pets", 8)


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


def test_conditional_needs_classes(tmp_path):
    for folder, found in (
        (write(tmp_path / "a", {"a.png": PETS["dog/0.png"], "b.png": PETS["dog/1.png"]}), "none"),
        (
            write(
                tmp_path / "b", {"only/a.png": PETS["dog/0.png"], "only/b.png": PETS["dog/1.png"]}
            ),
            "only",
        ),
    ):
        problem = Images(data=str(folder), resolution=8, conditional=True)
        for use in (lambda p=problem: p.classes, lambda p=problem: p.stream(0), problem.load):
            with pytest.raises(
                SteadyganError, match=f"at least two classes, and .* has {found}: put"
            ):
                use()


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
