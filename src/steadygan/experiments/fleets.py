"""Fleets of an experiment, summed up seed by seed.

In shards to which seeds and steps can be added, continued where they stopped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from ..core.registry import build
from ..evaluation.estimate import share_of
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.files import read_lines
from ..runs.folder import RunFolder
from ..runs.format import METRICS, REAL, SAMPLES, STATUS, by_step, is_run
from ..runs.monitor import Monitor
from ..runs.samples import read_points, read_samples
from ..sweeps.plan import TOGETHER
from ..training import Config, train_fleet
from .folders import (
    annealed,
    go_on,
    identity,
    identity_of,
    remove,
    unfinished,
)
from .rules import last_third
from .workers import Workers, current, task

SAVED = 500
"""Iterations after which a fleet is saved at the latest: two minutes of the slowest, eight GANs
at batch 512 with five critic steps, and far below ten on a busy core."""


@dataclass(frozen=True)
class Member:
    """One GAN of a fleet.

    Its regularizers, its seed, its metrics (T,) by name at ``steps`` (T,), the critic's loss among
    them, and a moment's samples by step. Where it had stopped, metrics are NaN. Samples (N, d) are
    of the steps that the fleet saved, and ``place`` is which of the fleet it is. ``indifferent`` is
    the loss of a critic that cannot tell real from generated, 0 where there is none.
    """

    setting: str
    seed: int
    steps: np.ndarray
    metrics: dict[str, np.ndarray]
    folder: Path
    place: int
    indifferent: float = 0.0

    @property
    def won(self) -> bool:
        """Whether the critic separates real from generated nearly perfectly in the last third."""
        least = Monitor.WON * self.indifferent
        return self.indifferent > 0 and self.late("critic_loss") < least

    def late(self, name: str, since: int = 0) -> float:
        """Return the median of a metric over the last third of the evaluations, from a step on.

        The median, because one snapshot can mislead; NaN where it stopped.
        """
        third = last_third(len(self.steps))
        return float(np.median(self.series(name)[third][self.steps[third] >= since]))

    def series(self, name: str) -> np.ndarray:
        """Return a metric (T,); all NaN where it had stopped before it was first evaluated."""
        return self.metrics.get(name, np.full(len(self.steps), math.nan))

    def samples(self, step: int) -> np.ndarray:
        """Return its samples (N, d) at an evaluation.

        One of NaN where the whole fleet had stopped before.
        """
        path = by_step(self.folder / SAMPLES, ".npz").get(step)
        if path is None:
            real = read_points(self.folder / SAMPLES / f"{REAL}.npz")
            return np.full_like(real[:1], math.nan)
        found: np.ndarray = read_samples(path)[self.place]
        return found


def fleet(
    problem: Problem,
    members: Sequence[Config],
    folder: Path,
    *,
    compiled: bool = False,
    together: int | None = None,
) -> list[Member]:
    """Return the members of a fleet, trained or continued in a folder of shards.

    A shard is a fleet of some seeds. What the shards hold is used, shards with fewer steps are
    continued, and the members that are in none make new ones: seeds and steps can be added. A
    member with an annealed strength has another course with more steps, and is trained anew.

    Args:
        problem: What is played.
        members: Their configurations.
        folder: Of the shards.
        compiled: As in ``train_fleet``.
        together: About how many members a new shard has at most, every seed whole; None for all in
            one.

    Raises:
        SteadyganError: Where a member has already made more steps.
        KeyboardInterrupt: Where it was interrupted: the same call continues it.
    """
    resolved = [m.resolve(problem) for m in members]
    wanted = {identity(problem, m): m for m in resolved}
    place: dict[str, tuple[Path, int]] = {}
    longer = {shard: _held(shard, wanted, place) for shard in _shards(folder)}
    missing = [m for key, m in wanted.items() if key not in place]
    workers = current()
    new = dict(zip(_free(folder), _grouped(missing, together, workers), strict=False))
    for shard, group in new.items():
        place |= {identity(problem, m): (shard, i) for i, m in enumerate(group)}
    if workers is None:
        for shard, steps in longer.items():
            if steps is not None:
                go_on(shard, steps)
        for shard, group in new.items():
            if train_fleet(problem, group, shard, compiled=compiled).state == "interrupted":
                raise KeyboardInterrupt
    else:
        device = members[0].device if members else ""
        tasks = [
            task(problem, [replace(resolved[0], device=device)], shard, steps=steps)
            for shard, steps in longer.items()
            if steps is not None and unfinished(shard, steps)
        ]
        for shard, group in new.items():
            group = [replace(m, device=device) for m in group]
            tasks.append(task(problem, group, shard, fleet=True, compiled=compiled))
        workers.train(tasks)
    return [_read(m, *place[identity(problem, m)]) for m in resolved]


def by_structure(
    problem: Problem,
    members: Sequence[Config],
    folder: Path,
    name: Callable[[Config], str],
    *,
    compiled: bool = False,
) -> list[Member]:
    """Return GANs of several structures, each structure a fleet in a folder of its own.

    Args:
        problem: What is played.
        members: Their configurations; one that comes twice is trained once.
        folder: Where the fleets' folders lie.
        name: What the folder is called of a configuration, the same for those of one structure.
        compiled: As in ``train_fleet``.
    """
    groups: dict[str, list[int]] = {}
    for place, member in enumerate(members):
        groups.setdefault(name(member), []).append(place)
    found: dict[int, Member] = {}
    for of, places in groups.items():
        group = [members[i] for i in places]
        found |= zip(places, fleet(problem, group, folder / of, compiled=compiled), strict=True)
    return [found[place] for place in range(len(members))]


def _shards(folder: Path) -> list[Path]:
    """Return the fleets of a folder that have a checkpoint.

    The folder itself where it is one, as before there were shards. One that was killed before its
    first checkpoint is removed.
    """
    found = []
    for place in (folder, *sorted(folder.glob("shard-*"))):
        if is_run(place) and checkpoint.checkpoints(place):
            found.append(place)
        elif place != folder or is_run(place):
            remove(place)
    return found


def _free(folder: Path) -> Iterator[Path]:
    """Yield the folders of shards that are not there."""
    for number in itertools.count():
        if not (shard := folder / f"shard-{number:02d}").exists():
            yield shard


def _grouped(
    members: Sequence[Config], together: int | None, workers: Workers | None = None
) -> list[list[Config]]:
    """Return new shards: constant and annealed members apart, of as many whole seeds as fit.

    For workers one each at least, and seeds are cut where they must be.
    """
    if workers is not None:
        most = min(together or TOGETHER, TOGETHER, math.ceil(len(members) / workers.count) or 1)
    found: list[list[Config]] = []
    for kind in (False, True):
        here = [m for m in members if annealed(m) is kind]
        if workers is not None:
            found += [here[start : start + most] for start in range(0, len(here), most)]
            continue
        by_seed = {
            seed: [m for m in here if m.seed == seed] for seed in sorted({m.seed for m in here})
        }
        shard: list[Config] = []
        for group in by_seed.values():
            if shard and together is not None and len(shard) + len(group) > together:
                found.append(shard)
                shard = []
            shard = [*shard, *group]
        if shard:
            found.append(shard)
    return found


def _held(
    shard: Path,
    wanted: dict[str, Config],
    place: dict[str, tuple[Path, int]],
) -> int | None:
    """Note which of the wanted members a shard holds.

    Returns:
        How many steps they shall have; None where it holds none.
    """
    held = RunFolder.open(shard).describe()
    keys = [identity_of(held.setting, m) for m in held.members]
    here = [i for i, key in enumerate(keys) if key in wanted and key not in place]
    place |= {keys[i]: (shard, i) for i in here}
    return max((wanted[keys[i]].steps or 0 for i in here), default=None)


def _read(config: Config, folder: Path, place: int) -> Member:
    """Return a member with its metrics and its critic's loss at every planned evaluation.

    An interruption neither adds nor takes any.
    """
    rows = read_lines(folder / METRICS).rows
    there = {
        row["step"]: {**row["metrics"], "critic_loss": row["critic_loss"]}
        for row in rows
        if "metrics" in row
    }
    total, every = config.steps or 0, config.evaluate_every
    steps = np.unique([*range(every, total + 1, every), total])
    names = list(dict.fromkeys(name for found in there.values() for name in found))

    def column(name: str) -> np.ndarray:
        values = [there.get(int(step), {}).get(name) for step in steps]
        found = [math.nan if v is None or v[place] is None else v[place] for v in values]
        return np.array(found, dtype=np.float64)

    return Member(
        " + ".join(config.regularizer) or "unregularized",
        config.seed,
        steps,
        {name: column(name) for name in names},
        folder,
        place,
        build("objective", config.objective).indifferent,
    )


def seconds(members: Iterable[Member]) -> float:
    """Return the wall time of training the fleets that members are of."""
    shards = dict.fromkeys(member.folder for member in members)
    return float(sum(RunFolder.open(shard).read(STATUS)["seconds"] for shard in shards))


def share(yes: int, of: int, what: str = "seeds") -> str:
    """Return a share, of seeds or of whatever else, with its 95 % interval by Wilson.

    >>> share(3, 3)
    '3 of 3 seeds [44 %, 100 %]'

    Reference: Wilson 1927.
    """
    found = share_of(torch.arange(of) < yes)
    return f"{yes} of {of} {what} [{100 * found.low:.0f} %, {100 * found.high:.0f} %]"


def spread(values: Sequence[float]) -> str:
    """Return median and range over seeds.

    >>> spread([1.0, 3.0, 2.0])
    '2 (1 to 3)'
    """
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
