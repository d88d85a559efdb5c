"""A GAN as it trains, in one object: networks, game, data, and how the players move."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, Name

Latents = Callable[[int, torch.Generator], Tensor]
"""Draws n latents (n, ...)."""


@dataclass(frozen=True)
class Gan:
    """What the doctor looks at and tries changes on; nothing of it is changed.

    Attributes:
        game: What both players minimise.
        generator: G(z), or G(z, y).
        critic: D(x), or D(x, y).
        data: All real samples that are at hand, latents and labels.
        lr: Each player's learning rate.
        dynamics: An object or a spec.
        optimizers: Torch's, with their state; without, plain gradient descent is assumed.
        progress: As in ``Context``.
        memory: As in ``Context``.
        fresh: Returns networks as they are at the start, by seed; without, those that are here are
            initialised anew, module by module.
        batch: How many samples a step looks at.
        held: Whose parameters the optimizers hold, where these networks are copies.
    """

    game: Game
    generator: nn.Module
    critic: nn.Module
    data: Batch
    lr: Mapping[Name, float]
    dynamics: Dynamics | str = "alternating"
    optimizers: Mapping[Name, torch.optim.Optimizer] | None = None
    progress: float | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    fresh: Callable[[int], tuple[nn.Module, nn.Module]] | None = None
    batch: int = 64
    held: Mapping[Name, nn.Module] | None = None

    @property
    def networks(self) -> dict[Name, nn.Module]:
        """Both networks by player."""
        return dict(zip(PLAYERS, (self.generator, self.critic), strict=True))

    def anew(self, seed: int) -> dict[Name, nn.Module] | None:
        """Return networks as they are at the start; None where some of them cannot be made anew."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if self.fresh is not None:
                return dict(zip(PLAYERS, self.fresh(seed), strict=True))
            made = {name: copy.deepcopy(network) for name, network in self.networks.items()}
            return made if all(map(_initialised, made.values())) else None

    def latents(self, n: int, rng: torch.Generator) -> Tensor:
        """Return latents (n, ...) of the kind that was given: normal, uniform, or some of those."""
        given = self.data.latent
        if given.is_floating_point() and given.ndim > 1 and given.numel() > 64:
            shape = (n, *given.shape[1:])
            low, high, sd = given.min().item(), given.max().item(), given.std().item()
            if low < -1.5 and high > 1.5 and 0.8 < sd < 1.25 and abs(given.mean().item()) < 0.25:
                return torch.randn(shape, generator=rng).to(given)
            if -1 <= low < -0.8 and 0.8 < high <= 1 and 0.5 < sd < 0.65:
                return (2 * torch.rand(shape, generator=rng) - 1).to(given)
        return given[torch.randint(len(given), (n,), generator=rng)]

    def optimizer(
        self, name: Name, network: nn.Module, *, new: bool, whole: bool = False
    ) -> torch.optim.Optimizer:
        """Return the player's optimizer over another network's parameters.

        With its state or new; gradient descent where it is not known. It holds what the player's
        own holds, or the whole network. Its first group that moves has the player's learning rate.
        """
        own, rate = list(network.parameters()), self.lr[name]
        if not self.optimizers:
            return torch.optim.SGD(own, rate)
        given, made = self.optimizers[name], None
        if not whole:
            made = moved_to(given, twins((self.held or self.networks)[name], network), new=new)
        made = made or begun(given, [p for p in own if whole or p.requires_grad])
        if made is None:
            return torch.optim.SGD(own, rate)
        at_rate(made, rate)
        return made


def some_of(total: int, count: int) -> Tensor:
    """Return ``count`` of so many places, all in their order where there are no more.

    Drawn, the same each time: data may lie one class after the other.
    """
    if total <= count:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count]


def learning_rates(
    lr: float | Mapping[Name, float] | None, optimizers: Mapping[Name, torch.optim.Optimizer] | None
) -> dict[Name, float]:
    """Return each player's learning rate: as it is given, or else its optimizer's.

    Raises:
        SteadyganError: Where there is none, or something that is no learning rate or no optimizer.
    """
    if lr is None and not optimizers:
        raise SteadyganError(
            "Whether a step is stable depends on its size: give lr=, or optimizers=, whose"
            " learning rates then count."
        )
    for what, by in (("lr", lr), ("optimizers", optimizers)):
        lacks = [name for name in PLAYERS if isinstance(by, Mapping) and by and name not in by]
        if lacks:
            raise SteadyganError(
                f"{what} names both players, 'generator' and 'critic': it lacks"
                f" {' and '.join(lacks)}."
            )
    if optimizers and not isinstance(optimizers, Mapping):
        raise SteadyganError(
            "optimizers are torch's by the players' names, {'generator': ..., 'critic': ...}, not"
            f" a {type(optimizers).__name__}."
        )
    rates: dict[Name, float] = {}
    for name in PLAYERS:
        if optimizers and not hasattr(optimizers[name], "param_groups"):
            kind = type(optimizers[name]).__name__
            raise SteadyganError(f"The {name}'s optimizer is one of torch's, not {kind}.")
        if lr is not None:
            rates[name] = _number(name, lr[name] if isinstance(lr, Mapping) else lr)
        elif optimizers:
            # Groups at a rate of 0 are frozen parts, which the facts name.
            given = [float(group["lr"]) for group in optimizers[name].param_groups]
            rates[name] = next((rate for rate in given if rate), 0.0)
        if not (math.isfinite(rates[name]) and rates[name] >= 0) or (
            lr is not None and not rates[name]
        ):
            raise SteadyganError(
                f"The {name}'s learning rate is a finite number > 0, not {rates[name]:g}."
            )
    return rates


def _number(name: Name, given: float) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise SteadyganError(
            f"The {name}'s learning rate is a number, lr=0.001 or lr={{'generator': 0.001,"
            f" 'critic': 0.001}}, not the {type(given).__name__} {given!r}."
        ) from None


def twins(network: nn.Module, other: nn.Module) -> dict[Tensor, nn.Parameter]:
    """Return the parameter of the same name in another network, for each of a network."""
    there = dict(other.named_parameters())
    return {p: there[key] for key, p in network.named_parameters() if key in there}


def _moving(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the first group that moves, the first of all where none does."""
    groups: list[dict[str, Any]] = optimizer.param_groups
    return next((group for group in groups if group["lr"]), groups[0])


def shares(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return each group's learning rate, in units of that of the first group that moves."""
    unit = float(_moving(optimizer)["lr"])
    return [float(group["lr"]) / unit if unit else 1.0 for group in optimizer.param_groups]


def at_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the first group that moves; the others keep their ratio to it."""
    for group, share in zip(optimizer.param_groups, shares(optimizer), strict=True):
        group["lr"] = rate * share


def moved_to(
    given: torch.optim.Optimizer, twin: Mapping[Tensor, nn.Parameter], *, new: bool = False
) -> torch.optim.Optimizer | None:
    """Return the same optimizer over the twins of its parameters, with its state or new.

    None where it holds others than those, and where its steps need a closure.
    """
    groups = [
        {**group, "params": [twin[p] for p in group["params"] if p in twin]}
        for group in given.param_groups
    ]
    order = [p for group in given.param_groups for p in group["params"] if p in twin]
    made = _made(given, groups) if order else None
    if made is not None and not new:
        # Copies: stepping would else change the caller's.
        state = {i: copy.deepcopy(given.state[p]) for i, p in enumerate(order) if p in given.state}
        made.load_state_dict({**made.state_dict(), "state": state})
    return made


def begun(
    given: torch.optim.Optimizer, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer | None:
    """Return a new optimizer of a kind over all parameters, by its first group that moves.

    None where its steps need a closure.
    """
    return _made(given, [{**_moving(given), "params": parameters}])


def _made(
    given: torch.optim.Optimizer, groups: list[dict[str, Any]]
) -> torch.optim.Optimizer | None:
    closure = inspect.signature(type(given).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        return None
    # Defaults hold more than can be given: AdamW's say that its decay is decoupled.
    taken = inspect.signature(type(given)).parameters
    try:
        return type(given)(groups, **{k: v for k, v in given.defaults.items() if k in taken})
    except (TypeError, ValueError):
        return None


def _initialised(network: nn.Module) -> bool:
    """Return whether all parameters belong to modules that could be, and were, initialised anew."""
    known: set[int] = set()
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
            known.update(id(p) for p in module.parameters(recurse=False))
    return all(id(p) in known for p in network.parameters())


__all__ = ["Gan", "Latents", "at_rate", "learning_rates", "moved_to", "shares", "some_of", "twins"]
