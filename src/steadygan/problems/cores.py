"""Work on all cores: in forked processes where there is much of it, else in threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import TypeVar

from ..core.errors import SteadyganError

T = TypeVar("T")
R = TypeVar("R")
MANY = 2000
"""Images from which on processes are worth their start."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_all_cores(
    work: Callable[[T], R], items: Sequence[T], processes: bool = False
) -> Iterator[R]:
    """Yield the results of work on items, in their order.

    Args:
        work: what is done with one item; in processes its results are pickled, and what it writes
            is seen in shared memory only.
        items: what it is done with.
        processes: fork where that can be done, because Python's own share of the work is large:
            threads would wait for each other.

    Raises:
        SteadyganError: where a process was killed.
    """
    count = min(cores(), len(items))
    # A daemon may have no children; elsewhere than on Linux a fork is not safe, or not there.
    forks = sys.platform == "linux" and not multiprocessing.current_process().daemon
    if processes and forks and count > 1:
        yield from _forked(work, items, count)
        return
    pool = ThreadPoolExecutor(max(1, count))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def _forked(work: Callable[[T], R], items: Sequence[T], count: int) -> Iterator[R]:
    context = multiprocessing.get_context("fork")
    results: list[Connection] = []
    children: list[multiprocessing.context.ForkProcess] = []
    try:
        for k in range(count):
            result, end = context.Pipe(duplex=False)
            results.append(result)
            share = items[k::count]
            child = context.Process(target=_child, args=(work, share, end, results), daemon=True)
            with warnings.catch_warnings():
                # Of threads that a fork leaves behind: the children need none of them.
                warnings.simplefilter("ignore", DeprecationWarning)
                child.start()
            end.close()
            children.append(child)
        for i in range(len(items)):
            try:
                yield results[i % count].recv()
            except EOFError:
                raise SteadyganError(
                    "A process that decodes images was killed, perhaps for want of memory: free"
                    " some, or lower --limit."
                ) from None
    finally:
        for result in results:
            result.close()
        for child in children:
            child.terminate()
            child.join()


def _child(
    work: Callable[[T], R], share: Sequence[T], end: Connection, others: Sequence[Connection]
) -> None:
    """Send the results of a share of the items; it ends with its parent, which alone is told."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    # With these a child would keep the pipes open that tell it that its parent has gone.
    for other in others:
        other.close()
    try:
        for item in share:
            end.send(work(item))
    except BrokenPipeError:
        return
