"""Mescheder et al. 2018, the 2-D experiments.

Every method's best cell over a grid of learning rates and strengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.registry import build
from ...evaluation.estimate import Estimate, mean_of, normal
from ...problems.measures import wasserstein
from ...problems.problem import Problem
from ...runs.models import load_sampler
from ...training import Config
from ..fleets import Member, by_structure, seconds, spread
from ..rules import BELOW, every
from ..spec import Experiment, Findings, Row, Source
from .grid import EMA, KINDS, METHODS, Cell, cells

NEAR = 2.0
"""A distance of at most so many times that of two draws of real samples is near the floor."""

SIMILAR = 0.5
"""A method is as near as another where it is farther by at most so much of that distance."""

FRESH = 1000
"""The first seed of the real samples that generated ones are held against; trainings have their
own."""

OURS = ("R1", "R2")
OTHERS = ("unregularized", "WGAN-GP, 1 critic step", "WGAN-GP, 5 critic steps")

TrainedCell = tuple[Cell, Member]


def trained(
    problem: Problem, wanted: Sequence[tuple[Cell, int]], settings: Mapping[str, Any], out: Path
) -> list[TrainedCell]:
    """Train every cell with its seed, in as few fleets as their structures allow, a folder each.

    Returns:
        The trained cells, in the order in which they were wanted.
    """
    configs = [cell.config(settings, seed) for cell, seed in wanted]
    members = by_structure(problem, configs, out, _structure, compiled=settings["compiled"])
    return list(zip([cell for cell, _ in wanted], members, strict=True))


def _structure(config: Config) -> str:
    kind = str(config.optimizer).partition(":")[0]
    name = f"{kind}-{config.objective}-{config.dynamics}"
    return name.replace(":", "-").replace("=", "-")


def distance(problem: Problem, member: Member, n: int, draw: int, averaged: bool) -> float:
    """Return W1 of n samples after the last iteration to n fresh real ones.

    inf for a GAN that blew up.

    Args:
        problem: What was played.
        member: The GAN.
        n: How many samples of each.
        draw: The seed of the real samples.
        averaged: By the moving average of the generator, or by its last iterate.
    """
    if not math.isfinite(member.series("sw1")[-1]):
        return math.inf
    sample, _ = load_sampler(member.folder, member=member.place, averaged=averaged)
    return wasserstein(sample(n, draw).double(), _real(problem, n, draw))


def floor(problem: Problem, n: int, draws: int) -> float:
    """Return the mean of W1 between two draws of n real samples."""
    pairs = ((_real(problem, n, 2 * i), _real(problem, n, 2 * i + 1)) for i in range(draws))
    return float(np.mean([wasserstein(*pair) for pair in pairs]))


def point(problem: Problem, n: int) -> float:
    """Return W1 of the data to their mean.

    What a generator has that makes one point, the best of such.
    """
    x = _real(problem, n, 0)
    return float((x - x.mean(0)).norm(dim=1).mean())


def _real(problem: Problem, n: int, draw: int) -> Tensor:
    return problem.stream(FRESH + draw).draw(n).x.double()


@dataclass(frozen=True)
class Result:
    """One problem: every cell's distance, with ``floor`` and ``point`` at that number of samples.

    And the best cell of each method, with the distances of its fresh seeds and their own floor: of
    the last iterates, and of the moving averages. ``seconds`` is the wall time of its trainings.
    """

    grid: Mapping[Cell, float]
    grid_floor: float
    point: float
    best: Mapping[str, Cell]
    final: Mapping[str, Sequence[float]]
    averaged: Mapping[str, Sequence[float]]
    floor: float
    seconds: float = 0.0

    def by_average(self) -> Result:
        """Return the same result with the moving averages in the place of the last iterates."""
        return replace(self, final=self.averaged)


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train the grid on every problem, and choose each method's best cell.

    Train it anew from other seeds, and compare.

    Returns:
        How near the methods come to the data and to each other, and the intervals.
    """
    results = {
        name: study(build("problem", name), settings, seeds, out / name)
        for name in settings["problems"]
    }
    averages = {name: result.by_average() for name, result in results.items()}
    rows = []
    for source, found in ((_SOURCE, results), (_AVERAGED, averages)):
        rows += [against(name, each, ours, source) for ours in OURS for name, each in found.items()]
        rows += [nearness(name, each, source) for name, each in found.items()]
    return Findings(
        tuple(rows),
        "intervals",
        picture(results),
        notes(settings, seeds, results),
        sum(result.seconds for result in results.values()),
    )


def study(problem: Problem, settings: Mapping[str, Any], seeds: int, out: Path) -> Result:
    """Return what one problem gave: seed 0 chooses among the cells; the others report.

    It chooses by their moving averages, which jitter less than the last iterates.
    """
    n, few = settings["samples"], settings["grid_samples"]
    first = trained(problem, [(cell, 0) for cell in cells(settings)], settings, out / "grid")
    grid = {cell: distance(problem, member, few, 0, averaged=True) for cell, member in first}
    best = {
        method.name: min((c for c in grid if c.method is method), key=lambda c: grid[c])
        for method in METHODS
    }
    again = trained(
        problem,
        [(cell, seed) for cell in best.values() for seed in range(1, seeds + 1)],
        settings,
        out / "best",
    )
    ends: list[dict[str, list[float]]] = [{name: [] for name in best} for _ in range(2)]
    for cell, member in again:
        for averaged, final in enumerate(ends):
            final[cell.method.name].append(
                distance(problem, member, n, member.seed, averaged=bool(averaged))
            )
    last, averages = ends
    return Result(
        grid,
        floor(problem, few, 5),
        point(problem, few),
        best,
        last,
        averages,
        floor(problem, n, 5),
        seconds(member for _, member in (*first, *again)),
    )


def difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Return mean(a) - mean(b) with Welch's 95 % interval.

    Values that are infinite make it infinite, or NaN on both sides.

    >>> difference([1.0, 3.0], [1.0, 3.0]).value
    0.0

    Reference: Welch 1947.
    """
    from scipy.special import stdtrit  # here, because it takes long to import

    x, y = np.asarray(a), np.asarray(b)
    with np.errstate(invalid="ignore"):
        value = float(x.mean() - y.mean())
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or min(len(x), len(y)) < 2:
        return Estimate(value, value, value)
    parts = [v.var(ddof=1) / len(v) for v in (x, y)]
    total = sum(parts)
    if total == 0:
        return Estimate(value, value, value)
    freedom = total**2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, (x, y), strict=True))
    reach = float(stdtrit(freedom, 0.975) * math.sqrt(total))
    return Estimate(value, value - reach, value + reach)


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean over seeds with Student's 95 % interval; inf where one of them blew up."""
    if not np.isfinite(values).all():
        return Estimate(math.inf, math.inf, math.inf)
    return mean_of(torch.tensor(values)) if len(values) > 1 else normal(values[0], 0.0)


def _below(found: Mapping[str, Estimate], bar: float, seeds: int) -> bool | None:
    return every(
        (BELOW(each, bar) if seeds >= BELOW.seeds else None for each in found.values()), least=1
    )


def against(problem: str, result: Result, ours: str, source: Source) -> Row:
    """Return the row of the claim that a method is at least as near to the data as the others.

    As each of them, on a problem.
    """
    gaps = {other: difference(result.final[ours], result.final[other]) for other in OTHERS}
    bar = SIMILAR * result.floor
    holds = _below(gaps, bar, len(result.final[ours]))
    return Row(
        f"{problem}, {ours}{_how(source)}: as near to the data as the unregularized GAN and"
        " WGAN-GP, or nearer",
        source,
        BELOW,
        "similar or better",
        f"the difference of the mean W1 (Welch): {SIMILAR:g} of that of real samples, {bar:.3g}",
        "; ".join(f"minus {other}: {gap}" for other, gap in gaps.items()),
        holds,
        "" if holds else f"median W1 (range) over seeds: {seen(result, [ours, *OTHERS])}",
    )


def nearness(problem: str, result: Result, source: Source) -> Row:
    """Return the row of the claim that the best cells come near the floor.

    All methods of the paper where the data have a density.
    """
    expected = (*OTHERS, *OURS) if problem == "gaussian2d" else OURS
    means = {name: mean(values) for name, values in result.final.items()}
    bar = NEAR * result.floor
    holds = _below({name: means[name] for name in expected}, bar, len(result.final[OURS[0]]))
    return Row(
        f"{problem}: {'; '.join(expected)}{_how(source)} come near the data",
        source,
        BELOW,
        "near",
        f"the mean W1: {NEAR:g} times that of real samples, {bar:.3g}",
        "mean W1: " + "; ".join(f"{name} {each}" for name, each in means.items()),
        holds,
        "" if holds else f"median W1 (range) over seeds: {seen(result, expected)}",
    )


def _how(source: Source) -> str:
    return ", averaged" if source is _AVERAGED else ""


def seen(result: Result, names: Iterable[str]) -> str:
    """Return median and range of some methods' distances with their best cells.

    So one seed that strayed can be told from all.
    """
    return "; ".join(
        f"{name} {spread(result.final[name])} by {result.best[name]}" for name in names
    )


def notes(
    settings: Mapping[str, Any], seeds: int, results: Mapping[str, Result]
) -> tuple[str, ...]:
    """Return what a reader must know.

    Sizes, conventions, how cells were chosen, and how many of each method's fell.
    """
    grid = next(iter(results.values())).grid
    rates = " and ".join(f"{kind} {', '.join(settings[kind])}" for kind in KINDS if settings[kind])
    used = {
        name: ", ".join(
            f"{s:g}" for s in sorted({c.strength for c in grid if c.method.name == name})
        )
        for name in {c.method.name for c in grid}
    }
    return (
        f"{len(grid)} cells a problem: {rates}; {settings['steps']:,} iterations, batch"
        f" {settings['batch']}, ReLU MLPs with 4 hidden"
        " layers of 16, alternating updates. The paper's grid has sgd 5e-3, 1e-2, 2e-2, 5e-2 and"
        " rmsprop 5e-5, 1e-4, 2e-4, 5e-4.",
        "An iteration is one update of the generator and one of the critic; of WGAN-GP with 5"
        " critic steps it is six updates, thrice as"
        " much, and its distances are those of the same number of iterations.",
        f"γ is {used['R1']} in the paper's own convention, γ/2 E‖∇D‖² and γ/2 E(‖∇D‖ - 1)²,"
        " which is this project's. JS has twice that,"
        " which damps the same at the equilibrium. Instance noise has σ"
        f" {used['instance noise']}; consensus optimisation has γ"
        f" {used['consensus']}, and is trained simultaneously by RMSProp only, as by its"
        " authors. Neither these three methods nor their"
        " strengths are from the paper.",
        f"Each method's best cell was chosen by seed 0 and {settings['grid_samples']} samples,"
        f" then trained anew from seeds 1 to {seeds}"
        f" and measured with {settings['samples']} samples, each against real samples of its"
        " own: the choice, by the moving averages, does not bias what is reported. W1 is exact,"
        f" after the last iteration; averaged is by the generator's moving average ({EMA}), of"
        " which the paper does not speak. Intervals are over seeds, and not corrected for their"
        " number.",
        *(robustness(method.name, results) for method in METHODS),
    )


def robustness(name: str, results: Mapping[str, Result]) -> str:
    """Return how many cells of a method's grid blew up, fell, and came near, in words."""
    pairs = [
        (r, value)
        for r in results.values()
        for cell, value in r.grid.items()
        if cell.method.name == name
    ]
    blown = sum(value == math.inf for _, value in pairs)
    fallen = sum(r.point <= value < math.inf for r, value in pairs)
    near = sum(value <= NEAR * r.grid_floor for r, value in pairs)
    return (
        f"{name}: of {len(pairs)} cells {blown} blew up, {fallen} are no nearer to the data than"
        f" the best single point, {near} come near."
        f" Best: {'; '.join(f'{problem} {r.best[name]}' for problem, r in results.items())}."
    )


def picture(results: Mapping[str, Result]) -> dict[str, Any]:
    """Return a panel a problem: each method's interval over seeds, and its whole grid behind."""
    panels = []
    for problem, result in results.items():
        groups = {}
        for name, values in result.final.items():
            whole = mean(values)
            grid = [value for cell, value in result.grid.items() if cell.method.name == name]
            groups[name] = {"interval": tuple(whole), "faint": grid}
        panels.append({"title": problem, "floor": result.floor, "groups": groups})
    caption = (
        "points: best cell, mean and 95 % interval over seeds; faint: every cell of the grid,"
        " from fewer samples, at the edge where it blew"
        " up; line: real against real"
    )
    return {"panels": panels, "x": "Wasserstein-1", "caption": caption}


_SOURCE = Source("Mescheder et al. 2018, 2-D experiments", known="recalled")
_AVERAGED = Source("the same, by a moving average", "ours", "derived here")
_PROBLEMS = ("gaussian2d", "line2d", "circle2d", "lines2d")

EXPERIMENT = Experiment(
    name="mescheder-2d",
    what="2-D densities, every method over a grid of learning rates and strengths",
    source="Mescheder et al. 2018, 2-D experiments",
    scales={
        "quick": {
            "problems": _PROBLEMS,
            "steps": 3000,
            "batch": 512,
            "sgd": (),
            "rmsprop": ("2e-4", "5e-4"),
            "strengths": 3,
            "alone": 1,
            "samples": 1024,
            "grid_samples": 512,
            "compiled": True,
            "seeds": 6,
        },
        "long": {
            "problems": _PROBLEMS,
            "steps": 20_000,
            "batch": 512,
            "sgd": ("5e-3", "1e-2", "2e-2", "5e-2"),
            "rmsprop": ("5e-5", "1e-4", "2e-4", "5e-4"),
            "strengths": 3,
            "alone": 3,
            "samples": 2048,
            "grid_samples": 2048,
            "compiled": True,
            "seeds": 12,
        },
        "tiny": {
            "problems": ("line2d",),
            "steps": 2,
            "batch": 8,
            "sgd": (),
            "rmsprop": ("5e-4",),
            "strengths": 1,
            "alone": 1,
            "samples": 64,
            "grid_samples": 64,
            "compiled": False,
            "seeds": 1,
        },
    },
    cost={
        "quick": "40 minutes of one core",
        "long": "10 core-hours (by what quick took with --steps 20000)",
        "tiny": "seconds",
    },
    run=run,
    parts={"problems": "{}"},
)
