"""A number with its uncertainty, and the plain records that the distances return."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import SteadyganError

Points = Tensor | np.ndarray
"""Samples (N, D), NumPy or torch."""

Z = 1.959963984540054
"""The standard normal distribution lies within it with probability 95 %."""


class Estimate(NamedTuple):
    """A ``value`` and the ends ``low`` and ``high`` of its 95 % interval.

    It covers the luck of the draw and never the bias.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.3g}, {self.high:.3g}]"

    def below(self, other: Estimate) -> bool:
        """Return whether the whole interval lies below the other's."""
        return self.high < other.low


@dataclass(frozen=True)
class Record:
    """Base of what a distance returns.

    Estimates by name, how many samples they come from, and how the intervals were made.
    """

    method: str

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The numbers of the record by name."""
        return {
            f.name: value
            for f in dataclasses.fields(self)
            if isinstance(value := getattr(self, f.name), Estimate)
        }

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data: an estimate is {value, low, high}."""
        return {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}


def plain(value: Any) -> Any:
    """Return a value as plain data.

    An estimate is {value, low, high}, what is not finite None, arrays and tuples lists.
    """
    if isinstance(value, Estimate):
        return {
            key: number if math.isfinite(number) else None
            for key, number in value._asdict().items()
        }
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    return value.tolist() if isinstance(value, (Tensor, np.ndarray)) else value


def normal(value: float, error: float) -> Estimate:
    """Return value -/+ 1.96 standard errors.

    >>> normal(3.0, 0.5)
    Estimate(value=3.0, low=2.020018..., high=3.979981...)
    """
    return Estimate(value, value - Z * error, value + Z * error)


def mean_of(values: Tensor) -> Estimate:
    """Return the mean of independent values (n,) with Student's interval, mean -/+ t sd/sqrt(n).

    Without an interval for one value.

    >>> mean_of(torch.tensor([1.0, 2.0, 3.0]))
    Estimate(value=2.0, low=-0.48413..., high=4.48413...)
    """
    from scipy.special import (
        stdtrit,
    )  # here, because it takes longer to import than all the rest of this package

    values = values.double()
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Estimate(mean, math.nan, math.nan)
    reach = float(stdtrit(n - 1, 0.975) * values.std() / n**0.5)
    return Estimate(mean, mean - reach, mean + reach)


def share_of(inside: Tensor) -> Estimate:
    """Return the share of true values (n,) with Wilson's interval, which is honest at 0 and 1 too.

    >>> share_of(torch.tensor([False] * 100))
    Estimate(value=0.0, low=0.0, high=0.03699...)

    Reference: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    n, p = len(inside), float(inside.double().mean())
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    reach = Z / (1 + Z**2 / n) * (p * (1 - p) / n + Z**2 / (4 * n**2)) ** 0.5
    # At the ends the formula gives 0 and 1 up to rounding.
    return Estimate(p, 0.0 if p == 0 else centre - reach, 1.0 if p == 1 else centre + reach)


def as_points(what: str, given: Points) -> Tensor:
    """Return samples (N, D) as float64 on the CPU.

    Raises:
        SteadyganError: For another shape and for values that are not finite.
    """
    points = torch.as_tensor(given).detach().cpu().double()
    if points.ndim != 2 or not points.numel():
        raise SteadyganError(
            f"{what} must be samples of shape (N, D), at least one, not {tuple(points.shape)}"
        )
    if not points.isfinite().all():
        raise SteadyganError(
            f"{what} holds values that are not finite: the samples, or the extractor, are broken"
        )
    return points


def as_pair(x: Points, y: Points, at_least: int = 2) -> tuple[Tensor, Tensor]:
    """Return real samples x (N, D) and generated ones y (M, D) as float64.

    Raises:
        SteadyganError: Where they do not fit together.
    """
    real, generated = as_points("x", x), as_points("y", y)
    if real.shape[1] != generated.shape[1]:
        raise SteadyganError(
            f"x and y must have the same dimension, not {real.shape[1]} and {generated.shape[1]}"
        )
    if min(len(real), len(generated)) < at_least:
        raise SteadyganError(
            f"at least {at_least} samples are needed of each, not {len(real)} and {len(generated)}"
        )
    return real, generated
