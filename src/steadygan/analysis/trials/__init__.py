"""Trials: changes of a GAN are trained side by side with it as it is, and measured."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from scipy.special import stdtrit

from ...core.errors import SteadyganError
from ..gan import Gan
from .arms import Group, Ruler, at_seed, grouped
from .change import Change

SEEDS = 4
"""How often each change is tried."""

ROUNDS = (20, 50, 100, 200, 400, 800, 1600, 3200, 6400)
"""After so many steps all are measured; the last whole round is what counts."""

FEW, WORTH = 100, 1.3
"""A trial of fewer steps takes fewer seeds and changes; how many times as many steps another round
must make."""

AS_IT_IS = "as it is"
"""The arm that changes nothing, which the others are held against."""

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Arm:
    """What became of one change.

    Attributes:
        words: The change, or "as it is".
        settings: What it sets.
        distances: By seed, in units of the data.
        difference: To the GAN as it is with the same seeds: mean and the half width of its 95 %
            interval; None for the GAN as it is.
    """

    words: str
    settings: dict[str, object]
    distances: list[float]
    difference: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """The mean distance over the seeds."""
        return fmean(self.distances)

    @property
    def verdict(self) -> str:
        """What its interval says: "better", "worse" or "undecided"; "" for the GAN as it is."""
        if self.difference is None:
            return ""
        gap, half = self.difference
        return "better" if gap + half < 0 else "worse" if gap - half > 0 else "undecided"


@dataclass(frozen=True)
class Trial:
    """Changes that were tried, the best first.

    Attributes:
        arms: What became of each.
        steps: How many each was trained for.
        seeds: How often each was tried.
        seconds: That it took.
        start: The distance of the GAN as it came, before the trial.
        floor: The distance between two halves of the data.
        metric: What the distances are.
        whole: Whether the trial came to its end, and was neither out of time nor interrupted.
        notes: What could not be tried, and why.
    """

    arms: list[Arm]
    steps: int
    seeds: int
    seconds: float
    start: float
    floor: float
    metric: str = "sliced Wasserstein-1 distance"
    whole: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def base(self) -> Arm:
        """The GAN as it is, trained on as long as the others."""
        return next(arm for arm in self.arms if arm.difference is None)

    @property
    def better(self) -> list[Arm]:
        """The changes that did better by more than their interval, best first."""
        return [arm for arm in self.arms if arm.verdict == "better"]

    @property
    def best(self) -> Arm | None:
        """The change that did best; None where none did better than the GAN as it is."""
        return self.better[0] if self.better else None


def seconds_of(budget: float | str) -> float:
    """Return seconds of a budget such as 300, "300s" or "5m".

    >>> seconds_of("5m"), seconds_of(90)
    (300.0, 90.0)
    """
    if isinstance(budget, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|)\s*", budget)
        if not found:
            raise SteadyganError(
                f"a trial's budget is a time such as 90s, 5m or 1h, not {budget!r}"
            )
        budget = float(found[1]) * {"s": 1, "m": 60, "h": 3600, "": 1}[found[2]]
    if not (math.isfinite(budget) and budget > 0):
        raise SteadyganError(f"a trial's budget is a time above 0, not {budget:g} seconds")
    return float(budget)


def trial(
    gan: Gan,
    changes: Sequence[Change],
    budget: float | str,
    *,
    steps: int = ROUNDS[-1],
    seeds: int = SEEDS,
    tell: Tell = lambda done, total: None,
) -> Trial:
    """Try changes of a GAN, side by side, and rank them.

    Every change, and the GAN as it is, is trained from copies of the networks (or from the start,
    where the change says so) for the same number of steps, on the same batches seed by seed, and
    measured by the sliced Wasserstein-1 distance of its samples to the data. After each of ROUNDS
    all are measured: what counts is the last round that was whole, when the steps or the time are
    used up or Ctrl-C is pressed.

    Args:
        gan: The GAN.
        changes: What to try; those that a trial cannot make are left out, with a note.
        budget: How long it may take: seconds, or a text such as "5m".
        steps: After how many steps it ends at the latest.
        seeds: How often each is tried.
        tell: Is told (done, total) in thousandths of the whole.

    Returns:
        What became of each.

    Raises:
        SteadyganError: For a budget that is no time, and for fewer than two seeds.
    """
    allowed, started, notes = seconds_of(budget), time.perf_counter(), list[str]()
    if seeds < 2:
        raise SteadyganError("an interval needs two seeds or more")
    ruler = Ruler(gan.data.real)
    arms = [Change(AS_IT_IS)]
    for change in changes:
        if not change.can_be_tried or change in arms:
            continue
        try:
            change.applied(gan)
        except SteadyganError as error:
            notes.append(f"not tried, {change.words}: {error}")
        else:
            arms.append(change)
    members = [at_seed(gan, i, c, seed) for i, c in enumerate(arms) for seed in range(seeds)]
    groups = list(grouped(members))
    found = _measured(groups, ruler)
    start = fmean(found[0, seed] for seed in range(seeds))
    counted, whole, began = 0, False, time.perf_counter()
    try:
        for _ in range(made := min(2, steps)):  # the second one is of the usual length
            _advance(groups)
        left = allowed - (time.perf_counter() - started)
        arms, seeds, groups = _affordable(arms, groups, seeds, left, notes)
        while made < steps:
            now = time.perf_counter()
            fits = made + int(0.9 * (allowed - (now - started)) * made / (now - began))
            if counted and fits < WORTH * made:
                break
            goal = min(steps, next((r for r in ROUNDS if r > made), steps))
            goal = min(goal, max(fits, made + 1))
            for step in range(made, goal):
                _advance(groups)
                tell(round(1000 * _share(started, allowed, step, steps)), 1000)
            found, counted = _measured(groups, ruler), goal
            made = counted
        whole = counted == steps
    except KeyboardInterrupt:
        notes.append("interrupted: what was measured until then counts")
    table = [[found[i, seed] for seed in range(seeds)] for i in range(len(arms))]
    ranked = [
        Arm(c.words, dict(c.settings), row, _difference(row, table[0]) if i else None)
        for i, (c, row) in enumerate(zip(arms, table, strict=True))
    ]
    ranked.sort(key=lambda arm: arm.mean)
    return Trial(
        ranked,
        counted,
        seeds,
        round(time.perf_counter() - started, 2),
        start,
        ruler.floor,
        whole=whole,
        notes=notes,
    )


def _advance(groups: Sequence[Group]) -> None:
    for group in groups:
        group.advance()


def _affordable(
    arms: list[Change], groups: list[Group], seeds: int, left: float, notes: list[str]
) -> tuple[list[Change], int, list[Group]]:
    """Return what a budget can train for a while: fewer seeds, then fewer changes."""
    each = sum(group.seconds for group in groups) / (len(arms) * seeds)
    if any(len(group.members) > 1 for group in groups) or each * len(arms) * seeds * FEW <= left:
        return arms, seeds, groups
    seeds = min(seeds, 2)
    count = min(len(arms), max(3, int(left / (each * seeds * FEW))))
    if count < len(arms):
        late = "; ".join(change.words for change in arms[count:])
        notes.append(f"not tried, for lack of time: {late}")
    kept = [g for g in groups if g.members[0].arm < count and g.members[0].seed < seeds]
    return arms[:count], seeds, kept


def _share(started: float, allowed: float, step: int, steps: int) -> float:
    return min(1.0, max((time.perf_counter() - started) / allowed, (step + 1) / steps))


def _measured(groups: Sequence[Group], ruler: Ruler) -> dict[tuple[int, int], float]:
    return {
        (member.arm, member.seed): ruler(samples)
        for group in groups
        for member, samples in zip(group.members, group.samples(), strict=True)
    }


def _difference(row: Sequence[float], base: Sequence[float]) -> tuple[float, float]:
    gaps = [a - b for a, b in zip(row, base, strict=True)]
    reach = float(stdtrit(len(gaps) - 1, 0.975))  # of Student's t
    return fmean(gaps), reach * stdev(gaps) / math.sqrt(len(gaps))


__all__ = ["AS_IT_IS", "Arm", "Change", "Trial", "seconds_of", "trial"]
