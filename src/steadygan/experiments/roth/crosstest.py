"""Roth et al. 2017, section 5.5: cross-testing a regularized against an unregularized DCGAN, over
the length of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...evaluation.crosstest import CrossTest, cross_test, judged
from ...evaluation.estimate import Estimate
from ...evaluation.samples import load_samples
from ...problems.images import to_floats
from ...runs.format import CHECKPOINTS, by_step, checkpoint_path
from ...runs.models import load_critic, load_sampler
from ..images import (
    LARGE,
    SMALL,
    TINY,
    Trained,
    budget,
    config,
    each_trained,
    event,
    problem,
    sources,
)
from ..spec import Experiment, Findings, Row

_SOURCE = "Roth et al. 2017, section 5.5"
_MOMENTS = 4
_METHODS = {"regularized": ("js:gamma=0.1",), "unregularized": ()}
# The confusion matrices as recalled from the paper: rows accepted and rejected, columns real and
# generated.
_RECALLED = {
    "regularized": ((0.9688, 0.0002), (0.0312, 0.9998)),
    "unregularized": ((1.0, 0.0013), (0.0, 0.9987)),
}


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train both, each seed against its own, and cross-test their checkpoints."""
    images = problem(settings)
    test = to_floats(
        torch.from_numpy(load_samples(sources(settings)[1], settings["tested"], event(settings)))
    )
    # The authors' CIFAR-10 runs have uniform latents.
    common = {
        "latent_distribution": "uniform",
        "checkpoint_every": max(1, settings["steps"] // _MOMENTS),
        "keep_checkpoints": _MOMENTS,
    }
    runs = {
        name: each_trained(
            name,
            images,
            [
                config(settings, "DCGAN", seed, regularizer=regularizer, **common)
                for seed in range(seeds)
            ],
            out / name,
        )
        for name, regularizer in _METHODS.items()
    }
    found = {
        step: [
            _crossed([group[seed] for group in runs.values()], step, test, settings)
            for seed in range(seeds)
        ]
        for step in _steps(runs["regularized"][0])
    }
    last = list(found.values())[-1]
    short = f"after {settings['steps']:,} iterations; the verdicts along training are in the notes"
    rows = [
        _explained(row, short)
        for seed, crossed in enumerate(last)
        for row in rows_of(crossed, f"seed {seed}")
    ]
    data = {
        "panels": [
            _panel(title, {s: [pick(c) for c in each] for s, each in found.items()})
            for title, pick in _CURVES.items()
        ]
    }
    verdicts = "; ".join(
        f"{step:,}: {', '.join(each.verdict for each in crossed)}"
        for step, crossed in found.items()
    )
    notes = (
        *budget(settings, seeds, "32 x 32, 64 channels, batch 64, γ = 0.1, 10,000 samples"),
        f"Verdicts by threshold, along training: {verdicts}.",
        *(_matrix(crossed, f"seed {seed}") for seed, crossed in enumerate(last)),
    )
    return Findings(
        tuple(rows),
        "lines",
        data,
        notes,
        sum(each.seconds for group in runs.values() for each in group),
    )


def rows_of(crossed: CrossTest, seed: str) -> list[Row]:
    """Return the rows of the paper's claims from one cross-test of the regularized (first) and the
    unregularized model."""
    theirs, ours = crossed.false_positives[0][1], crossed.false_positives[1][0]
    apart = crossed.auc[0][1].value, crossed.auc[1][0].value
    return [
        _share(
            f"{seed}: the regularized discriminator takes unregularized samples for real",
            "0.0",
            theirs,
            theirs.high <= 0.5,
        ),
        _share(
            f"{seed}: the unregularized discriminator takes regularized samples for real",
            "1.0",
            ours,
            ours.low >= 0.5,
        ),
        Row(
            f"{seed}: the regularized model wins the cross-test",
            "its samples pass the other's discriminator more often",
            _SOURCE,
            "95 % bootstrap interval",
            f"{crossed.verdict}; score {crossed.scores[0]}",
            True if crossed.scores[0].low > 0 else (False if crossed.scores[0].high < 0 else None),
        ),
        Row(
            f"{seed}: and without thresholds, by the AUC",
            "its samples are harder to tell from test images for the other's discriminator",
            "ours, because a discriminator's bias can decide the shares alone",
            "95 % bootstrap interval",
            f"AUC {apart[1]:.3f} against {apart[0]:.3f}; score {crossed.scores_auc[0]}",
            True
            if crossed.scores_auc[0].low > 0
            else (False if crossed.scores_auc[0].high < 0 else None),
        ),
    ]


def _explained(row: Row, why: str) -> Row:
    return row if row.holds else replace(row, why=why)


def _share(claim: str, expected: str, found: Estimate, holds: bool) -> Row:
    return Row(
        claim,
        expected,
        _SOURCE,
        "on that side of one half, with its 95 % interval",
        str(found),
        holds,
    )


def _matrix(crossed: CrossTest, seed: str) -> str:
    words = []
    for name, measured in zip(crossed.names, crossed.confusion, strict=True):
        recalled = _RECALLED[name]
        words.append(
            f"{name} {measured[0][0]:.4f} of test images and {measured[0][1]:.4f} of its own"
            " samples taken for real"
            f" (the paper, recalled: {recalled[0][0]:.4f} and {recalled[0][1]:.4f})"
        )
    return f"Confusion, {seed}: {'; '.join(words)}."


def _crossed(
    runs: list[Trained], step: int, test: torch.Tensor, settings: Mapping[str, Any]
) -> CrossTest:
    paths = [checkpoint_path(each.folder, step) for each in runs]
    critics = [
        load_critic(each.folder, settings["batch"], path)
        for each, path in zip(runs, paths, strict=True)
    ]
    samples = [
        load_sampler(each.folder, path)[0](len(test), 0)
        for each, path in zip(runs, paths, strict=True)
    ]
    return cross_test([each.name for each in runs], *judged(critics, test, samples))


def _steps(run: Trained) -> list[int]:
    return list(by_step(run.folder / CHECKPOINTS, ".safetensors"))


_CURVES = {
    "taken for real: unregularized samples by the regularized discriminator": lambda crossed: (
        crossed.false_positives[0][1].value
    ),
    "taken for real: regularized samples by the unregularized discriminator": lambda crossed: (
        crossed.false_positives[1][0].value
    ),
    "AUC: regularized samples by the unregularized discriminator": lambda crossed: (
        crossed.auc[1][0].value
    ),
}


def _panel(title: str, values: Mapping[int, list[float]]) -> dict[str, Any]:
    steps = list(values)
    lines = {
        f"seed {seed}": (steps, [values[step][seed] for step in steps])
        for seed in range(len(values[steps[0]]))
    }
    what = "share" if "taken" in title else "AUC"
    return {
        "title": title.replace(": ", ":\n", 1),
        "x": "iteration",
        "y": what,
        "log": False,
        "lines": lines,
    }


EXPERIMENT = Experiment(
    name="roth-crosstest",
    what="cross-testing a regularized against an unregularized DCGAN on CIFAR-10, over the"
    " length of training",
    source=_SOURCE,
    scales={
        "quick": {**SMALL, "latent": 100, "tested": 2000, "steps": 1600, "seeds": 2},
        "paper": {
            **LARGE,
            "data": SMALL["data"],
            "resolution": 32,
            "latent": 100,
            "tested": 10_000,
            "steps": 100_000,
            "seeds": 3,
        },
        "tiny": {**TINY, "tested": 40},
    },
    cost={
        "quick": "12 minutes on one core",
        "paper": "a GPU for hours (not measured)",
        "tiny": "seconds",
    },
    run=run,
)
