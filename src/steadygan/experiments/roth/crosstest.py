"""Roth et al. 2017, section 5.5: a regularized against an unregularized DCGAN in a cross-test.

Over the length of training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ...evaluation.crosstest import CrossTest, cross_test, judged
from ...evaluation.samples import load_samples
from ...problems.stream import to_floats
from ...runs.folder import RunFolder
from ...runs.format import CHECKPOINTS, by_step, checkpoint_path
from ...runs.models import load_critic, load_sampler
from ..fleets import spread
from ..images import (
    LONG,
    SMALL,
    TINY,
    ImageRun,
    Runs,
    all_trained,
    by_seed,
    event,
    image_budget,
    problem,
    sources,
)
from ..rules import SIDE, last_third, opposite
from ..spec import Experiment, Findings, Row, Source

_SOURCE = Source("Roth et al. 2017, section 5.5")
_OURS = Source("the same runs, because a discriminator's bias can decide the shares alone", "ours",
               "derived here")  # fmt: skip
_METHODS = {"regularized": ("js:gamma=0.1",), "unregularized": ()}
# The confusion matrices as recalled from the paper: rows accepted and rejected, columns real and
# generated.
_RECALLED = {
    "regularized": ((0.9688, 0.0002), (0.0312, 0.9998)),
    "unregularized": ((1.0, 0.0013), (0.0, 0.9987)),
}


@dataclass(frozen=True)
class Quantity:
    """A number of a cross-test of the regularized (first) and the unregularized model.

    And the claim that it lies above a bar, or below it.
    """

    claim: str
    source: Source
    expected: str
    value: Callable[[CrossTest], float]
    bar: float
    above: bool = True

    def row(self, seeds: Sequence[float], beside: Sequence[float], widths: str) -> Row:
        """Return the row of its claim.

        Args:
            seeds: A number of each, by running averages.
            beside: The same by batch statistics.
            widths: Which ones that is at, in words.
        """
        side = SIDE(seeds, self.bar)
        return Row(
            self.claim,
            self.source,
            SIDE,
            self.expected,
            f"{'above' if self.above else 'below'} {self.bar:g}, a seed's median over the last"
            " third of the checkpoints",
            f"{', '.join(f'{value:.3g}' for value in seeds)} by seed{widths}; by batch statistics"
            f" {spread(beside)}",
            side if self.above else opposite(side),
        )


QUANTITIES = (
    Quantity(
        "the regularized discriminator rejects unregularized samples",
        _SOURCE,
        "0.0 of them taken for real",
        lambda crossed: crossed.false_positives[0][1].value,
        0.5,
        above=False,
    ),
    Quantity(
        "the unregularized discriminator takes regularized samples for real",
        _SOURCE,
        "1.0 of them",
        lambda crossed: crossed.false_positives[1][0].value,
        0.5,
    ),
    Quantity(
        "the regularized model wins the cross-test",
        _SOURCE,
        "its samples pass the other's discriminator more often",
        lambda crossed: crossed.scores[0].value,
        0.0,
    ),
    Quantity(
        "and without thresholds, by the AUC",
        _OURS,
        "its samples are harder to tell from test images for the other's discriminator",
        lambda crossed: crossed.scores_auc[0].value,
        0.0,
    ),
)


def run(settings: Mapping[str, Any], seeds: int, out: Path) -> Findings:
    """Train both at every width, each seed against its own, and cross-test their checkpoints.

    Returns:
        A row for each number of a cross-test, and its course.
    """
    images = problem(settings)
    test = to_floats(
        torch.from_numpy(load_samples(sources(settings)[1], settings["tested"], event(settings)))
    )
    pairs = _pairs(images, settings, seeds, out)
    found = {
        key: {
            running: {step: _crossed(pair, step, test, settings, running) for step in _steps(pair)}
            for running in (True, False)
        }
        for key, pair in pairs.items()
    }
    counts = {width: sum(w == width for w, _ in pairs) for width in settings["widths"]}
    widths = (
        ""
        if len(counts) == 1
        else f" ({', '.join(f'{n} of width {w}' for w, n in counts.items())})"
    )
    rows = tuple(
        quantity.row(
            [late(each[True], quantity) for each in found.values()],
            [late(each[False], quantity) for each in found.values()],
            widths,
        )
        for quantity in QUANTITIES
    )
    data = {"panels": [_panel(title, pick, found) for title, pick in _CURVES.items()]}
    notes = (
        *image_budget(settings, seeds, "32 x 32, 64 channels, batch 64, γ = 0.1, 10,000 samples"),
        "Discriminators infer with the running averages of BatchNorm, as the authors' code does"
        " (bn_train=False); by the statistics of each batch, as in training, beside it. Their"
        " default length is ten epochs, 7,812 iterations at batch 64. The code of the cross-test"
        " was not published.",
        *(
            _matrix(list(each[True].values())[-1], f"width {width}, seed {seed}")
            for (width, seed), each in found.items()
        ),
    )
    seconds = sum(each.seconds for pair in pairs.values() for each in pair)
    return Findings(rows, "lines", data, notes, seconds)


def _pairs(
    images: Any, settings: Mapping[str, Any], seeds: int, out: Path
) -> dict[tuple[str, int], tuple[ImageRun, ImageRun]]:
    """Return a regularized and an unregularized run of each seed at each width."""
    # The authors' CIFAR-10 runs have uniform latents; every checkpoint is kept.
    common = {"latent_distribution": "uniform", "keep_checkpoints": 10_000}
    arms = {}
    for width, most in settings["widths"].items():
        sized = {**settings, "width": int(width)}
        for name, regularizer in _METHODS.items():
            configs = by_seed(sized, "DCGAN", min(seeds, most), regularizer=regularizer, **common)
            arms[width, name] = Runs(name, out / f"width-{width}" / name, configs)
    runs = all_trained(images, arms)
    return {
        (width, seed): pair
        for width in settings["widths"]
        for seed, pair in enumerate(zip(*(runs[width, name] for name in _METHODS), strict=True))
    }


def late(along: Mapping[int, CrossTest], quantity: Quantity) -> float:
    """Return the median of a quantity over the last third of the checkpoints."""
    values = [quantity.value(crossed) for crossed in along.values()]
    return median(values[last_third(len(values))])


def _matrix(crossed: CrossTest, which: str) -> str:
    words = []
    for name, measured in zip(crossed.names, crossed.confusion, strict=True):
        recalled = _RECALLED[name]
        words.append(
            f"{name} {measured[0][0]:.4f} of test images and {measured[0][1]:.4f} of its own"
            " samples taken for real"
            f" (the paper, recalled: {recalled[0][0]:.4f} and {recalled[0][1]:.4f})"
        )
    return f"Confusion at the last checkpoint, {which}: {'; '.join(words)}."


def _crossed(
    runs: Sequence[ImageRun],
    step: int,
    test: torch.Tensor,
    settings: Mapping[str, Any],
    running: bool,
) -> CrossTest:
    paths = [checkpoint_path(each.folder, step) for each in runs]
    critics = [
        load_critic(each.folder, settings["batch"], path, running=running)
        for each, path in zip(runs, paths, strict=True)
    ]
    samples = [
        load_sampler(each.folder, path)[0](len(test), 0)
        for each, path in zip(runs, paths, strict=True)
    ]
    return cross_test([each.name for each in runs], *judged(critics, test, samples))


def _steps(runs: Sequence[ImageRun]) -> list[int]:
    """Return the steps after the first of which both runs have a checkpoint by plan.

    None of an interruption's.
    """
    every = RunFolder.open(runs[0].folder).describe().config.checkpoint_every
    last = min(run.step for run in runs)
    one, other = (set(by_step(run.folder / CHECKPOINTS, ".safetensors")) for run in runs)
    return sorted(step for step in one & other if step and (step % every == 0 or step == last))


_CURVES: dict[str, Callable[[CrossTest], float]] = {
    "unregularized samples taken for real\nby the regularized discriminator": QUANTITIES[0].value,
    "regularized samples taken for real\nby the unregularized discriminator": QUANTITIES[1].value,
    "AUC of regularized samples\nfor the unregularized discriminator": lambda crossed: (
        crossed.auc[1][0].value
    ),
}


def _panel(
    title: str,
    pick: Callable[[CrossTest], float],
    found: Mapping[tuple[str, int], Mapping[bool, Mapping[int, CrossTest]]],
) -> dict[str, Any]:
    lines = {
        f"width {width}, seed {seed}": (
            list(each[True]),
            [pick(crossed) for crossed in each[True].values()],
        )
        for (width, seed), each in found.items()
    }
    what = "AUC" if title.startswith("AUC") else "share"
    return {"title": title, "x": "iteration", "y": what, "log": False, "lines": lines}


EXPERIMENT = Experiment(
    name="roth-crosstest",
    what="cross-testing a regularized against an unregularized DCGAN on CIFAR-10, over the"
    " length of training",
    source=_SOURCE.where,
    scales={
        "quick": {
            **SMALL,
            "widths": {"16": 3},
            "latent": 100,
            "tested": 2000,
            "steps": 1600,
            "checkpoint_every": 200,
            "seeds": 3,
        },
        "long": {
            **LONG,
            "batch": 64,
            "widths": {"32": 5, "64": 2},
            "latent": 100,
            "tested": 10_000,
            "steps": 7812,
            "checkpoint_every": 434,
            "seeds": 5,
        },
        "tiny": {**TINY, "widths": {"4": 1}, "tested": 40},
    },
    cost={
        "quick": "20 minutes on one core",
        "long": "8 core-hours (by timed iterations)",
        "tiny": "seconds",
    },
    run=run,
    papers={"widths": {"64": 1}},
)
