"""A change of somebody's GAN that can be tried: words for a person, settings for a trial."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ...core.context import Samples
from ...core.errors import SteadyganError
from ...core.players import PLAYERS, Name
from ...core.reading import Reading
from ...core.registry import build, spec
from ...core.scores import score
from ..blind import seeing
from ..ends import bounded
from ..gan import Gan

TRIED = (
    "lr",
    "regularizers",
    "dynamics",
    "ema",
    "anew",
    "unfreeze",
    "train",
    "logits",
    "sight",
    "scale",
)
"""What a trial can set; anything else is for the user's own code."""


@dataclass(frozen=True)
class Change:
    """What to do differently.

    Attributes:
        words: As one would say it: "add the regularizer r1:gamma=1".
        settings: What it sets, by name. lr: each player's. regularizers: all of them, as specs.
            dynamics: a spec. ema: decay of the generator's moving average. anew: the players that
            start again. unfreeze, train: parameters move, modules are in training mode. logits: the
            critic without its last operation. sight: the critic without batch normalisation.
            scale: (shift, factor); the networks see (x - shift)/factor. Other names are changes
            that only the user can make.
    """

    words: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def can_be_tried(self) -> bool:
        """Whether a trial can make it."""
        return bool(self.settings) and all(name in TRIED for name in self.settings)

    def and_anew(self) -> Change:
        """Return this change with both networks started again."""
        if "anew" in self.settings:
            return self
        return Change(f"{self.words}, from the start", {**self.settings, "anew": list(PLAYERS)})

    def with_also(self, other: Change) -> Change:
        """Return both changes as one."""
        return Change(f"{self.words}, and {other.words}", {**self.settings, **other.settings})

    def applied(self, gan: Gan, seed: int = 0) -> Gan:
        """Return the GAN with this change, its networks copies.

        Raises:
            SteadyganError: where it cannot be made.
        """
        s = self.settings
        networks: dict[Name, nn.Module] = {}
        begun = gan.anew(seed) if "anew" in s else None
        if "anew" in s and begun is None:
            raise SteadyganError(
                "These networks hold parameters of their own that cannot be initialised anew."
            )
        for name in PLAYERS:
            again = begun is not None and name in s["anew"]
            networks[name] = begun[name] if again and begun else copy.deepcopy(gan.networks[name])
            if s.get("unfreeze"):
                networks[name].requires_grad_()
            if s.get("train"):
                networks[name].train()
        reading = gan.game.outputs.reading
        if s.get("logits"):
            networks["critic"] = without_end(networks["critic"], _first(gan, 2), reading)
        if s.get("sight"):
            networks["critic"] = seeing(networks["critic"], _first(gan, gan.batch), reading)
        lr = dict(s.get("lr", gan.lr))
        for name, network in networks.items():
            if not any(p.requires_grad for p in network.parameters()):
                # A player that trains nothing stands still at a rate of 0.
                network.requires_grad_()
                lr[name] = 0.0
        game = gan.game
        if "regularizers" in s:
            game = replace(game, regularizers=s["regularizers"])
        return replace(
            gan,
            game=game,
            generator=networks["generator"],
            critic=networks["critic"],
            lr=lr,
            dynamics=s.get("dynamics", gan.dynamics),
            held=gan.held or gan.networks,
        )


def _first(gan: Gan, count: int) -> Samples:
    """Return the first so many real samples, with their labels."""
    return Samples(gan.data.real[:count], gan.data.labels and gan.data.labels[0][:count])


START_AGAIN = Change("start again", {"anew": list(PLAYERS)})


def rates(gan: Gan, factor: float | Mapping[Name, float]) -> Change:
    """Return the change of the learning rates by a factor, or by one for each player."""
    by = factor if isinstance(factor, Mapping) else dict.fromkeys(PLAYERS, factor)
    lr = {
        name: float(f"{gan.lr[name] * by.get(name, 1.0):.1g}")
        if by.get(name, 1.0) != 1
        else gan.lr[name]
        for name in PLAYERS
    }
    moved = [name for name in PLAYERS if by.get(name, 1.0) != 1]
    size = "smaller" if all(by[name] < 1 for name in moved) else "larger"
    whose = "learning rates" if len(moved) == 2 else f"learning rate of the {moved[0]}"
    values = (
        f"{lr[moved[0]]:g}"
        if len({lr[name] for name in moved}) == 1
        else " and ".join(f"{lr[name]:g} ({name})" for name in moved)
    )
    was = (
        f"{gan.lr[moved[0]]:g}"
        if len({gan.lr[name] for name in moved}) == 1
        else " and ".join(f"{gan.lr[name]:g}" for name in moved)
    )
    return Change(f"{size} {whose}: {values} instead of {was}", {"lr": lr})


def regularizer(gan: Gan, added: str) -> Change:
    """Return the change that adds a regularizer, or takes it in place of one of its kind."""
    new = build("regularizer", added)
    others = [spec(r) for r in gan.game.regularizers if type(r) is not type(new)]
    same = len(others) < len(gan.game.regularizers)
    words = f"{added} in place of its gamma now" if same else f"add the regularizer {added}"
    return Change(words, {"regularizers": [*others, added]})


def penalty(gan: Gan, added: str) -> Change:
    """Return the change that adds a gradient penalty, or makes one that is as strong stronger."""
    new = build("regularizer", added)
    now: list[Any] = [r for r in gan.game.regularizers if type(r) is type(new)]
    known = [r.gamma for r in now if isinstance(r.gamma, int | float)]
    if max(known, default=0.0) < new.gamma:
        return regularizer(gan, added)
    return regularizer(gan, spec(replace(new, gamma=10 * max(known))))


def strengths(gan: Gan, factor: float) -> Change | None:
    """Return the change of every gamma by a factor; None where there is none."""
    kept = gan.game.strengths()
    if not kept or not all(isinstance(value, int | float) for value in kept.values()):
        return None
    changed = gan.game.with_strengths(
        {key: float(f"{float(value) * factor:.3g}") for key, value in kept.items()}  # type: ignore[arg-type]
    )
    said = [spec(r) for r in changed.regularizers]
    size = "larger" if factor > 1 else "smaller"
    return Change(f"a {size} gamma: {' and '.join(said)}", {"regularizers": said})


def without_end(critic: nn.Module, samples: Samples, reading: Reading = "auto") -> nn.Module:
    """Return the critic without the module at its end that bounds it.

    Raises:
        SteadyganError: where that is no module, or others bound it too.
    """
    ran: list[nn.Module] = []
    leaves = [module for module in critic.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(lambda m, a, out: ran.append(m)) for leaf in leaves]
    try:
        with torch.no_grad():
            score(critic, samples, reading=reading)
    finally:
        for hook in hooks:
            hook.remove()
    last = next((m for m in reversed(ran) if not isinstance(m, nn.Flatten | nn.Identity)), None)
    if last is not None and not list(last.parameters()):
        hook = last.register_forward_hook(lambda module, given, out: given[0])
        if bounded(critic, samples, reading) is None:
            return critic
        hook.remove()
    raise SteadyganError("What bounds the critic is no module that could be left out.")


__all__ = ["START_AGAIN", "Change", "penalty", "rates", "regularizer", "strengths", "without_end"]
