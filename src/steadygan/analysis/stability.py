r"""Whether one step is locally stable: every eigenvalue of a dense Jacobian, and what is certain.

Everything is in rates, :math:`\rho = (s - 1)/h` for an eigenvalue s of a step of size h: they are
as far apart as those of the field, while the s crowd around 1. A mode grows by
:math:`(|1 + h\rho| - 1)/h` per unit of time.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import scipy.linalg

from ..core.errors import SteadyganError

NEUTRAL = 1e-7
"""Modes slower than this share of the fastest do not move: directions in which nothing changes."""

SLOWEST = 1e-9
"""Growth, as a share of the fastest rate, that is too slow to be told from none."""


class Modes(NamedTuple):
    """Every eigenvalue of a matrix of rates (n, n), largest modulus first.

    rates (n,): complex, the upper one of a conjugate pair first. residuals (n,): of their
    eigenvectors, in balanced coordinates. neutral (n,): they cannot be told from 0. growth (n,):
    per unit of time. certain (n,): rounding in the matrix cannot change growth's sign.
    """

    rates: np.ndarray
    residuals: np.ndarray
    neutral: np.ndarray
    growth: np.ndarray
    certain: np.ndarray

    @property
    def verdict(self) -> str:
        """'unstable' where a mode surely grows, 'stable' where all shrink, else 'undecided'."""
        growth, certain = self.growth[~self.neutral], self.certain[~self.neutral]
        if (certain & (growth > 0)).any():
            return "unstable"
        return "stable" if len(certain) and certain.all() else "undecided"

    @property
    def fastest(self) -> float | None:
        """The largest growth of a mode that is not neutral; None where there is none."""
        return max(self.growth[~self.neutral], default=None)


def modes(rates: np.ndarray, h: float = 0.0) -> Modes:
    """Return every mode of a dense matrix of rates (n, n), of steps of size h (0: of the flow).

    The matrix is balanced first, so that states of very different units, such as parameters beside
    an optimizer's squared gradients, do not hide each other. An eigenvalue is certain where its
    condition says so to first order. Where the condition does not (a defective eigenvalue has none)
    the nearest point of the stability limit must not be an eigenvalue of any matrix within
    rounding: its smallest singular value is larger.

    Raises:
        SteadyganError: for a matrix that is not finite.

    Reference: Trefethen and Embree 2005, "Spectra and Pseudospectra", sections 2 and 52.

    >>> modes(np.array([[0.0, 0.5], [-0.5, -1.0]]), 0.2).verdict
    'stable'
    """
    if not np.isfinite(rates).all():
        raise SteadyganError(
            "A Jacobian is not finite at this point: there is nothing to linearise. Start from an"
            " earlier checkpoint."
        )
    balanced, _ = scipy.linalg.matrix_balance(rates, permute=False)
    values, left, right = scipy.linalg.eig(balanced, left=True, right=True)
    # Equal ones side by side, so that a spectrum prints the same each time.
    order = np.lexsort((-values.imag, (-abs(values)).round(12)))
    values, left, right = values[order], left[:, order], right[:, order]
    rounding = 20 * len(values) * np.finfo(float).eps * np.linalg.norm(balanced)
    with np.errstate(divide="ignore"):
        errors = rounding / abs((left.conj() * right).sum(0))
    size = abs(values).max()

    @cache  # clusters share their points
    def apart(point: complex) -> bool:
        """Return whether no matrix within rounding has this eigenvalue."""
        shifted = balanced - point * np.eye(len(values))
        return bool(scipy.linalg.svdvals(shifted)[-1] > rounding)

    neutral = abs(values) <= NEUTRAL * size
    for i in np.flatnonzero(~neutral & (abs(values) < 1e-3 * size) & (errors > abs(values) / 4)):
        neutral[i] = not apart(values[i] / 2)
    growth = grown(values, h)
    certain = abs(growth) > np.maximum(4 * errors, SLOWEST * size)
    for i in np.flatnonzero(~neutral & ~certain & (abs(growth) > SLOWEST * size)):
        certain[i] = all(apart(point) for point in _limit_points(values[i], h))
    residuals = np.linalg.norm(balanced @ right - values * right, axis=0)
    return Modes(values, residuals, neutral, growth, certain)


def grown(rates: np.ndarray, h: float | np.ndarray) -> np.ndarray:
    """Return the growth (|1 + h rho| - 1)/h of rates, per unit of time; Re rho for h = 0.

    >>> grown(np.array([-0.5 + 0.5j]), 1.0).round(4)
    array([-0.2929])
    """
    # Without subtracting 1 from a modulus near it.
    found: np.ndarray = (2 * rates.real + h * abs(rates) ** 2) / (abs(1 + h * rates) + 1)
    return found


def _limit_points(rate: complex, h: float) -> list[complex]:
    """Return the nearest point of the circle (of the axis), or eight around a mode near s = 0."""
    if not h:
        return [1j * rate.imag]
    factor = 1 + h * rate
    if abs(factor) > 0.1:
        return [(factor / abs(factor) - 1) / h]
    return [(np.exp(1j * np.pi * (k + 0.5) / 4) - 1) / h for k in range(8)]


__all__ = ["NEUTRAL", "Modes", "grown", "modes"]
