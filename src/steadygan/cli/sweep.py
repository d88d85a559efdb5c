"""The command that trains many runs: sweep."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..core.errors import SteadyganError
from .arguments import Modules, arg, flag, house, whole
from .show import bar, say
from .written import WRITTEN, options, trained, typed

if TYPE_CHECKING:
    from ..problems import Problem
    from ..runs.config import Config
    from ..runs.settings import Settings, Value
    from ..sweeps.plan import Wanted
    from ..sweeps.work import Ended

_OWN = {
    "points": int | None,
    "draw": Literal["sobol", "random"] | None,
    "draw-seed": int | None,
    "halving": int | None,
    "by": str | None,
    "together": int | None,
}
"""What a file may say of the sweep itself."""


@dataclass(frozen=True)
class Sweep:
    r"""Train every combination that a file spans, here or on a cluster; again, it goes on.

    FILE is YAML whose keys are the options of 'steadygan train', which are taken on the command
    line too. A list where one value is meant is an axis, and braces are one in every option;
    --points draws from them, and from ranges {LOW..HIGH} or {LOW..HIGH log}. The same command
    skips what has ended and continues what was broken off; a longer FILE adds runs. Small GANs
    that differ in seed, strengths and learning rates only are trained at once.

    Examples:
      steadygan sweep sweep.yaml --out runs/sweep
      steadygan sweep sweep.yaml --out runs/sweep --network "{mlp,mlp:width=256}" --seeds 3
      steadygan sweep sweep.yaml --out runs/drawn --points 32 --draw sobol \
        --regularizer "r1:gamma={0.01..10 log}"
      steadygan sweep sweep.yaml --out runs/halved --halving 3 --by sw1
      steadygan sweep sweep.yaml --out runs/sweep --scheduler tcp://login:8786
      steadygan sweep sweep.yaml --out runs/sweep --slurm slurm.yaml --dry-run
    """

    file: Annotated[Path, tyro.conf.Positional, arg("FILE", "what is trained, as YAML")]
    out: Annotated[Path | None, arg("DIR", "holds every run", "runs/ and the name of FILE")] = None
    workers: Annotated[
        int | None, whole("N", "processes here; 1: none but this one", "one a core")
    ] = None
    scheduler: Annotated[
        str | None, arg("ADDRESS", "of a dask cluster that trains instead, tcp://HOST:8786", "none")
    ] = None
    slurm: Annotated[
        Path | None, arg("FILE", "the jobs that SLURM is asked for instead, as YAML", "none")
    ] = None
    points: Annotated[int | None, whole("N", "how many points are drawn", "a grid of all")] = None
    draw: Annotated[
        Literal["sobol", "random"] | None, arg("sobol|random", "how points are drawn", "sobol")
    ] = None
    draw_seed: Annotated[int | None, whole("N", "of the drawing", "0")] = None
    halving: Annotated[
        int | None,
        whole("K", "successive halving: at each rung the best one of K goes on", "none"),
    ] = None
    by: Annotated[str | None, arg("METRIC", "what halving and page judge by", "the first")] = None
    together: Annotated[
        int | None, whole("N", "how many small GANs are trained at once at most", "16")
    ] = None
    dry_run: Annotated[bool, flag("say what would be trained, and train nothing")] = False
    modules: Modules = ()
    given: Annotated[tuple[tuple[str, Any], ...], tyro.conf.Suppress] = ()

    @staticmethod
    def taken(words: Sequence[str]) -> tuple[list[str], tuple[tuple[str, Value], ...]]:
        """Return the words that are not train's options, and those options with their values.

        Raises:
            SteadyganError: For an option without its value.
        """
        known, rest = options(), []
        found: dict[str, Value] = {}
        left = iter(words)
        for word in left:
            name, equals, value = word.removeprefix("--").partition("=")
            name = name.replace("_", "-")
            plain = name.removeprefix("no-")
            switch = plain in WRITTEN and known[plain].kind is bool and not equals
            if not word.startswith("--") or not (switch or name in WRITTEN):
                rest.append(word)
                continue
            if switch:
                found[plain] = str(name == plain).lower()
                continue
            text = value if equals else next(left, None)
            if text is None:
                raise SteadyganError(f"--{name} needs a value.")
            held = found.get(name, ())
            found[name] = (*held, text) if known[name].repeated else text
        return rest, tuple(found.items())

    @staticmethod
    def spans(settings: Settings) -> bool:
        """Return whether a file is a sweep's: what 'steadygan train' would not take as one run."""
        from ..runs.config import VARIED

        known = options()
        return any(
            name in _OWN
            or (name in known and not isinstance(value, str) and not known[name].repeated)
            or (name.replace("-", "_") not in VARIED and "{" in str(value))
            for name, value in settings.values.items()
        )

    def wanted(self) -> list[Wanted]:
        """Return every GAN that is asked for, checked; nothing is trained."""
        told, settings = self._told()
        return told._wanted(settings)

    def run(self) -> int:
        """Return the exit status."""
        from ..report.sweep import write_sweep
        from ..runs.lock import held
        from ..runs.table import better
        from ..sweeps import Cluster, halve, plan
        from ..sweeps.halving import rungs
        from ..sweeps.plan import TOGETHER

        told, settings = self._told()
        wanted = told._wanted(settings)
        out = house(told.out or Path("runs") / told.file.stem)
        if told.halving is not None and (told.halving < 2 or told.by is None):
            raise SteadyganError("--halving K, at least 2, needs --by METRIC, such as --by sw1.")
        if told.by is not None and better(told.by) is None:
            raise SteadyganError(
                f"--by {told.by}: which side of it is better is not known. Take one of which it is,"
                " such as sw1, or fd where runs have --metrics fd."
            )
        if told.by is not None:
            _check_by(told.by, wanted, all_of_them=told.halving is not None)
        if told.scheduler and told.slurm:
            raise SteadyganError("--scheduler and --slurm are two places: give one of them.")
        together = 1 if told.halving else TOGETHER if told.together is None else told.together
        if together < 1:
            raise SteadyganError(f"--together must be at least 1, not {together}.")
        tasks = plan(wanted, out, together=together, modules=tuple(map(_found, told.modules)))
        cluster = Cluster(told._processes(), told.scheduler, told.slurm)
        if told.dry_run:
            say(f"{len(wanted)} GANs in {len(tasks)} runs below {out}:")
            say(*(f"  {Path(task.folder).name}" for task in tasks))
            if told.slurm is not None:
                say("", cluster.job().rstrip())
            return 0
        if told.halving is None:
            endings = cluster.train(tasks)
        else:
            rungs(tasks, told.halving)  # what it refuses leaves no folder
            endings = halve(tasks, cluster.train, keep=told.halving, by=told.by or "")
        states: Counter[str] = Counter()
        try:
            # Runs have locks of their own, but who is stopped is decided by looking at all of them.
            with nullcontext() if told.halving is None else held(out):
                for ended in follow(endings, len(tasks)):
                    states[ended.state] += 1
        except KeyboardInterrupt:
            say("steadygan: interrupted; the same command goes on from here.", stderr=True)
            raise
        say(", ".join(f"{count} {state}" for state, count in states.most_common()))
        say(str(write_sweep(out, by=told.by)))
        if states["failed"]:
            say("steadygan: the same command tries those that failed again.", stderr=True)
        return 1 if states["failed"] else 0

    def _told(self) -> tuple[Sweep, Settings]:
        """Return the command with what its file says of the sweep, and what it says of runs."""
        from ..runs.settings import Settings, read_settings

        held = read_settings(self.file)
        held.check([*WRITTEN, *_OWN])
        own = {name: value for name, value in held.values.items() if name in _OWN}
        told = self
        for name, value in own.items():
            field = name.replace("-", "_")
            if getattr(self, field) is None:
                if not isinstance(value, str):
                    raise SteadyganError(f"{held.where(name)}: {name} takes one value.")
                told = replace(told, **{field: typed(name, _OWN[name], value)})
        rest = {name: value for name, value in held.values.items() if name not in _OWN}
        given = dict(self.given)
        return told, Settings(held.path, {**rest, **given}, held.lines, given)

    def _wanted(self, settings: Settings) -> list[Wanted]:
        """Return every GAN that is asked for, checked before any of them begins."""
        from ..runs.models import build_networks
        from ..sweeps import points
        from ..sweeps.axes import varied
        from ..sweeps.plan import Wanted

        if "init" in settings.values:
            raise SteadyganError("init is of one run: leave it out of a sweep.")
        several = [name for name, option in options().items() if option.repeated]
        if self.points is not None and self.points < 1:
            raise SteadyganError(f"--points must be at least 1, not {self.points}.")
        if self.draw is not None and self.points is None:
            raise SteadyganError(f"--draw {self.draw} needs --points N: how many are drawn.")
        drawn = points(
            settings.values,
            several,
            draw="grid" if self.points is None else self.draw or "sobol",
            count=self.points or 0,
            seed=self.draw_seed or 0,
        )
        axes, networks, found = varied(settings.values, several), set(), []
        settings.check_code(point.get("features", "") for point in drawn)
        for point in drawn:
            command = trained(point, settings)
            try:
                problem, members = command.played()
                resolved = [self._resolved(member, problem) for member in members]
                if (shape := (resolved[0].network, problem)) not in networks:
                    networks.add(shape)
                    build_networks(resolved[0], problem.event, classes=0)
            except SteadyganError as error:
                what = ", ".join(f"{name}: {_spelled(point[name])}" for name in axes)
                raise SteadyganError(f"{settings.path}, {what or 'its run'}: {error}") from error
            words = [_spelled(point[name]) for name in axes if name != "seed"] or [command.problem]
            found += [Wanted(problem, m, "-".join([*words, f"seed={m.seed}"])) for m in resolved]
        return found

    def _resolved(self, member: Config, problem: Problem) -> Config:
        """Return a configuration with every choice made but the device, which is the worker's."""
        elsewhere = self.scheduler is not None or self.slurm is not None
        here = replace(member, device="cpu") if elsewhere else member
        return replace(here.resolve(problem), device=member.device)

    def _processes(self) -> int:
        from ..sweeps.pool import available

        if self.workers is not None and self.workers < 1:
            raise SteadyganError(f"--workers must be at least 1, not {self.workers}.")
        usual = (os.cpu_count() or 1) if available() else 1
        return self.workers or usual


def _check_by(by: str, wanted: Sequence[Wanted], *, all_of_them: bool) -> None:
    """Refuse a metric that all runs must have and some will not, or that none of them will have."""
    without = [each for each in wanted if (have := _numbers(each)) is not None and by not in have]
    if without and (all_of_them or len(without) == len(wanted)):
        listed = ", ".join(_numbers(without[0]) or ()) or "no metric"
        raise SteadyganError(
            f"--by {by}: the run {without[0].label} will have {listed}. Take one of these, or add"
            " to --metrics."
        )


def _numbers(wanted: Wanted) -> list[str] | None:
    """Return the names of what a run will measure; None where its problem does not say."""
    from ..evaluation.metrics import build_metrics

    own, metrics = wanted.problem.numbers, wanted.config.metrics
    if own is None:
        return None
    chosen = build_metrics(metrics) if metrics else ()
    return [*own, *(key for metric in chosen for key in metric.while_training().numbers)]


def follow(endings: Iterable[Ended], count: int) -> Iterator[Ended]:
    """Tell how each run ended.

    Yields:
        The same endings.
    """
    with bar("runs") as tell:
        for n, ended in enumerate(endings, 1):
            tell(n, count)
            name, why = Path(ended.folder).name, f": {ended.reason}" if ended.reason else ""
            say(f"{n}/{count} {name} {ended.state} at step {ended.step}{why}", stderr=True)
            yield ended


def _spelled(value: Value) -> str:
    return value if isinstance(value, str) else "+".join(value) or "none"


def _found(module: str) -> str:
    """Return a module as a worker finds it, wherever it runs."""
    return str(Path(module).resolve()) if module.endswith(".py") else module
