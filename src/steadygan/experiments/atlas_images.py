"""The atlas of stability on images: where does a DCGAN stand?

Judged by distance, spread and critic, in settings that are drawn before anything is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..evaluation.estimate import Estimate
from ..evaluation.features import build_features, to_bytes
from ..evaluation.metrics import Pair, compute, take
from ..evaluation.samples import load_samples
from ..problems.images import Images
from ..training import Config
from .atlas import ALL, SHOWN, Method, Setting, chosen, drawn, more_often, panel
from .fleets import spread
from .images import (
    LONG,
    SMALL,
    TINY,
    ImageRun,
    Runs,
    all_trained,
    event,
    image_budget,
    problem,
    sources,
)
from .quality import Group, Quality, course, measured
from .rules import Fate
from .spec import Experiment, Findings

AMONG = tuple(s for s in ALL if s.optimizer == "adam" and s.critic_steps != 2)
"""The 48 settings of which some are drawn: those of the atlas with Adam and one or five critic
steps."""

RATE = 2e-4
"""The learning rate that factors multiply, Roth et al.'s."""

METHODS = {
    "unregularized": Method(),
    "JS": Method(("js:gamma=2",)),
    "R1": Method(("r1:gamma=10",)),
    "R1 + R2": Method(("r1r2:gamma=10",)),
    "WGAN-GP": Method(("wgan-gp",), "none", "wasserstein"),
    "spectral norm": Method(critic_norm="spectral"),
}
"""The README's strengths of JS and R1 for images, without annealing; R1 + R2 at that of R1, and
WGAN-GP at its own."""


def config(settings: Mapping[str, Any], setting: Setting, method: Method, seed: int) -> Config:
    """Return how a DCGAN of a method is trained in a setting.

    Weights start as N(0, 0.02²) throughout, as the DCGAN's authors have it.
    """
    steps = settings["steps"]
    return chosen(
        setting,
        method,
        network=f"dcgan:width={settings['width']},weight_std=0.02",
        rate=RATE,
        batch=settings["batch"],
        latent=settings["latent"],
        ema=0.0,
        steps=steps,
        log_every=max(1, steps // 60),
        evaluate_every=settings["evaluate_every"],
        checkpoint_every=settings["checkpoint_every"],
        seed=seed,
    )


def stands(run: ImageRun, quality: Quality, bar: float) -> bool:
    """Return whether a run stands: it varies, its critic has not won, and it is near the data."""
    return course(run, quality).fate is Fate.STANDS and quality.kid.value <= bar


def atlas(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train every method in the drawn settings.

    Returns:
        The share of settings in which each stands, and where.
    """
    images, places = problem(settings), drawn(settings["settings"], among=AMONG)
    bar = _of_the_mean(images, settings)
    shares: dict[str, list[float]] = {name: [] for name in METHODS}
    samples: dict[str, dict[str, np.ndarray]] = {}
    groups: dict[str, list[Group]] = {name: [] for name in METHODS}
    runs = all_trained(
        images,
        {
            (i, name): Runs(
                f"{name}: {setting}",
                out / f"setting-{i:02d}" / name.replace(" ", "-"),
                [config(settings, setting, method, seed) for seed in range(seeds)],
            )
            for i, setting in enumerate(places)
            for name, method in METHODS.items()
        },
    )
    for (i, name), made in runs.items():
        group = measured(made, settings)
        groups[name].append(group)
        shares[name].append(float(np.mean([stands(*each, bar.value) for each in group])))
        if i < SHOWN:
            samples.setdefault(str(places[i]), {})[name] = made[0].grid()
    far = {name: [_distance(group) for group in found] for name, found in groups.items()}
    rows = tuple(more_often("images", name, shares, seeds) for name in list(METHODS)[1:])
    distances = "; ".join(f"{name} {spread(found)}" for name, found in far.items())
    notes = (
        *image_budget(settings, seeds),
        f"{len(places)} of {len(AMONG)} settings, drawn by a fixed seed before anything was run:"
        f" learning rate ({RATE:g} × 0.25, 1, 4, 16), critic steps (1, 5), normalization of both"
        " networks (none, batch) and objective; Adam, weights as N(0, 0.02²). Strengths are the"
        " README's of JS and R1 for images, R1's for R1 + R2, and WGAN-GP's own.",
        "Stands: finite, samples with spread, a critic that has not won, and a kernel distance of"
        f" at most that of always the data's mean picture, {bar}. Intervals are over settings.",
        f"Kernel distances over all settings, median and range: {distances}.",
    )
    found = panel("images", seeds, places, shares, far) | {"samples": samples}
    took = sum(run.seconds for each in groups.values() for group in each for run, _ in group)
    return Findings(rows, "atlas", {"panels": [found]}, notes, took)


def _distance(group: Group) -> float:
    return median(quality.kid.value for _, quality in group)


def _of_the_mean(images: Images, settings: Mapping[str, Any]) -> Estimate:
    """Return the kernel distance of test images from always the mean of training images."""
    features = build_features(settings["features"])
    features.check()
    mean = images.stream(0).draw(10 * settings["samples"]).x.mean(0)
    mine = to_bytes(mean.expand(settings["samples"], *mean.shape)).numpy()
    real = load_samples(sources(settings)[1], settings["samples"], event(settings), 0)
    found, _ = compute(Pair(real, mine, take(real, features), take(mine, features)), ("kid",))
    return found["kid"]


EXPERIMENT = Experiment(
    name="atlas-images",
    what="in how many settings does each method stand on images",
    source="what the two papers did not show",
    scales={
        "quick": {**SMALL, "width": 8, "settings": 8, "steps": 600, "seeds": 1},
        "long": {**LONG, "settings": 24, "steps": 5000},
        "tiny": {**TINY, "settings": 2},
    },
    cost={
        "quick": "85 minutes of a busy core",
        "long": "50 core-hours (estimated)",
        "tiny": "seconds",
    },
    run=atlas,
)
