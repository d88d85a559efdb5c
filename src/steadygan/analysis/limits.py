r"""Which learning rates are unstable: the limits of the dynamics that trains, windows included.

A step's Jacobian M(h) is a function of the learning rate h: at an equilibrium a polynomial, because
each move is linear there, and elsewhere a smooth one. It is taken at a few Chebyshev points and
interpolated; where that does not reproduce it, it is taken anew at every h that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from .stability import NEUTRAL, SLOWEST, grown

NODES = (3, 5, 9, 17)
"""How many points an interpolation tries; each has those of the one before."""

CLOSE = 8
"""Systems of so many variables are looked at far beyond their first limit too."""

Family = Callable[[float], np.ndarray]
"""M(h) - 1 (n, n), of a learning rate."""


@dataclass(frozen=True)
class Limits:
    """The open intervals of the learning rate in which a step is unstable, lowest first.

    The last one has no end (inf), unless no learning rate that was looked at is unstable.
    """

    unstable: tuple[tuple[float, float], ...]

    @property
    def first(self) -> float | None:
        """The largest learning rate below which none is unstable; 0 where there is none such."""
        return self.unstable[0][0] if self.unstable else None

    def words(self) -> str:
        """Return the intervals in words.

        >>> Limits(((0.5, 0.7), (2.0, math.inf))).words()
        'unstable above 2, and between 0.5 and 0.7'
        """
        if not self.unstable:
            return "stable, or on the limit, at every learning rate that was looked at"
        said = [
            f"below {high:.4g}" if not low else f"between {low:.4g} and {high:.4g}"
            for low, high in self.unstable
            if high < math.inf
        ]
        low, high = self.unstable[-1]
        if high == math.inf:
            said = [f"above {low:.4g}" if low else "at every learning rate", *said]
        return "unstable " + ", and ".join(said)


def limits(family: Family, rates: np.ndarray, *, fine: bool = True) -> Limits:
    """Return where the steps of a family are unstable.

    Args:
        family: M(h) - 1 by learning rate; it is called for some tens of them.
        rates: eigenvalues of the field, which say at what learning rates to look.
        fine: whether to look closely; large matrices are looked at in fewer places.

    Returns:
        The intervals, their ends to 1e-9 (fine) or 1e-3 of themselves.

    >>> turning = np.array([[0.0, 1.0], [-1.0, -0.5]])
    >>> limits(lambda h: h * turning, np.linalg.eigvals(turning)).words()
    'unstable above 0.5'
    """
    active = rates[abs(rates) > NEUTRAL * abs(rates).max(initial=0.0)]
    if not len(active):
        return Limits(())
    scan, ends = _Scan(family, active), list[float]()
    for low, high in scan.ranges():
        scan.interpolate(low, high)
        count = math.ceil(math.log(high / low) / math.log(scan.ratio(fine))) + 1
        at = np.geomspace(low, high, count)
        at, unstable = _refined(scan, at, scan.growths(at))
        if unstable[0] and not ends:
            ends.append(0.0)
        for i in np.flatnonzero(np.diff(unstable)):
            ends.append(scan.crossing(at[i], at[i + 1], 1e-11 if fine else 1e-3))
    if len(ends) % 2:
        ends.append(math.inf)
    return Limits(tuple(zip(ends[::2], ends[1::2], strict=True)))


class _Scan:
    """Growth by learning rate, of a family that is interpolated where that is exact."""

    def __init__(self, family: Family, active: np.ndarray) -> None:
        self._family, self._active = family, active
        self._known: dict[float, np.ndarray] = {}
        self._nodes: np.ndarray | None = None
        self._size = float(abs(active).max())
        self.noise = SLOWEST * self._size

    @property
    def order(self) -> int:
        """The size of the matrices."""
        return len(next(iter(self._known.values())))

    def ratio(self, fine: bool) -> float:
        """Return how far apart neighbouring learning rates lie, by what one of them costs."""
        if not fine:
            return 1.5
        if self._nodes is None:
            return 1.3
        return 1.02 if self.order <= CLOSE else 1.05 if self.order <= 64 else 1.15

    def exact(self, h: float) -> np.ndarray:
        if h not in self._known:
            self._known[h] = self._family(h)
        return self._known[h]

    def ranges(self) -> list[tuple[float, float]]:
        """Return ranges from where only the field's damping counts to where all are unstable.

        Small systems are looked at beyond, where a step may come to rest again.
        """
        high = 4 / self._size
        for _ in range(16):
            if all(self.growth(f * high) > self.noise for f in (1.0, 1.37, 2.3, 4.1)):
                break
            high *= 2
        damped = -2 * self._active.real / abs(self._active) ** 2
        low = damped.min() if damped.min() > 1e-9 / self._size else 1e-2 / self._size
        found = [(min(float(low) / 64, high / 1e3), high)]
        slow = -self._active.real[self._active.real < -self.noise].max(initial=-self._size)
        while self.order <= CLOSE and found[-1][1] < min(4 / slow, 1e3 * high):
            found.append((found[-1][1], 4 * found[-1][1]))
        return found

    def interpolate(self, low: float, high: float) -> None:
        """Take the family between two learning rates, from 0 where the lower one is small."""
        low = 0.0 if low < high / 8 else low
        for count in NODES:
            nodes = low + (high - low) * (1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2
            held = np.stack([self.exact(float(h)) for h in nodes])
            weights = (-1.0) ** np.arange(count)
            weights[[0, -1]] /= 2
            self._nodes, self._held, self._weights = nodes, held.reshape(count, -1), weights
            tests = [low + f * (high - low) for f in (0.37, 0.061, 0.93)]
            size = abs(held).max()
            if all(abs(self._between([h])[0] - self.exact(h)).max() < 1e-11 * size for h in tests):
                return
        self._nodes = None

    def crossing(self, low: float, high: float, precision: float) -> float:
        """Return where between two learning rates growth begins or ends, to a share of it."""
        over = lambda h: self.growth(h) - self.noise  # noqa: E731
        found = float(brentq(over, low, high, xtol=precision * low, rtol=precision))
        slope = (self.growth(found * (1 + 1e-5)) - self.growth(found)) / (1e-5 * found)
        return found - self.noise / slope if slope else found

    def growth(self, h: float) -> float:
        return float(self.growths(np.array([h]))[0])

    def growths(self, at: np.ndarray) -> np.ndarray:
        """Return the fastest growth of a mode that is not neutral, at each learning rate."""
        found = []
        for part in np.array_split(at, max(1, len(at) // 64)):
            steps = (
                np.stack([self.exact(float(h)) for h in part])
                if self._nodes is None
                else self._between(part)
            )
            rates = np.linalg.eigvals(steps / part[:, None, None])
            growth = grown(rates, part[:, None])
            growth[abs(rates) <= 10 * NEUTRAL * self._size] = -np.inf
            found.append(growth.max(1))
        return np.concatenate(found)

    def _between(self, at: list[float] | np.ndarray) -> np.ndarray:
        assert self._nodes is not None
        gaps = np.asarray(at)[:, None] - self._nodes
        shares = np.where(gaps == 0, 1.0, self._weights / np.where(gaps == 0, 1.0, gaps))
        shares[(gaps == 0).any(1)] *= (gaps == 0)[(gaps == 0).any(1)]
        shares /= shares.sum(1, keepdims=True)
        n = math.isqrt(self._held.shape[1])
        whole: np.ndarray = (shares @ self._held).reshape(-1, n, n)
        return whole


def _refined(scan: _Scan, at: np.ndarray, growth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return more learning rates and whether each is unstable.

    A maximum between two may reach over the limit, or a minimum under it.
    """
    stable, more = growth <= scan.noise, []
    for i in range(1, len(at) - 1):
        sign = -1.0 if stable[i] else 1.0
        before, here, after = sign * growth[i - 1 : i + 2]
        if not stable[i - 1] == stable[i] == stable[i + 1] or here > min(before, after):
            continue
        found = minimize_scalar(
            lambda x, sign=sign: sign * scan.growth(math.exp(x)),
            bounds=(math.log(at[i - 1]), math.log(at[i + 1])),
            method="bounded",
            options={"maxiter": 25},
        )
        more.append((math.exp(found.x), sign * found.fun))
    for h, value in more:
        at, growth = np.append(at, h), np.append(growth, value)
    order = np.argsort(at)
    return at[order], growth[order] > scan.noise


__all__ = ["Limits", "limits"]
