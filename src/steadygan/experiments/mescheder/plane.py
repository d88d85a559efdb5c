"""Mescheder et al. 2018, the 2-D experiments: every method's best cell over a grid of learning
rates and strengths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.registry import build
from ...evaluation.estimate import Estimate, mean_of, normal
from ...problems.measures import wasserstein
from ...problems.problem import Problem
from ...runs.format import STATUS
from ...training import Config
from ..fleets import Member, fleet, seconds, spread
from ..spec import Experiment, Findings, Row

GAMMAS = (1.0, 10.0, 100.0)
"""The paper's own grid. Its γ multiplies one half of the mean squared norm, for R1, R2 and WGAN-GP
alike, as here."""

KINDS = ("sgd", "rmsprop")

NEAR = 2.0
"""A distance of at most so many times that of two draws of real samples is near the floor."""

FRESH = 1000
"""The first seed of the real samples that generated ones are held against; trainings have their
own."""


@dataclass(frozen=True)
class Method:
    """A method: its three strengths and what a configuration says at one of them.

    kinds: of the optimizers that it is trained with. alone: every strength is a structure, and so a
    fleet, of its own.
    """

    name: str
    strengths: tuple[float, ...]
    at: Callable[[float], Mapping[str, Any]]
    kinds: tuple[str, ...] = KINDS
    alone: bool = False


def _penalized(
    r1: float = 0.0, r2: float = 0.0, js: float = 0.0, sigma: float = 0.0
) -> dict[str, Any]:
    # One structure with zeros for what is not asked for, so that one fleet trains five methods.
    regularizer = (f"r1:gamma={r1:g}", f"r2:gamma={r2:g}", f"js:gamma={js:g}")
    return {
        "objective": "nonsaturating",
        "regularizer": regularizer,
        "smoothing": f"instance-noise:sigma={sigma:g}",
    }


def _wasserstein(gamma: float, critic_steps: int) -> dict[str, Any]:
    dynamics = f"alternating:critic_steps={critic_steps}"
    return {
        "objective": "wasserstein",
        "regularizer": (f"wgan-gp:gamma={gamma:g}",),
        "dynamics": dynamics,
    }


def _consensus(gamma: float) -> dict[str, Any]:
    return {"objective": "nonsaturating", "dynamics": f"consensus:gamma={gamma:g}"}


METHODS = (
    Method("unregularized", (0.0,), lambda _: _penalized()),
    Method("WGAN-GP, 1 critic step", GAMMAS, lambda gamma: _wasserstein(gamma, 1)),
    Method("WGAN-GP, 5 critic steps", GAMMAS, lambda gamma: _wasserstein(gamma, 5)),
    Method("R1", GAMMAS, lambda gamma: _penalized(r1=gamma)),
    Method("R2", GAMMAS, lambda gamma: _penalized(r2=gamma)),
    Method("JS", tuple(2 * gamma for gamma in GAMMAS), lambda gamma: _penalized(js=gamma)),
    Method("instance noise", (0.1, 0.3, 1.0), lambda sigma: _penalized(sigma=sigma)),
    Method("consensus", (1.0, 0.1, 10.0), _consensus, kinds=("rmsprop",), alone=True),
)
OURS = ("R1", "R2")
OTHERS = ("unregularized", "WGAN-GP, 1 critic step", "WGAN-GP, 5 critic steps")


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a method at a strength, a kind of optimizer and its learning rate."""

    method: Method
    strength: float
    kind: str
    rate: str

    def config(self, settings: Mapping[str, Any], seed: int) -> Config:
        """Return how a GAN of this cell is trained."""
        steps = settings["steps"]
        return Config(
            **self.method.at(self.strength),
            optimizer=f"{self.kind}:lr={self.rate}",
            batch=settings["batch"],
            steps=steps,
            evaluate_every=steps,
            log_every=max(1, steps // 20),
            checkpoint_every=max(1, steps // 4),
            keep_checkpoints=1,
            seed=seed,
        )

    def __str__(self) -> str:
        strength = f", strength {self.strength:g}" if len(self.method.strengths) > 1 else ""
        return f"{self.kind} {self.rate}{strength}"


def cells(settings: Mapping[str, Any]) -> list[Cell]:
    """Return the whole grid."""
    return [
        Cell(method, strength, kind, rate)
        for method in METHODS
        for kind in method.kinds
        for rate in settings[kind]
        for strength in method.strengths[: settings["alone" if method.alone else "strengths"]]
    ]


Trained = tuple[Cell, Member]


def trained(
    problem: Problem, wanted: Sequence[tuple[Cell, int]], settings: Mapping[str, Any], out: Path
) -> list[Trained]:
    """Train every cell with its seed, in as few fleets as their structures allow, a folder each."""
    fleets: dict[str, list[tuple[Cell, Config]]] = {}
    for cell, seed in wanted:
        config = cell.config(settings, seed)
        name = f"{cell.kind}-{config.objective}-{config.dynamics}".replace(":", "-").replace(
            "=", "-"
        )
        fleets.setdefault(name, []).append((cell, config))
    found: list[Trained] = []
    for name, group in fleets.items():
        members = fleet(
            problem, [config for _, config in group], out / name, compiled=settings["compiled"]
        )
        found += zip([cell for cell, _ in group], members, strict=True)
    return found


def distance(problem: Problem, member: Member, n: int, draw: int) -> float:
    """Return W1 of n samples after the last iteration to n fresh real ones; inf for a GAN that blew
    up."""
    if not math.isfinite(member.series("sw1")[-1]):
        return math.inf
    return wasserstein(
        torch.from_numpy(member.samples(int(member.steps[-1]))[:n]), _real(problem, n, draw)
    )


def floor(problem: Problem, n: int, draws: int) -> float:
    """Return the mean of W1 between two draws of n real samples."""
    pairs = ((_real(problem, n, 2 * i), _real(problem, n, 2 * i + 1)) for i in range(draws))
    return float(np.mean([wasserstein(*pair) for pair in pairs]))


def point(problem: Problem, n: int) -> float:
    """Return W1 of the data to their mean: what a generator has that makes one point, the best of
    such."""
    x = _real(problem, n, 0)
    return float((x - x.mean(0)).norm(dim=1).mean())


def _real(problem: Problem, n: int, draw: int) -> Tensor:
    return problem.stream(FRESH + draw).draw(n).x.double()


@dataclass(frozen=True)
class Result:
    """One problem: every cell's distance, with ``floor`` and ``point`` at that number of samples;
    the best cell of each method, and the distances of its fresh seeds, with their own floor."""

    grid: Mapping[Cell, float]
    grid_floor: float
    point: float
    best: Mapping[str, Cell]
    final: Mapping[str, Sequence[float]]
    floor: float

    def near(self, name: str) -> bool:
        """Return whether a method's best cell comes near the floor."""
        return float(np.mean(self.final[name])) <= NEAR * self.floor


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train the grid on every problem, choose each method's best cell, train it anew from other
    seeds, and compare."""
    results = {
        name: study(build("problem", name), settings, seeds, out / name)
        for name in settings["problems"]
    }
    rows = [against(name, result, ours) for ours in OURS for name, result in results.items()]
    rows += [nearness(name, result) for name, result in results.items()]
    folders = [path.parent for path in sorted(out.glob(f"*/*/*/{STATUS}"))]
    return Findings(
        tuple(rows),
        "intervals",
        picture(results),
        notes(settings, seeds, results),
        seconds(*folders),
    )


def study(problem: Problem, settings: Mapping[str, Any], seeds: int, out: Path) -> Result:
    """Return what one problem gave: seed 0 chooses among the cells, the others report."""
    n, few = settings["samples"], settings["grid_samples"]
    first = trained(problem, [(cell, 0) for cell in cells(settings)], settings, out / "grid")
    grid = {cell: distance(problem, member, few, 0) for cell, member in first}
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
    final: dict[str, list[float]] = {name: [] for name in best}
    for cell, member in again:
        final[cell.method.name].append(distance(problem, member, n, member.seed))
    return Result(
        grid, floor(problem, few, 5), point(problem, few), best, final, floor(problem, n, 5)
    )


def difference(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Return mean(a) - mean(b) with Welch's 95 % interval; values that are infinite make it
    infinite, or NaN on both sides.

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


def against(problem: str, result: Result, ours: str) -> Row:
    """Return the row of the claim that a method does not lose against any of the others on a
    problem."""
    gaps = {other: difference(result.final[ours], result.final[other]) for other in OTHERS}
    lost = [other for other, gap in gaps.items() if gap.low > 0]
    return Row(
        f"{problem}, {ours}: no farther from the data than the unregularized GAN and WGAN-GP",
        "similar or better",
        _SOURCE,
        "no 95 % interval of a difference of the mean W1 (Welch, over seeds) above 0",
        "; ".join(f"minus {other}: {gap}" for other, gap in gaps.items()),
        not lost,
        f"farther than {', '.join(lost)}; median W1 (range) over seeds:"
        f" {seen(result, [ours, *lost])}"
        if lost
        else "",
    )


def nearness(problem: str, result: Result) -> Row:
    """Return the row of the claim that the best cells come near the floor: all methods of the paper
    where the data have a density."""
    expected = (*OTHERS, *OURS) if problem == "gaussian2d" else OURS
    factors = {name: float(np.mean(values)) / result.floor for name, values in result.final.items()}
    missing = [name for name in expected if not result.near(name)]
    return Row(
        f"{problem}: {', '.join(expected)} come near the data",
        f"mean W1 at most {NEAR:g} times that of real samples",
        _SOURCE,
        "as said",
        "times the floor: " + ", ".join(f"{name} {factor:.2f}" for name, factor in factors.items()),
        not missing,
        f"not {', '.join(missing)}; median W1 (range) over seeds: {seen(result, missing)}; real"
        f" {result.floor:.3g}"
        if missing
        else "",
    )


def seen(result: Result, names: Sequence[str]) -> str:
    """Return median and range of some methods' distances with their best cells, so that one seed
    that strayed can be told from all."""
    return "; ".join(
        f"{name} {spread(result.final[name])} by {result.best[name]}" for name in names
    )


def notes(
    settings: Mapping[str, Any], seeds: int, results: Mapping[str, Result]
) -> tuple[str, ...]:
    """Return what a reader must know: sizes, conventions, how cells were chosen, and how many of
    each method's fell."""
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
        " own: the choice does not bias what is"
        " reported. W1 is exact, after the last iteration. Intervals are over seeds. They are"
        " not corrected for their number: of"
        f" {len(OURS) * len(OTHERS) * len(results)} differences between equal methods one in"
        " forty would lie above 0.",
        *(robustness(method.name, results) for method in METHODS),
    )


def robustness(name: str, results: Mapping[str, Result]) -> str:
    """Say how many cells of a method's grid blew up, fell, and came near."""
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
            whole = mean_of(torch.tensor(values)) if len(values) > 1 else normal(values[0], 0.0)
            grid = [value for cell, value in result.grid.items() if cell.method.name == name]
            groups[name] = {"interval": tuple(whole), "faint": grid}
        panels.append({"title": problem, "floor": result.floor, "groups": groups})
    caption = (
        "points: best cell, mean and 95 % interval over seeds; faint: every cell of the grid,"
        " from fewer samples, at the edge where it blew"
        " up; line: real against real"
    )
    return {"panels": panels, "x": "Wasserstein-1", "caption": caption}


_SOURCE = "Mescheder et al. 2018, 2-D experiments [recalled]"
_PROBLEMS = ("gaussian2d", "line2d", "circle2d", "lines2d")

EXPERIMENT = Experiment(
    name="mescheder-2d",
    what="2-D densities, every method over a grid of learning rates and strengths",
    source="Mescheder et al. 2018, 2-D experiments",
    scales={
        "quick": {
            "problems": _PROBLEMS,
            "steps": 3000,
            "batch": 64,
            "sgd": (),
            "rmsprop": ("2e-4", "5e-4"),
            "strengths": 3,
            "alone": 1,
            "samples": 1024,
            "grid_samples": 512,
            "compiled": True,
            "seeds": 6,
        },
        "paper": {
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
            "seeds": 10,
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
        "quick": "25 minutes of CPU time, 50 of a busy machine",
        "paper": "days on one core (not measured)",
        "tiny": "seconds",
    },
    run=run,
)
