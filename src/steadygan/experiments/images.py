"""Image GANs of an experiment.

Where the images come from, and runs that are made once and continued.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..core.errors import SteadyganError
from ..core.registry import build
from ..problems.images import Images
from ..runs.files import read_lines
from ..runs.folder import RunFolder
from ..runs.format import METRICS, REAL, SAMPLES, STATUS, WARNINGS, by_step
from ..runs.monitor import Monitor
from ..runs.samples import read_picture
from ..training import Config, train
from .folders import annealed, by_workers, make_or_continue
from .rules import last_third

Key = TypeVar("Key")

ARCHITECTURES = {
    "DCGAN": "dcgan:width={width},norm={norm},critic_norm={critic_norm}",
    "no normalisation": "dcgan:width={width},norm=none,critic_norm=none,weight_std={std:g}",
    "tanh": "dcgan:width={width},activation=tanh,critic_activation=tanh,norm={norm}"
    ",critic_norm={critic_norm}",
    "ResNet": "resnet:width={narrow},activation=relu,norm={norm},critic_norm={critic_norm}"
    ",residual_scale=1",
}
"""The four of Roth et al. 2017, section 5.2. The ResNet has ReLU and, at 32 x 32, four blocks, as
in the authors' code; at quick scale it is half as wide."""

ENOUGH = 7812
"""Iterations after which a run that is alive is stable and a claim that it is not fails: the
authors' default on CIFAR-10, ten epochs of batches of 64; of batches of 32 they are five. The
papers' runs on larger images are 100,000 and longer."""

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
    "evaluate_every": 250,
    "checkpoint_every": 100,
}
"""What image experiments at quick scale share; the names of data are looked for under
$STEADYGAN_DATA. A checkpoint is saved every 100 iterations: a minute or two of the slowest."""

LONG = {**SMALL, "evaluate_every": 1000, "samples": 2000, "steps": 10_000, "seeds": 3}
"""What they share at as many iterations as the authors' runs on CIFAR-10, on 32 x 32 and 16
channels. At their batch of 64 the four architectures alone would take 40 core-hours."""

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
    "evaluate_every": 1000,
    "checkpoint_every": 500,
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
    "evaluate_every": 1,
    "checkpoint_every": 2,
    "steps": 4,
    "seeds": 1,
}


@dataclass(frozen=True)
class ImageRun:
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
        """Whether the critic separates real from generated nearly perfectly in the last third."""
        config = RunFolder.open(self.folder).describe().config
        indifferent: float = build("objective", config.objective).indifferent
        losses = [row["critic_loss"] for row in self.rows if row["critic_loss"] is not None]
        return (
            indifferent > 0 and median(losses[last_third(len(losses))]) < Monitor.WON * indifferent
        )

    @cached_property
    def had_varied(self) -> bool:
        """Whether its samples had the spread that they must have at an earlier evaluation."""
        least = Monitor.SPREAD * _tiles(self.folder / SAMPLES / f"{REAL}.png").std(axis=0).mean()
        grids = by_step(self.folder / SAMPLES, ".png")
        # The first is of random weights, whose noise may spread widely.
        return any(_tiles(path).std(axis=0).mean() >= least for step, path in grids.items() if step)

    def grid(self, side: int = 4) -> np.ndarray:
        """Return the picture (H, W, 3) uint8 of side x side of its last samples."""
        pictures = by_step(self.folder / SAMPLES, ".png")
        picture = np.asarray(read_picture(pictures[max(pictures)]))
        height, width = (n * side // 8 for n in picture.shape[:2])  # the trainer tiles 64 samples
        return picture[:height, :width]


def _tiles(path: Path) -> np.ndarray:
    """Return the 64 samples of a grid that the trainer wrote, (64, H, W, 3)."""
    picture = np.asarray(read_picture(path))
    height, width = (n // 8 for n in picture.shape[:2])
    rows = picture.reshape(8, height, 8, width, 3).swapaxes(1, 2)
    return rows.reshape(64, height, width, 3).astype(np.float64)


def sources(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return where training and test images lie.

    A path, ``digits``, or a name under $STEADYGAN_DATA.

    Raises:
        SteadyganError: With what to do where they are not there.
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


def problem(settings: Mapping[str, Any], flip: bool = False) -> Images:
    """Return the training images as a problem; Roth et al. do not flip them."""
    path = sources(settings)[0]
    return Images(path, settings["resolution"], settings["channels"], flip=flip)


def network(architecture: str, settings: Mapping[str, Any], penalizes_samples: bool = False) -> str:
    """Return the spec of one of ``ARCHITECTURES``.

    Layer normalisation in the critic where a penalty is on single samples, as WGAN-GP's.
    """
    norms = {"norm": "batch", "critic_norm": "layer" if penalizes_samples else "batch"}
    # The authors' 0.02 belongs to 64 channels; where nothing normalises, fewer need larger weights
    # for the same gain of a layer.
    std = 0.02 * math.sqrt(64 / settings["width"])
    return ARCHITECTURES[architecture].format(
        width=settings["width"], narrow=settings["narrow"], std=std, **norms
    )


def config(settings: Mapping[str, Any], architecture: str, seed: int, **more: Any) -> Config:
    """Return Roth et al.'s configuration of a run.

    Non-saturating, Adam 2e-4 with beta1 1/2, one critic step, no moving average.
    """
    steps = more.pop("steps", settings["steps"])
    chosen = {
        "network": network(architecture, settings, more.get("objective") == "wasserstein"),
        "optimizer": "adam:lr=0.0002,beta1=0.5",
        "batch": settings["batch"],
        "latent": settings["latent"],
        "ema": 0.0,
        "log_every": max(1, min(100, steps // 60)),
        "evaluate_every": settings["evaluate_every"],
        "checkpoint_every": settings["checkpoint_every"],
        "keep_checkpoints": 1,
        "cuda_graphs": None,
    }
    return Config(**{**chosen, **more}, steps=steps, seed=seed)


def by_seed(
    settings: Mapping[str, Any], architecture: str, seeds: int, **more: Any
) -> list[Config]:
    """Return the configurations of a setting, one for each seed."""
    return [config(settings, architecture, seed, **more) for seed in range(seeds)]


def wgan_gp(settings: Mapping[str, Any], architecture: str, seed: int, **more: Any) -> Config:
    """Return the configuration of WGAN-GP.

    Penalty 10, five critic steps, Adam 1e-4 with betas 0 and 0.9.
    """
    method = {
        "objective": "wasserstein",
        "regularizer": ("wgan-gp",),
        "dynamics": "alternating:critic_steps=5",
        "optimizer": "adam:lr=0.0001,beta1=0,beta2=0.9",
    }
    return config(settings, architecture, seed, **method, **more)


def trained(name: str, problem: Images, config: Config, folder: Path) -> ImageRun:
    """Train a run in a folder, or go on with the one that is there.

    One with an annealed strength has another course with more steps, and a folder of its own
    length.

    Returns:
        The run with what it came to.

    Raises:
        SteadyganError: Where the folder holds another run.
        KeyboardInterrupt: Where it was interrupted: the same call continues it.
    """
    resolved = config.resolve(problem)
    folder = _place(resolved, folder)
    make_or_continue(problem, resolved, folder, lambda: train(problem, config, folder))
    status = RunFolder.open(folder).read(STATUS)
    warnings, rows = (read_lines(folder / name).rows for name in (WARNINGS, METRICS))
    return ImageRun(
        name,
        config.seed,
        folder,
        status["state"],
        status["step"],
        status["seconds"],
        tuple(w["kind"] for w in warnings),
        tuple(rows),
    )


class Runs(NamedTuple):
    """The runs of a setting: its name, the folder of their folders, and what each does."""

    name: str
    folder: Path
    configs: Sequence[Config]


def all_trained(problem: Images, settings: Mapping[Key, Runs]) -> dict[Key, list[ImageRun]]:
    """Train the runs of all settings, or continue them; workers, where there are any, all at once.

    Returns:
        The runs of each setting in the order of its configurations.
    """
    left = {
        _place(config.resolve(problem), _by_seed(setting, config)): config
        for setting in settings.values()
        for config in setting.configs
    }
    by_workers(problem, left)
    return {
        key: [
            trained(setting.name, problem, config, _by_seed(setting, config))
            for config in setting.configs
        ]
        for key, setting in settings.items()
    }


def _by_seed(setting: Runs, config: Config) -> Path:
    return setting.folder / f"seed-{config.seed}"


def _place(config: Config, folder: Path) -> Path:
    """Return where a run lies: an annealed one is another with more steps."""
    return folder / f"{config.steps}-iterations" if annealed(config) else folder


def event(settings: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the shape of an image, (C, H, W)."""
    return settings["channels"], settings["resolution"], settings["resolution"]


def image_budget(settings: Mapping[str, Any], seeds: int, paper: str = "") -> tuple[str, ...]:
    """Return what a reader must know about the size of a run, beside the paper's if it has one."""
    side = settings["resolution"]
    size = (
        f"{side} x {side}, {settings['width']} channels at the finest stage, batch"
        f" {settings['batch']}"
    )
    about = f"{seeds} seed(s), {settings['steps']:,} iterations at {size}."
    about += f" The paper: {paper}." if paper else ""
    jpeg = "The images are CIFAR-10 as JPEG copies." if "cifar10" in settings["data"][0] else ""
    return tuple(filter(None, (about, jpeg)))


def measure_of(settings: Mapping[str, Any]) -> str:
    """Return how distances are measured, in words."""
    return (
        f"Distances are of {settings['samples']:,} samples against as many test images, in"
        f" {settings['features']}."
    )
