"""Arrays of images: .npy, .npz, IDX files and the bundled digits; nothing in them is unpickled."""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import struct
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from ...core.errors import SteadyganError
from .source import Classes, Place, Reading, Source, check_packed, identity

IDX_IMAGES = re.compile(r"images[-.]idx3-ubyte(\.gz)?$")
_IMAGES = ("images", "x", "arr_0", "samples", "data")
_LABELS = ("labels", "y", "arr_1", "label")
_CHANNELS = (1, 3, 4)
RANGE = "range"
"""The array of an .npz that says which values of its images are black and white."""


def from_array(
    where: str,
    images: np.ndarray,
    labels: Classes,
    limits: tuple[float, float] | None = None,
) -> Source:
    """Return images of any kind of number as a source.

    Args:
        where: their name.
        images: (N, H, W), (N, H, W, C) or (N, C, H, W), where C is 1, 3 (RGB) or 4 (RGBA).
        labels: the classes of the images.
        limits: the values that are black and white, where they are known.

    Raises:
        SteadyganError: for any other shape, for one that can be read in two ways, and for what
            is no number.
    """
    if images.dtype.kind not in "biuf":
        raise SteadyganError(f"{where}: images must be numbers, not {images.dtype}.")
    images = _channels_last(where, images)
    if labels.numbers is not None and len(labels.numbers) != len(images):
        raise SteadyganError(
            f"{where}: {len(images)} images, but {len(labels.numbers)} labels; expected one for"
            " each image."
        )
    return Source(
        len(images),
        lambda i: f"{where}[{i}]",
        lambda i: images[i],
        labels,
        whole=_whole(images),
        limits=limits,
    )


def _channels_last(where: str, images: np.ndarray) -> np.ndarray:
    """Return images as (N, H, W), or (N, H, W, C) with C = 3 or 4."""
    shape = images.shape
    # Three dimensions that end in 1, 3 or 4 are one image in colour rather than a stack of grey
    # ones.
    if images.ndim == 3 and shape[2] not in _CHANNELS:
        return images
    last, first = (images.ndim == 4 and shape[axis] in _CHANNELS for axis in (3, 1))
    if last and first:
        # Of two readings the one that has square images.
        last, first = shape[1] == shape[2] != shape[3], shape[2] == shape[3] != shape[1]
        if last == first:
            raise SteadyganError(
                f"{where}: shape {shape} can be read as NHWC and as NCHW; save larger images, or"
                " grey ones as (N, H, W)."
            )
    if not (last or first):
        raise SteadyganError(
            f"{where}: shape {shape}; expected (N, H, W) for grey images, or (N, H, W, C) or (N,"
            " C, H, W) with C = 1, 3 (RGB) or 4 (RGBA)."
        )
    images = images.transpose(0, 2, 3, 1) if first else images
    return images[..., 0] if images.shape[-1] == 1 else images


def _whole(images: np.ndarray) -> np.ndarray | None:
    """Return bytes (N, H, W[, C]) as (N, C, H, W) without copying; None for what must be made."""
    if images.dtype != np.uint8 or images.shape[-1] == 4:
        return None
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


# --- NumPy's own files


def numpy_file(path: Path, reading: Reading) -> Place:
    """Return the images in an .npy or .npz."""

    def reader(stack: ExitStack) -> Source:
        if path.suffix.lower() == ".npy":
            return from_array(str(path), load_array(path, reading), Classes(why=_NO_LABELS))
        return _npz(path, reading)

    return Place(str(path), identity(path), reader)


_NO_LABELS = "there are no labels beside the images"


def _npz(path: Path, reading: Reading) -> Source:
    names = array_names(path)
    images = image_name(names)
    labels = next((name for name in _LABELS if name in names), None)
    if images is None:
        raise SteadyganError(
            f"{path} holds the arrays {', '.join(names) or '(none)'}; expected images (N, H, W, C)"
            f" under one of {', '.join(_IMAGES)} and, if there are labels, these (N,) under one of"
            f" {', '.join(_LABELS)}."
        )
    classes, limits = Classes(why=_NO_LABELS), None
    if labels is not None and reading.classes != "none":
        classes = to_classes(str(path), load_array(path, reading, labels))
    if images == "samples" and RANGE in names:
        limits = _range(path, load_array(path, reading, RANGE))
    return from_array(str(path), load_array(path, reading, images), classes, limits)


def _range(path: Path, given: np.ndarray) -> tuple[float, float]:
    """Return the values that are black and white, as a file says."""
    low, high = given.astype(float) if given.shape == (2,) else (np.nan, np.nan)
    if not -np.inf < low < high < np.inf:
        raise SteadyganError(
            f"{path} says under {RANGE!r} that its values go from {given.tolist()}: expected the"
            " value that is black and a larger one that is white, or no such array."
        )
    return float(low), float(high)


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz."""
    with zipfile.ZipFile(path) as archive:
        names = [info.filename for info in archive.infolist()]
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def image_name(names: Sequence[str]) -> str | None:
    """Return which of the arrays of an .npz the images are: one of the usual names, or all."""
    only = names[0] if len(names) == 1 else None
    return next((name for name in _IMAGES if name in names), only)


def to_classes(where: str, labels: np.ndarray, names: Sequence[str] | None = None) -> Classes:
    """Return classes from labels (N,) or (N, 1): whole numbers or strings."""
    if labels.ndim == 0 or labels.size != len(labels) or labels.dtype.kind not in "iuUb":
        raise SteadyganError(
            f"{where}: labels must be whole numbers or strings (N,), one for each image, not"
            f" {labels.dtype} of shape {labels.shape}."
        )
    return Classes.of(labels.reshape(-1), names)


class _Header(NamedTuple):
    """What an array's header announces, and where its numbers begin."""

    shape: tuple[int, ...]
    dtype: np.dtype
    order: Literal["C", "F"]
    start: int

    @property
    def size(self) -> int:
        """How many bytes the numbers take."""
        return math.prod(self.shape) * self.dtype.itemsize


def load_array(path: Path, reading: Reading, name: str | None = None) -> np.ndarray:
    """Read an array; mapped, not copied, where it lies in the file as it is.

    Args:
        path: an .npy, or an .npz.
        reading: holds the limit of what may be unpacked.
        name: which array of an .npz.

    Returns:
        The array, read-only where it is mapped.

    Raises:
        SteadyganError: for objects, and where less or more is there than the header announces.
    """
    where = str(path) if name is None else f"{path}, array {name}"
    with path.open("rb") as file:
        if name is None:
            header = _header(file, where)
            return _mapped(path, header, 0, os.fstat(file.fileno()).st_size, where)
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(f"{name}.npy")
            check_packed(info, where)
            with archive.open(info) as member:
                header = _header(member, where)
                if info.compress_type != zipfile.ZIP_STORED:
                    _expect(header, info.file_size, where)
                    reading.bound(header.size, where)
                    numbers = np.empty(header.size, np.uint8)
                    _fill(member, numbers, where)
                    return np.ndarray(header.shape, header.dtype, numbers, order=header.order)
            # A member that is stored as it is begins after its local header.
            file.seek(info.header_offset + 26)
            start = info.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
    return _mapped(path, header, start, info.file_size, where)


def announced(path: Path, name: str) -> tuple[np.dtype, int]:
    """Return the kind of an array in an .npz, and how many bytes it would take; nothing is read."""
    where = f"{path}, array {name}"
    with zipfile.ZipFile(path) as archive:
        check_packed(archive.getinfo(f"{name}.npy"), where)
        with archive.open(f"{name}.npy") as member:
            header = _header(member, where)
    return header.dtype, header.size


_LONGEST = 10_000  # bytes of a header, as NumPy itself takes at most


def _header(file: IO[bytes], where: str) -> _Header:
    try:
        version = np.lib.format.read_magic(file)
        read, width = {
            (1, 0): (np.lib.format.read_array_header_1_0, 2),
            (2, 0): (np.lib.format.read_array_header_2_0, 4),
        }[version]
        announced = file.read(width)
        # NumPy would read all of it before it looks.
        if (length := int.from_bytes(announced, "little")) > _LONGEST:
            raise ValueError(f"its header of {length:,} bytes is too long")
        shape, fortran, dtype = read(io.BytesIO(announced + file.read(length)))
    except (ValueError, KeyError) as error:
        raise SteadyganError(f"{where} is no array as NumPy saves it: {error}.") from error
    if dtype.kind not in "biufcUS" or dtype.itemsize == 0:
        raise SteadyganError(
            f"{where} holds {dtype}: nothing that can be read without unpickling objects, or no"
            " plain numbers."
        )
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise SteadyganError(f"{where} announces an impossible shape, {shape}.")
    return _Header(shape, dtype, "F" if fortran else "C", file.tell())


def _expect(header: _Header, size: int, where: str) -> None:
    if size != header.start + header.size:
        raise SteadyganError(
            f"{where} announces {header.size:,} bytes {header.shape} and holds"
            f" {size - header.start:,}; copy it again."
        )


def _mapped(path: Path, header: _Header, start: int, size: int, where: str) -> np.ndarray:
    _expect(header, size, where)
    if header.size == 0:
        return np.empty(header.shape, header.dtype)
    offset = start + header.start
    return np.memmap(path, header.dtype, "r", offset, header.shape, order=header.order)


def _fill(file: Any, numbers: np.ndarray, where: str) -> None:
    """Read as many bytes as the array has, and no more."""
    view = memoryview(numbers)  # type: ignore[arg-type]
    done = 0
    while done < len(view) and (part := file.read(min(len(view) - done, 2**24))):
        view[done : done + len(part)] = part
        done += len(part)
    if done < len(view) or file.read(1):
        raise SteadyganError(
            f"{where} announces {len(view):,} bytes and holds"
            f" {'more' if done == len(view) else f'{done:,}'}; copy it again."
        )


# --- IDX


def idx_file(path: Path, reading: Reading) -> Place:
    """Return the images in an IDX file, and the labels in the one beside it."""
    stem = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    beside = [path.with_name(stem), path.with_name(stem + ".gz")]
    labels = next((sibling for sibling in beside if sibling.is_file()), None)

    def reader(stack: ExitStack) -> Source:
        found = Classes(why=f"there is no {stem} beside it")
        if labels is not None and reading.classes != "none":
            found = to_classes(str(labels), _read_idx(labels, 1, reading))
        return from_array(str(path), _read_idx(path, 3, reading), found)

    return Place(str(path), identity(*filter(None, (path, labels))), reader)


def _read_idx(path: Path, dimensions: int, reading: Reading) -> np.ndarray:
    """Return an IDX file: 0, 0, 8, the number of dimensions, big-endian 32-bit sizes, the bytes."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        header = file.read(4 + 4 * dimensions)
        if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) < 4 + 4 * dimensions:
            raise SteadyganError(
                f"{path} is no IDX file of bytes with {dimensions} dimensions: it begins with"
                f" {header[:4].hex(' ') or 'nothing'}."
            )
        shape = struct.unpack(f">{dimensions}I", header[4:])
        reading.bound(math.prod(shape), str(path))
        numbers = np.empty(math.prod(shape), np.uint8)
        _fill(file, numbers, f"{path}, {shape},")
    return numbers.reshape(shape)


def digits(reading: Reading) -> Place:
    """Return scikit-learn's digits: 1,797 images of 8 x 8, grey."""

    def reader(stack: ExitStack) -> Source:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise SteadyganError(
                "The digits come with scikit-learn, which is not installed: pip install"
                ' "steadygan[digits]".'
            ) from None
        bundle = load_digits()
        pixels = (bundle.images * (255 / 16)).round().astype(np.uint8)
        return from_array("digits", pixels, Classes.of(bundle.target))

    return Place("digits", None, reader)
