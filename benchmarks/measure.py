"""What is measured beside time: peak memory in a process of its own, what the allocator costs, and
the environment."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steadygan.experiments.timing import Job

MEGABYTE = 1024  # getrusage counts kilobytes on Linux


def _forked(task: Callable[[], Any]) -> Any:
    """Return what a task finds in a forked process, so that nothing of it is left here; an error
    comes back as its text."""
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
    """Return by how many MB a job, its networks, data and optimizers included, raises the peak
    resident memory of a process with torch."""

    def task() -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run = job.make()
        for _ in range(2):
            run()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEGABYTE

    found = _forked(task)
    return round(found, 1) if isinstance(found, float) else None


def allocator(job: Job, seconds: float) -> dict[str, dict[str, float]]:
    """Return CPU seconds and page faults of one call of a job, with glibc's allocator as it is and
    with ``keep_memory``."""
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
        return (time.process_time() - began) / calls, (
            resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
        ) / calls

    found: dict[str, list[tuple[float, float]]] = {"as it is": [], "keep_memory": []}
    for _ in range(3):
        for name, keep in (("as it is", False), ("keep_memory", True)):
            found[name].append(_forked(lambda k=keep: task(k)))
    medians = {
        name: [float(np.median(column)) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    return {
        name: {"cpu": float(f"{cpu:.4g}"), "page_faults": round(faults, 1)}
        for name, (cpu, faults) in medians.items()
    }


@contextmanager
def environment(threads: int, scale: str) -> Iterator[dict[str, Any]]:
    """Yield where and when this runs; the load at its end is added last."""
    torch.set_num_threads(threads)
    cpu = [
        line.partition(":")[2].strip()
        for line in _text("/proc/cpuinfo").splitlines()
        if line.startswith("model name")
    ]
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
        found = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return found.stdout.strip()
