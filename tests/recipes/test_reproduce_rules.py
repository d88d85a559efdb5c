"""The rules of verdicts: each can say yes, no and undecided, takes the seeds that it names, and
more noise is never more yes."""

import math

import pytest
from scipy.stats import binomtest

from steadygan.evaluation.estimate import Estimate
from steadygan.experiments.lifetimes import LogRank
from steadygan.experiments.rules import (
    FEW,
    RULES,
    SIGN,
    Course,
    Fate,
    every,
    opposite,
    sign_test,
)

LONG = 100
STANDS, PARTLY, FELL, WON, BLEW, UNLEARNED = Fate


def run(fate, made=LONG, stood=None):
    return Course(fate, made, (made if fate in (STANDS, PARTLY) else 0) if stood is None else stood)


def runs(*fates, **more):
    return [run(fate, **more) for fate in fates], LONG


def groups(*fates, **more):
    return [runs(*fates, **more)[0], runs(STANDS, STANDS, STANDS)[0]], LONG


INF, NAN = math.inf, math.nan
CASES = {
    "within": [((1.0, 1.1, 0.2), True), ((1.0, 1.3, 0.2), False), ((NAN, 1.0, 9.0), False),
               ((INF, 1.0, 9.0), False), ((None, 1.0, 0.2), None)],
    "fact": [((True,), True), ((False,), False), ((None,), None)],
    "learns": [(runs(STANDS, STANDS, STANDS), True), (runs(STANDS, STANDS, FELL), False),
               (runs(STANDS, STANDS, WON, made=3), False), (runs(STANDS, STANDS, BLEW), False),
               (runs(STANDS, STANDS, UNLEARNED), False), (runs(STANDS, STANDS, PARTLY), False),
               (runs(STANDS, STANDS, UNLEARNED, made=3), None),
               (runs(STANDS, STANDS, PARTLY, made=3), None), (runs(STANDS, STANDS), None),
               (runs(FELL), False)],
    "lasts": [(runs(STANDS, STANDS, PARTLY), True), (runs(STANDS, STANDS, FELL, made=3), False),
              (runs(STANDS, STANDS, UNLEARNED), False),
              (runs(STANDS, STANDS, STANDS, made=3), None),
              (runs(STANDS, STANDS, UNLEARNED, made=3), None), (runs(STANDS, STANDS), None)],
    "unstable": [(runs(STANDS, STANDS, FELL), True), (runs(WON, made=3), True),
                 (runs(STANDS, STANDS, STANDS), False), (runs(STANDS, STANDS), None),
                 (runs(STANDS, STANDS, STANDS, made=3), None),
                 (runs(STANDS, STANDS, UNLEARNED), None), (runs(*[UNLEARNED] * 3), None)],
    "collapses": [(runs(FELL, WON, BLEW), True), (runs(FELL, FELL, FELL, UNLEARNED), True),
                  (runs(FELL, FELL, FELL, STANDS), False), (runs(FELL, FELL, FELL, PARTLY), False),
                  (runs(FELL, FELL, FELL, STANDS, stood=3), None), (runs(FELL, FELL), None),
                  (runs(*[UNLEARNED] * 5), None)],
    "keeps": [(groups(STANDS, STANDS, PARTLY), True), (groups(*[STANDS] * 3, UNLEARNED), True),
              (groups(STANDS, STANDS, FELL), False), (groups(FELL), False),
              (groups(STANDS, STANDS, WON), False), (groups(*[STANDS] * 3, stood=3), None),
              (groups(STANDS), None), (groups(*[UNLEARNED] * 3), None)],
    "smaller": [(([1, 2, 3], [4, 5, 6]), True), (([4, 5, 6], [1, 2, 3]), False),
                (([1, 2, 4.5], [4, 5, 6]), None), (([1, 1], [2, 2]), None),
                (([1] * 6, [2] * 6), True), (([2] * 6, [1] * 6), False),
                (([1] * 5 + [2], [2] * 5 + [2]), None), (([1] * 6, [1] * 6), None),
                (([1] * 7 + [3], [2] * 8), None), (([1] * 8 + [3], [2] * 9), True),
                (([INF] * 3, [INF] * 3), None), (([1, 2, 3], [INF] * 3), True),
                (([INF] * 3, [1, 2, 3]), False), (([1, 2, NAN], [4, 5, 6]), None),
                (([1, 2, INF], [4, 5, INF]), None)],
    "side": [(([0.6, 0.7, 0.9], 0.5), True), (([0.1, 0.2, 0.4], 0.5), False),
             (([0.6, 0.7, 0.4], 0.5), None), (([0.9, 0.9], 0.5), None), (([0.9] * 6, 0.5), True),
             (([0.1] * 6, 0.5), False), (([0.9] * 6 + [0.1], 0.5), None), (([0.5] * 6, 0.5), None)],
    "below": [((Estimate(1, 0, 2), 2.0), True), ((Estimate(4, 3, 5), 2.0), False),
              ((Estimate(1, -4, 6), 2.0), None), ((Estimate(INF, INF, INF), 2.0), False),
              ((Estimate(NAN, NAN, NAN), 2.0), None)],
    "above": [((Estimate(0.9, 0.8, 0.95), 0.7, 6), True),
              ((Estimate(0.5, 0.4, 0.6), 0.7, 6), False),
              ((Estimate(0.9, 0.6, 1.0), 0.7, 6), None),
              ((Estimate(0.9, 0.8, 0.95), 0.7, 5), None),
              ((Estimate(NAN, NAN, NAN), 0.7, 9), None)],
    "later": [((LogRank(2, 6.0, 12, 9, 0.01),), True), ((LogRank(9, 6.0, 12, 6, 0.01),), False),
              ((LogRank(5, 6.0, 12, 9, 0.6),), None), ((LogRank(0, 3.0, 5, 9, 0.01),), None),
              ((LogRank(2, 6.0, 12, 5, 0.01),), None)],
    "apart": [(((1, 2), (3, 4)), True), (((3, 4), (1, 2)), False), (((1, 3), (2, 4)), None)],
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_yes_no_and_undecided(name):
    answers = {RULES[name](*given) for given, _ in CASES[name]}
    assert answers == {True, False, None}
    for given, expected in CASES[name]:
        assert RULES[name](*given) is expected, (name, given)
    assert all((RULES[name].yes, RULES[name].no, RULES[name].undecided))


def test_the_rules_are_those_that_are_tested():
    assert CASES.keys() == RULES.keys()


def test_the_exact_sign_test_against_another_implementation():
    for ahead in range(12):
        for behind in range(12 - ahead):
            if ahead + behind:
                expected = binomtest(ahead, ahead + behind).pvalue
                assert sign_test(ahead, behind) == pytest.approx(expected, rel=1e-12)
    assert sign_test(SIGN, 0) < 0.05 < sign_test(SIGN - 1, 0)


@pytest.mark.parametrize("name", ["learns", "lasts", "collapses", "keeps", "smaller", "side"])
def test_a_rule_takes_the_runs_that_it_names(name):
    yes = next(given for given, answer in CASES[name] if answer is True)
    fewer = {
        "keeps": lambda groups, enough: ([groups[0][: FEW - 1]], enough),
        "smaller": lambda a, b: (a[: FEW - 1], b[: FEW - 1]),
    }.get(name, lambda given, more: (given[: FEW - 1], more))
    assert RULES[name].seeds == FEW and RULES[name](*fewer(*yes)) is None


def test_more_noise_is_less_certain():
    for value, sure in ((1.0, True), (3.0, False)):
        answers = [
            RULES["below"](Estimate(value, value - reach, value + reach), 2.0) for reach in (0.5, 9)
        ]
        assert answers == [sure, None]


def test_one_no_is_a_no_and_the_opposite_of_undecided_is_undecided():
    assert every([False, None, True]) is False and every([True] * FEW) is True
    assert every([True, True, None]) is None and every([]) is None
    assert [opposite(v) for v in (True, False, None)] == [False, True, None]
