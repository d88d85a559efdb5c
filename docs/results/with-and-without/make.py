"""Gather the six runs of this page: a JSON file each, and the picture beside the README's.

python make.py RUNS PICTURE      RUNS holds plain-0 to plain-2 and r1-0 to r1-2, each evaluated
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from steadygan.report.figures import colours
from steadygan.runs.files import read_lines
from steadygan.runs.format import CONFIG, EVALUATION, METRICS, REAL, STATUS, WARNINGS, by_step

HERE = Path(__file__).parent
METHODS = {"plain": "unregularized", "r1": "R1, γ = 10"}
SEEDS = (0, 1, 2)
SHOWN = 6  # of the 8 x 8 samples that a run keeps, so many a side


def kept(folder: Path) -> dict[str, Any]:
    """Return what is kept of a run: its configuration, log, warnings and evaluation."""
    described, status = (json.loads((folder / name).read_text()) for name in (CONFIG, STATUS))
    # Where the files lay on somebody's disk is nobody's business.
    described["problem"]["data"] = "cifar10/train.zip"
    found = json.loads((folder / EVALUATION).read_text())
    for evaluated in found["evaluations"]:
        evaluated["data"] = "cifar10/test.zip"
    return {
        "configuration": {key: described[key] for key in ("problem", "config", "environment")},
        "status": status,
        "warnings": read_lines(folder / WARNINGS).rows,
        "metrics": read_lines(folder / METRICS).rows,
        "evaluations": found["evaluations"],
    }


def kid(run: dict[str, Any]) -> dict[str, Any]:
    """Return the kernel distance of a run's newest generator, with its interval."""
    values: dict[str, Any] = run["evaluations"][-1]["numbers"]["kid"]
    return values


def grid(path: Path) -> np.ndarray:
    """Return the corner of a grid of 8 x 8 samples that is shown."""
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"))
    height, width = (side * SHOWN // 8 for side in picture.shape[:2])
    return picture[:height, :width]


def show(axes: Axes, picture: np.ndarray, title: str) -> None:
    """Draw samples under a title."""
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, size=9, color="#5A6478")
    axes.set_xticks([])
    axes.set_yticks([])


def draw(runs: Path, found: dict[str, dict[str, Any]], path: Path) -> None:
    """Write the picture: data and the critics' losses, beside them three seeds of each method."""
    figure = Figure(figsize=(10, 5.4), dpi=110, layout="constrained")
    axes = figure.subplots(2, 4)
    show(axes[0, 0], grid(runs / "plain-0" / "samples" / f"{REAL}.png"), "CIFAR-10")
    losses = axes[1, 0]
    for row, (method, label), colour in zip(axes, METHODS.items(), colours(2), strict=True):
        row[1].set_ylabel(label, size=12, weight="bold", color=colour)
        for place, seed in zip(row[1:], SEEDS, strict=True):
            name = f"{method}-{seed}"
            samples = by_step(runs / name / "samples", ".png")
            distance = f"{kid(found[name])['value']:.2f}"
            show(place, grid(samples[max(samples)]), f"seed {seed}, kernel distance {distance}")
            rows = found[name]["metrics"]
            losses.plot(
                [r["step"] for r in rows],
                [r["critic_loss"] for r in rows],
                color=colour,
                linewidth=0.8,
                label=label if seed == 0 else None,
            )
    losses.axhline(2 * np.log(2), color="#5A6478", linestyle=":", linewidth=1)
    losses.text(5000, 2 * np.log(2) + 0.02, "cannot tell them apart", size=7, ha="right")
    losses.set_title("critic loss", size=9, color="#5A6478")
    losses.set_xlabel("iteration", size=8)
    losses.tick_params(labelsize=7)
    losses.legend(fontsize=7, loc=(0.25, 0.38), frameon=False)
    losses.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    with Image.open(path) as image:
        image.quantize(256).save(path, optimize=True)


def main(runs: Path, picture: Path) -> None:
    """Write the files, and print the table of the page."""
    found = {f"{m}-{s}": kept(runs / f"{m}-{s}") for m in METHODS for s in SEEDS}
    for name, run in found.items():
        (HERE / f"{name}.json").write_text(json.dumps(run) + "\n")
        won = [w["step"] for w in run["warnings"] if w["kind"] == "critic-won"]
        last = [r["critic_loss"] for r in run["metrics"][-20:]]
        print(name, kid(run), f"critic's loss {np.median(last):.3f}", "won at", won)
    draw(runs, found, picture)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
