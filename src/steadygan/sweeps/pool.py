"""Who trains: this process, worker processes here, or the workers of any dask cluster.

Tasks and their endings are small plain data; runs live in folders, which all workers must see. A
worker that is lost is replaced where dask does so, and its run goes on elsewhere from its newest
checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..core.errors import SteadyganError, foreign
from ..runs.settings import read_settings
from .plan import Task
from .work import Ended, ended, work

_LOST = 20  # workers that a run may lose before it is given up: machines die, runs are innocent
_PATIENCE = "30s"

_JOB = {
    **dict.fromkeys(("queue", "account", "memory", "walltime", "interface", "python"), str),
    **dict.fromkeys(("job_name", "local_directory", "log_directory", "shebang"), str),
    **dict.fromkeys(("cores", "processes", "jobs"), int),
    **dict.fromkeys(("job_extra_directives", "job_script_prologue"), list),
}
"""What a --slurm file gives: settings of ``dask_jobqueue.SLURMCluster``, and how many jobs."""


@dataclass(frozen=True)
class Cluster:
    """Where tasks are trained.

    Attributes:
        workers: Processes on this machine; with 1 it is this process that trains.
        scheduler: The address of a dask cluster's scheduler instead.
        slurm: A file that says which jobs SLURM is asked for instead.
    """

    workers: int = 1
    scheduler: str | None = None
    slurm: Path | None = None

    def train(self, tasks: Sequence[Task]) -> Iterator[Ended]:
        """Train tasks, those that come first first.

        Yields:
            How each ended, in the order in which they end.

        Raises:
            SteadyganError: Where dask is not installed, or no cluster answers.
        """
        left = []
        for task in tasks:
            if there := _ended(task):
                yield there
            else:
                left.append(task)
        if not left:
            return
        if not (self.scheduler or self.slurm) and min(self.workers, len(left)) == 1:
            yield from map(work, left)
            return
        with self._opened(len(left)) as train:
            yield from train(left)

    @contextmanager
    def opened(self) -> Iterator[Callable[[Sequence[Task]], Iterator[Ended]]]:
        """Yield what trains tasks as ``train`` does, any number of times with the same workers.

        Raises:
            SteadyganError: Where dask is not installed, or no cluster answers.
        """
        with self._opened(self.workers) as train:
            yield train

    @contextmanager
    def _opened(self, count: int) -> Iterator[Callable[[Sequence[Task]], Iterator[Ended]]]:
        with ExitStack() as stack:
            yield partial(_followed, self._client(stack, count))

    def job(self) -> str:
        """Return the script that SLURM is asked to run, without asking."""
        with foreign(*self._refusal()), ExitStack() as stack:
            cluster, jobs = _slurm(self.slurm, stack)
            return f"{jobs} x\n{cluster.job_script()}"

    def _client(self, stack: ExitStack, count: int) -> Any:
        dask, distributed = _dask()
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": _LOST}))
        # What goes wrong with a run is told by its ending; a worker's loss is no news.
        for name in ("distributed.nanny", "distributed.scheduler", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with foreign(*self._refusal()):
            cluster: Any = self.scheduler
            if self.slurm is not None:
                cluster, jobs = _slurm(self.slurm, stack)
                cluster.scale(jobs=jobs)
            elif self.scheduler is None:
                cluster = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=min(self.workers, count),
                        threads_per_worker=1,
                        dashboard_address=":0",
                        silence_logs=logging.CRITICAL,
                    )
                )
            return stack.enter_context(distributed.Client(cluster, timeout=_PATIENCE))

    def _refusal(self) -> tuple[str, str]:
        """Return what it means where there are no workers to be had, and how to mend it."""
        if self.slurm is not None:
            return (
                f"SLURM cannot be asked for the jobs of {self.slurm}",
                "ask where sbatch works, and look with --dry-run at what it is asked for",
            )
        if self.scheduler is None:
            return "Worker processes cannot be started here", "give --workers 1 to do without"
        return (
            f"No dask scheduler answers at {self.scheduler}",
            "start one with 'dask scheduler', and give its address, such as tcp://HOST:8786",
        )


def _ended(task: Task) -> Ended | None:
    """Return how a task has ended already; None also where a worker shall say what is wrong."""
    try:
        return ended(task)
    except Exception:
        return None


def _followed(client: Any, tasks: Sequence[Task]) -> Iterator[Ended]:
    distributed = _dask()[1]
    futures = client.map(work, tasks, pure=False)
    of = {future.key: task for future, task in zip(futures, tasks, strict=True)}
    for future in distributed.as_completed(futures):
        try:
            yield future.result()
        except Exception as error:  # a worker that was lost too often, code that it does not have
            yield Ended(of[future.key].folder, "failed", 0, f"{type(error).__name__}: {error}")


def _slurm(path: Path | None, stack: ExitStack) -> tuple[Any, int]:
    """Return a cluster whose workers are SLURM's jobs, as a file says, and how many those are."""
    assert path is not None
    settings = read_settings(path)
    settings.check([name.replace("_", "-") for name in _JOB])
    given: dict[str, Any] = {}
    for name, kind in _JOB.items():
        value = settings.values.get(name.replace("_", "-"))
        if value is None:
            continue
        where = settings.where(name.replace("_", "-"))
        if (kind is list) == isinstance(value, str):
            raise SteadyganError(
                f"{where}: {name} takes {'a list' if kind is list else 'one value'}."
            )
        try:
            given[name] = list(value) if kind is list else kind(value)
        except ValueError:
            raise SteadyganError(f"{where}: {name} takes a whole number, not {value!r}.") from None
    jobs = given.pop("jobs", 1)
    if jobs < 1 or not {"cores", "memory"} <= given.keys():
        raise SteadyganError(f"{path} must give cores and memory of a job, and jobs, at least 1.")
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise _missing() from error
    cluster = SLURMCluster(
        scheduler_options={"dashboard_address": ":0"},
        worker_extra_args=["--nthreads", "1"],  # a process trains one run at a time
        **given,
    )
    stack.enter_context(cluster)
    return cluster, jobs


def _dask() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise _missing() from error
    return dask, distributed


def _missing() -> SteadyganError:
    return SteadyganError(
        "Training in several processes or on other machines is dask's work: pip install"
        " 'steadygan[sweep]', or give --workers 1."
    )


def available() -> bool:
    """Return whether dask is installed."""
    try:
        _dask()
    except SteadyganError:
        return False
    return True
