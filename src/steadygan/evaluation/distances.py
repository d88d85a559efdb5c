"""One function for each number, on plain arrays (N, D), NumPy or torch: x real, y generated.

Each returns a record of estimates.

Every interval covers 95 % of the luck of the draw. It never covers the bias that some of the
numbers have with the number of samples, so compare at equal N; docs/evaluating.md says what each
number can and cannot tell.

>>> x, y = torch.randn(200, 3), torch.randn(200, 3) * 1.5 + 1
>>> frechet_distance(x, y).distance.low > 1 and precision_recall(x, y).precision.high < 1
True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.errors import SteadyganError
from ..problems import measures
from .estimate import Estimate, Points, Record, as_pair, as_points, mean_of, normal
from .frechet import FrechetDistance, FrechetExtrapolation, frechet_distance, frechet_extrapolation
from .lpips import LpipsDiversity, lpips_diversity
from .manifold import (
    DensityCoverage,
    Neighbours,
    PrecisionRecall,
    density_coverage,
    manifolds,
    nearest_neighbours,
    precision_recall,
)


@dataclass(frozen=True)
class Distance(Record):
    """A ``distance`` with its ``samples`` (real, generated)."""

    distance: Estimate
    samples: tuple[int, int]


@dataclass(frozen=True)
class InceptionScore(Record):
    """A ``score`` in [1, classes] with its number of ``samples``."""

    score: Estimate
    samples: int


def kernel_distance(
    x: Points,
    y: Points,
    subsets: int = 10,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    seed: int = 0,
) -> Distance:
    """Return the kernel (Inception) distance, KID.

    The squared MMD of x (N, D) and y (M, D) with the kernel (gamma <a, b> + coef)^degree.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y) over different samples x, x', gamma 1/D by
    default: unbiased at every N, so it may be negative. Both samples are shuffled by the seed and
    cut into disjoint ``subsets``; the value is the mean over them and the interval Student's, as
    they are independent (older tools draw overlapping subsets, whose spread says too little). Of
    the order of 0.001 to 1.

    Raises SteadyganError for shapes that do not fit and for fewer than two samples a subset.

    >>> x = torch.tensor([[1.0], [1.0]])
    >>> kernel_distance(x, 2 * x, subsets=1).distance.value  # 2^3 + 5^3 - 2 * 3^3
    79.0

    Reference: Bińkowski et al. 2018, "Demystifying MMD GANs", arXiv:1801.01401.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T * (1 / a.shape[1] if gamma is None else gamma) + coef) ** degree

    return _discrepancy(x, y, kernel, subsets, seed)


def energy_distance(x: Points, y: Points, subsets: int = 10, seed: int = 0) -> Distance:
    """Return the energy distance 2 E|x - y| - E|x - x'| - E|y - y'| of x (N, D) and y (M, D).

    In units of x; unbiased, so it may be < 0.

    It is 0 only for equal distributions, whatever their shape; meant for vectors, where it needs no
    features. Subsets and interval as in ``kernel_distance``. Raises SteadyganError for shapes that
    do not fit and for fewer than two samples a subset.

    >>> x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [6.0]])
    >>> energy_distance(x, y, subsets=1).distance.value  # 2 * 4.5 - 2 - 1
    6.0

    Reference: Székely and Rizzo 2013, "Energy statistics: a class of statistics based on
    distances".
    """
    return _discrepancy(
        x,
        y,
        lambda a, b: -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist"),
        subsets,
        seed,
    )


def sliced_wasserstein(
    x: Points, y: Points, projections: int = 256, replicates: int = 20, seed: int = 0
) -> Distance:
    """Return the sliced Wasserstein-1 distance of x (N, D) and y (M, D), in units of x.

    The mean over unit u of W1(<x, u>, <y, u>).

    The interval is 1.96 standard deviations of bootstrap ``replicates`` of both samples, around the
    value, because the replicates themselves lie too high; the directions stay the same. Biased
    upwards like 1/sqrt(N). Raises SteadyganError for shapes that do not fit.

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]])
    >>> sliced_wasserstein(x, y).distance.value
    2.0

    Reference: Bonneel et al. 2015, "Sliced and Radon Wasserstein barycenters of measures".
    """
    real, generated = as_pair(x, y)
    rng = np.random.default_rng(seed)
    value = measures.sliced_wasserstein(real, generated, projections)
    drawn = [
        measures.sliced_wasserstein(_again(real, rng), _again(generated, rng), projections)
        for _ in range(replicates)
    ]
    method = (
        f"95 % interval: 1.96 bootstrap standard deviations, {replicates} replicates, seed"
        f" {seed}; {projections} directions"
    )
    return Distance(
        method, normal(value, float(np.std(drawn, ddof=1))), (len(real), len(generated))
    )


def inception_score(probabilities: Points, splits: int = 10, seed: int = 0) -> InceptionScore:
    """Return the inception score exp(E KL(p(k|y) || p(k))) of class probabilities (N, K).

    Of generated samples; in [1, K], more is better.

    Shuffled by the seed and cut into disjoint ``splits``: the value is the mean of their scores,
    the interval Student's. It never looks at real data, and grows with the samples in a split.
    Raises SteadyganError for rows that are no probabilities and for too many splits.

    >>> sure = torch.eye(4).repeat(25, 1)  # of each, and all four classes alike
    >>> round(inception_score(sure, splits=1).score.value, 6)
    4.0

    Reference: Salimans et al. 2016, "Improved techniques for training GANs", arXiv:1606.03498.
    """
    p = as_points("probabilities", probabilities)
    if (p < 0).any() or not torch.allclose(
        p.sum(1), torch.ones(len(p), dtype=torch.float64), atol=1e-3
    ):
        raise SteadyganError(
            "inception_score takes probabilities: every row must be >= 0 and sum to 1; apply a"
            " softmax to logits first"
        )
    parts = _parts("probabilities", p, splits, 1, np.random.default_rng(seed))
    scores = [
        (torch.special.xlogy(q, q) - torch.special.xlogy(q, q.mean(0))).sum(1).mean().exp()
        for q in parts
    ]
    method = f"mean of {splits} disjoint splits, seed {seed}; 95 % interval: Student's"
    return InceptionScore(method, mean_of(torch.stack(scores)), len(p))


def _discrepancy(
    x: Points, y: Points, kernel: Callable[[Tensor, Tensor], Tensor], subsets: int, seed: int
) -> Distance:
    """Return the mean over disjoint subsets of E k(x, x') + E k(y, y') - 2 E k(x, y).

    Pairs of a sample with itself are left out.
    """
    real, generated = as_pair(x, y)
    rng = np.random.default_rng(seed)
    pairs = zip(
        _parts("x", real, subsets, 2, rng), _parts("y", generated, subsets, 2, rng), strict=True
    )
    values = [
        _within(kernel(a, a)) + _within(kernel(b, b)) - 2 * kernel(a, b).mean() for a, b in pairs
    ]
    method = f"mean of {subsets} disjoint subsets, seed {seed}; 95 % interval: Student's"
    return Distance(method, mean_of(torch.stack(values)), (len(real), len(generated)))


def _again(points: Tensor, rng: np.random.Generator) -> Tensor:
    """Return as many samples, drawn with replacement."""
    return points[rng.integers(len(points), size=len(points))]


def _within(values: Tensor) -> Tensor:
    n = len(values)
    return (values.sum() - values.diagonal().sum()) / (n * (n - 1))


def _parts(
    what: str, points: Tensor, parts: int, at_least: int, rng: np.random.Generator
) -> list[Tensor]:
    """Return disjoint parts of one size, at random; what is left over is not used."""
    size = len(points) // max(parts, 1)
    if parts < 1 or size < at_least:
        raise SteadyganError(
            f"{what}: {len(points)} samples cannot be cut into {parts} parts of at least"
            f" {at_least}; ask for fewer parts"
        )
    order = rng.permutation(len(points))
    return [points[order[i * size : (i + 1) * size]] for i in range(parts)]


__all__ = [
    "DensityCoverage",
    "Distance",
    "FrechetDistance",
    "FrechetExtrapolation",
    "InceptionScore",
    "LpipsDiversity",
    "Neighbours",
    "PrecisionRecall",
    "density_coverage",
    "energy_distance",
    "frechet_distance",
    "frechet_extrapolation",
    "inception_score",
    "kernel_distance",
    "lpips_diversity",
    "manifolds",
    "nearest_neighbours",
    "precision_recall",
    "sliced_wasserstein",
]
