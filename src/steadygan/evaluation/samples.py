"""Samples to be measured, from files: images (N, C, H, W) uint8, or vectors (N, D)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..core.errors import SteadyganError
from ..problems.images import load_images
from ..problems.readers import open_source
from .features import Progress, to_bytes

Event = tuple[int, ...]
"""The shape of one sample: (C, H, W) of an image, (D,) of a vector."""


def load_samples(
    path: str, n: int, event: Event | None = None, seed: int = 0, progress: Progress | None = None
) -> np.ndarray:
    """Return n of the samples that lie at a path, in their order there, chosen by the seed: images
    uint8 or vectors float64.

    ``path`` is what ``load_images`` reads (a folder, a zip, arrays, ...) or the ``.npz`` that
    ``steadygan sample`` writes. With an ``event`` larger images are cropped to their central square
    and reduced to it (Lanczos, antialiased), as for training; without one they must all be square
    and of one size. Raises SteadyganError for fewer than n samples, for vectors of another
    dimension, and for images that would have to be enlarged, because that blurs them.
    """
    written = _written(path)
    if written is not None:
        found = (
            written
            if written.dtype == np.uint8 or written.ndim == 2
            else to_bytes(torch.from_numpy(written)).numpy()
        )
        if event is not None and found.shape[1:] != event:
            raise SteadyganError(
                f"{path} holds samples of shape {found.shape[1:]}, not {event}: give samples of"
                " the same kind."
            )
        return found[_choice(path, len(found), n, seed)]
    if event is not None and len(event) != 3:
        raise SteadyganError(
            f"{path} holds images, and the samples are vectors of {event[0]} numbers: give an"
            " .npz with key 'samples'."
        )
    if event is None:
        event = image_event(path)
    else:
        _not_enlarged(path, event[1])
    pixels = load_images(path, event[1], channels=event[0], progress=progress).pixels
    return pixels[_choice(path, len(pixels), n, seed)]


def samples_event(path: str) -> Event:
    """Return the shape of one of the samples at a path; raises SteadyganError where they are not
    all of one."""
    written = _written(path)
    return image_event(path) if written is None else written.shape[1:]


def reduction(path: str, event: Event) -> str:
    """Return what is done to the images at a path so that they fit, in words; empty where nothing
    is.

    >>> reduction("digits", (1, 8, 8)), reduction("digits", (1, 4, 4))
    ('', 'real images: central square, reduced to 4 x 4 (Lanczos, antialiased)')
    """
    if len(event) != 3 or _written(path) is not None or _sizes(path)[0] == {(event[2], event[1])}:
        return ""
    return f"real images: central square, reduced to {event[1]} x {event[2]} (Lanczos, antialiased)"


def image_event(path: str) -> Event:
    """Return (C, H, W) of images that are all square and of one size, C = 1 where the first is
    grey."""
    sizes, modes = _sizes(path)
    (width, height), *others = sizes
    if others or width != height:
        shown = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:4])
        raise SteadyganError(
            f"{path} holds images of {shown}{' and more' if len(sizes) > 4 else ''}; generated"
            " images must be square and of one size. "
            "Resize them, with antialiasing, to the size they are to be judged at."
        )
    return (
        (1 if modes <= {"1", "L"} or any(mode.startswith("I") for mode in modes) else 3),
        height,
        width,
    )


def _written(path: str) -> np.ndarray | None:
    """Return what ``steadygan sample`` wrote into an .npz, None for anything else."""
    if not path.endswith(".npz") or not Path(path).is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if "samples" not in file.files:
                return None
            samples = file["samples"]
    except (OSError, ValueError) as error:
        raise SteadyganError(f"{path} cannot be read as samples: {error}.") from error
    if samples.ndim not in (2, 4) or not len(samples):
        raise SteadyganError(
            f"{path}: 'samples' must be vectors (N, D) or images (N, C, H, W), not {samples.shape}."
        )
    return samples.astype(np.float64) if samples.ndim == 2 else samples


def _choice(path: str, count: int, n: int, seed: int) -> np.ndarray:
    if n > count:
        raise SteadyganError(
            f"{path} holds {count} samples, and {n} were asked for: lower --samples to {count},"
            " for all that are compared."
        )
    return np.sort(np.random.default_rng(seed).choice(count, n, replace=False))


def _sizes(path: str) -> tuple[set[tuple[int, int]], set[str]]:
    with open_source(path) as source:
        sizes, modes = set(), set()
        for i in range(source.count):
            try:
                with source.open(i) as image:
                    sizes.add(image.size)
                    modes.add(image.mode)
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                raise SteadyganError(
                    f"{source.name(i)} is broken: {error}. Mend or remove it."
                ) from error
    return sizes, modes


def _not_enlarged(path: str, size: int) -> None:
    smallest = min(_sizes(path)[0], key=min)
    if min(smallest) < size:
        raise SteadyganError(
            f"{path} holds an image of {smallest[0]} x {smallest[1]}, and the samples are {size}"
            f" x {size}: real images that were enlarged "
            "are blurred, and nothing can be compared with them. Give data of at least that size."
        )
