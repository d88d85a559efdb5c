"""Images from wherever they lie to one array of bytes: decoded once, then mapped from the cache."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import PIL

from ..core.errors import SteadyganError
from .cache import Entry, reserve
from .cores import on_all_cores
from .decoding import Seen, decode
from .problem import Progress
from .readers import Classes, Place, Reading, locate, tell

MEMORY_LIMIT = 4 * 2**30
_VERSION = 1  # of what is kept in the cache: to be raised when decoding changes
_BLOCK = 2**22  # bytes that are hashed at once


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Decoded images, which may lie in a mapped file that cannot be written to.

    ``pixels`` (N, C, H, W) uint8; ``labels`` (N,) int64 or None, and then ``why``; the names of
    classes; the ``broken`` ones that were skipped, with reasons; the (width, height) that the
    ``smallest`` had, and whether all were ``alike`` in it; ``digest``, SHA-256 of the pixels.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    broken: list[str]
    why: str = ""
    smallest: tuple[int, int] = (0, 0)
    alike: bool = True
    digest: str = ""

    def __len__(self) -> int:
        return len(self.pixels)


def load_images(
    path: str | os.PathLike[str],
    resolution: int | str,
    *,
    channels: int = 3,
    broken: Literal["refuse", "skip"] = "refuse",
    classes: str = "auto",
    value_range: str = "auto",
    limit: float = 1.0,
    memory_limit: int = MEMORY_LIMIT,
    progress: Progress | None = None,
) -> ImageArray:
    """Decode every image once into uint8 (N, channels, height, width), by their names.

    Each image is turned as its EXIF data say, composited on white, cropped to its central part of
    these sides' ratio and resized with Pillow's LANCZOS filter, whose support grows with the
    reduction (antialiased); of an animation the first image counts. What was decoded is kept in the
    cache (``STEADYGAN_CACHE``), and the same files are mapped from there the next time; arrays that
    fit as they are, too, so that they stay what they are while a file is saved again. A word about
    what was left out or could have been read otherwise is a ``DataWarning``.

    Args:
        path: a folder or zip of pictures, an ``.npz`` or ``.npy`` (N, H, W), (N, H, W, C) or
            (N, C, H, W), CIFAR's published archive, an IDX file or a folder of them, ``digits``
            (a folder of that name is ``./digits``), or ``hf:NAME[:SPLIT]``.
        resolution: height and width of the result, or ``WIDTHxHEIGHT``, such as ``48x32``.
        channels: 3 for colour, 1 for grey.
        broken: ``skip`` leaves out images that cannot be read (one of 1 pixel is none) and lists
            them in ``.broken``.
        classes: where they come from: ``auto`` (StyleGAN's dataset.json, a metadata.csv, else the
            level of folders that varies), ``level=N``, ``dataset.json``, ``column=NAME``, ``none``.
        value_range: ``LOW..HIGH``, black and white of images of more than 8 bits or of floats;
            ``auto`` takes the bits that the set uses, and [0, 1], [-1, 1] or [0, 255].
        limit: GiB that one file may unpack to in memory.
        memory_limit: bytes above which the pixels lie in a temporary file, if there is no cache.
        progress: called with (done, total) as images are done.

    Returns:
        The images.

    Raises:
        SteadyganError: for a path that is missing, empty, unreadable or of unknown kind, for fewer
            than two images, for a broken one, and for values that could mean two things.

    >>> digits = load_images("digits", 8, channels=1)
    >>> digits.pixels.shape, digits.class_names[:3]
    ((1797, 1, 8, 8), ('0', '1', '2'))
    """
    height, width = check_shape(resolution, channels)
    reading = Reading(broken, classes, value_range, limit)
    place = locate(path, reading)
    entry = None
    if place.identity is not None:
        # Spelled alike however it was given; a square one as before there were others.
        sides = height if height == width else f"{width}x{height}"
        settings = sides, channels, broken, value_range
        entry = Entry(_VERSION, PIL.__version__, place.identity, *settings)
    held = None if entry is None else entry.read()
    if held is None:
        shape = channels, height, width
        held = _decoded(place, shape, reading, entry, memory_limit, progress)
    pixels, about = held
    if classes not in about["classes"]:
        with place.open() as source:
            about["classes"][classes] = _plain(source.classes)
        if entry is not None:
            entry.revise(about)
    found, bad = about["classes"][classes], list(about["bad"].values())
    left = bad and f"{path}: {len(bad):,} broken, left out; the first: {bad[0]}."
    for note in (*about["notes"], left, found["note"] and f"{path}: {found['note']}."):
        if note:
            tell(note)
    labels = None
    if found["numbers"] is not None:
        gone = [int(i) for i in about["bad"]]
        labels = np.delete(np.array(found["numbers"], np.int64), gone)
    return ImageArray(
        pixels,
        labels,
        tuple(found["names"]),
        bad,
        found["why"],
        tuple(about["smallest"]),
        about["alike"],
        about["digest"],
    )


def check_shape(resolution: int | str, channels: int) -> tuple[int, int]:
    """Return height and width; refuse sides or a number of channels that images cannot have.

    >>> check_shape(32, 3), check_shape("48x32", 3)
    ((32, 32), (32, 48))
    """
    spelled = re.fullmatch(r"(-?\d{1,6})(?:x(\d{1,6}))?", str(resolution), re.ASCII)
    if not spelled:
        raise SteadyganError(
            "resolution is a number of pixels a side, or WIDTHxHEIGHT, such as 48x32, not"
            f" {resolution!r}."
        )
    width = int(spelled[1])
    height = int(spelled[2] or width)
    if min(width, height) < 2:
        raise SteadyganError(f"resolution must be at least 2 pixels, not {resolution}.")
    if channels not in (1, 3):
        raise SteadyganError(f"channels must be 1 (grey) or 3 (RGB), not {channels}.")
    return height, width


def _decoded(
    place: Place,
    shape: tuple[int, int, int],
    reading: Reading,
    entry: Entry | None,
    memory_limit: int,
    progress: Progress | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the pixels of a place and what is known about them, and keep both in the cache."""
    with place.open() as source:
        if source.count < 2:
            raise SteadyganError(
                f"{place.spelled} holds {source.count} image(s); at least two are needed."
            )
        whole = source.whole
        if whole is not None and whole.shape[1:] != shape:
            whole = None
        room = None if entry is None else entry.allocate((source.count, *shape))
        try:
            pixels = _allocate((source.count, *shape), memory_limit) if room is None else room
            if whole is None:
                seen = decode(source, place.spelled, pixels, reading, progress)
            else:
                seen = Seen(sizes={(shape[2], shape[1])})
                seen.check_range(reading)
                pixels[:] = whole
            good = [i for i in range(source.count) if i not in seen.broken]
            if len(good) < 2:
                first, reason = next(iter(seen.broken.items()))
                raise SteadyganError(
                    f"Only {len(good)} of the {source.count} images of {place.spelled} can be"
                    f" read. The first broken one is {source.name(first)}: {reason}"
                )
            if seen.broken:
                for slot, i in enumerate(good):
                    pixels[slot] = pixels[i]
                pixels = pixels[: len(good)]
            about = {
                "bad": {i: f"{source.name(i)}: {reason}" for i, reason in seen.broken.items()},
                "notes": [*source.notes, *(f"{place.spelled}: {note}." for note in seen.notes)],
                "smallest": min(
                    seen.sizes, key=lambda size: (min(size[0] / shape[2], size[1] / shape[1]), size)
                ),
                "alike": len(seen.sizes) == 1,
                "digest": _digest(pixels, progress),
                "classes": {reading.classes: _plain(source.classes)},
            }
        except BaseException:
            if entry is not None:
                entry.drop()
            raise
    if entry is not None and room is not None:
        entry.keep(pixels, about)
    return pixels, about


def _plain(classes: Classes) -> dict[str, Any]:
    numbers = None if classes.numbers is None else classes.numbers.tolist()
    return {**asdict(classes), "numbers": numbers}


def _digest(pixels: np.ndarray, progress: Progress | None) -> str:
    """Return the SHA-256 of the SHA-256s of blocks, each of as many images as 4 MiB hold."""
    step = max(1, _BLOCK // pixels[0].size)
    starts = range(0, len(pixels), step)

    def block(start: int) -> bytes:
        return hashlib.sha256(pixels[start : start + step].tobytes()).digest()

    digest = hashlib.sha256(repr(pixels.shape).encode())
    for start, part in zip(starts, on_all_cores(block, starts), strict=True):
        digest.update(part)
        if progress is not None and len(starts) > 1000:
            progress(min(start + step, len(pixels)), len(pixels))
    return digest.hexdigest()


def _allocate(shape: tuple[int, ...], memory_limit: int) -> np.ndarray:
    size = int(np.prod(shape, dtype=object))
    if size <= memory_limit:
        # Which forked processes can write to, as to a file.
        return np.frombuffer(mmap.mmap(-1, size), np.uint8).reshape(shape)
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            reserve(file.fileno(), size)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise SteadyganError(
            f"{shape[0]} images at {shape[2]} x {shape[3]} take {size / 2**30:.1f} GiB, for which"
            f" {folder} has no room ({error.strerror}): set STEADYGAN_CACHE or TMPDIR to a folder"
            " on a larger disk, or lower the resolution."
        ) from error


__all__ = ["MEMORY_LIMIT", "ImageArray", "load_images"]
