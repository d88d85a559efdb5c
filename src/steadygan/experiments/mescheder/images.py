"""Mescheder et al. 2018 on images.

A residual network without any normalisation, trained with R1 and a moving average.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..images import (
    LARGE,
    LONG,
    SMALL,
    TINY,
    Runs,
    all_trained,
    by_seed,
    image_budget,
    measure_of,
    problem,
)
from ..quality import falls, gallery, measured, nearer, stands
from ..spec import Experiment, Findings, Source

_SOURCE = Source(
    "Mescheder et al. 2018, experiments on images; settings from the authors' published code",
    known="from the authors' code",
)
_OURS = Source("the same runs, measured by this project", "ours", "derived here")

ENOUGH = 60_000
"""Iterations after which a run that is alive is stable; the authors' are several times longer."""

R1 = "r1:gamma=20"
"""The authors' coefficient 10 on the squared norm: 20 in the convention gamma/2."""


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train with R1 and without, and measure the generator and its moving average.

    Returns:
        Who stands and what is nearer, and the samples.
    """
    images = problem(settings, flip=settings["data"][0] != "digits")
    common = {
        "network": f"resnet:width={settings['narrow']},norm=none,critic_norm=none"
        ",residual_scale=0.1",
        "optimizer": "rmsprop:lr=0.0001,alpha=0.99",
        "ema": 0.999,
    }
    methods = {"R1": (R1,), "unregularized": ()}
    runs = all_trained(
        images,
        {
            name: Runs(
                name, out / name, by_seed(settings, "ResNet", seeds, regularizer=r, **common)
            )
            for name, r in methods.items()
        },
    )
    # The published results used no moving average.
    groups = {name: measured(group, settings, averaged=False) for name, group in runs.items()}
    averaged = measured(runs["R1"], settings)
    rows = (
        stands("R1, γ = 20, no normalisation: trains stably", groups["R1"], _SOURCE, ENOUGH),
        falls(
            "unregularized, no normalisation: does not train stably",
            groups["unregularized"],
            _SOURCE,
            ENOUGH,
        ),
        nearer(
            "R1 comes nearer to the data than unregularized",
            groups["R1"],
            groups["unregularized"],
            _OURS,
            ENOUGH,
        ),
        nearer(
            "the moving average of the generator is nearer to the data than the generator",
            averaged,
            groups["R1"],
            _OURS,
            ENOUGH,
        ),
    )
    heads = [f"seed {run.seed}" for run in runs["R1"]]
    notes = (
        *image_budget(
            settings,
            seeds,
            "64 channels at the finest stage, batch 64, latents of 256 numbers, 128 x 128 and"
            " larger",
        ),
        measure_of(settings),
        "RMSProp 1e-4, residual branches scaled by 0.1, one critic step, non-saturating. Runs are"
        " judged by the generator itself: the published results used no moving average; that of"
        " 0.999, which the authors recommend later, is measured beside it.",
    )
    return gallery(rows, runs, heads, {**groups, "R1, averaged": averaged}, notes)


EXPERIMENT = Experiment(
    name="mescheder-images",
    what="R1 and a moving average: a residual network without normalisation on images",
    source="Mescheder et al. 2018, experiments on images",
    scales={
        "quick": {
            **SMALL,
            "resolution": 16,
            "latent": 256,
            "samples": 300,
            "steps": 3000,
            "seeds": 3,
        },
        "long": {**LONG, "narrow": 16, "latent": 256, "steps": ENOUGH},
        "paper": {**LARGE, "latent": 256, "resolution": 128, "steps": 300_000, "seeds": 1},
        "tiny": {**TINY, "seeds": 2},
    },
    cost={
        "quick": "18 minutes on one core",
        "long": "12 core-hours (by timed iterations)",
        "paper": "a GPU for days (not measured)",
        "tiny": "seconds",
    },
    run=run,
)
