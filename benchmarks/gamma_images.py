"""Does gamma=auto find its gamma on images? CIFAR-10, five fixed ones beside it, three seeds.

Run: STEADYGAN_DATA=FOLDER python benchmarks/gamma_images.py -> benchmarks/gamma_images.json, about
30 minutes of CPU; FOLDER holds cifar10/train.zip and cifar10/test.zip. What the file holds already
is not measured again, and a run that was cut off goes on. A narrow DCGAN without normalization in
its critic, which BatchNorm would help in the place of a penalty; everything but the seed and gamma
is the same in all runs. Samples are judged once, at the end, against held-out images.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measure import environment

from steadygan import Config, evaluate
from steadygan.evaluation.estimate import mean_of, plain
from steadygan.experiments.images import trained
from steadygan.problems.images import Images

FILE = Path(__file__).with_suffix(".json")
DATA = Path(os.environ.get("STEADYGAN_DATA", "data")) / "cifar10"
RUNS = Path("runs/gamma-images")
GRID = ("0.01", "0.1", "1", "10", "100")
SEEDS, SAMPLES = (0, 1, 2), 2000
CONFIG = Config(
    objective="nonsaturating",
    network="dcgan:width=16,critic_norm=none",
    optimizer="adam:lr=0.0002,beta1=0.5",
    steps=2000,
    batch=32,
    ema=0.999,
    device="cpu",
)


def measured(gamma: str, seed: int) -> dict[str, Any]:
    """Train one GAN, and return how near its samples came to images that it never saw."""
    config = replace(CONFIG, regularizer=(f"js:gamma={gamma}",), seed=seed)
    started = time.process_time()
    run = trained(gamma, Images(str(DATA / "train.zip")), config, RUNS / f"{gamma}-{seed}")
    seconds = time.process_time() - started
    (there,) = evaluate(
        [run.folder], str(DATA / "test.zip"), metrics=("fd", "kid"), samples=SAMPLES
    )
    return {
        **{name: plain(there.numbers[name]) for name in ("fd", "kid")},
        "gamma": run.rows[-1].get("gamma", gamma),
        "critic_loss": run.rows[-1]["critic_loss"],
        "training CPU seconds": round(seconds),
    }


def against(results: dict[str, Any], gamma: str) -> dict[str, Any]:
    """Return how much farther auto is than a fixed gamma, seed by seed, with its interval."""
    ours, theirs = (
        torch.tensor([results[each][str(seed)]["kid"]["value"] for seed in SEEDS])
        for each in ("auto", gamma)
    )
    found: dict[str, Any] = plain(mean_of(ours.double() - theirs.double()))
    return found


def main() -> None:
    """Measure what the file does not hold yet; seeds outside, so that all methods have as many."""
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    with environment(1, "images") as about:
        results["environment"] = about
        results["settings"] = CONFIG.to_json()
        for seed in SEEDS:
            for gamma in ("auto", *GRID):
                held = results.setdefault(gamma, {})
                if str(seed) not in held:
                    held[str(seed)] = measured(gamma, seed)
                    FILE.write_text(json.dumps(results, indent=1) + "\n")
                    print(gamma, seed, held[str(seed)], flush=True)
        results["auto's kid less that of"] = {gamma: against(results, gamma) for gamma in GRID}
    FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
