"""Pictures: which formats are opened, and how one becomes bytes of the size that is wanted."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Pillow guesses a format by the content, whatever the file is called, and knows some that start an
# interpreter (EPS). These it may open, under any of these endings.
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "TGA": (".tga",),
}


@cache
def formats() -> tuple[str, ...]:
    """Return those of ``FORMATS`` that this Pillow can open."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def suffixes() -> tuple[str, ...]:
    """Return the endings of files that are taken for pictures."""
    return tuple(suffix for name in formats() for suffix in FORMATS[name])


def is_picture(name: str) -> bool:
    """Return whether a file's name is that of a picture."""
    return name.lower().endswith(suffixes())


def open_picture(file: str | Path | io.BytesIO, name: str) -> Image.Image:
    """Return a picture, undecoded.

    Args:
        file: where it lies, or its bytes.
        name: its name, which tells a TGA, a format without a mark in its content.

    Raises:
        UnidentifiedImageError: for any other format.
    """
    tga = name.lower().endswith(".tga")
    return Image.open(file, formats=[f for f in formats() if tga or f != "TGA"])


def why_broken(error: Exception) -> str:
    """Return in words why a picture could not be opened or decoded."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of the formats {', '.join(formats())}"
    if isinstance(error, Image.DecompressionBombError):
        size = re.search(r"\d+ pixels", str(error))
        return f"with {size[0] if size else 'so many pixels'} it is too large; make it smaller"
    return str(error).removesuffix(".") or type(error).__name__


def is_deep(image: Image.Image) -> bool:
    """Return whether a picture has one channel of more than 8 bits, or of floats."""
    return image.mode.startswith("I") or image.mode == "F"


def is_grey(image: Image.Image) -> bool:
    """Return whether a picture has no colours."""
    return image.mode in ("1", "L", "LA", "La") or is_deep(image)


def is_cut(image: Image.Image) -> bool:
    """Return whether Pillow keeps only the upper 8 of the 16 bits of a picture (not yet loaded)."""
    return not is_deep(image) and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def reduce(image: Image.Image, resolution: int) -> None:
    """Have a large JPEG decoded at 1/2 to 1/8 of its size, never below 4 times the resolution.

    That is 10 times faster, and within 1 of 255 levels.
    """
    image.draft(None, (4 * resolution, 4 * resolution))


def turned(image: Image.Image) -> Image.Image:
    """Return a picture, decoded and turned as its EXIF data say."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


def deep_values(image: Image.Image) -> np.ndarray:
    """Return the values (H, W) of a picture with one deep channel."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    # Pillow takes 32-bit TIFFs for signed ones, whatever they say of themselves (SampleFormat).
    if values.dtype == np.int32 and tags.get(258) == (32,) and tags.get(339, (1,)) == (1,):
        return values.view(np.uint32)
    return values


def to_pixels(image: Image.Image, sides: tuple[int, int], channels: int) -> np.ndarray:
    """Return a decoded picture of 8 bits as (channels, *sides) uint8, sides height and width.

    Composited on white, cropped to its central part of their ratio and resized with Pillow's
    LANCZOS filter, whose support grows with the reduction (antialiased).
    """
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "LAB":  # of which Pillow makes no grey at once
        image = image.convert("RGB")
    image = image.convert("RGB" if channels == 3 else "L")
    height, width = sides
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)
