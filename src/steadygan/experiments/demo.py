"""The first five minutes: an unregularized GAN falls and a regularized one stands.

On the 3-D mixture of Roth et al. 2017.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

from ..core.registry import build
from ..runs.files import read_lines
from ..runs.format import METRICS
from ..training import Config, Outcome, train
from ..training.allocator import keep_memory
from .rules import last_third

RUNS = {"unregularized": (), "js-regularized": ("js:gamma=1",)}
"""Name and regularizers of each run; everything else is equal, the seed too."""

EXPECTED = {
    "unregularized": {"modes": "at most 3", "sw1": "above 0.15", "critic_loss": "near 0"},
    "js-regularized": {
        "modes": "7",
        "hq10": "above 0.6",
        "sw1": "below 0.06",
        "critic_loss": "above 1.2",
    },
}
"""Bars that 2,500 iterations passed with seeds 0 and 1; a run of a few hundred iterations will not
reach them.

With gamma=0.1 seeds 1 and 2 reach seven modes in that time, seed 0 six: rounding alone decides such
a run's course.
"""


@dataclass(frozen=True)
class Row:
    """One run of the demo: its outcome, and what it came to.

    The medians over the last third of its evaluations, because one snapshot can mislead.
    """

    name: str
    outcome: Outcome
    figures: dict[str, float]


def demo(out: Path, steps: int, seed: int) -> list[Row]:
    """Train both runs into ``out``, each on a core of its own.

    Returns:
        A row for each.
    """
    with ProcessPoolExecutor(len(RUNS), mp_context=get_context("spawn")) as pool:
        waiting = {
            name: pool.submit(_run, out / name, regularizer, steps, seed)
            for name, regularizer in RUNS.items()
        }
        outcomes = {name: run.result() for name, run in waiting.items()}
    return [Row(name, outcome, summary(outcome.path)) for name, outcome in outcomes.items()]


def _run(out: Path, regularizer: tuple[str, ...], steps: int, seed: int) -> Outcome:
    keep_memory()
    torch.set_num_threads(1)
    config = Config(
        objective="minimax",
        regularizer=regularizer,
        dynamics="alternating:critic_steps=5",
        steps=steps,
        seed=seed,
        evaluate_every=max(1, steps // 30),
    )
    return train(build("problem", "mixture3d"), config, out, show="lines")


def summary(run: Path) -> dict[str, float]:
    """Return the medians of a run's metrics over the last third of its evaluations.

    And of its critic's loss without the penalty.
    """
    rows = read_lines(run / METRICS).rows
    evaluated = [row | row["metrics"] for row in rows if "metrics" in row]
    last = evaluated[last_third(len(evaluated))]
    names = ("modes", "hq10", "sw1", "critic_loss")
    return {
        name: median(row[name] if row[name] is not None else float("inf") for row in last)
        for name in names
    }
