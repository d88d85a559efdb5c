"""Walks between latents, as a strip of pictures or as a film."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.errors import SteadyganError, foreign
from .files import whole
from .latents import path
from .samples import image_grid
from .sampling import Sampler

STRIP, FILMS = ".png", (".gif", ".webp", ".mp4")
_GIF = 50  # two hundredths of a second each
_SLOWEST = 0.01  # what a GIF can say is ten minutes a picture
_SIDES = {".gif": 65_535, ".webp": 16_383, ".mp4": 16_384, STRIP: 65_535}
"""Pixels that a side has at most, by the formats and their players."""

_PIXELS = 2**26
"""Those of a whole picture, which is made in memory."""


def walk(
    sampler: Sampler,
    walks: Sequence[Sequence[int]],
    frames: int,
    *,
    loop: bool = False,
    labels: Sequence[int] | None = None,
) -> Tensor:
    """Return the pictures of walks between the latents of seeds, (T, W, C, H, W).

    Args:
        sampler: What makes them.
        walks: The seeds of each, equally many.
        frames: How many pictures there are from one seed to the next.
        loop: Go back to the first seed at the end.
        labels: With classes that of each walk.
    """
    ways = [path(sampler.latent, sampler.of_seeds(seeds), frames, loop=loop) for seeds in walks]
    steps = len(ways[0])
    y = None if labels is None else torch.tensor(labels).repeat_interleave(steps)
    made: Tensor = sampler(torch.cat(ways), y)
    return made.view(len(ways), steps, *made.shape[1:]).transpose(0, 1)


def write_film(file: Path, pictures: Tensor, fps: float, scale: int = 1) -> None:
    """Write pictures (T, W, C, H, W) in [-1, 1]: a row a walk, or a film of them side by side.

    Args:
        file: A ``.png`` is a strip; a ``.gif``, ``.webp`` or ``.mp4`` a film.
        pictures: Of T moments and W walks.
        fps: Pictures a second. A GIF's are shown for whole hundredths of a second.
        scale: How many pixels each becomes, to either side.

    Raises:
        SteadyganError: For another ending, for an MP4 without imageio-ffmpeg, and where the file
            cannot be written.
    """
    check_film(file, fps)
    _check_size(file, pictures, scale)
    if file.suffix == STRIP:
        strip = _scaled(image_grid(pictures.transpose(0, 1).flatten(0, 1), len(pictures)), scale)
        with whole(file) as out:
            strip.save(out, "png")
        return
    columns = _columns(pictures.shape[1])
    frames = [_scaled(image_grid(each, columns).convert("RGB"), scale) for each in pictures]
    if file.suffix == ".mp4":
        _write_mp4(file, frames, fps)
        return
    kind = {"format": "webp", "quality": 90} if file.suffix == ".webp" else {"format": "gif"}
    with whole(file) as out:
        frames[0].save(
            out, save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0, **kind
        )


def _columns(walks: int) -> int:
    return math.ceil(math.sqrt(walks))


def _check_size(file: Path, pictures: Tensor, scale: int) -> None:
    """Refuse pictures larger than their format, or than anyone can look at."""
    moments, walks, _, *size = pictures.shape
    across = moments if file.suffix == STRIP else _columns(walks)
    down = walks if file.suffix == STRIP else math.ceil(walks / across)
    height, width = down * size[0] * scale, across * size[1] * scale
    if max(height, width) > _SIDES[file.suffix] or height * width > _PIXELS:
        raise SteadyganError(
            f"{file} would be {width:,} x {height:,} pixels, and a {file.suffix} has at most"
            f" {_SIDES[file.suffix]:,} a side and {_PIXELS:,} in all: take a smaller"
            " --scale, or fewer walks."
        )


def _scaled(picture: Image.Image, scale: int) -> Image.Image:
    width, height = picture.size
    return picture.resize((width * scale, height * scale), Image.Resampling.NEAREST)


def check_film(file: Path, fps: float) -> None:
    """Refuse a film that cannot be made, before anything is computed."""
    if file.suffix not in (STRIP, *FILMS):
        raise SteadyganError(
            f"{file}: a walk is written to a file that ends in {STRIP} (a strip),"
            f" {', '.join(FILMS[:-1])} or {FILMS[-1]} (a film)."
        )
    if file.suffix != STRIP and fps < _SLOWEST:
        raise SteadyganError(f"--fps {fps:g}: a film has at least {_SLOWEST} pictures a second.")
    if file.suffix == ".gif" and fps > _GIF:
        raise SteadyganError(
            f"--fps {fps:g}: browsers slow a GIF down that has more than {_GIF} pictures a second;"
            " take a .webp or an .mp4."
        )
    if file.suffix == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError:
            raise SteadyganError(
                "A film in MP4 needs the package imageio-ffmpeg, which brings its own ffmpeg: pip"
                ' install "steadygan[video]", or take a file that ends in .webp or .gif.'
            ) from None


def _write_mp4(file: Path, frames: Sequence[Image.Image], fps: float) -> None:
    """Write a film by ffmpeg, which writes to a path of its own only."""
    import imageio_ffmpeg

    # Half the colours' resolution, as every player expects, takes sides of even length.
    width, height = (side + side % 2 for side in frames[0].size)
    with tempfile.TemporaryDirectory() as folder, whole(file) as out:
        aside = Path(folder) / file.name
        with foreign(f"{file} could not be made by ffmpeg", "take a .webp or a .gif"):
            writer = imageio_ffmpeg.write_frames(
                str(aside), (width, height), fps=fps, quality=8, macro_block_size=2
            )
            writer.send(None)
            for frame in frames:
                padded = Image.new("RGB", (width, height), "white")
                padded.paste(frame)
                writer.send(np.ascontiguousarray(padded))
            writer.close()
            content = aside.read_bytes()
        out.write(content)
