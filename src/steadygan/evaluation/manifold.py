"""Numbers from nearest neighbours: precision and recall, density and coverage, memorisation.

In blocks, so that memory stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..core.errors import SteadyganError
from .estimate import Estimate, Points, Record, as_pair, normal, share_of

_BLOCK = 1024  # rows of the distances that are held at once: 80 MB against 10,000 samples


@dataclass(frozen=True)
class PrecisionRecall(Record):
    """``precision``: generated samples among the real ones.

    ``recall``: real samples among the generated ones.
    """

    precision: Estimate
    recall: Estimate
    k: int
    samples: tuple[int, int]


@dataclass(frozen=True)
class DensityCoverage(Record):
    """``density``: how many real balls a generated sample lies in, over k.

    ``coverage``: real balls that hold a generated sample.
    """

    density: Estimate
    coverage: Estimate
    k: int
    samples: tuple[int, int]


@dataclass(frozen=True)
class Neighbours(Record):
    """``copied``: the share suspiciously near a training sample.

    The nearest training ``index`` and its ``distance``, (M,) each.
    """

    copied: Estimate
    samples: tuple[int, int]
    index: Tensor = field(repr=False)
    distance: Tensor = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data, with the ten nearest pairs instead of all.

        [generated, training, distance].
        """
        nearest = self.distance.argsort()[:10].tolist()
        plain = {
            key: value
            for key, value in super().to_json().items()
            if key not in ("index", "distance")
        }
        return plain | {
            "nearest": [[i, int(self.index[i]), float(self.distance[i])] for i in nearest]
        }


def precision_recall(x: Points, y: Points, k: int = 3) -> PrecisionRecall:
    """Return improved precision and recall of real x (N, D) and generated y (M, D).

    Both are shares in [0, 1].

    precision = share of y_j with |y_j - x_i| <= r_k(x_i) for some i, where r_k(x_i) is the distance
    of x_i to its k-th nearest other real sample; recall the same with the two sets exchanged. Both
    depend on N and M (compare at equal N) and a single outlier among the real samples, with its
    large ball, lifts the precision. Intervals: Wilson's for the share with the balls held fixed; as
    the balls are drawn too, the true spread is a little larger (1.1 to 1.3 times, where it was
    measured).

    Distances are computed in float64 in blocks: 10,000 against 10,000 samples of 1,280 dimensions
    take 0.6 GB on top of the samples. Raises SteadyganError for shapes that do not fit and for k
    not in 1 .. min(N, M) - 1.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> y = torch.tensor([[0.5], [1.5], [9.0], [2.5]])
    >>> found = precision_recall(x, y, k=1)
    >>> found.precision.value, found.recall.value
    (0.75, 1.0)

    Reference: Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing
    generative models", arXiv:1904.06991.
    """
    shares = _Shares(*_centred(x, y, k), k)
    for rows, squares in _blocks(shares.real, shares.generated):
        shares.see(rows, squares)
    return shares.record()


def density_coverage(x: Points, y: Points, k: int = 5) -> DensityCoverage:
    """Return density and coverage of real x (N, D) and generated y (M, D).

    Density in [0, N/k], coverage a share in [0, 1].

    density = 1/(k M) sum_j #{i: |y_j - x_i| <= r_k(x_i)}, coverage = share of x_i with |y_j - x_i|
    <= r_k(x_i) for some j; r_k as in ``precision_recall``. For N = M samples of one distribution
    the density is 1 and the coverage about 1 - 2^-k in expectation. Intervals: 1.96 standard errors
    of the mean count, over generated samples and over balls; Wilson's for the share, the balls held
    fixed.

    Raises SteadyganError for shapes that do not fit and for k not in 1 .. min(N, M) - 1.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> y = torch.tensor([[0.5], [0.5], [9.0], [9.0]])
    >>> found = density_coverage(x, y, k=1)
    >>> found.density.value, found.coverage.value
    (1.0, 0.5)

    Reference: Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models",
    arXiv:2002.09797.
    """
    counts = _Counts(*_centred(x, y, k), k)
    for rows, squares in _blocks(counts.real, counts.generated):
        counts.see(rows, squares)
    return counts.record()


def manifolds(
    x: Points, y: Points, k: int = 3, balls: int = 5
) -> tuple[PrecisionRecall, DensityCoverage]:
    """Return what ``precision_recall`` and ``density_coverage`` do, from one look at the distances.

    Three matrix products instead of five.

    Args:
        x: real samples (N, D).
        y: generated samples (M, D).
        k: which neighbour bounds the balls of precision and recall.
        balls: the same of density and coverage.

    Raises:
        SteadyganError: as both.

    >>> x, y = torch.randn(2, 50, 3)
    >>> manifolds(x, y) == (precision_recall(x, y), density_coverage(x, y))
    True

    Reference: those of both.
    """
    real, generated = _centred(x, y, max(k, balls))
    _centred(x, y, min(k, balls))
    around = _radii(real, k, balls)
    shares = _Shares(real, generated, k, around[0])
    counts = _Counts(real, generated, balls, around[1])
    for rows, squares in _blocks(real, generated):
        shares.see(rows, squares)
        counts.see(rows, squares)
    return shares.record(), counts.record()


class _Shares:
    """Precision and recall, from blocks of distances."""

    def __init__(
        self, real: Tensor, generated: Tensor, k: int, around_real: Tensor | None = None
    ) -> None:
        self.real, self.generated, self._k = real, generated, k
        self._ours = _radii(real, k)[0] if around_real is None else around_real
        self._theirs = _radii(generated, k)[0]
        self._precise = torch.zeros(len(generated), dtype=torch.bool)
        self._recalled = torch.zeros(len(real), dtype=torch.bool)

    def see(self, rows: slice, squares: Tensor) -> None:
        self._precise |= (squares <= self._ours[rows, None]).any(0)
        self._recalled[rows] = (squares <= self._theirs).any(1)

    def record(self) -> PrecisionRecall:
        return PrecisionRecall(
            "95 % interval: Wilson's for the share, the balls held fixed",
            share_of(self._precise),
            share_of(self._recalled),
            self._k,
            (len(self.real), len(self.generated)),
        )


class _Counts:
    """Density and coverage, from blocks of distances."""

    def __init__(
        self, real: Tensor, generated: Tensor, k: int, around_real: Tensor | None = None
    ) -> None:
        self.real, self.generated, self._k = real, generated, k
        self._radii = _radii(real, k)[0] if around_real is None else around_real
        # Balls around each generated sample, and generated samples within each ball.
        self._around = torch.zeros(len(generated), dtype=torch.float64)
        self._within = torch.zeros(len(real), dtype=torch.float64)

    def see(self, rows: slice, squares: Tensor) -> None:
        inside = squares <= self._radii[rows, None]
        self._around += inside.sum(0)
        self._within[rows] = inside.sum(1).double()

    def record(self) -> DensityCoverage:
        n, m = len(self.real), len(self.generated)
        error = (self._around.var() / m + (self._within * n / m).var() / n).sqrt() / self._k
        method = (
            "95 % intervals: 1.96 standard errors over samples and balls for the density,"
            " Wilson's with the balls held fixed for the coverage"
        )
        density = normal(float(self._around.mean()) / self._k, float(error))
        return DensityCoverage(method, density, share_of(self._within > 0), self._k, (n, m))


def nearest_neighbours(x: Points, y: Points) -> Neighbours:
    """Return the nearest training sample x (N, D) of each generated y (M, D).

    Also the share that looks copied.

    copied = share of y_j that lie nearer to their nearest training sample x_i than x_i lies to its
    own nearest other training sample; one minus it is known as authenticity. A generator that
    stores its training set has 1, one far from the data 0. For fresh samples it is the
    probability that a nearest neighbour is mutual: 2/3 in one dimension, less in more; so hold it
    against that of as many real samples that were kept from training, in the same features.
    ``distance`` is Euclidean, in units of the features.

    Raises SteadyganError for shapes that do not fit and for fewer than two samples.

    >>> x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [5.0, 0.0]])
    >>> y = torch.tensor([[5.0, 0.1], [0.0, 3.0]])
    >>> found = nearest_neighbours(x, y)
    >>> found.copied.value, found.index.tolist(), found.distance.tolist()
    (0.5, [2, 1], [0.1..., 2.0])

    Reference: Alaa et al. 2022, "How faithful is your synthetic data?", arXiv:2102.08921.
    """
    real, generated = _centred(x, y, 1)
    (radii,) = _radii(real, 1)
    nearest = torch.full((len(generated),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(generated), dtype=torch.int64)
    for rows, squares in _blocks(real, generated):
        values, at = squares.min(0)
        closer = values < nearest
        nearest = torch.where(closer, values, nearest)
        index = torch.where(closer, at + rows.start, index)
    method = "95 % interval: Wilson's for the share"
    return Neighbours(
        method, share_of(nearest < radii[index]), (len(real), len(generated)), index, nearest.sqrt()
    )


def _centred(x: Points, y: Points, k: int) -> tuple[Tensor, Tensor]:
    real, generated = as_pair(x, y)
    if not 1 <= k < min(len(real), len(generated)):
        raise SteadyganError(
            f"k must be between 1 and {min(len(real), len(generated)) - 1}, one less than the"
            f" samples, not {k}"
        )
    # |a|^2 - 2ab + |b|^2 loses digits where the samples lie far from the origin.
    return real - real.mean(0), generated - real.mean(0)


def _radii(points: Tensor, *k: int) -> list[Tensor]:
    """Return the squared distance of each point to its k-th nearest other one, for each k."""
    found = torch.empty(len(k), len(points), dtype=torch.float64)
    for rows, squares in _blocks(points, points):
        squares[torch.arange(len(squares)), torch.arange(rows.start, rows.stop)] = torch.inf
        nearest = squares.topk(max(k), dim=1, largest=False).values
        found[:, rows] = nearest[:, [each - 1 for each in k]].T
    return list(found)


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of a and their squared distances to all of b (rows, M)."""
    b_norms = (b**2).sum(1)
    for start in range(0, len(a), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(a)))
        scale = (a[rows] ** 2).sum(1, keepdim=True) + b_norms
        squares = torch.addmm(scale, a[rows], b.T, alpha=-2)
        # Copies are at distance 0, not at what rounding leaves; a radius can be 0 too.
        yield rows, squares.masked_fill_(squares <= 1e-13 * scale, 0.0)
