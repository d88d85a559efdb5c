"""Samples to be measured, from files: images (N, C, H, W) uint8, or vectors (N, D)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.errors import SteadyganError
from ..problems.cores import MANY, on_all_cores
from ..problems.loading import load_images
from ..problems.readers import Reading, Source, locate, readable
from ..problems.readers.arrays import array_names, image_name, load_array
from ..problems.readers.pictures import is_grey, why_broken
from .features import Progress

Event = tuple[int, ...]
"""The shape of one sample: (C, H, W) of an image, (D,) of a vector."""

FEWEST = 20
"""Samples that an interval takes at least, so that ten subsets have two each."""


class Loaded(NamedTuple):
    """Samples, and in words what was done to images so that they fit; empty where nothing was."""

    x: np.ndarray
    preparation: str


def read_samples(
    path: str,
    n: int,
    event: Event | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    reading: Reading | None = None,
) -> Loaded:
    """Read n of the samples that lie at a path, in their order there, chosen by the seed.

    Args:
        path: images in anything that ``load_images`` reads, what ``steadygan sample`` writes
            included; or vectors (N, D) in an ``.npz`` or ``.npy``.
        n: how many.
        event: the shape that they are to have: larger images are cropped to their central square
            and reduced to it (Lanczos, antialiased), as for training. Without it they must all be
            square and of one size.
        seed: of the choice.
        progress: called with (done, total) while images are decoded.
        reading: how images are read, where there is a choice.

    Returns:
        Images uint8, or vectors float64.

    Raises:
        SteadyganError: for fewer than n samples, for vectors of another dimension, and for images
            that would have to be enlarged, because that blurs them.

    >>> x, preparation = read_samples("digits", 20, (1, 4, 4))
    >>> x.shape, preparation
    ((20, 1, 4, 4), 'central square, reduced to 4 x 4 (Lanczos, antialiased)')
    """
    reading = reading or Reading()
    vectors = _vectors(path, reading)
    if vectors is not None:
        if event is not None and vectors.shape[1:] != event:
            raise SteadyganError(
                f"{path} holds samples of shape {vectors.shape[1:]}, not {event}: give samples of"
                " the same kind."
            )
        return Loaded(vectors[_choice(path, len(vectors), n, seed)].astype(np.float64), "")
    event = event or samples_event(path, reading)
    if len(event) != 3:
        locate(path, reading)  # what is not there holds nothing
        raise SteadyganError(
            f"{path} holds images, and the samples are vectors of {event[0]} numbers: give an"
            " .npz or .npy of vectors (N, D)."
        )
    channels, height, width = event
    sides = f"{width}x{height}"
    images = load_images(
        path,
        sides,
        channels=channels,
        broken=reading.broken,
        classes="none",
        value_range=reading.value_range,
        limit=reading.limit,
        progress=progress,
    )
    if images.smallest[0] < width or images.smallest[1] < height:
        raise SteadyganError(
            f"{path} holds an image of {images.smallest[0]} x {images.smallest[1]}, and the samples"
            f" are {width} x {height}: real images that were enlarged are blurred, and nothing can"
            " be compared with them. Give data of at least that size."
        )
    part = "central square" if width == height else "central part"
    reduced = not (images.alike and images.smallest == (width, height))
    return Loaded(
        np.ascontiguousarray(images.pixels[_choice(path, len(images), n, seed)]),
        f"{part}, reduced to {width} x {height} (Lanczos, antialiased)" if reduced else "",
    )


def load_samples(path: str, n: int, event: Event | None = None, seed: int = 0) -> np.ndarray:
    """Return what ``read_samples`` reads, without a word about how."""
    return read_samples(path, n, event, seed).x


def samples_event(path: str, reading: Reading | None = None) -> Event:
    """Return the shape of one of the samples at a path: (D,), or (C, H, W) of images.

    C is 1 where all images are grey.

    Args:
        path: see ``read_samples``.
        reading: how images are read, where there is a choice.

    Raises:
        SteadyganError: where they are not all of one shape.
    """
    reading = reading or Reading()
    vectors = _vectors(path, reading)
    if vectors is not None:
        return vectors.shape[1:]
    with locate(path, reading).open() as source:
        sizes, grey = _survey(source, reading)
    (width, height), *others = sizes
    if others:
        shown = ", ".join(f"{w} x {h}" for w, h in sizes[:4])
        raise SteadyganError(
            f"{path} holds images of {shown}{' and more' if len(sizes) > 4 else ''}; generated"
            " images must be of one size. "
            "Resize them, with antialiasing, to the size they are to be judged at."
        )
    return (1 if grey else 3), height, width


def _vectors(path: str, reading: Reading) -> np.ndarray | None:
    """Return the vectors (N, D) of an .npz or .npy; None where it holds anything else."""
    place = Path(os.path.expanduser(path))
    if place.suffix.lower() not in (".npz", ".npy") or not place.is_file():
        return None
    with readable(path):
        name = None
        if place.suffix.lower() == ".npz" and (name := image_name(array_names(place))) is None:
            return None
        found = load_array(place, reading, name)
    if found.ndim != 2 or found.dtype.kind not in "iuf":
        return None
    if not found.size:
        raise SteadyganError(f"{path} holds vectors of shape {found.shape}, which are none.")
    return found


def _choice(path: str, count: int, n: int, seed: int) -> np.ndarray:
    if n > count:
        raise SteadyganError(
            f"{path} holds {count} samples, and {n} were asked for: "
            + (
                f"lower --samples to {count}, for all that are compared."
                if count >= FEWEST
                else f"numbers with intervals take {FEWEST} or more."
            )
        )
    return np.sort(np.random.default_rng(seed).choice(count, n, replace=False))


def _survey(source: Source, reading: Reading) -> tuple[list[tuple[int, int]], bool]:
    """Return the sizes (width, height) of images, none decoded, and whether all are grey."""

    def look(i: int) -> tuple[tuple[int, int], bool] | str:
        try:
            image = source.open(i)
            if isinstance(image, np.ndarray):
                return (image.shape[1], image.shape[0]), image.ndim == 2
            with image:
                return image.size, is_grey(image)
        # As when they are decoded: whatever it is, this image is broken.
        except Exception as error:
            return why_broken(error)

    sizes: set[tuple[int, int]] = set()
    grey = True
    processes = source.forks and source.count >= MANY
    for i, found in enumerate(on_all_cores(look, range(source.count), processes)):
        if not isinstance(found, str):
            sizes.add(found[0])
            grey = grey and found[1]
        elif reading.broken == "refuse":
            raise SteadyganError(
                f"{source.name(i)} is broken: {found}. Mend or remove it, or leave out what is"
                " broken with broken=skip (--broken skip)."
            )
    if not sizes:
        raise SteadyganError(f"None of the {source.count} images can be read: {found}.")
    return sorted(sizes), grey
