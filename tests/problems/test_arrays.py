"""Arrays: NumPy's files, IDX files, CIFAR's pickles."""

import codecs
import gzip
import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pictures import noise, png, write
from steadygan.core.errors import SteadyganError
from steadygan.problems.images import load_images

# --- arrays


COLOUR = noise(5, 6, 6, 3)
GREY = noise(5, 6, 6)
LAYOUTS = {
    "NHWC": COLOUR,
    "NCHW": COLOUR.transpose(0, 3, 1, 2),
    "NHWA": np.concatenate([COLOUR, np.full_like(COLOUR[..., :1], 255)], -1),
    "Fortran": np.asfortranarray(COLOUR),
    "NHW": GREY,
    "NHW1": GREY[..., None],
    "N1HW": GREY[:, None],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("arr_0", "arr_1")])
def test_npz_in_every_layout(tmp_path, layout, save, keys):
    grey = "C" not in layout and "A" not in layout and layout != "Fortran"
    expected = np.stack([GREY] * 3, 1) if grey else COLOUR.transpose(0, 3, 1, 2)
    labels = np.array([7, 3, 3, 5, 7])
    save(tmp_path / "a.npz", **{keys[0]: LAYOUTS[layout], keys[1]: labels[:, None]})
    loaded = load_images(tmp_path / "a.npz", 6)
    np.testing.assert_array_equal(loaded.pixels, expected)
    assert loaded.labels.tolist() == [2, 0, 0, 1, 2] and loaded.class_names == ("3", "5", "7")
    assert load_images(tmp_path / "a.npz", 6, classes="none").labels is None


def test_npy_and_the_only_array_of_an_npz(tmp_path):
    pixels = noise(4, 1, 6, 6)
    np.save(tmp_path / "a.npy", pixels)
    np.savez_compressed(tmp_path / "a.npz", faces=pixels)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(load_images(tmp_path / name, 6, channels=1).pixels, pixels)


LEVELS = np.concatenate([noise(4, 6, 6, 3), np.full((1, 6, 6, 3), 255, np.uint8)])
LEVELS[0, 0, 0] = 0
KINDS = {
    "uint16": (LEVELS.astype(np.uint16) * 257),
    "uint16, upper byte": (LEVELS.astype(np.uint16) << 8),
    "uint16 of 8 bits": LEVELS.astype(np.uint16),
    "big-endian": (LEVELS.astype(">u2") * 257).astype(">u2"),
    "int64": LEVELS.astype(np.int64),
    "float32 to 1": (LEVELS / 255).astype(np.float32),
    "float16 to 1": (LEVELS / 255).astype(np.float16),
    "float64 from -1": LEVELS / 127.5 - 1,
    "float16 from -1": (LEVELS / 127.5 - 1).astype(np.float16),
    "big-endian float": (LEVELS / 255).astype(">f4"),
    "float to 255": LEVELS.astype(np.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_images_in_any_kind_of_number(tmp_path, kind):
    np.save(tmp_path / "a.npy", KINDS[kind])
    loaded = load_images(tmp_path / "a.npy", 6)
    np.testing.assert_array_equal(loaded.pixels, LEVELS.transpose(0, 3, 1, 2))
    np.save(tmp_path / "b.npy", np.array([[0, 1], [1, 0]] * 4).reshape(2, 4, 2) > 0)
    assert load_images(tmp_path / "b.npy", 2, channels=1).pixels.max() == 255


def test_numbers_that_could_mean_two_things_are_asked_about(tmp_path):
    for off in (KINDS["float32 to 1"] * 1.02, KINDS["float64 from -1"] * 2, LEVELS - 128.0):
        np.save(tmp_path / "a.npy", off)
        with pytest.raises(SteadyganError, match="black and white is not known"):
            load_images(tmp_path / "a.npy", 6)
    found = load_images(tmp_path / "a.npy", 6, value_range="-128..127").pixels
    np.testing.assert_array_equal(found, LEVELS.transpose(0, 3, 1, 2))
    off[2, 3, 3] = np.nan
    np.save(tmp_path / "a.npy", off)
    with pytest.raises(SteadyganError, match=r"a\.npy\[2\] is broken: .*not finite"):
        load_images(tmp_path / "a.npy", 6, value_range="-128..127")


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((3, 6, 6), complex)}, "must be numbers, not complex128"),
        ({"images": noise(6, 6, 3)}, r"shape \(6, 6, 3\); expected"),
        ({"images": noise(6, 6)}, r"shape \(6, 6\); expected"),
        ({"images": noise(5, 6, 6, 2)}, "C = 1, 3"),
        ({"images": noise(5, 3, 6, 3)}, "NHWC and as NCHW"),
        ({"images": noise(5, 6, 6), "labels": np.arange(4)}, "5 images, but 4 labels"),
        ({"images": noise(5, 6, 6), "labels": np.ones(5)}, "whole numbers"),
        ({"images": noise(5, 6, 6), "labels": np.ones((5, 2), int)}, r"of shape \(5, 2\)"),
        (
            {"left": noise(5, 6, 6), "right": noise(5, 6, 6)},
            "holds the arrays left, right; expected",
        ),
        ({"images": np.array([{}, {}])}, "without unpickling"),
        ({"samples": noise(5, 6, 6) / 255, "range": np.array([1.0, -1.0])}, "black and a larger"),
        ({"samples": noise(5, 6, 6) / 255, "range": np.array([0, np.nan])}, "black and a larger"),
        ({"images": np.zeros(3, [("a", "u1"), ("b", "f4")])}, "no plain numbers"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SteadyganError, match=message):
        load_images(tmp_path / "a.npz", 6)


def test_of_two_readings_of_a_shape_the_square_one_is_taken(tmp_path):
    pixels = noise(5, 3, 4, 4)
    np.save(tmp_path / "a.npy", pixels)
    np.testing.assert_array_equal(load_images(tmp_path / "a.npy", 4).pixels, pixels)


# --- headers that lie


def header(shape, descr="|u1"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    "shape, message",
    [
        ("(-4, 8, 8, 3)", "impossible shape"),
        ("(1000000, 1000, 1000, 3)", "announces 3,000,000,000,000 bytes .* holds 100"),
        ("(4, 4, 4)", "announces 64 bytes .* holds 100"),
        ("(1.5,)", "no array as NumPy saves it"),
        ("(" + "4," * 20_000 + ")", "header of 40,.* bytes is too long"),
        ("(" * 5000, "a.npy cannot be read|npz cannot be read|no array as NumPy"),
    ],
)
@pytest.mark.parametrize("name", ["a.npy", "stored.npz", "packed.npz"])
def test_an_array_whose_header_lies_is_refused(tmp_path, name, shape, message):
    content = header(shape) + bytes(100)
    if name == "a.npy":
        (tmp_path / name).write_bytes(content)
    else:
        kind = zipfile.ZIP_STORED if name == "stored.npz" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(tmp_path / name, "w", kind) as archive:
            archive.writestr("images.npy", content)
    with pytest.raises(SteadyganError, match=message):
        load_images(tmp_path / name, 8)


def test_what_would_unpack_to_more_than_the_limit_is_refused_before(tmp_path):
    bomb = np.zeros((40, 64, 64), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=bomb)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(bomb)))
    files = cifar()[0] | {"data_batch_3": bytes(10**6)}
    tarred(tmp_path / "cifar.tar.gz", files)
    for name in ("a.npz", "train-images-idx3-ubyte.gz", "cifar.tar.gz"):
        with pytest.raises(SteadyganError, match=r"would unpack to .* 0\.0001 GiB.*--limit"):
            load_images(tmp_path / name, 8, limit=1e-4)
    assert len(load_images(tmp_path / "a.npz", 8, limit=1)) == 40
    # A gzip goes on long after what its header announces.
    more = tmp_path / "more-images-idx3-ubyte.gz"
    more.write_bytes(gzip.compress(idx(bomb[:2]) + bytes(10**6)))
    with pytest.raises(SteadyganError, match="announces 8,192 bytes and holds more"):
        load_images(more, 8)


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


def test_a_pickle_that_multiplies_its_bytes_stays_within_the_limit(tmp_path):
    text = "x" * 10_000
    again = [Payload(codecs.encode, text, "latin1") for _ in range(100)]
    batch = {b"data": noise(3, 3072), b"labels": [0, 0, 0], b"more": again}
    path = write(tmp_path, cifar()[0] | {"data_batch_1": pickle.dumps(batch, 2)})
    with pytest.raises(SteadyganError, match=r"would unpack to more.*--limit"):
        load_images(path, 32, limit=1e-4)
    assert len(load_images(path, 32)) == 6


@pytest.mark.parametrize(
    "batch, message",
    [
        (b"", "EOFError"),
        (pickle.dumps([1]), "read safely"),
        (pickle.dumps({b"data": np.zeros((3, 3072)), b"labels": [0, 0, 0]}, 2), "f8"),
        (pickle.dumps({b"data": noise(3, 3071), b"labels": [0, 0, 0]}, 2), "read safely"),
        (as_python_2({b"data": noise(3, 3072), b"labels": [0, 0, 3]}), "not one of the 3 classes"),
        (as_python_2({b"data": noise(3, 3072), b"labels": [0, 0]}), "6 images, but 5 labels"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "read safely"),  # 16 GiB of memo, to the unpickler in C
    ],
)
def test_damaged_cifar_batches_are_refused(tmp_path, batch, message):
    with pytest.raises(SteadyganError, match=message):
        load_images(write(tmp_path, cifar()[0] | {"data_batch_1": batch}), 32)


def test_links_and_sparse_files_in_a_tar_are_passed_over(tmp_path):
    path = tmp_path / "cifar.tar"
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("/../data_batch_1")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    with pytest.raises(SteadyganError, match="no CIFAR batches"):
        load_images(path, 32)


def test_the_batches_of_two_sets_are_not_mixed(tmp_path):
    batch = pickle.dumps({b"data": noise(4, 3072), b"labels": [0, 1, 2, 3]}, 2)
    with tarfile.open(tmp_path / "cifar.tar", "w") as archive:
        for name in ("one/data_batch_1", "two/data_batch_1"):
            member = tarfile.TarInfo(name)
            member.size = len(batch)
            archive.addfile(member, io.BytesIO(batch))
    with pytest.raises(SteadyganError, match=r"several folders \(one, two\)"):
        load_images(tmp_path / "cifar.tar", 8)


def test_a_tar_without_cifar_says_what_to_do(tmp_path):
    with pytest.raises(SteadyganError, match=r"no CIFAR batches.*repack"):
        load_images(tarred(tmp_path / "photos.tar.gz", {"a.png": png(noise(4, 4))}), 8)


# --- IDX, digits


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
