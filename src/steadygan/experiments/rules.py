"""The rules by which a claim holds, does not, or is undecided.

Written once, before anything is run. A rule sees numbers or the courses of runs, never what one
would like them to say. Each of them can say yes and no; what is too short, too few or too noisy
is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ..evaluation.estimate import Estimate
from .lifetimes import LogRank

SIGN = 6
"""Seeds from which on a sign test can decide: six of six have p = 1/32, five of five 1/16."""

FEW = 3
"""Runs of a setting that a rule over every single run takes at least: three of one against three
of another are all in order by chance once in ten times either way."""

LEVEL = 0.05
"""Probability, of both sides together, below which the sign test decides."""

Verdict = bool | None


class Fate(StrEnum):
    """How a run ended, in words.

    Only a run that had learned can fall; untrained is not unstable.
    """

    STANDS = "stands"
    PARTLY = "has learned a part"
    FELL = "had learned and lost it"
    WON = "its critic has won"
    BLEW_UP = "blew up"
    UNLEARNED = "has not learned"


FALLEN = (Fate.FELL, Fate.WON, Fate.BLEW_UP)


class Course(NamedTuple):
    """A run's fate, and how many iterations it made.

    And for how many of them it stood after it had learned.
    """

    fate: Fate
    made: int
    stood: int


@dataclass(frozen=True)
class Rule:
    """A rule: what makes it yes, no and undecided, in words.

    With the seeds that a yes or no takes, 0 where nothing is random, and the function that decides.
    """

    name: str
    yes: str
    no: str
    undecided: str
    seeds: int
    decide: Callable[..., Verdict]

    def __call__(self, *args: Any) -> Verdict:
        """Return True, False, or None for undecided."""
        return self.decide(*args)


def last_third(n: int) -> slice:
    """Return the last third of n things in a row, of at least one: what a run has come to.

    One snapshot can mislead.

    >>> list(range(9))[last_third(9)], list(range(2))[last_third(2)]
    ([6, 7, 8], [1])
    """
    return slice(n - max(1, n // 3), None)


def opposite(verdict: Verdict) -> Verdict:
    """Return the verdict on the opposite claim: undecided stays undecided."""
    return None if verdict is None else not verdict


def every(verdicts: Iterable[Verdict], least: int = FEW) -> Verdict:
    """Return what verdicts on single runs come to.

    One no is a no, and a yes takes at least ``least`` of them and nothing else.

    >>> every([True] * 3), every([True] * 2), every([True, False]), every([True, True, None])
    (True, None, False, None)
    """
    found = list(verdicts)
    if False in found:
        return False
    return None if None in found or len(found) < least else True


def sign_test(ahead: int, behind: int) -> float:
    """Return the two-sided probability of the exact sign test, 1 without any pair that differs.

    >>> sign_test(6, 0), sign_test(5, 0), sign_test(7, 1), sign_test(0, 0)
    (0.03125, 0.0625, 0.0703125, 1.0)

    Reference: Arbuthnot 1710; Conover 1999, section 3.4.
    """
    n = ahead + behind
    tail = sum(math.comb(n, k) for k in range(min(ahead, behind) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def _side(ahead: int, behind: int) -> Verdict:
    return ahead > behind if sign_test(ahead, behind) < LEVEL else None


def _within(measured: float | None, expected: float, within: float) -> Verdict:
    return None if measured is None else bool(abs(measured - expected) <= within)


def _learns(runs: Sequence[Course], enough: int) -> Verdict:
    return every(
        False if run.fate in FALLEN else None if run.made < enough else run.fate is Fate.STANDS
        for run in runs
    )


def _lasts(runs: Sequence[Course], enough: int) -> Verdict:
    return every(
        False
        if run.fate in FALLEN
        else None
        if run.made < enough
        else run.fate is not Fate.UNLEARNED
        for run in runs
    )


def _unstable(runs: Sequence[Course], enough: int) -> Verdict:
    if any(run.fate in FALLEN for run in runs):
        return True
    alive = all(run.made >= enough and run.fate is not Fate.UNLEARNED for run in runs)
    return False if alive and len(runs) >= FEW else None


def _collapses(runs: Sequence[Course], enough: int) -> Verdict:
    able = [run for run in runs if run.fate is not Fate.UNLEARNED]
    return every(
        True if run.fate in FALLEN else False if run.stood >= enough else None for run in able
    )


def _keeps(groups: Sequence[Sequence[Course]], enough: int) -> Verdict:
    able = [[run for run in runs if run.fate is not Fate.UNLEARNED] for runs in groups]
    each = [
        every(
            False if run.fate in FALLEN else True if run.stood >= enough else None for run in runs
        )
        for runs in able
    ]
    return every(each, least=1)


def _smaller(ours: Sequence[float], theirs: Sequence[float]) -> Verdict:
    pairs = known(ours, theirs)
    if len(pairs) >= SIGN:
        return _side(sum(a < b for a, b in pairs), sum(a > b for a, b in pairs))
    if len(pairs) < FEW:
        return None
    a, b = zip(*pairs, strict=True)
    return True if max(a) < min(b) else False if min(a) > max(b) else None


def known(ours: Sequence[float], theirs: Sequence[float]) -> list[tuple[float, float]]:
    """Return the pairs that can say something: no side unknown (NaN), not both infinitely far."""
    return [
        (a, b)
        for a, b in zip(ours, theirs, strict=True)
        if not (math.isnan(a) or math.isnan(b) or a == b == math.inf)
    ]


def _side_of(values: Sequence[float], bar: float) -> Verdict:
    there = [value for value in values if not math.isnan(value)]
    above, below = (sum(v > bar for v in there), sum(v < bar for v in there))
    if len(there) >= SIGN:
        return _side(above, below)
    if len(there) < FEW:
        return None
    return True if above == len(there) else False if below == len(there) else None


def _below(found: Estimate, bar: float) -> Verdict:
    return True if found.high <= bar else False if found.low > bar else None


def _above(found: Estimate, bar: float, ends: int) -> Verdict:
    if ends < SIGN:
        return None
    return True if found.low >= bar else False if found.high < bar else None


def _later(test: LogRank) -> Verdict:
    if min(test.ends, test.runs) < SIGN or test.p >= LEVEL:
        return None
    return test.observed < test.expected


def _apart(ours: tuple[float, float], theirs: tuple[float, float]) -> Verdict:
    return True if ours[1] < theirs[0] else False if ours[0] > theirs[1] else None


WITHIN = Rule(
    "within",
    "the difference is at most the tolerance",
    "it is larger, or there is no number",
    "this run does not reach the point where it is measured",
    0,
    _within,
)

FACT = Rule(
    "fact",
    "what is computed is what is claimed",
    "it is not",
    "it was not computed",
    0,
    lambda holds: holds,
)

LEARNS = Rule(
    "learns",
    "every run has the length that is asked for and all at its end, in the median over the last"
    " third, or over what followed its learning where that is less",
    "one run fell after it had learned, blew up, lost to its critic, or has not learned all by that"
    " length",
    f"the runs are shorter and have not fallen, or there are fewer than {FEW}",
    FEW,
    _learns,
)

LASTS = Rule(
    "lasts",
    "every run is alive after the length that is asked for",
    "one run fell after it had learned, blew up or lost to its critic, or has not learned by that"
    " length",
    f"the runs are shorter and alive, or there are fewer than {FEW}",
    FEW,
    _lasts,
)

UNSTABLE = Rule(
    "unstable",
    "one run at least fell after it had learned, blew up or lost to its critic",
    "every run is alive after the length that is asked for",
    f"the runs are shorter and alive, or there are fewer than {FEW} of them; a run that has not"
    " learned is not unstable",
    FEW,
    _unstable,
)

COLLAPSES = Rule(
    "collapses",
    "every run that came to anything lost what it had learned, blew up or lost to its critic",
    "one run still stands the length that is asked for after it had learned",
    f"a run stands less long, or fewer than {FEW} came to anything; a run that has not learned, and"
    " not lost to its critic either, says nothing",
    FEW,
    _collapses,
)

KEEPS = Rule(
    "keeps",
    "every run of every strength that came to anything stands the length that is asked for after"
    " it had learned",
    "one run lost what it had learned, blew up or lost to its critic",
    f"a run stands less long, or a strength has fewer than {FEW} runs that learned",
    FEW,
    _keeps,
)

SMALLER = Rule(
    "smaller",
    f"of {SIGN} seeds and more: most are smaller, by the exact sign test (p < {LEVEL:g}, both"
    f" sides; equal ones do not count); of {FEW} to {SIGN - 1}: every run of the one is smaller"
    " than every run of the other",
    "the same the other way round",
    f"neither, or fewer than {FEW} seeds of which one side at least is alive, or images of runs"
    " shorter than what is asked for",
    FEW,
    _smaller,
)

SIDE = Rule(
    "side",
    f"of {SIGN} seeds and more: most lie above the bar, by the exact sign test (p < {LEVEL:g});"
    f" of {FEW} to {SIGN - 1}: all do",
    "the same below the bar",
    f"neither, or fewer than {FEW} seeds",
    FEW,
    _side_of,
)

BELOW = Rule(
    "below",
    "the 95 % interval of the mean over seeds lies at or below the bar",
    "it lies above the bar",
    "it holds the bar, so that more noise is less certain and never more yes",
    SIGN,
    _below,
)

ABOVE = Rule(
    "above",
    "the 95 % interval over seeds lies at or above the bar",
    "it lies below the bar",
    f"it holds the bar, or there are fewer than {SIGN} seeds of which it is about",
    SIGN,
    _above,
)

LATER = Rule(
    "later",
    f"fewer of them end than would if both groups ended alike, by the log-rank test (p < {LEVEL:g},"
    " both sides)",
    "more of them do, by the same test",
    f"neither, or one group has fewer than {SIGN} runs, or fewer end in both together",
    SIGN,
    _later,
)

APART = Rule(
    "apart",
    "the quartiles of the one lie below those of the other",
    "they lie above",
    "the quartiles overlap",
    0,
    _apart,
)

RULES = {
    rule.name: rule
    for rule in (
        WITHIN, FACT, LEARNS, LASTS, UNSTABLE, COLLAPSES, KEEPS, SMALLER, SIDE, BELOW, ABOVE, LATER,
        APART,
    )
}  # fmt: skip
"""All of them by name; the page of results prints them."""
