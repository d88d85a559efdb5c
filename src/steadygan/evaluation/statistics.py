"""Mean and covariance of features, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import SteadyganError
from .estimate import Points, as_points


@dataclass(frozen=True, eq=False)
class Statistics:
    """Count N, mean (D,) and scatter S = sum_i (x_i - mean)(x_i - mean)^T (D, D), in float64.

    Two of them merge into the statistics of both samples together (Chan et al.):
    mean = (N mean + N' mean')/(N + N'), S + S' + N N'/(N + N') (mean - mean')(mean - mean')^T. No
    difference of large numbers is taken, so neither a large mean nor the size of the batches is
    seen in the result beyond rounding.

    >>> x = torch.arange(12.0).view(6, 2) ** 2
    >>> torch.allclose(Statistics.of(x[:2], x[2:]).covariance, torch.cov(x.T.double()))
    True

    Reference: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, *batches: Points) -> Statistics:
        """Return the statistics of batches (n, D) taken together.

        Raises:
            SteadyganError: For shapes that do not fit.
        """
        return cls.stream(batches)

    @classmethod
    def stream(cls, batches: Iterable[Points]) -> Statistics:
        """Return the statistics of a stream of batches (n, D), of which one at a time is held."""
        whole: Statistics | None = None
        for batch in batches:
            x = as_points("a batch", batch)
            mean = x.mean(0)
            part = cls(len(x), mean, (x - mean).T @ (x - mean))
            whole = part if whole is None else whole.merge(part)
        if whole is None:
            raise SteadyganError("statistics need at least one batch of features")
        return whole

    def merge(self, other: Statistics) -> Statistics:
        """Return the statistics of both samples together."""
        if self.mean.shape != other.mean.shape:
            raise SteadyganError(
                f"features of {len(self.mean)} and of {len(other.mean)} dimensions cannot be put"
                " together"
            )
        count = self.count + other.count
        gap = other.mean - self.mean
        scatter = (
            self.scatter
            + other.scatter
            + torch.outer(gap, gap) * (self.count * other.count / count)
        )
        return Statistics(count, self.mean + gap * (other.count / count), scatter)

    @property
    def covariance(self) -> Tensor:
        """The unbiased covariance (D, D), S/(N - 1); raises SteadyganError for a single sample."""
        if self.count < 2:
            raise SteadyganError("a covariance needs at least two samples")
        return self.scatter / (self.count - 1)
