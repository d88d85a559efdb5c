"""A GAN as it trains, in one object: networks, game, data, and how the players move."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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

    def optimizer(self, name: Name, network: nn.Module, *, new: bool) -> torch.optim.Optimizer:
        """Return the player's optimizer over another network's parameters.

        With its state or new; gradient descent where it is not known.
        """
        own = list(network.parameters())
        if not self.optimizers:
            return torch.optim.SGD(own, self.lr[name])
        given = self.optimizers[name]
        held = sum(len(group["params"]) for group in given.param_groups)
        parameters = own if held == len(own) else [p for p in own if p.requires_grad]
        made = moved_to(given, parameters, new=new) or moved_to(given, parameters, new=True)
        return made or torch.optim.SGD(own, self.lr[name])


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


def moved_to(
    given: torch.optim.Optimizer, trainable: list[nn.Parameter], *, new: bool = False
) -> torch.optim.Optimizer | None:
    """Return the same optimizer over other parameters, with its state or new.

    None where it holds others than those, and where its steps need a closure.
    """
    closure = inspect.signature(type(given).step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        return None
    try:
        # Defaults hold more than can be given: AdamW's say that its decay is decoupled.
        taken = inspect.signature(type(given)).parameters
        settings = {k: v for k, v in given.defaults.items() if k in taken}
        optimizer = type(given)(trainable, **settings)
        state = given.state_dict()
        if new:
            settings = {k: v for k, v in state["param_groups"][0].items() if k != "params"}
            optimizer.param_groups[0].update(settings)
            return optimizer
        # Loading alone would share the state's tensors, and stepping would then change the
        # caller's.
        optimizer.load_state_dict(copy.deepcopy(state))
    except (TypeError, ValueError):
        return None
    return optimizer


def _initialised(network: nn.Module) -> bool:
    """Return whether all parameters belong to modules that could be, and were, initialised anew."""
    known: set[int] = set()
    for module in network.modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
            known.update(id(p) for p in module.parameters(recurse=False))
    return all(id(p) in known for p in network.parameters())


__all__ = ["Gan", "Latents", "learning_rates", "moved_to"]
