"""How it is timed: interleaved rounds, process CPU time and wall time, peak memory in a process of its own, and the environment."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import platform
import random
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # which an optimizer imports at its first step, and no job shall pay for
from work import Job

MEGABYTE = 1024  # getrusage counts kilobytes on Linux
Samples = dict[str, list[tuple[float, float]]]
"""Seconds of process CPU time and of wall time for one unit of work, by job, one pair a round."""


def rounds(jobs: Sequence[Job], count: int, seconds: float, say: Callable[[str], None]) -> tuple[Samples, dict[str, str]]:
    """Return the samples of every job, and why some could not run. A sample repeats its job until about ``seconds`` are filled."""
    ready: dict[str, tuple[Callable[[], Any], int, int]] = {}
    failed: dict[str, str] = {}
    for job in jobs:
        try:
            run = job.make()
            run()  # compiles, decides on a path, fills caches
            began = time.perf_counter()
            run()
            once = time.perf_counter() - began
        except Exception as error:
            failed[job.name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            say(f"  {job.name} does not run: {failed[job.name]}")
            continue
        ready[job.name] = run, max(1, math.ceil(seconds / max(once, 1e-9))), job.work
    gc.collect()
    gc.freeze()  # all of torch's objects need not be looked at again below
    samples: Samples = {name: [] for name in ready}
    order, rng = list(ready), random.Random(0)
    for k in range(count):
        rng.shuffle(order)
        say(f"  round {k + 1} of {count}")
        for name in order:
            run, repeats, work = ready[name]
            gc.collect()  # nobody pays for another's garbage
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            samples[name].append((cpu / (repeats * work), wall / (repeats * work)))
    return samples, failed


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles, to six digits."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(f"{middle:.6g}"), "q1": float(f"{low:.6g}"), "q3": float(f"{high:.6g}")}


def ratio(samples: Samples, above: str, below: str) -> dict[str, float] | None:
    """Return the ratio of two jobs' CPU times, taken within each round; None where one of them was not measured."""
    if above not in samples or below not in samples:
        return None
    return summary([a[0] / b[0] for a, b in zip(samples[above], samples[below], strict=True)])


def _forked(task: Callable[[], Any]) -> Any:
    """Return what a task finds in a forked process, so that nothing of it is left here; an error comes back as its text."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child() -> None:
        try:
            theirs.send(task())
        except Exception as error:
            theirs.send(f"{type(error).__name__}: {error}")

    process = context.Process(target=child)
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        found = "its process ended without an answer"
    process.join()
    return found


def peak_memory(job: Job) -> float | None:
    """Return by how many MB a job, its networks, data and optimizers included, raises the peak resident memory of a process with torch."""

    def task() -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run = job.make()
        for _ in range(2):
            run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEGABYTE

    found = _forked(task)
    return round(found, 1) if isinstance(found, float) else None


def allocator(job: Job, seconds: float) -> dict[str, dict[str, float]]:
    """Return CPU seconds and page faults of one call of a job, with glibc's allocator as it is and with ``keep_memory``."""
    from steadygan.training.allocator import keep_memory

    def task(keep: bool) -> tuple[float, float]:
        if keep:
            keep_memory()
        run, calls = job.make(), 0
        for _ in range(3):
            run()
        faults, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
        while time.process_time() - began < seconds or not calls:
            run()
            calls += 1
        return (time.process_time() - began) / calls, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / calls

    found: dict[str, list[tuple[float, float]]] = {"as it is": [], "keep_memory": []}
    for _ in range(3):
        for name, keep in (("as it is", False), ("keep_memory", True)):
            found[name].append(_forked(lambda k=keep: task(k)))
    medians = {name: [float(np.median(column)) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    return {name: {"cpu": float(f"{cpu:.4g}"), "page_faults": round(faults, 1)} for name, (cpu, faults) in medians.items()}


@contextmanager
def environment(threads: int, scale: str) -> Iterator[dict[str, Any]]:
    """Yield where and when this runs; the load at its end is added last."""
    torch.set_num_threads(threads)
    cpu = [line.partition(":")[2].strip() for line in _text("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    here: dict[str, Any] = {
        "scale": scale,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "src")),
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_at_start": list(os.getloadavg()),
    }
    began = time.time()
    yield here
    here["load_at_end"] = list(os.getloadavg())
    here["seconds"] = round(time.time() - began)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(["git", *arguments], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return found.stdout.strip()
