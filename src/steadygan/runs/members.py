"""The members of a fleet: GANs of one structure.

They differ in seed, strengths and learning rates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from ..core.errors import SteadyganError
from ..core.players.stacked import game_of
from ..core.registry import build, expand
from ..problems.problem import Problem
from .config import VARIED, Config
from .optimizers import SGD, Adam, RMSProp

MOST = 10_000
"""How many GANs are trained at once at most."""


def grid(config: Config, seeds: int | Iterable[int] = 1) -> list[Config]:
    """Return a configuration for each combination of the braces in its specs, with every seed.

    Args:
        config: With braces, ``js:gamma={0.1,1}``, or without.
        seeds: How many, counted from the configuration's own, or which.

    Returns:
        The members, each combination's seeds together.

    Raises:
        SteadyganError: Without any seed.

    >>> [(m.seed, m.regularizer) for m in grid(Config(regularizer=("js:gamma={0.1,1}",)), seeds=2)]
    [(0, ('js:gamma=0.1',)), (1, ('js:gamma=0.1',)), (0, ('js:gamma=1',)), (1, ('js:gamma=1',))]
    """
    if isinstance(seeds, int) and seeds > MOST:
        raise SteadyganError(f"a fleet has at most {MOST:,} members, not {seeds} seeds.")
    chosen = range(config.seed, config.seed + seeds) if isinstance(seeds, int) else list(seeds)
    if not len(chosen):
        raise SteadyganError("a fleet needs at least one seed.")
    choices: dict[str, list[Any]] = {
        "regularizer": list(itertools.product(*map(expand, config.regularizer)))
    }
    for name in ("smoothing", "optimizer", "critic_optimizer"):
        given = getattr(config, name)
        choices[name] = [None] if given is None else expand(given)
    count = len(chosen) * math.prod(map(len, choices.values()))
    if count > MOST:
        raise SteadyganError(f"a fleet has at most {MOST:,} members, not {count:,}.")
    combinations = [
        dict(zip(choices, each, strict=True)) for each in itertools.product(*choices.values())
    ]
    return [replace(config, **each, seed=seed) for each in combinations for seed in chosen]


def alike(problem: Problem, members: Sequence[Config]) -> list[Config]:
    """Return the members' resolved configurations.

    Raises:
        SteadyganError: Where there is none, and where they differ in what all must share.
    """
    if not members:
        raise SteadyganError("a fleet needs at least one member.")
    resolved = [m.resolve(problem) for m in members]
    for field in fields(Config):
        for i, m in enumerate(resolved):
            here, first = getattr(m, field.name), getattr(resolved[0], field.name)
            if field.name not in VARIED and here != first:
                raise SteadyganError(
                    f"Members 0 and {i} differ in {field.name}, {first!r} and {here!r}: GANs"
                    " that are trained at once may differ in seed,"
                    " strengths and learning rates only. Train them as runs of their own, as"
                    " 'steadygan sweep' does."
                )
    game_of([m.game() for m in resolved])
    for name in ("optimizer", "critic_optimizer"):
        bare = [replace(build("optimizer", getattr(m, name)), lr=1.0) for m in resolved]
        for i, (m, optimizer) in enumerate(zip(resolved, bare, strict=True)):
            if type(optimizer) not in (Adam, SGD, RMSProp):
                raise SteadyganError(
                    f"{getattr(m, name)!r} is not known to move every parameter on its own: a"
                    " fleet takes adam, sgd or rmsprop."
                )
            if optimizer != bare[0]:
                raise SteadyganError(
                    f"Members 0 and {i} differ in more than the learning rate of their {name},"
                    f" {getattr(resolved[0], name)} and {getattr(m, name)}: train them as runs of"
                    " their own, as 'steadygan sweep' does."
                )
    if resolved[0].gradient_path not in ("auto", "separate"):
        raise SteadyganError(
            "GANs that are trained at once take paths of their own, auto or separate: leave"
            f" gradient_path out, instead of {resolved[0].gradient_path!r}."
        )
    if resolved[0].cuda_graphs:
        raise SteadyganError("Many GANs on a GPU are recorded as it is: leave --cuda-graphs out.")
    return resolved
