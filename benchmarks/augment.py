"""Does augmentation help where there are few images? 500 photographs, three seeds, held-out ones.

Run: STEADYGAN_DATA=FOLDER python benchmarks/augment.py -> benchmarks/augment.json and the table of
docs/augment.md, 35 minutes of CPU; FOLDER holds objects64/train.zip, photographs of 20 kinds of
things. What is in the file already is not measured again, and a training that was cut off goes on
from its last checkpoint, in build/augment or STEADYGAN_RUNS. 500 others, never trained on, are what
generated ones are compared with.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from measure import environment

from steadygan import Config, evaluate, train
from steadygan.experiments.folders import make_or_continue
from steadygan.problems.images import Images

FILE = Path(__file__).with_suffix(".json")
PAGE = Path(__file__).parents[1] / "docs" / "augment.md"
PHOTOGRAPHS, SIDE, SEEDS, LENGTHS = 500, 32, (0, 1, 2), (1500, 6000)
METHODS = {"none": None, "DiffAugment": "diffaugment", "ADA": "ada:images=20000"}
CONFIG = Config(
    network="dcgan:width=12,critic_norm=none",
    regularizer=("r1:gamma=1",),
    optimizer="adam:lr=0.0005,beta1=0.5,beta2=0.99",
    batch=16,
    latent=64,
    ema=0.995,
    checkpoint_every=250,
    evaluate_every=500,
    device="cpu",
)
METRICS = ("kid", "fd", "precision-recall")


def halves(folder: Path) -> tuple[Path, Path]:
    """Return files of the photographs to train on, and of as many others."""
    data = Path(os.environ["STEADYGAN_DATA"]) / "objects64" / "train.zip"
    pixels = Images(data=str(data), resolution=SIDE).load().pixels
    chosen = np.random.default_rng(0).permutation(len(pixels))
    found = []
    for k, name in enumerate(("train", "held-out")):
        part = pixels[chosen[k * PHOTOGRAPHS : (k + 1) * PHOTOGRAPHS]]
        found.append(folder / f"{name}.npz")
        np.savez(found[-1], np.ascontiguousarray(part.transpose(0, 2, 3, 1)))
    return found[0], found[1]


def measured(
    method: str, seed: int, steps: int, folder: Path, given: Path, held: Path
) -> dict[str, Any]:
    """Train so far, and return the metrics there against the held-out half."""
    problem = Images(data=str(given), resolution=SIDE)
    config = replace(CONFIG, augment=METHODS[method], seed=seed, steps=steps).resolve(problem)
    started, run = time.process_time(), folder / f"{method}-{seed}"
    make_or_continue(problem, config, run, lambda: train(problem, config, run, show=False))
    (there,) = evaluate([run], str(held), metrics=METRICS, samples=PHOTOGRAPHS)
    row: dict[str, Any] = {
        "held out": {name: number.value for name, number in there.numbers.items()}
    }
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    row["p"], row["r_t"] = last.get("augment"), last.get("augment_sign")
    row["logits"] = {name: last[f"logit_{name}"] for name in ("real", "fake")}
    return {**row, "cpu seconds": round(time.process_time() - started, 1)}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table: means over seeds, and their standard deviations."""
    names = list(next(iter(rows.values()))["held out"])
    lines = [f"| steps | augment | {' | '.join(names)} | seeds |", "|---" * (len(names) + 3) + "|"]
    for steps, method in itertools.product(LENGTHS, METHODS):
        keys = [f"{method}, seed {seed}, {steps} steps" for seed in SEEDS]
        mine, cells = [rows[key] for key in keys if key in rows], []
        if not mine:
            continue
        for name in names:
            values = [row["held out"][name] for row in mine]
            off = f" ± {stdev(values):.3g}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3g}{off}")
        spelled = f"`{METHODS[method]}`" if METHODS[method] else "none"
        lines.append(f"| {steps:,} | {spelled} | {' | '.join(cells)} | {len(mine)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, and write the table."""
    held = json.loads(FILE.read_text()) if FILE.exists() else {"rows": {}}
    if "--table" not in sys.argv:
        scale = f"{LENGTHS} steps of {CONFIG.batch} images of side {SIDE}"
        with environment(1, scale) as held["environment"]:
            kept = Path(os.environ.get("STEADYGAN_RUNS", PAGE.parents[1] / "build" / "augment"))
            kept.mkdir(parents=True, exist_ok=True)
            files = halves(kept)
            for steps, seed, method in itertools.product(LENGTHS, SEEDS, METHODS):
                if (key := f"{method}, seed {seed}, {steps} steps") not in held["rows"]:
                    held["rows"][key] = measured(method, seed, steps, kept, *files)
                    FILE.write_text(json.dumps(held, indent=1) + "\n")
                    print(key, held["rows"][key], flush=True)
    text = PAGE.read_text()
    marks = r"(<!-- augment -->\n).*?(<!-- end -->)"
    PAGE.write_text(re.sub(marks, rf"\1{table(held['rows'])}\n\2", text, flags=re.S))


if __name__ == "__main__":
    main()
