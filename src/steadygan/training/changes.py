"""What may change on a run's way: its device, strengths, optimizers, learning rates and batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core.errors import SteadyganError, unknown
from ..core.players import PLAYERS
from ..core.registry import build
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.config import Config, made
from .trained import Trained

CHANGEABLE = (
    "regularizer",
    "smoothing",
    "optimizer",
    "critic_optimizer",
    "ramp",
    "batch",
    "device",
)


def changed(
    problem: Problem, members: Sequence[Config], wanted: Mapping[str, Any], steps: int | None
) -> tuple[list[Config], dict[str, list[Any]]]:
    """Return the members as they shall go on, and each setting that differs as [before, after].

    Args:
        problem: What is played.
        members: As they were.
        wanted: New values by the names of ``Config``; those in ``CHANGEABLE``.
        steps: How many there shall be in the end, None for as many as before.

    Raises:
        SteadyganError: For another setting, for values that make no sense, and for members of many
            GANs that differ in what is to change.
    """
    for name in wanted:
        if name not in CHANGEABLE:
            raise unknown("setting that can change on the way", name, CHANGEABLE)
    if len(members) > 1 and set(wanted) - {"device"}:
        raise SteadyganError(
            "GANs that are trained at once are told apart by their settings, which therefore stay:"
            " change them in runs of their own (train --init)."
        )
    if "optimizer" in wanted and members[0].critic_optimizer == members[0].optimizer:
        wanted = {"critic_optimizer": wanted["optimizer"], **wanted}
    # The device is looked at in any case: a run may come from a machine with another one.
    after = [
        replace(m, **wanted, steps=m.steps if steps is None else steps).resolve(problem)
        for m in members
    ]
    seen = {
        name: [getattr(members[0], name), getattr(after[0], name)]
        for name in CHANGEABLE
        if getattr(members[0], name) != getattr(after[0], name)
    }
    return after, seen


def adapted(tree: checkpoint.Tree, trained: Trained, held: Config) -> checkpoint.Tree:
    """Return a checkpoint as what it is restored into needs it, after settings have changed.

    Moments stay where the optimizer is of the same kind; its learning rate and all else that it is
    told are the new ones. Noise that was drawn on another device cannot go on and begins anew.

    Args:
        tree: The checkpoint.
        trained: What goes on, with the new settings.
        held: The configuration that the folder holds; one that was killed before it saved has a
            newer one than its checkpoint.

    Returns:
        A checkpoint; the given one stays as it was.
    """
    before, after, optimizers = made(held, tree), trained.config, dict(tree["optimizer"])
    for name, old, new in zip(
        PLAYERS,
        (before.optimizer, before.critic_optimizer),
        (after.optimizer, after.critic_optimizer),
        strict=True,
    ):
        if old != new:
            fresh = checkpoint.optimizer_state(trained.players.optimizers[name])
            alike = type(build("optimizer", old)) is type(build("optimizer", new))
            kept = {"state": optimizers[name]["state"]} if alike else {}
            optimizers[name] = {**fresh, **kept}
    found = {**tree, "optimizer": optimizers}
    if after.device.partition(":")[0] != before.device.partition(":")[0]:
        found.pop("noise", None)
        if "rng" in found:
            found["rng"] = {k: v for k, v in found["rng"].items() if k != "noise"}
    return found
