"""Metrics of point clouds whose truth is known: modes held, distances, closeness to a curve.

Every function takes samples (N, d), ``spread`` those of any shape, works in float64 on the CPU and
keeps no state. A sample that is not finite lies in no mode and near no curve, and a distance
between distributions that meets one is inf: a run that has blown up is measured as infinitely bad,
without a crash.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..core.errors import SteadyganError


class Foot(NamedTuple):
    """The ``distance`` (N,) of samples to a curve, and the ``position`` (N,) of the nearest points.

    A position is a share of the length, in [0, 1].
    """

    distance: Tensor
    position: Tensor


def spread(samples: Tensor) -> float:
    """Return how widely samples (N, *event), N >= 2, differ from each other, in their own units.

    The mean over the event's components of the standard deviation over the samples (of N - 1
    degrees of freedom, so that few samples spread as many do); nan where a sample is not finite.

    >>> round(spread(torch.tensor([[0.0, 7.0], [2.0, 7.0]])), 4)  # sqrt 2 and 0
    0.7071
    """
    return samples.double().std(0).mean().item()


def mode_occupancy(samples: Tensor, centres: Tensor, radius: float) -> Tensor:
    """Return the share of samples that lie within ``radius`` of each centre, (K,) float64.

    A sample counts for its nearest centre only; the distance is Euclidean in all d dimensions.

    Args:
        samples: (N, d).
        centres: (K, d).
        radius: in units of the samples.

    Raises:
        SteadyganError: for shapes that do not fit and for a radius that is not positive.

    >>> samples = torch.tensor([[0.0, 0.1], [0.0, 0.9], [0.0, 5.0], [0.0, 0.0]])
    >>> mode_occupancy(samples, torch.tensor([[0.0, 0.0], [0.0, 1.0]]), 0.2)
    tensor([0.5000, 0.2500], dtype=torch.float64)
    """
    distance, nearest = _nearest(samples, centres)
    return torch.bincount(
        nearest[distance <= _positive("radius", radius)], minlength=len(centres)
    ).double() / len(distance)


def modes_covered(samples: Tensor, centres: Tensor, radius: float, at_least: float = 0.01) -> int:
    """Return how many of the centres (K, d) hold the share ``at_least`` of the samples (N, d).

    To be held a sample lies within ``radius``.

    >>> modes_covered(torch.tensor([[0.0], [0.1], [7.0]]), torch.tensor([[0.0], [1.0]]), radius=0.2)
    1
    """
    return int((mode_occupancy(samples, centres, radius) >= at_least).sum())


def high_quality(samples: Tensor, centres: Tensor, radius: float) -> float:
    """Return the share of samples (N, d) within ``radius`` of one of the centres (K, d).

    >>> x, modes = torch.tensor([[0.0], [0.1], [7.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    >>> high_quality(x, modes, radius=0.2)
    0.75
    """
    return share_within(_nearest(samples, centres)[0], _positive("radius", radius))


def occupancy_kl(samples: Tensor, centres: Tensor) -> float:
    """Return KL(p || uniform) = sum_k p_k log(K p_k) in nats.

    p_k is the share of the samples (N, d) that are nearest to centre k of (K, d).

    It knows no radius: samples far from every mode still have a nearest one, so 0 says that the
    modes are balanced, never that the samples are good. inf where a sample is not finite.

    >>> x, modes = torch.tensor([[0.1], [-0.2]]), torch.tensor([[0.0], [1.0]])
    >>> round(occupancy_kl(x, modes), 6)  # log 2: one mode of two
    0.693147
    """
    distance, nearest = _nearest(samples, centres)
    if not distance.isfinite().all():
        return math.inf
    share = torch.bincount(nearest, minlength=len(centres)).double() / len(nearest)
    return float(torch.special.xlogy(share, share * len(centres)).sum())


def sliced_wasserstein(
    x: Tensor, y: Tensor, projections: int = 128, rng: torch.Generator | None = None
) -> float:
    """Return the sliced Wasserstein-1 distance of x (N, d) and y (M, d), in units of x.

    It is the mean over random unit vectors u of W1(<x, u>, <y, u>).

    W1 in one dimension is the integral over q in [0, 1] of |F_x^-1(q) - F_y^-1(q)|; with N = M that
    is the mean difference of the sorted projections. The directions are drawn from ``rng``, or are
    the same at every call without it. inf where a sample is not finite.

    Raises:
        SteadyganError: for dimensions that differ.

    >>> sliced_wasserstein(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]]))
    2.0

    Reference: Bonneel, Rabin, Peyre and Pfister 2015, "Sliced and Radon Wasserstein barycenters of
    measures".
    """
    x, y = _points("x", x), _points("y", y)
    if x.shape[1] != y.shape[1]:
        raise SteadyganError(
            f"x and y must have the same dimension, not {x.shape[1]} and {y.shape[1]}"
        )
    if projections < 1:
        raise SteadyganError(f"projections must be at least 1, not {projections}")
    if not (x.isfinite().all() and y.isfinite().all()):
        return math.inf
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    u = torch.nn.functional.normalize(
        torch.randn(projections, x.shape[1], generator=rng, dtype=torch.float64), dim=1
    )
    # NumPy sorts three times as fast as torch, to the same values.
    x_sorted, y_sorted = (torch.from_numpy(np.sort((u @ p.T).numpy())) for p in (x, y))
    # Both quantile functions are constant between the levels i/N and j/M, which are whole numbers
    # in units of 1/(N M).
    n, m = len(x), len(y)
    levels = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    widths = levels.diff(prepend=torch.zeros(1, dtype=levels.dtype)).double() / (n * m)
    gaps = (x_sorted[:, (levels - 1) // m] - y_sorted[:, (levels - 1) // n]).abs()
    return float((gaps @ widths).mean())


def wasserstein(x: Tensor, y: Tensor) -> float:
    """Return the Wasserstein-1 distance of x and y, both (N, d), by exact optimal transport.

    W1 = min over permutations s of the mean of |x_i - y_s(i)|, an assignment problem: a second for
    2,048 samples that overlap, several for clouds far apart. Biased upwards like N^(-1/d): two
    draws of one distribution are not at 0. inf where a sample is not finite.

    Raises:
        SteadyganError: for shapes that differ.

    >>> wasserstein(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 2.0], [0.0, 2.0]]))
    2.0

    Reference: Peyré and Cuturi 2019, "Computational optimal transport", section 2.2.
    """
    # Here, because it takes longer to import than what is around it.
    from scipy.optimize import linear_sum_assignment

    x, y = _points("x", x), _points("y", y)
    if x.shape != y.shape:
        raise SteadyganError(
            f"x and y must be samples of one shape, not {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if not (x.isfinite().all() and y.isfinite().all()):
        return math.inf
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return float(cost[linear_sum_assignment(cost.numpy())].mean())


def onto_segments(samples: Tensor, segments: Tensor) -> Foot:
    """Return the feet of samples (N, d) on the nearest of the line segments (S, 2, d).

    Segments are given by their ends. The position runs through them in their order, by length.

    Raises:
        SteadyganError: for segments of another shape or of length zero.

    >>> onto_segments(torch.tensor([[1.0, 2.0]]), torch.tensor([[[0.0, 0.0], [4.0, 0.0]]]))
    Foot(distance=tensor([2.], dtype=torch.float64), position=tensor([0.2500], dtype=torch.float64))
    """
    if segments.ndim != 3 or segments.shape[1] != 2 or segments.shape[2] != samples.shape[-1]:
        raise SteadyganError(
            f"segments must be (S, 2, {samples.shape[-1]}), the ends of each segment, not"
            f" {tuple(segments.shape)}"
        )
    points, ends = _points("samples", samples), segments.detach().cpu().double()
    along = ends[:, 1] - ends[:, 0]
    length = along.norm(dim=1)
    if not (length > 0).all():
        raise SteadyganError("a segment has length zero: its two ends must differ")
    share = ((points[:, None] - ends[:, 0]) * along).sum(2).div(length**2).clamp(0, 1)
    distance, nearest = (
        (points[:, None] - ends[:, 0] - share[..., None] * along).norm(dim=2).min(dim=1)
    )
    before = length.cumsum(0) - length
    travelled = before[nearest] + share.gather(1, nearest[:, None])[:, 0] * length[nearest]
    return Foot(distance, travelled / length.sum())


def onto_circle(samples: Tensor, radius: float) -> Foot:
    """Return the feet of samples (N, 2) on the circle of that radius around the origin.

    The position is the angle from the x-axis over 2 pi.

    Raises:
        SteadyganError: for samples that do not lie in the plane.

    >>> onto_circle(torch.tensor([[0.0, 3.0]]), radius=1)
    Foot(distance=tensor([2.], dtype=torch.float64), position=tensor([0.2500], dtype=torch.float64))
    """
    points = _points("samples", samples)
    if points.shape[1] != 2:
        raise SteadyganError(
            f"a circle lies in the plane: samples must be (N, 2), not {tuple(samples.shape)}"
        )
    angle = torch.atan2(points[:, 1], points[:, 0])
    return Foot(
        (points.norm(dim=1) - _positive("radius", radius)).abs(),
        (angle / (2 * math.pi)).remainder(1),
    )


def share_within(distance: Tensor, tolerance: float) -> float:
    """Return the share of the distances (N,) that are at most ``tolerance``.

    >>> share_within(torch.tensor([0.0, 0.1, 0.2, float("nan")]), 0.15)
    0.5
    """
    return float((distance <= tolerance).double().mean())


def coverage(foot: Foot, tolerance: float, bins: int = 50) -> float:
    """Return the share of ``bins`` equal lengths of a curve that hold a sample near it.

    Near is within ``tolerance``.

    >>> foot = Foot(torch.tensor([0.0, 0.0, 9.0]), position=torch.tensor([0.1, 0.2, 0.8]))
    >>> coverage(foot, tolerance=0.1, bins=2)
    0.5
    """
    if bins < 1:
        raise SteadyganError(f"bins must be at least 1, not {bins}")
    position = foot.position[foot.distance <= tolerance]
    # The far end, position 1, belongs to the last bin.
    held: int = (position * bins).long().clamp(max=bins - 1).unique().numel()
    return held / bins


def _nearest(samples: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    points, centres = _points("samples", samples), _points("centres", centres)
    if points.shape[1] != centres.shape[1]:
        raise SteadyganError(
            f"samples and centres must have the same dimension, not {points.shape[1]} and"
            f" {centres.shape[1]}"
        )
    # The default of cdist goes through |a|^2 - 2ab + |b|^2, which loses the small distances that
    # the radii ask about.
    nearest = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    return nearest.values, nearest.indices


def _points(what: str, given: Tensor) -> Tensor:
    if given.ndim != 2 or not given.numel():
        raise SteadyganError(
            f"{what} must be points of shape (N, d), at least one, not {tuple(given.shape)}"
        )
    return given.detach().cpu().double()


def _positive(what: str, given: float) -> float:
    if not given > 0:
        raise SteadyganError(f"{what} must be a number > 0, not {given}")
    return given
