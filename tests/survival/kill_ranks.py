"""Real kills of several processes that train together, until each run is through.

    PYTHONPATH=tests python tests/survival/kill_ranks.py --kills 100

Every process is a fork of this one. Where one is killed while all train, the others must end by
themselves within seconds, with nobody to stop them as torchrun would; what has not met yet is
stopped. The run then goes on on another number of processes. In the end it must be, up to rounding,
one that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from steadygan.cli import main
from steadygan.runs import checkpoint
from steadygan.runs.format import is_run
from steadygan.runs.reading import Run
from survival.faults import Faults
from survival.test_survival import state

SECONDS = 20
"""In which those that are left must have ended."""

USUAL = (
    "train ring2d --precision float64 --batch 6 --steps 60 --log-every 3"
    " --evaluate-every 15 --checkpoint-every 5 --device cpu"
).split()
KINDS = {
    "one GAN": [*USUAL, *"--network mlp:width=4 --regularizer r1 --optimizer sgd:lr=0.05".split()],
    "one with batch normalisation": [
        *USUAL,
        *"--network mlp:width=4,norm=batch,critic_norm=batch --regularizer js".split(),
        *"--optimizer sgd:lr=0.05".split(),
    ],
    "five, of which one leaves the finite numbers": [
        *USUAL,
        *"--network mlp:width=4 --optimizer sgd:lr={0.05,0.04,0.03,1e300,0.02}".split(),
    ],
}


def start(argv: list[str], count: int, full: Path | None = None, at: int = 0) -> list[int]:
    """Start processes of one training, as torchrun does; return their ids.

    full: a folder that has no more room after some operations on rank zero, from number ``at`` on.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = []
    for rank in range(count):
        process = os.fork()
        if process:
            found.append(process)
            continue
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        status = 70
        try:
            broken = full is not None and not rank
            with Faults(full, at, "ENOSPC", lasting=True) if broken else nullcontext():
                status = main(argv)
        finally:
            os._exit(status)
    return found


def ends(processes: list[int], seconds: float) -> list[int] | None:
    """Return how processes ended, -N for signal N, in their order; None if not all have in time."""
    found, last = {}, time.monotonic() + seconds
    while len(found) < len(processes) and time.monotonic() < last:
        for process in set(processes) - set(found):
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                found[process] = os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return [found[p] for p in processes] if len(found) == len(processes) else None


def stop(processes: list[int]) -> None:
    """Kill what is left of them."""
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def near(ours: object, other: object) -> bool:
    """Return whether two states are the same up to rounding."""
    if isinstance(ours, torch.Tensor):
        return torch.allclose(ours, other, rtol=1e-9, atol=1e-9, equal_nan=True)
    if isinstance(ours, dict):
        return ours.keys() == other.keys() and all(near(ours[k], other[k]) for k in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(other) and all(map(near, ours, other))
    if isinstance(ours, float) and isinstance(other, float):
        return ours == pytest.approx(other, rel=1e-8, abs=1e-9)
    return ours == other


def campaign(kills: int, seed: int = 0) -> dict[str, object]:
    """Kill that often and return what came of it."""
    rng, counts, wrong = random.Random(seed), Counter[str](), []
    place, slowest, number = Path(tempfile.mkdtemp()), 0.0, 0
    whole = {}
    for kind, argv in KINDS.items():
        started = time.monotonic()
        assert ends(start([*argv, "--out", str(place / kind)], 1), 300) == [0], kind
        whole[kind] = state(place / kind), time.monotonic() - started
    while counts["kills"] + counts["interrupts"] + counts["terminations"] < kills and not wrong:
        kind = list(KINDS)[number % len(KINDS)]
        number += 1
        run, (wanted, seconds) = place / f"run-{number}", whole[kind]
        while not wrong:
            if is_run(run) and Run.read(run).status.get("state") == "finished":
                break
            resumes = is_run(run) and bool(checkpoint.checkpoints(run))
            if is_run(run) and not resumes:
                shutil.rmtree(run)  # killed before its first checkpoint: nothing is lost
                counts["begun anew"] += 1
            argv = ["resume", str(run)] if resumes else [*KINDS[kind], "--out", str(run)]
            before = (run / "status.json").stat().st_mtime_ns if resumes else 0
            processes = start(argv, rng.choice([2, 3]))
            time.sleep(rng.uniform(0, 3 * seconds))
            if (done := ends(processes, 0.1)) is not None:
                if any(done):
                    wrong.append(f"{kind}: {argv[0]} ended with {done}")
                continue
            status = run / "status.json"
            met = status.is_file() and status.stat().st_mtime_ns != before
            how = rng.choice(["kill", "kill", "kill", "terminate", "interrupt"])
            struck = rng.choice(processes)
            if how == "interrupt":  # as by a terminal, which tells all of them
                for process in processes:
                    os.kill(process, signal.SIGINT)
            else:
                os.kill(struck, signal.SIGKILL if how == "kill" else signal.SIGTERM)
            counts[{"kill": "kills", "terminate": "terminations"}.get(how, "interrupts")] += 1
            started = time.monotonic()
            if (done := ends(processes, SECONDS if met else 2)) is None:
                stop(processes)
                if met:
                    wrong.append(f"{kind}: {how} left others that did not end")
                counts["stopped before they had met"] += not met
            elif met:
                slowest = max(slowest, time.monotonic() - started)
            if is_run(run) and checkpoint.checkpoints(run):
                checkpoint.load(checkpoint.latest(run))
        counts["runs"] += 1
        print(dict(counts), file=sys.stderr, flush=True)
        if not wrong and not near(state(run), wanted):
            wrong.append(f"{kind}: another end than undisturbed, {run}")
    if not wrong:
        shutil.rmtree(place)
    return {
        **counts,
        "kinds": list(KINDS),
        "seconds until all had ended, at most": round(slowest, 1),
        "wrong": wrong,
        "seed": seed,
    }


def faults(place: Path) -> dict[str, object]:
    """Let two processes come to a full disk, and to numbers that are not finite; return the ends.

    Of each the exit statuses, the state that the folder tells, and its newest checkpoint's step.
    """
    found = {}
    more = {
        "full disk": ("sgd:lr=0.05", place / "full disk", 45),
        "not finite": ("sgd:lr=1e308 --objective wasserstein", None, 0),
    }
    for name, (rate, full, at) in more.items():
        run = place / name
        words = [*KINDS["one GAN"][:-1], *rate.split(), "--out", str(run)]
        processes = start(words, 2, full, at)
        ended = ends(processes, 60)
        stop(processes)
        step = checkpoint.load(checkpoint.latest(run))["step"]
        found[name] = [ended, Run.read(run).status["state"], step]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork has one thread only
    out = faults(given.faults) if given.faults else campaign(given.kills, given.seed)
    print(json.dumps(out, indent=2))
    sys.exit(bool(out.get("wrong")))
