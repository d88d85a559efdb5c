"""Does gamma=auto find its gamma on images? CIFAR-10, five fixed ones beside it, three seeds.

Run: STEADYGAN_DATA=FOLDER python benchmarks/gamma_images.py -> benchmarks/gamma_images.json, about
30 minutes of CPU; FOLDER holds cifar10/train.zip and cifar10/test.zip. What the file holds already
is not measured again, and a run that was cut off goes on. A narrow DCGAN without normalization in
its critic, which BatchNorm would help in the place of a penalty; everything but the seed and gamma
is the same in all runs. Samples are judged once, at the end, against held-out images.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from measure import environment
from scipy.stats import t as student

from steadygan.cli import main as steadygan
from steadygan.runs.files import read_lines

FILE = Path(__file__).with_suffix(".json")
DATA = Path(os.environ.get("STEADYGAN_DATA", "data")) / "cifar10"
RUNS = Path("runs/gamma-images")
GRID = ("0.01", "0.1", "1", "10", "100")
SEEDS = (0, 1, 2)
STEPS, SAMPLES = 2000, 2000
SETTINGS = (
    "--objective nonsaturating --network dcgan:width=16,critic_norm=none --batch 32 "
    "--optimizer adam:lr=0.0002,beta1=0.5 --ema 0.999 --device cpu"
)


def run(*words: str) -> str:
    """Return what a command prints."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert steadygan(list(words)) == 0, words
    return said.getvalue()


def trained(gamma: str, seed: int) -> dict[str, Any]:
    """Train one GAN, and return how near its samples came to images that it never saw."""
    folder, started = RUNS / f"{gamma}-{seed}", time.process_time()
    if (folder / "config.json").exists():
        run("resume", str(folder))
    else:
        run(
            *("train", "images", "--data", str(DATA / "train.zip"), *SETTINGS.split()),
            *("--regularizer", f"js:gamma={gamma}", "--seed", str(seed), "--steps", str(STEPS)),
            *("--out", str(folder)),
        )
    seconds = time.process_time() - started
    judged = json.loads(
        run(
            *("evaluate", str(folder), "--data", str(DATA / "test.zip"), "--metrics", "fd,kid"),
            *("--samples", str(SAMPLES), "--json"),
        )
    )
    last = read_lines(folder / "metrics.jsonl").rows[-1]
    return {
        **{name: judged[0]["numbers"][name] for name in ("fd", "kid")},
        "gamma": last.get("gamma", gamma),
        "critic_loss": last["critic_loss"],
        "training CPU seconds": round(seconds),
    }


def against(results: dict[str, Any], gamma: str) -> dict[str, float]:
    """Return how much farther auto is than a fixed gamma, seed by seed; Student's 95 % interval."""
    per_seed = [
        results["auto"][str(s)]["kid"]["value"] - results[gamma][str(s)]["kid"]["value"]
        for s in SEEDS
    ]
    half = student.ppf(0.975, len(SEEDS) - 1) * stdev(per_seed) / len(SEEDS) ** 0.5
    middle = mean(per_seed)
    return {"mean": middle, "low": middle - half, "high": middle + half}


def main() -> None:
    """Measure what the file does not hold yet; seeds outside, so that all methods have as many."""
    torch.set_num_threads(1)
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    with environment(1, "images") as about:
        results["environment"] = about
        results["settings"] = f"{SETTINGS} --steps {STEPS}"
        for seed in SEEDS:
            for gamma in ("auto", *GRID):
                held = results.setdefault(gamma, {})
                if str(seed) not in held:
                    held[str(seed)] = trained(gamma, seed)
                    FILE.write_text(json.dumps(results, indent=1) + "\n")
                    print(gamma, seed, held[str(seed)], flush=True)
        results["auto's kid less that of"] = {gamma: against(results, gamma) for gamma in GRID}
    FILE.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
