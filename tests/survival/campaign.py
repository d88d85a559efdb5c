"""Real kills: processes that train are killed at random moments until each run is through.

    PYTHONPATH=tests python tests/survival/campaign.py --kills 1000 --out docs/reliability.json

Every process is a fork of this one, so that a kill costs no import. A run that is through must
have the same bits, rows and warnings as one that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from steadygan.cli import main
from steadygan.runs.environment import environment
from steadygan.runs.format import is_run
from steadygan.runs.reading import Run
from survival.test_survival import same, state

STEPS = "--steps 40 --batch 4 --log-every 2 --evaluate-every 10 --checkpoint-every 5".split()
KINDS = {
    "one GAN": ["train", "dirac", *STEPS],
    "a fleet of three": ["train", "dirac", *STEPS, "--seeds", "3"],
    "an MLP with R1 and a moving average": (
        "train line2d --network mlp:width=4 --regularizer r1:gamma=1 --ema 0.9".split() + STEPS
    ),
    "a conditional one on images of 16 x 16": (
        "train images --data {images} --resolution 16 --conditional --network mlp:width=4".split()
        + STEPS
    ),
}


def draw_images(folder: Path) -> None:
    """Make PNGs of two classes."""
    rng = np.random.default_rng(0)
    for kind in ("dark", "light"):
        (folder / kind).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 128, (16, 16, 3), dtype=np.uint8) + 127 * (kind == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{i}.png")


def child(argv: list[str]) -> int:
    """Start a command in a fork of this process and return its process id."""
    process = os.fork()
    if process:
        return process
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        status = main(argv)
    os._exit(status)


def campaign(kills: int, seed: int = 0) -> dict[str, object]:
    """Kill that often and return what came of it."""
    rng, counts, wrong = random.Random(seed), Counter[str](), []
    place = Path(tempfile.mkdtemp())
    draw_images(place / "images")
    os.environ["STEADYGAN_CACHE"] = str(place / "cache")
    kinds = {
        kind: [word.format(images=place / "images") for word in argv]
        for kind, argv in KINDS.items()
    }
    whole: dict[str, tuple[dict[str, object], float]] = {}
    for kind, argv in kinds.items():
        # Once here, so that no fork spends its time on imports.
        assert main([*argv, "--steps", "2", "--out", str(place / f"warm {kind}")]) == 0
        started = time.perf_counter()
        assert os.waitpid(child([*argv, "--out", str(place / kind)]), 0)[1] == 0
        whole[kind] = state(place / kind), time.perf_counter() - started
    number = 0
    while counts["kills"] + counts["terminations"] < kills:
        kind = list(kinds)[number % len(kinds)]
        number += 1
        run, (wanted, seconds) = place / f"run-{number}", whole[kind]
        while True:
            begun = is_run(run)
            if begun and Run.read(run).status.get("state") == "finished":
                break
            resumes = begun and any((run / "checkpoints").glob("*.safetensors"))
            if begun and not resumes:
                shutil.rmtree(run)  # killed before its first checkpoint: nothing is lost
                counts["begun anew"] += 1
            argv = ["resume", str(run)] if resumes else [*kinds[kind], "--out", str(run)]
            process = child(argv)
            time.sleep(rng.uniform(0, 0.9 * seconds))
            gentle = rng.random() < 0.2
            done, status = os.waitpid(process, os.WNOHANG)
            if not done:
                os.kill(process, signal.SIGTERM if gentle else signal.SIGKILL)
                _, status = os.waitpid(process, 0)
                counts["terminations" if gentle else "kills"] += 1
            elif status:
                wrong.append(f"{kind}: {' '.join(argv)} ended with {status}")
                break
        counts["runs"] += 1
        if is_run(run) and not same(state(run), wanted):
            wrong.append(f"{kind}: another end than undisturbed, {run}")
        else:
            shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(place)
    return {**counts, "kinds": list(KINDS), "wrong": wrong, "seed": seed}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork has one thread only
    found = {**campaign(given.kills), "environment": environment("cpu")}
    print(json.dumps(found, indent=2))
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(bool(found["wrong"]))
