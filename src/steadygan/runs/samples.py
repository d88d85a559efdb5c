"""Files of samples: a PNG grid of images, an NPZ with key ``samples`` of anything.

Written and read here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..core.errors import SteadyganError
from ..problems.readers.arrays import RANGE, announced, load_array
from ..problems.readers.source import GIB, Reading
from .files import make_folder, whole


def write_samples(path: Path, x: Tensor, *, columns: int | None = None) -> None:
    """Write samples as the ending of a file says.

    Args:
        path: ``.npz`` holds any; images (B, C, H, W) in [-1, 1] are a grid in a ``.png`` or a
            ``.jpg``, vectors (B, d) a line each in a ``.csv``.
        x: The samples.
        columns: Of the grid; by default it is as square as they allow.

    Raises:
        SteadyganError: For another ending, and where the file cannot be written.
    """
    endings = _ENDINGS.get(x.ndim, (".npz",))
    if path.suffix not in endings:
        raise SteadyganError(
            f"{path}: these samples are written to a file that ends in {' or '.join(endings)}."
        )
    make_folder(path.parent)
    with whole(path) as file:
        if path.suffix == ".npz":
            # What reads them must not guess which values are black and white.
            arrays: dict[str, Any] = {"samples": x.cpu().float().numpy()}
            if x.ndim == 4:
                arrays[RANGE] = np.array([-1.0, 1.0])
            np.savez_compressed(file, **arrays)
        elif path.suffix == ".csv":
            head = ",".join(f"x{i}" for i in range(x.shape[1]))
            np.savetxt(file, x.cpu().numpy(), "%.9g", ",", header=head, comments="")
        elif path.suffix == ".jpg":
            image_grid(x, columns).save(file, "jpeg", quality=95, subsampling=0)
        else:
            image_grid(x, columns).save(file, "png")


_ENDINGS = {4: (".png", ".jpg", ".npz"), 2: (".npz", ".csv")}


def image_grid(x: Tensor, columns: int | None = None) -> Image.Image:
    """Return images (B, C, H, W) in [-1, 1] tiled into a picture.

    Args:
        x: The images, row by row.
        columns: How many stand beside each other; by default the picture is as square as they
            allow.

    >>> image_grid(torch.zeros(64, 3, 8, 8)).size, image_grid(torch.zeros(6, 3, 8, 8), 6).size
    ((64, 64), (48, 8))
    """
    n, channels, height, width = x.shape
    columns = columns or max(1, round(n**0.5))
    rows = -(-n // columns)
    tiles = x.new_full((rows * columns, channels, height, width), 1.0)
    tiles[:n] = x.nan_to_num(0.0)
    pixels = ((tiles.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
    pixels = (
        pixels.view(rows, columns, channels, height, width)
        .permute(0, 3, 1, 4, 2)
        .reshape(rows * height, columns * width, channels)
    )
    array = pixels.numpy()
    return Image.fromarray(array[..., 0] if channels == 1 else array)


def read_samples(path: Path) -> np.ndarray:
    """Return the samples of an NPZ, float64 of any shape.

    Raises:
        SteadyganError: Where it holds none, and before they are unpacked for more than a GiB.
    """
    try:
        # Of small numbers a GiB would be several when they are large ones.
        kind, size = announced(path, "samples")
        if kind.kind != "f" or kind.itemsize < 4:
            raise ValueError(f"it holds {kind} where samples are float32")
        if size > GIB:
            raise ValueError(f"it would unpack to {size / GIB:.3g} GiB, more than samples take")
        samples = np.array(load_array(path, Reading(), "samples"), np.float64)
    except Exception as error:  # numpy, zipfile and the file system each have their own
        raise SteadyganError(
            f"{path} cannot be read as samples ({error}): remove the file to see the rest of the"
            " run."
        ) from error
    if not samples.size:
        raise SteadyganError(
            f"{path} holds no samples, shape {samples.shape}: remove the file to see the rest of"
            " the run."
        )
    return samples


def read_points(path: Path) -> np.ndarray:
    """Return the samples (N, d) of an NPZ.

    Raises:
        SteadyganError: Where they are no vectors.
    """
    samples = read_samples(path)
    if samples.ndim != 2:
        raise SteadyganError(
            f"{path} must hold `samples` of shape (N, d), not {samples.shape}: remove the file to"
            " see the rest of the run."
        )
    return samples


def read_picture(path: Path) -> Image.Image:
    """Return the picture of a PNG, in colour.

    Raises:
        SteadyganError: For anything else, whatever its name.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SteadyganError(
            f"{path} cannot be read as a picture ({error}): remove the file to see the rest of"
            " the run."
        ) from error


def read_shown(path: Path) -> np.ndarray | Image.Image:
    """Return what a report shows of a file of samples: points (N, d), or a picture.

    Raises:
        SteadyganError: For a damaged one.
    """
    return read_points(path) if path.suffix == ".npz" else read_picture(path)
