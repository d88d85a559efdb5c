"""Image GANs of an experiment: where the images come from, runs that are made once and continued,
and what is measured of them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..core.errors import SteadyganError
from ..core.registry import build
from ..evaluation.estimate import Estimate
from ..evaluation.features import build_features, to_bytes
from ..evaluation.metrics import Pair, compute, take
from ..evaluation.samples import load_samples
from ..problems.images import Images
from ..runs.files import read_lines
from ..runs.folder import RunFolder
from ..runs.format import METRICS, SAMPLES, STATUS, WARNINGS, by_step
from ..runs.models import load_sampler
from ..runs.monitor import Monitor
from ..runs.samples import read_picture
from ..training import Config, resume, train
from .fleets import make_or_continue, share
from .spec import Row

VARIED = 0.25
"""Standard deviation of a generator's pixels, over that of real ones, below which its samples are
alike: collapsed, or not yet apart."""

ARCHITECTURES = {
    "DCGAN": "dcgan:width={width},norm={norm},critic_norm={critic_norm}",
    "no normalisation": "dcgan:width={width},norm=none,critic_norm=none,weight_std={std:g}",
    "tanh": "dcgan:width={width},activation=tanh,critic_activation=tanh,norm={norm},critic_norm={critic_norm}",
    "ResNet": "resnet:width={narrow},norm={norm},critic_norm={critic_norm},residual_scale=1",
}
"""The four of Roth et al. 2017, section 5.2; ResNets are half as wide at quick scale."""

SMALL = {
    "data": ("cifar10/train.zip", "cifar10/test.zip"),
    "resolution": 32,
    "channels": 3,
    "width": 16,
    "narrow": 8,
    "batch": 32,
    "latent": 128,
    "samples": 500,
    "features": "effnet-lite0",
}
"""What image experiments at quick scale share; the names of data are looked for under
$STEADYGAN_DATA."""

LARGE = {
    "data": ("celeba/train", "celeba/test"),
    "resolution": 64,
    "channels": 3,
    "width": 64,
    "narrow": 64,
    "batch": 64,
    "latent": 128,
    "samples": 10_000,
    "features": "inception-2015",
}
"""The papers' size. The authors crop CelebA to 178 x 178 and LSUN to 256 x 256, which are the
central squares that are taken here."""

TINY = {
    "data": ("digits", "digits"),
    "resolution": 8,
    "channels": 1,
    "width": 4,
    "narrow": 4,
    "batch": 8,
    "latent": 4,
    "samples": 40,
    "features": "pixels",
    "steps": 4,
    "seeds": 1,
}


@dataclass(frozen=True)
class Trained:
    """One run of an image experiment: what it is called, its seed, its folder, and how it ended."""

    name: str
    seed: int
    folder: Path
    state: str
    step: int
    seconds: float
    warnings: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    @cached_property
    def won(self) -> bool:
        """Whether the critic separates real from generated samples nearly perfectly in the last
        third of the run."""
        config = RunFolder.open(self.folder).describe().config
        indifferent = build("objective", config.objective).indifferent
        losses = [row["critic_loss"] for row in self.rows if row["critic_loss"] is not None]
        return (
            indifferent > 0
            and median(losses[-max(1, len(losses) // 3) :]) < Monitor.WON * indifferent
        )

    def grid(self, side: int = 4) -> np.ndarray:
        """Return the picture (H, W, 3) uint8 of side x side of its last samples."""
        pictures = by_step(self.folder / SAMPLES, ".png")
        picture = np.asarray(read_picture(pictures[max(pictures)]))
        height, width = (n * side // 8 for n in picture.shape[:2])  # the trainer tiles 64 samples
        return picture[:height, :width]


def sources(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return where training and test images lie: a path, ``digits``, or a name under
    $STEADYGAN_DATA.

    Raises SteadyganError with what to do where they are not there.
    """
    root = os.environ.get("STEADYGAN_DATA")
    found = []
    for name in settings["data"]:
        places = [Path(name), *([Path(root) / name] if root else [])]
        there = next((place for place in places if place.exists()), None)
        if there is None and name != "digits" and not name.startswith("hf:"):
            raise SteadyganError(
                "This experiment needs images, and there are none at"
                f" {' or '.join(map(str, places))}: give --data TRAIN TEST (folders,"
                " zips or what else 'steadygan train images' takes), or set STEADYGAN_DATA to"
                " the folder that holds them."
            )
        found.append(str(there or name))
    return found[0], found[1]


def problem(settings: Mapping[str, Any]) -> Images:
    """Return the training images as a problem."""
    return Images(
        sources(settings)[0],
        settings["resolution"],
        settings["channels"],
        flip=settings["data"][0] != "digits",
    )


def network(architecture: str, settings: Mapping[str, Any], penalizes_samples: bool = False) -> str:
    """Return the spec of one of ``ARCHITECTURES``; layer normalisation in the critic where a
    penalty is on single samples, as WGAN-GP's."""
    norms = {"norm": "batch", "critic_norm": "layer" if penalizes_samples else "batch"}
    # The authors' 0.02 belongs to 64 channels; where nothing normalises, fewer need larger weights
    # for the same gain of a layer.
    std = 0.02 * math.sqrt(64 / settings["width"])
    return ARCHITECTURES[architecture].format(
        width=settings["width"], narrow=settings["narrow"], std=std, **norms
    )


def config(settings: Mapping[str, Any], architecture: str, seed: int, **more: Any) -> Config:
    """Return Roth et al.'s configuration of a run: non-saturating, Adam 2e-4 with beta1 1/2, one
    critic step, no moving average."""
    steps = more.pop("steps", settings["steps"])
    chosen = {
        "network": network(architecture, settings, more.get("objective") == "wasserstein"),
        "optimizer": "adam:lr=0.0002,beta1=0.5",
        "batch": settings["batch"],
        "latent": settings["latent"],
        "ema": 0.0,
        "log_every": max(1, steps // 60),
        "evaluate_every": max(1, steps // 4),
        "checkpoint_every": max(1, steps // 4),
        "keep_checkpoints": 1,
    }
    return Config(**{**chosen, **more}, steps=steps, seed=seed)


def wgan_gp(settings: Mapping[str, Any], architecture: str, seed: int, **more: Any) -> Config:
    """Return the configuration of WGAN-GP: penalty 10, five critic steps, Adam 1e-4 with betas 0
    and 0.9."""
    method = {
        "objective": "wasserstein",
        "regularizer": ("wgan-gp",),
        "dynamics": "alternating:critic_steps=5",
        "optimizer": "adam:lr=0.0001,beta1=0,beta2=0.9",
    }
    return config(settings, architecture, seed, **method, **more)


def trained(name: str, problem: Images, config: Config, folder: Path) -> Trained:
    """Train a run in a folder, or continue the one that is there, and return it.

    Raises SteadyganError where the folder holds another run, and KeyboardInterrupt where it was
    interrupted: the same call continues it.
    """
    make_or_continue(
        problem, [config.resolve(problem)], folder, lambda: train(problem, config, folder), resume
    )
    status = RunFolder.open(folder).read(STATUS)
    warnings, rows = (read_lines(folder / name).rows for name in (WARNINGS, METRICS))
    return Trained(
        name,
        config.seed,
        folder,
        status["state"],
        status["step"],
        status["seconds"],
        tuple(w["kind"] for w in warnings),
        tuple(rows),
    )


def each_trained(
    name: str, problem: Images, configs: Sequence[Config], folder: Path
) -> list[Trained]:
    """Train a setting's runs, a folder each by its seed, or continue them."""
    return [trained(name, problem, each, folder / f"seed-{each.seed}") for each in configs]


@dataclass(frozen=True)
class Quality:
    """How near a run's samples are to test images: the kernel distance with its interval, and their
    spread over the real one's."""

    kid: Estimate
    spread: float

    @property
    def varied(self) -> bool:
        """Whether the samples differ from each other."""
        return self.spread >= VARIED


Group = list[tuple[Trained, Quality]]
"""A setting's runs, one for each seed, with the quality of their samples."""


def measured(
    runs: Sequence[Trained],
    settings: Mapping[str, Any],
    seed: int = 0,
    path: Path | None = None,
    averaged: bool = True,
) -> Group:
    """Return runs with the quality of their samples, as ``steadygan evaluate`` measures it.

    seed: of the latents and of the choice among the test images. path, averaged: as
    ``load_sampler`` takes them.
    """
    features = build_features(settings["features"])
    features.check()
    real = _test_images(sources(settings)[1], settings["samples"], event(settings), seed)
    x, found = take(real, features), []
    for run in runs:
        samples = load_sampler(run.folder, path, averaged=averaged)[0](settings["samples"], seed)
        pixels = to_bytes(samples).numpy()
        numbers, _ = compute(Pair(real, pixels, x, take(pixels, features)), ("kid",))
        found.append(
            (
                run,
                Quality(numbers["kid"], float(pixels.std(axis=0).mean() / real.std(axis=0).mean())),
            )
        )
    return found


def event(settings: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the shape of an image, (C, H, W)."""
    return settings["channels"], settings["resolution"], settings["resolution"]


@lru_cache(maxsize=2)
def _test_images(path: str, n: int, event: tuple[int, int, int], seed: int) -> np.ndarray:
    # Kept, because an experiment asks for the same ones with every setting, and a zip is decoded
    # whole.
    return load_samples(path, n, event, seed)


def alive(run: Trained, quality: Quality) -> bool:
    """Return whether a run went through to its end with finite numbers, an undecided critic and
    samples that differ."""
    return run.state == "finished" and not run.won and quality.varied


def stands(claim: str, group: Group, source: str) -> Row:
    """Return the row of the claim that every seed of a setting is alive at the end."""
    standing = [alive(run, quality) for run, quality in group]
    return Row(
        claim,
        f"all {len(group)} seeds alive",
        source,
        f"finite to the end, critic's loss above {Monitor.WON:.0%} of an undecided one's,"
        f" samples' spread above {VARIED:.0%} of the real",
        said(group),
        all(standing),
        ""
        if all(standing)
        else "; ".join(
            _trouble(*each) for each, stood in zip(group, standing, strict=True) if not stood
        ),
    )


def falls(claim: str, group: Group, source: str, why: str) -> Row:
    """Return the row of the claim that a setting is unstable: undecided where every seed is still
    alive, because ``why``."""
    fallen = sum(not alive(run, quality) for run, quality in group)
    expected = "not every seed alive, sooner or later"
    return Row(
        claim,
        expected,
        source,
        "as above",
        said(group),
        True if fallen else None,
        "" if fallen else why,
    )


def nearer(claim: str, ours: Group, theirs: Group, source: str) -> Row:
    """Return the row of the claim that samples are nearer to test images, seed by seed; undecided
    where intervals overlap."""
    pairs = [(a.kid, b.kid) for (_, a), (_, b) in zip(ours, theirs, strict=True)]
    better, worse = (
        sum(p.below(q) for p, q in each) for each in (pairs, [(b, a) for a, b in pairs])
    )
    holds = True if better == len(pairs) else (False if worse == len(pairs) else None)
    beside = ", ".join(f"{a.value:.3g} against {b.value:.3g}" for a, b in pairs)
    why = (
        ""
        if holds
        else f"nearer in {better}, farther in {worse} of {len(pairs)} seeds, by intervals that"
        " do not overlap"
    )
    return Row(
        claim,
        "nearer in every seed",
        source,
        "95 % intervals of the kernel distance apart",
        f"kernel distance {beside}",
        holds,
        why,
    )


def said(group: Group) -> str:
    """Return what was measured of a setting's seeds: how many are alive, kernel distances, and what
    the monitor named."""
    distances = ", ".join(
        f"{quality.kid.value:.3g} [{quality.kid.low:.3g}, {quality.kid.high:.3g}]"
        for _, quality in group
    )
    warnings = sorted({kind for run, _ in group for kind in run.warnings})
    seen = share(sum(alive(*each) for each in group), len(group))
    return f"{seen}; kernel distance {distances}" + (
        f"; warnings: {', '.join(warnings)}" if warnings else ""
    )


def _trouble(run: Trained, quality: Quality) -> str:
    kinds = {
        f"ended as {run.state}": run.state != "finished",
        "the critic has won": run.won,
        f"its samples have {quality.spread:.0%} of the real spread": not quality.varied,
    }
    return f"seed {run.seed}: {', '.join(kind for kind, yes in kinds.items() if yes)}"


def budget(settings: Mapping[str, Any], seeds: int, paper: str) -> tuple[str, ...]:
    """Return what a reader must know about the size of a run, beside the paper's."""
    side = settings["resolution"]
    size = (
        f"{side} x {side}, {settings['width']} channels at the finest stage, batch"
        f" {settings['batch']}"
    )
    about = f"{seeds} seed(s), {settings['steps']:,} iterations at {size}. The paper: {paper}."
    jpeg = "The images are CIFAR-10 as JPEG copies." if "cifar10" in settings["data"][0] else ""
    return tuple(filter(None, (about, jpeg)))


def measure_of(settings: Mapping[str, Any]) -> str:
    """Return how distances are measured, in words."""
    return (
        f"Distances are of {settings['samples']:,} samples against as many test images, in"
        f" {settings['features']}."
    )
