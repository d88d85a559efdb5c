"""Times until something happens, some of them censored, and how well numbers foretell it.

Kaplan and Meier's curve, the log-rank test, and the area under the curve of true and false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..evaluation.estimate import Estimate, Z

RESAMPLED = 1000
"""How often the runs are drawn again for the interval of an area."""


class Lifetimes(NamedTuple):
    """How long each of n runs was seen, and whether it ended then.

    Attributes:
        times: (n,), in iterations; 0 and more.
        ended: (n,) bool; where it is false the run was only not seen any longer: it is censored.
    """

    times: np.ndarray
    ended: np.ndarray


class SurvivalCurve(NamedTuple):
    """An estimated survival function, constant between its times, the first of which is 0.

    Attributes:
        times: (m,), of the ends.
        survival: (m,), the probability of lasting longer.
        low: (m,), the lower end of the 95 % interval at each time.
        high: (m,), the upper one.
    """

    times: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def median(self) -> float:
        """Return the first time at which at most half are left; infinite where more are."""
        below = np.flatnonzero(self.survival <= 0.5)
        return float(self.times[below[0]]) if len(below) else math.inf


class LogRank(NamedTuple):
    """What the log-rank test says of one group against another.

    Attributes:
        observed: How many of the group ended.
        expected: How many would have if both ended alike.
        ends: Of both groups together.
        runs: How many the smaller group has.
        p: The two-sided probability of so large a difference.
    """

    observed: int
    expected: float
    ends: int
    runs: int
    p: float


def kaplan_meier(seen: Lifetimes) -> SurvivalCurve:
    """Return the product-limit estimate S(t) = prod over ends t_i <= t of (1 - d_i / n_i).

    d_i runs ended at t_i of the n_i that were seen until then; one that is censored at t_i counts.
    The interval is S^exp(-/+ 1.96 s), s^2 = sum d_i / (n_i (n_i - d_i)) / log(S)^2, of log(-log S)
    by Greenwood's formula, which stays within 0 and 1. Before the first end it has no width; at 0,
    where there is none, it reaches up to where it did before.

    >>> curve = kaplan_meier(Lifetimes(np.array([1, 2, 2, 3]), np.array([True, True, False, True])))
    >>> curve.times.tolist(), curve.survival.tolist()
    ([0, 1, 2, 3], [1.0, 0.75, 0.5, 0.0])

    Reference: Kaplan and Meier 1958; Greenwood 1926; Kalbfleisch and Prentice 1980.
    """
    ends = np.unique(seen.times[seen.ended])
    risk = np.array([(seen.times >= t).sum() for t in ends], dtype=float)
    died = np.array([(seen.ended & (seen.times == t)).sum() for t in ends], dtype=float)
    survival = np.cumprod(1 - died / risk)
    low, high = np.zeros(len(ends)), np.ones(len(ends))
    some = survival > 0
    variance = np.cumsum(died[some] / (risk[some] * (risk[some] - died[some])))
    reach = Z * np.sqrt(variance) / np.abs(np.log(survival[some]))
    low[some], high[some] = (survival[some] ** np.exp(sign * reach) for sign in (1, -1))
    if len(ends) > 1 and not some[-1]:
        high[-1] = high[-2]
    first = np.ones(1)
    return SurvivalCurve(
        np.concatenate([np.zeros(1, seen.times.dtype), ends]),
        *(np.concatenate([first, each]) for each in (survival, low, high)),
    )


def log_rank(ours: Lifetimes, theirs: Lifetimes) -> LogRank:
    """Return the log-rank test of one group against another.

    At each end t_i, d_i of n_i runs of both groups end, of which n_i1 are ours: d_i n_i1 / n_i are
    expected, with the variance d_i (n_i1/n_i) (1 - n_i1/n_i) (n_i - d_i)/(n_i - 1). The sum of the
    differences, squared, over that of the variances is chi-squared with one degree of freedom.

    >>> early, late = (Lifetimes(np.arange(1, 9) + x, np.full(8, True)) for x in (0, 8))
    >>> found = log_rank(late, early)
    >>> found.observed, round(found.expected, 2), found.p < 0.001
    (8, 13.3, True)

    Reference: Mantel 1966; Peto and Peto 1972.
    """
    both = [np.concatenate(pair) for pair in zip(ours, theirs, strict=True)]
    expected = variance = 0.0
    for t in np.unique(both[0][both[1]]):
        n, n1 = (both[0] >= t).sum(), (ours.times >= t).sum()
        d, share = (both[1] & (both[0] == t)).sum(), n1 / n
        expected += d * share
        if n > 1:
            variance += d * share * (1 - share) * (n - d) / (n - 1)
    observed = int(ours.ended.sum())
    squared = (observed - expected) ** 2 / variance if variance else 0.0
    runs = min(len(ours.times), len(theirs.times))
    p = math.erfc(math.sqrt(squared / 2))
    return LogRank(observed, float(expected), int(both[1].sum()), runs, p)


def alarms(healthy: np.ndarray, ill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of false and of true alarms (m,) at every threshold, from none to all.

    >>> [share.tolist() for share in alarms(np.array([1.0, 2.0]), np.array([2.0, 3.0]))]
    [[0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0]]
    """
    bars = np.unique(np.concatenate([healthy, ill]))[::-1]

    def shares(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros(1), (values >= bars[:, None]).mean(1)])

    return shares(healthy), shares(ill)


def area(healthy: np.ndarray, ill: np.ndarray) -> float:
    """Return the probability that an ill value exceeds a healthy one, ties as one half.

    That is the area under the curve of ``alarms``: 1 where a threshold tells all of them apart,
    1/2 where the values say nothing. NaN without a value of either kind.

    >>> area(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.875

    Reference: Hanley and McNeil 1982.
    """
    if not (len(healthy) and len(ill)):
        return math.nan
    ordered = np.sort(healthy)
    below, upto = (np.searchsorted(ordered, ill, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(healthy))


def area_over_runs(
    runs: Sequence[tuple[np.ndarray, np.ndarray]], draws: int = RESAMPLED
) -> Estimate:
    """Return the area of all values together, with its 95 % interval over runs.

    The values of one run are not independent, so whole runs are drawn anew, with replacement and
    always the same ones; a draw without one of the two kinds does not count.

    Args:
        runs: The healthy and the ill values of each.
        draws: How often.

    Reference: Efron and Tibshirani 1993, the bootstrap of clusters.
    """
    rng = np.random.default_rng(0)

    def of(chosen: Sequence[int]) -> float:
        healthy, ill = (np.concatenate([runs[i][kind] for i in chosen]) for kind in (0, 1))
        return area(healthy, ill)

    found = np.array([of(rng.integers(len(runs), size=len(runs)).tolist()) for _ in range(draws)])
    found = found[np.isfinite(found)]
    value = of(range(len(runs)))
    if not len(found):
        return Estimate(value, math.nan, math.nan)
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
