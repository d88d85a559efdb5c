"""From where images lie (folder, zip, arrays, CIFAR, IDX files, digits, Hugging Face hub) to a
``Source`` of undecoded images."""

from __future__ import annotations

import gzip
import io
import math
import os
import pickle
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..core.errors import SteadyganError

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
)
LARGEST_FILE = 2**29
_KINDS = (
    "a folder or a .zip of images, an .npz or .npy of uint8, cifar-10-python.tar.gz, an IDX file"
    " (*images-idx3-ubyte[.gz]), "
    "'digits', or 'hf:NAME[:split]'"
)
_IDX_IMAGES = re.compile(r"images[-.]idx3-ubyte(\.gz)?$")
_CIFAR_BATCH = re.compile(r"data_batch_\d+$")
_CIFAR_FILE = re.compile(r"data_batch_\d+|batches\.meta|train|meta")
_UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError)


@dataclass(frozen=True, eq=False)
class Source:
    """Images that wait to be decoded: how many; the name and the image of number i; labels (count,)
    int64 or None; names of classes."""

    count: int
    name: Callable[[int], str]
    open: Callable[[int], Image.Image]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()


@contextmanager
def open_source(data: str | os.PathLike[str]) -> Iterator[Source]:
    """Open whatever ``data`` spells; raises SteadyganError where nothing is there, its kind is
    unknown or it cannot be read.

    >>> with open_source("digits") as source:
    ...     source.count, source.class_names[:3]
    (1797, ('0', '1', '2'))
    """
    spelled = os.fspath(data)
    with ExitStack() as stack:
        try:
            source = _find(spelled, stack)
        except _UNREADABLE as error:
            raise SteadyganError(
                f"{spelled} cannot be read ({error}): it is damaged or not what its name says;"
                " copy or download it again."
            ) from error
        yield source


def _find(spelled: str, stack: ExitStack) -> Source:
    if not spelled:
        raise SteadyganError(f"No images were named: set data to {_KINDS}.")
    if spelled == "digits":
        return _digits()
    if spelled.startswith("hf:"):
        return _hub(spelled.removeprefix("hf:"))
    path = Path(spelled).expanduser()
    if not path.exists():
        raise SteadyganError(f"{spelled} does not exist (looked in {Path.cwd()}). Give {_KINDS}.")
    if path.is_dir():
        return _folder(path)
    name = path.name.lower()
    if name.endswith(".zip"):
        return _zip(path, stack)
    if name.endswith((".npz", ".npy")):
        return _numpy(path)
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return _tar(path)
    if _IDX_IMAGES.search(name):
        return _idx(path)
    if name.endswith(SUFFIXES):
        raise SteadyganError(f"{spelled} is a single image; give the folder that holds it.")
    raise SteadyganError(f"{spelled} is of no kind that can be read. Give {_KINDS}.")


def _visible(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _folder(root: Path) -> Source:
    files = {entry.name: entry for entry in root.iterdir() if entry.is_file()}
    cifar = [name for name in files if _CIFAR_FILE.fullmatch(name)]
    if _is_cifar(cifar):
        return _cifar(root, {name: files[name].read_bytes() for name in cifar})
    if idx := sorted(name for name in files if _IDX_IMAGES.search(name)):
        chosen = [name for name in idx if "train" in name] or idx
        if len({name.removesuffix(".gz") for name in chosen}) > 1:
            raise SteadyganError(
                f"{root} holds several IDX files of images; name one of them: {', '.join(chosen)}."
            )
        return _idx(files[chosen[0]])
    names = []
    for folder, subfolders, members in os.walk(root, followlinks=True):
        subfolders[:] = filter(_visible, subfolders)
        inside = (
            "" if Path(folder) == root else os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        )
        names += [
            inside + member
            for member in members
            if _visible(member) and member.lower().endswith(SUFFIXES)
        ]
    names.sort()
    return _images_in(root, names, lambda i: Image.open(root / names[i]))


def _zip(path: Path, stack: ExitStack) -> Source:
    # ZipFile's count of its readers is not safe among threads and closes a file that it opened
    # itself too early; this one it leaves open.
    archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(path.open("rb"))))
    members = {
        info.filename: info
        for info in archive.infolist()
        if _visible(info.filename) and info.filename.lower().endswith(SUFFIXES)
    }
    names = sorted(members)

    def image(i: int) -> Image.Image:
        if members[names[i]].file_size > LARGEST_FILE:
            raise ValueError(f"the file alone is over {LARGEST_FILE >> 20} MiB")
        return Image.open(io.BytesIO(archive.read(members[names[i]])))

    return _images_in(path, names, image)


def _images_in(root: Path, names: Sequence[str], image: Callable[[int], Image.Image]) -> Source:
    """Label each image with the folder that directly holds it, where every image lies in one."""
    if not names:
        raise SteadyganError(
            f"{root} holds no images: looked, in its folders too, for"
            f" {', '.join('*' + suffix for suffix in SUFFIXES)}."
        )
    parents = [name.split("/")[-2] if "/" in name else "" for name in names]
    labels, class_names = _classes(np.array(parents)) if all(parents) else (None, ())
    return Source(len(names), lambda i: f"{root}/{names[i]}", image, labels, class_names)


def _classes(
    labels: np.ndarray, names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the distinct labels 0, 1, ... in sorted order; names[v], where given, is the name of
    the label v."""
    values, numbers = np.unique(labels, return_inverse=True)
    return numbers.astype(np.int64), tuple(str(names[v] if names else v) for v in values)


def _from_array(
    where: str, images: np.ndarray, labels: np.ndarray | None, names: Sequence[str] | None = None
) -> Source:
    """Wrap uint8 images NHW, NHWC or NCHW and labels (N,)."""
    if images.dtype != np.uint8:
        raise SteadyganError(
            f"{where}: images must be uint8, 0 to 255, not {images.dtype}; save, for values in"
            " [0, 1], (255 * x).round().astype('uint8')."
        )
    shape = images.shape
    last, first = (images.ndim == 4 and shape[axis] in (1, 3, 4) for axis in (3, 1))
    if last and first:
        raise SteadyganError(
            f"{where}: shape {shape} can be read as NHWC and as NCHW; save larger images, or"
            " grey ones as (N, H, W)."
        )
    # Three dimensions that end in 1, 3 or 4 are one image in colour rather than a stack of grey
    # ones.
    if not (last or first or (images.ndim == 3 and shape[2] not in (1, 3, 4))):
        raise SteadyganError(
            f"{where}: shape {shape}; expected (N, H, W) for grey images, or (N, H, W, C) or (N,"
            " C, H, W) with C = 1, 3 (RGB) or 4 (RGBA)."
        )
    if first:
        images = images.transpose(0, 2, 3, 1)
    if images.shape[-1] == 1 and images.ndim == 4:
        images = images[..., 0]
    numbers: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    if labels is not None:
        if labels.size != len(images):
            raise SteadyganError(
                f"{where}: {len(images)} images, but labels of shape {labels.shape}; expected"
                f" ({len(images)},), one for each image."
            )
        if labels.dtype.kind not in "iuU":
            raise SteadyganError(
                f"{where}: labels must be whole numbers or strings, not {labels.dtype}."
            )
        numbers, class_names = _classes(labels.reshape(-1), names)
    return Source(
        len(images),
        lambda i: f"{where}[{i}]",
        lambda i: Image.fromarray(images[i]),
        numbers,
        class_names,
    )


def _numpy(path: Path) -> Source:
    try:
        loaded = np.load(path, allow_pickle=False, mmap_mode="r")
        if isinstance(loaded, np.ndarray):
            return _from_array(str(path), loaded, None)
        with loaded:
            keys = list(loaded)
            images = next(
                (key for key in ("images", "x", "arr_0") if key in keys),
                keys[0] if len(keys) == 1 else None,
            )
            labels = next((key for key in ("labels", "y", "arr_1") if key in keys), None)
            if images is None:
                raise SteadyganError(
                    f"{path} holds the arrays {', '.join(keys) or '(none)'}; expected uint8"
                    " images (N, H, W, C) under 'images', 'x' or "
                    "'arr_0' and, if there are labels, these (N,) under 'labels', 'y' or 'arr_1'."
                )
            return _from_array(
                str(path), loaded[images], None if labels is None else loaded[labels]
            )
    except SteadyganError:
        raise
    except ValueError as error:
        raise SteadyganError(
            f"{path} is no file of plain arrays that NumPy reads without unpickling objects:"
            f" {error}"
        ) from error


def _tar(path: Path) -> Source:
    files: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if (
                _CIFAR_FILE.fullmatch(name)
                and member.size <= LARGEST_FILE
                and (file := archive.extractfile(member))
            ):
                files[name] = file.read()
    if not _is_cifar(files):
        raise SteadyganError(
            f"{path} holds no CIFAR batches (data_batch_1, ...; train and meta). Other images"
            " are read from a folder or a .zip: repack."
        )
    return _cifar(path, files)


def _is_cifar(names: Collection[str]) -> bool:
    return any(_CIFAR_BATCH.match(name) for name in names) or {"train", "meta"} <= set(names)


def _cifar(root: Path, files: dict[str, bytes]) -> Source:
    batches = sorted(name for name in files if _CIFAR_BATCH.match(name)) or ["train"]
    images: list[np.ndarray] = []
    labels: list[int] = []
    class_names: list[str] | None = None
    for name in [*batches, *(meta for meta in ("batches.meta", "meta") if meta in files)]:
        try:
            content = {
                key.decode() if isinstance(key, bytes) else key: value
                for key, value in _SafeUnpickler(files[name]).load().items()
            }
            if name in batches:
                images.append(content["data"].array.reshape(-1, 3, 32, 32))
                labels += content.get("labels") or content["fine_labels"]
            else:
                class_names = [
                    bytes(label).decode()
                    for label in content.get("label_names") or content["fine_label_names"]
                ]
        # A stranger's pickle can be wrong in any way whatever, and each is answered alike.
        except Exception as error:
            raise SteadyganError(
                f"{root}/{name} is no CIFAR file that can be read safely"
                f" ({type(error).__name__}: {error}); download it again."
            ) from error
    classes = len(class_names) if class_names else 100
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise SteadyganError(
            f"{root}: a label is not one of the {classes} classes; download it again."
        )
    return _from_array(str(root), np.concatenate(images), np.array(labels), class_names)


class _Kind:
    """Stands in for numpy.dtype while unpickling."""

    def __init__(self, name: str | bytes, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None: ...


class _Bytes:
    """Stands in for numpy.ndarray while unpickling: takes the raw bytes and lets no stranger reach
    NumPy's own internals."""

    array: np.ndarray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        if kind.name not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"an array of {kind.name!r} instead of bytes")
        self.array = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


class _SafeUnpickler(pickle.Unpickler):
    """Unpickles strings, numbers, lists, dicts and arrays of bytes; whatever else a pickle names is
    refused before it is imported."""

    _allowed = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Bytes(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Bytes(),
        ("numpy", "ndarray"): _Bytes,
        ("numpy", "dtype"): _Kind,
        # How Python 3 writes bytes in the pickles that Python 2 reads.
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for an allowed name."""
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return self._allowed[module, name]


def _idx(path: Path) -> Source:
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    siblings = [
        sibling
        for sibling in (path.with_name(stem), path.with_name(stem + ".gz"))
        if sibling.exists()
    ]
    return _from_array(
        str(path), _read_idx(path, 3), _read_idx(siblings[0], 1) if siblings else None
    )


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of bytes: 0, 0, 8, the number of dimensions, each size as a big-endian
    32-bit number, and the bytes."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        header = file.read(4 + 4 * dimensions)
        if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) < 4 + 4 * dimensions:
            raise SteadyganError(
                f"{path} is no IDX file of bytes with {dimensions} dimensions: it begins with"
                f" {header[:4].hex(' ') or 'nothing'}."
            )
        shape = tuple(int(size) for size in np.frombuffer(header[4:], ">u4"))
        content = file.read()
    if len(content) != math.prod(shape):
        raise SteadyganError(
            f"{path} announces {math.prod(shape)} bytes {shape} and holds {len(content)}; copy"
            " it again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _digits() -> Source:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SteadyganError(
            "The digits come with scikit-learn, which is not installed: pip install"
            ' "steadygan[digits]".'
        ) from None
    bundle = load_digits()
    return _from_array(
        "digits", (bundle.images * (255 / 16)).round().astype(np.uint8), bundle.target
    )


def _hub(spelled: str) -> Source:
    name, _, split = spelled.partition(":")
    split = split or "train"
    try:
        import datasets
    except ImportError:
        raise SteadyganError(
            "Data sets of the Hugging Face hub need the package datasets: pip install"
            ' "steadygan[hub]".'
        ) from None
    try:
        rows = datasets.load_dataset(name, split=split)
    # Whatever the hub, the network or a data set's own files raise, the user can only look at the
    # name and the connection.
    except Exception as error:
        raise SteadyganError(
            f"The Hugging Face data set {name!r}, split {split!r}, could not be loaded: {error}"
        ) from error
    features = {
        column: feature
        for column, feature in rows.features.items()
        if isinstance(feature, (datasets.Image, datasets.ClassLabel))
    }
    columns = [
        column for column, feature in features.items() if isinstance(feature, datasets.Image)
    ]
    targets = [
        column for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)
    ]
    if not columns:
        raise SteadyganError(
            f"The Hugging Face data set {name!r} has no column of images; its columns:"
            f" {', '.join(rows.features)}."
        )
    column = "image" if "image" in columns else columns[0]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    if targets:
        target = "label" if "label" in targets else targets[0]
        # -1 and None stand for labels that the publisher keeps back (a competition's test split).
        values = np.array([-1 if value is None else value for value in rows[target][:]])
        if values.min(initial=0) >= 0:
            labels, class_names = _classes(values, features[target].names)
    images = rows.select_columns([column])
    return Source(
        len(rows),
        lambda i: f"hf:{name}:{split}[{i}]",
        lambda i: images[i][column],
        labels,
        class_names,
    )


__all__ = ["LARGEST_FILE", "SUFFIXES", "Source", "open_source"]
