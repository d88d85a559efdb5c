"""Kaplan and Meier's curve, the log-rank test and areas, against tables worked out by hand."""

import math

import numpy as np
import pytest
from scipy.stats import CensoredData, ecdf, logrank, mannwhitneyu

from steadygan.experiments.lifetimes import (
    Lifetimes,
    alarms,
    area,
    area_over_runs,
    kaplan_meier,
    log_rank,
)

# Freireich et al. 1963: weeks of remission of 21 children with 6-MP and 21 without; a plus is
# censored. The table of the first stands in Kalbfleisch and Prentice 1980.
DRUG = "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+"
PLACEBO = "1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"


def read(text):
    each = text.split()
    return Lifetimes(
        np.array([int(t.rstrip("+")) for t in each]), np.array(["+" not in t for t in each])
    )


def drawn(rng, n, ends=12):
    return Lifetimes(rng.integers(1, ends, n), rng.random(n) < 0.6)


def test_the_curve_of_a_table_that_was_worked_out_by_hand():
    curve = kaplan_meier(read(DRUG))
    assert curve.times.tolist() == [0, 6, 7, 10, 13, 16, 22, 23]
    by_hand = np.cumprod([1, 18 / 21, 16 / 17, 14 / 15, 11 / 12, 10 / 11, 6 / 7, 5 / 6])
    assert curve.survival == pytest.approx(by_hand)
    # Greenwood's standard error at 10 weeks is 0.0963 in the published table.
    greenwood = by_hand[3] * math.sqrt(3 / (21 * 18) + 1 / (17 * 16) + 1 / (15 * 14))
    assert greenwood == pytest.approx(0.0963, abs=5e-5)
    reach = 1.959964 * greenwood / by_hand[3] / abs(math.log(by_hand[3]))
    assert curve.low[3] == pytest.approx(by_hand[3] ** math.exp(reach))
    assert curve.high[3] == pytest.approx(by_hand[3] ** math.exp(-reach))
    assert curve.median() == 23 and kaplan_meier(read(PLACEBO)).median() == 8


def test_without_censoring_the_curve_is_the_share_that_is_left():
    times = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    curve = kaplan_meier(Lifetimes(times, np.full(8, True)))
    assert curve.survival == pytest.approx([(times > t).mean() for t in curve.times])
    assert curve.survival[-1] == 0 == curve.low[-1] and curve.high[-1] == curve.high[-2] < 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore:The confidence interval is undefined")
def test_the_curve_and_its_interval_are_scipys(seed):
    seen = drawn(np.random.default_rng(seed), 40)
    theirs = ecdf(CensoredData.right_censored(seen.times, ~seen.ended)).sf
    ours = kaplan_meier(seen)
    assert theirs.evaluate(ours.times) == pytest.approx(ours.survival)
    inside = (ours.survival > 0) & (ours.survival < 1)
    band = theirs.confidence_interval(method="log-log")
    for end, own in ((band.low, ours.low), (band.high, ours.high)):
        assert end.evaluate(ours.times)[inside] == pytest.approx(own[inside])


def test_nothing_that_ends_and_nothing_at_all():
    for n in (5, 0):
        curve = kaplan_meier(Lifetimes(np.arange(n), np.full(n, False)))
        assert curve.times.tolist() == [0] and curve.survival.tolist() == [1]
        assert curve.median() == math.inf


def test_the_log_rank_test_of_the_table():
    found = log_rank(read(DRUG), read(PLACEBO))
    # Published: 9 of 19.25 expected, 21 of 10.75 without the drug, chi-squared 16.79.
    assert (found.observed, found.ends) == (9, 30)
    assert found.expected == pytest.approx(19.25, abs=0.005)
    assert found.p == pytest.approx(math.erfc(math.sqrt(16.793 / 2)), rel=1e-3)
    other = log_rank(read(PLACEBO), read(DRUG))
    assert other.p == pytest.approx(found.p) and other.observed == 21
    assert other.expected + found.expected == pytest.approx(30)


@pytest.mark.parametrize("seed", range(3))
def test_the_log_rank_test_is_scipys(seed):
    rng = np.random.default_rng(seed)
    x, y = drawn(rng, 25), drawn(rng, 31, ends=20)
    theirs = logrank(*(CensoredData.right_censored(s.times, ~s.ended) for s in (x, y)))
    assert log_rank(x, y).p == pytest.approx(theirs.pvalue)


def test_a_group_that_nothing_happens_to_says_nothing():
    still, none = (Lifetimes(np.arange(n), np.full(n, False)) for n in (4, 0))
    assert log_rank(still, still).p == 1 and log_rank(none, read(PLACEBO)).p == 1


def test_areas_and_alarms():
    rng = np.random.default_rng(0)
    healthy, ill = rng.integers(0, 6, 40).astype(float), rng.integers(2, 9, 25).astype(float)
    theirs = mannwhitneyu(ill, healthy).statistic / 40 / 25
    assert area(healthy, ill) == pytest.approx(theirs)
    false, true = alarms(healthy, ill)
    assert np.trapezoid(true, false) == pytest.approx(theirs)
    assert area(ill, healthy) == pytest.approx(1 - theirs) and math.isnan(area(ill[:0], ill))


def test_the_interval_of_an_area_is_over_runs_and_not_over_values():
    rng = np.random.default_rng(1)
    runs = [(rng.normal(size=5), rng.normal(loc=1, size=3)) for _ in range(30)]
    once = area_over_runs(runs)
    assert once.low < once.value < once.high and once == area_over_runs(runs)
    # Of two normal values with means one apart: Phi(1/sqrt(2)).
    assert once.low < 0.7602 < once.high
    repeated = area_over_runs([(np.tile(h, 9), np.tile(i, 9)) for h, i in runs])
    assert repeated == pytest.approx(once)
