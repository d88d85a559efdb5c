"""The first five minutes: on the 3-D mixture of Roth et al. 2017 an unregularized GAN falls and a regularized one stands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from ..core.registry import build
from ..training import Config, Outcome, train

RUNS = {"unregularized": (), "js-regularized": ("js:gamma=0.1",)}
"""Name and regularizers of each run; everything else is equal, the seed too."""

EXPECTED = {
    "unregularized": {"modes": "at most 3", "sw1": "above 0.15", "critic_loss": "near 0"},
    "js-regularized": {"modes": "7", "hq10": "above 0.6", "sw1": "below 0.06", "critic_loss": "above 1.2"},
}
"""What 3,000 iterations with seeds 0 to 2 gave in a prototype."""


@dataclass(frozen=True)
class Row:
    """One run of the demo: its outcome and the medians over the last third of its evaluations, because one snapshot can mislead."""

    name: str
    outcome: Outcome
    figures: dict[str, float]


def demo(out: Path, steps: int, seed: int) -> list[Row]:
    """Train both runs into ``out`` and return their rows; about 10 and 25 ms an iteration on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small are slower on several
    try:
        rows = []
        for name, regularizer in RUNS.items():
            config = Config(
                objective="minimax",
                regularizer=regularizer,
                dynamics="alternating:critic_steps=5",
                steps=steps,
                seed=seed,
                evaluate_every=max(1, steps // 30),
            )
            outcome = train(build("problem", "mixture3d"), config, out / name)
            rows.append(Row(name, outcome, summary(outcome.path)))
        return rows
    finally:
        torch.set_num_threads(threads)


def summary(run: Path) -> dict[str, float]:
    """Return the medians of a run's metrics and of its critic's loss without the penalty, over the last third of its evaluations."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row | row["metrics"] for row in rows if "metrics" in row]
    last = evaluated[-max(1, len(evaluated) // 3) :]
    names = ("modes", "hq10", "sw1", "critic_loss")
    return {name: median(row[name] if row[name] is not None else float("inf") for row in last) for name in names}
