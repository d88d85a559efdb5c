"""Curves that grow, thinned so that a browser holds them however long they are."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

BUCKETS = 600  # of a curve that is alone on the page


class Curve:
    """A quantity over training, with what lies around it: a low, a middle and a high value a step.

    Of one number a step the three are the same. Steps increase; what is not finite is NaN.
    """

    def __init__(self, band: bool = False) -> None:
        self._steps, middle = array("q"), array("d")
        self._parts = (array("d"), middle, array("d")) if band else (middle,)

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def last(self) -> float:
        """The newest middle value."""
        return self._parts[len(self._parts) // 2][-1]

    def add(self, step: int, *values: float) -> None:
        """Add a step's value, or its three."""
        self._steps.append(step)
        for part, value in zip(self._parts, values, strict=True):
            part.append(value)

    def width(self, buckets: int = BUCKETS) -> int:
        """Return how many steps share a bucket: the least power of two that leaves so many.

        So a bucket, once full, stays as it is until all of them double.

        >>> curve = Curve()
        >>> for step in range(1000):
        ...     curve.add(step, step % 7)
        >>> curve.width(600), curve.width(100)
        (2, 16)
        """
        return 1 << max(0, -(-len(self) // buckets) - 1).bit_length()

    def since(self, rows: int, width: int) -> dict[str, Any]:
        """Return the buckets that hold what was added after so many rows, as plain data.

        Of each its first step, the lowest, the mean middle and the highest value, None where none
        is finite, and whether one is not.

        Args:
            rows: How many were told before; 0 for all.
            width: Rows a bucket.

        >>> curve = Curve()
        >>> for step in range(5):
        ...     curve.add(step, step**2)
        >>> curve.since(4, 2)
        {'from': 2, 'step': [4], 'low': [16.0], 'mid': [16.0], 'high': [16.0], 'lost': [False]}
        >>> curve.since(0, 4)["high"]
        [9.0, 16.0]
        """
        first = rows // width
        steps = self._steps[first * width :]
        low, middle, high = (np.array(part[first * width :]) for part in self._three())
        cuts = np.arange(0, len(steps), width)
        finite = np.isfinite(middle)
        count = np.add.reduceat(finite, cuts, dtype=np.int64)
        total = np.add.reduceat(np.where(finite, middle, 0.0), cuts)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
        return {
            "from": first,
            "step": [steps[i] for i in cuts],
            "low": _plain(np.fmin.reduceat(low, cuts)),
            "mid": _plain(mean),
            "high": _plain(np.fmax.reduceat(high, cuts)),
            "lost": (count < np.diff([*cuts, len(steps)])).tolist(),
        }

    def _three(self) -> tuple[array[float], ...]:
        return self._parts if len(self._parts) == 3 else self._parts * 3


def _plain(values: np.ndarray) -> list[float | None]:
    """Return numbers as JSON can hold them, to five digits, which no screen exceeds."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]
