"""What is done to images (B, C, H, W) before a critic sees them: differentiable, by given draws.

Each operation takes images and draws u (B, k) from U[0, 1] and returns images of the same shape.
It is affine in the images, and made of gathers and sums, so that it can be differentiated as often
as one likes, also for many GANs at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Operation(NamedTuple):
    """One kind of change.

    Attributes:
        draws: k, how many draws it takes for each image.
        change: Of images (B, C, H, W) and draws (B, k), the changed ones; those of ADA also take
            the probability p.
    """

    draws: int
    change: Callable[..., Tensor]


# ------------------------------------------------------------ DiffAugment: always on


def color(x: Tensor, u: Tensor) -> Tensor:
    """Return images of other brightness, +-0.5, saturation, times 0 to 2, contrast, 0.5 to 1.5."""
    brightness, saturation, contrast = (column[:, None, None, None] for column in u.unbind(1))
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (contrast + 0.5)


def translation(x: Tensor, u: Tensor) -> Tensor:
    """Return images moved by up to an eighth of each side; from beyond the edges 0 comes in."""
    i, j = _grid(x)
    for axis, (at, size) in enumerate(zip((i, j), x.shape[2:], strict=True)):
        most = int(size / 8 + 0.5)
        moved = at + _whole(u[:, axis], 2 * most + 1, at)[:, None, None] - most
        (i, j) = (moved, j) if axis == 0 else (i, moved)
    height, width = x.shape[2:]
    inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
    return _at(x, i.clamp(0, height - 1), j.clamp(0, width - 1)) * inside[:, None]


def cutout(x: Tensor, u: Tensor) -> Tensor:
    """Return images with 0 in a rectangle of half of each side, which may reach over the edges."""
    hidden = []
    for axis, (at, side) in enumerate(zip(_grid(x), x.shape[2:], strict=True)):
        size = int(side / 2 + 0.5)
        first = _whole(u[:, axis], side + 1 - size % 2, at)[:, None, None] - size // 2
        hidden.append((at >= first) & (at < first + size))
    return x * ~(hidden[0] & hidden[1])[:, None]


ALWAYS = {
    "color": Operation(3, color),
    "translation": Operation(2, translation),
    "cutout": Operation(2, cutout),
}
"""DiffAugment's, in the order in which they are done."""

# ------------------------------------------------------------ ADA: each with probability p


def flip(x: Tensor, u: Tensor, p: Tensor) -> Tensor:
    """Return images that with probability p are flipped left to right, or not, by a fair coin."""
    i, j = _grid(x)
    over = ((u[:, 0] < p) & (u[:, 1] < 0.5))[:, None, None]
    return _at(x, i, torch.where(over, x.shape[3] - 1 - j, j))


def rotate90(x: Tensor, u: Tensor, p: Tensor) -> Tensor:
    """Return images turned, with probability p, by 0, 90, 180 or 270 degrees.

    Where their sides differ by 0 or 180.
    """
    i, j = _grid(x)
    height, width = x.shape[2:]
    turns = _whole(u[:, 1], 4, i) if height == width else 2 * _whole(u[:, 1], 2, i)
    turns = torch.where(u[:, 0] < p, turns, 0)[:, None, None]
    for _ in range(3 if height == width else 1):
        if height == width:
            i, j = torch.where(turns > 0, j, i), torch.where(turns > 0, height - 1 - i, j)
        else:
            i = torch.where(turns > 0, height - 1 - i, i)
            j = torch.where(turns > 0, width - 1 - j, j)
        turns = turns - 1
    return _at(x, i, j)


def translate(x: Tensor, u: Tensor, p: Tensor) -> Tensor:
    """Return images moved, with probability p, by whole pixels, up to an eighth of each side.

    Beyond the edges they are mirrored.
    """
    on, moved = u[:, 0] < p, []
    for axis, (at, size) in enumerate(zip(_grid(x), x.shape[2:], strict=True), 1):
        most = int(size / 8 + 0.5)
        by = torch.where(on, _whole(u[:, axis], 2 * most + 1, at) - most, 0)
        moved.append(_mirrored(at + by[:, None, None], size))
    return _at(x, *moved)


def affine(x: Tensor, u: Tensor, p: Tensor) -> Tensor:
    """Return images scaled by 2^(0.2 n), n normal, and turned by any angle, with p each.

    Bilinear in between pixels, mirrored beyond the edges.
    """
    height, width = x.shape[2:]
    size = torch.where(u[:, 0] < p, torch.exp2(0.2 * _normal(u[:, 1])), 1.0)[:, None, None]
    angle = torch.where(u[:, 2] < p, math.pi * (2 * u[:, 3] - 1), 0.0)[:, None, None]
    i, j = (at.to(x.dtype) for at in _grid(x))
    i, j = i - (height - 1) / 2, j - (width - 1) / 2
    cos, sin = angle.cos() / size, angle.sin() / size
    above = _mirrored(cos * i + sin * j + (height - 1) / 2, height)
    left = _mirrored(cos * j - sin * i + (width - 1) / 2, width)
    top, first = above.floor(), left.floor()
    down, right = above - top, left - first
    rows = [top.long(), (top.long() + 1).clamp(max=height - 1)]
    columns = [first.long(), (first.long() + 1).clamp(max=width - 1)]
    parts = [
        _at(x, rows[a], columns[b]) * (weight * other)[:, None]
        for a, weight in enumerate((1 - down, down))
        for b, other in enumerate((1 - right, right))
    ]
    return torch.stack(parts).sum(0)


def recolor(x: Tensor, u: Tensor, p: Tensor) -> Tensor:
    """Return images of other brightness, contrast, sign of the grey part, hue, saturation, p each.

    On the grey part l, the mean over channels, and the colour d = x - l: l + 0.2 n, both times
    2^(n/2), -l by a fair coin, d turned about the grey axis, d times 2^n; n normal.
    """
    on = [(u[:, k] < p)[:, None, None, None] for k in range(5)]
    brightness, contrast, over, hue, saturation = (u[:, k, None, None, None] for k in range(5, 10))
    grey = x.mean(1, keepdim=True)
    colour = x - grey
    grey = grey + torch.where(on[0], 0.2 * _normal(brightness), 0.0)
    by = torch.where(on[1], torch.exp2(0.5 * _normal(contrast)), 1.0)
    grey, colour = by * grey, by * colour
    grey = torch.where(on[2] & (over < 0.5), -grey, grey)
    if x.shape[1] == 3:
        angle = torch.where(on[3], math.pi * (2 * hue - 1), 0.0)
        turned = (colour.roll(1, 1) - colour.roll(-1, 1)) / math.sqrt(3)
        colour = angle.cos() * colour + angle.sin() * turned
    return grey + colour * torch.where(on[4], torch.exp2(_normal(saturation)), 1.0)


SOMETIMES = {
    "flip": Operation(2, flip),
    "rotate90": Operation(2, rotate90),
    "translate": Operation(3, translate),
    "affine": Operation(4, affine),
    "color": Operation(10, recolor),
}
"""ADA's, in the order in which they are done."""


def _grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row and the column of every pixel, (B, H, W) each."""
    n, _, height, width = x.shape
    i = torch.arange(height, device=x.device)[None, :, None].expand(n, height, width)
    return i, torch.arange(width, device=x.device)[None, None].expand(n, height, width)


def _at(x: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Return images whose pixel (i', j') is that of ``x`` at i[i', j'], j[i', j']."""
    place = (i * x.shape[3] + j).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, place).view(x.shape)


def _whole(u: Tensor, count: int, like: Tensor) -> Tensor:
    """Return whole numbers below ``count``; a draw may be 1 where it was rounded."""
    return (u * count).floor().clamp(max=count - 1).to(like.dtype)


def _mirrored(at: Tensor, size: int) -> Tensor:
    """Return places along a side of which those beyond its edges are mirrored there."""
    half = 0.5 if at.is_floating_point() else 0
    last = 0.5 if at.is_floating_point() else 1
    at = (at + half).remainder(2 * size)
    return torch.where(at >= size, 2 * size - last - at, at - half).clamp(0, size - 1)


def _normal(u: Tensor) -> Tensor:
    """Return normal draws, within 5 standard deviations, from uniform ones."""
    return math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-1 + 6e-7, 1 - 6e-7))


__all__ = ["ALWAYS", "SOMETIMES", "Operation"]
