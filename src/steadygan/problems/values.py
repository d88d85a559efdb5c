"""Which values of images with more than 8 bits, or of floats, are black and white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import SteadyganError

_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True)
class Scale:
    """Values to bytes: b = 255 (v - low) / (high - low), rounded; or v >> shift where that is set.

    ``note`` is a word about the choice, empty where there was none.

    >>> Scale(-1, 1)(np.array([-1.0, 0.0, 1.0, 7.0]))
    array([  0, 128, 255, 255], dtype=uint8)
    """

    low: float = 0.0
    high: float = 255.0
    shift: int | None = None
    note: str = ""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return values of any shape as bytes.

        Raises:
            ValueError: for what is not finite.
        """
        if self.shift is not None:
            return (values.astype(np.int64) >> self.shift).clip(0, 255).astype(np.uint8)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("some of its values are not finite")
        part = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return (part.clip(0, 1) * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Span:
    """The lowest and the highest value of images, and whether they are floats."""

    low: float
    high: float
    floats: bool

    @staticmethod
    def of(values: np.ndarray) -> Span:
        """Return the span of an image's values.

        Raises:
            ValueError: for what is not finite.
        """
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ValueError("some of its values are not finite")
        return Span(low, high, values.dtype.kind == "f")

    def join(self, other: Span | None) -> Span:
        """Return the span of both."""
        if other is None:
            return self
        return Span(min(self.low, other.low), max(self.high, other.high), self.floats)


def scale(span: Span, where: str) -> Scale:
    """Find what the values of a set of images mean, by the span of all of them.

    Whole numbers have 8, 10, 12, 14 or 16 bits, the fewest that hold the highest; floats are in
    [0, 1], [-1, 1] or [0, 255].

    Args:
        span: of all images.
        where: what they are called.

    Returns:
        The scale, the same for all of them.

    Raises:
        SteadyganError: where it could be another: the user is asked.
    """
    low, high = span.low, span.high
    if span.floats:
        if low >= 0 and 0.25 <= high <= 1:
            return Scale(0, 1, note="floats in [0, 1]")
        if -1 <= low <= -0.5 and high <= 1:
            return Scale(-1, 1, note="floats in [-1, 1]")
        if low >= 0 and 64 <= high <= 255:
            return Scale(0, 255, note="floats in [0, 255]")
    elif low >= 0 and high <= 1:
        return Scale(0, 1, note="numbers 0 and 1, black and white")
    elif low >= 0 and 32 <= high < 2 ** _DEPTHS[-1]:
        depth = next(d for d in _DEPTHS if high < 2**d)
        # All 16 bits are what such a file promises, so nothing was chosen.
        note = f"numbers of {depth} bits (up to {high:g})" if depth < 16 else ""
        return Scale(shift=depth - 8, note=note)
    kind, digits = ("floats", "4g") if span.floats else ("whole numbers", "0f")
    found = f"{low:.{digits}}..{high:.{digits}}"
    raise SteadyganError(
        f"{where} holds {kind} in {found}: which of them are black and white is not known. Say it"
        f" with --value-range LOW..HIGH, such as --value-range={found if low < high else '0..255'}."
    )
