"""Jacobians of a game's field and of one step, through the very objects that train."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..core.batchnorm import ExactBatchNorm
from ..core.context import Context, Draws
from ..core.couples import BATCH_NORM, couples_of
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, FunctionalPlayers, Name, Values
from ..core.players.base import trainable
from ..core.registry import build
from .optimizers import Moves, States

Map = Callable[[Tensor], Tensor]
"""A differentiable map of flat vectors (n,) -> (n,)."""

ROWS = 128
"""How many rows of a Jacobian are computed at once."""


class System:
    """A game at one fixed batch as a flat dynamical system.

    The state is (generator's parameters, critic's parameters). The networks are copied, so their
    buffers are held and the caller's stay as they are. Every evaluation sees the same batch and,
    from ``draws()``, the same noise. The state of a step also holds the previous gradients where
    the dynamics remembers them, and what optimizers remember.

    Args:
        game: the game.
        dynamics: an object or a spec.
        generator: its parameters are the first ``split`` of the state.
        critic: its parameters follow.
        batch: what both players look at.
        lr: the critic's learning rate, or one for each player. ``lr`` is the critic's, and may be
            set; the other keeps its ratio to it. The field is in units of the critic's.
        progress: as in ``Context``.
        draws: makes a source of noise, the same each time.
        memory: as in ``Context``; it is held. Without, it is what this batch leaves behind: a
            moving average is a number that was seen, not a function of the critic.
        scale: (n,), a diagonal that multiplies every gradient before it moves a parameter, such as
            a frozen preconditioner of Adam. With ``optimizers`` it is for the field only.
        optimizers: those that move the players; without, a step is plain gradient descent.
        double: evaluate in double precision, whatever the precision of networks and batch.

    Raises:
        SteadyganError: where the linearisation does not exist (WGAN-GP and DRAGAN at an
            equilibrium, with the reference) and where two evaluations differ (dropout, noise of the
            network's own, spectral normalisation that advances), with what to do.

    >>> game, batch = Game("minimax", ["r1:gamma=1"]), Batch(torch.zeros(4, 1), torch.zeros(4, 1))
    >>> generator, critic = nn.Linear(1, 1), nn.Linear(1, 1, bias=False)
    >>> system = System(game, "simultaneous", generator, critic, batch, lr=0.1)
    >>> jacobian(system.field, system.point()).shape
    torch.Size([3, 3])

    Reference: Mescheder et al. 2018, section 2.
    """

    def __init__(
        self,
        game: Game,
        dynamics: Dynamics | str,
        generator: nn.Module,
        critic: nn.Module,
        batch: Batch,
        *,
        lr: float | Mapping[Name, float] = 0.1,
        progress: float | None = None,
        draws: Callable[[], torch.Generator | Draws] | None = None,
        memory: Mapping[str, Tensor] | None = None,
        scale: Tensor | None = None,
        optimizers: Mapping[Name, torch.optim.Optimizer] | None = None,
        double: bool = False,
    ) -> None:
        for regularizer in game.regularizers:
            if regularizer.not_smooth:
                raise SteadyganError(regularizer.not_smooth)
        rates = lr if isinstance(lr, Mapping) else dict.fromkeys(PLAYERS, lr)
        if not (math.isfinite(rates["critic"]) and rates["critic"] > 0):
            raise SteadyganError(
                "The field is in units of the critic's learning rate, a finite number > 0, not"
                f" {rates['critic']:g}."
            )
        self.game, self.batch, self.lr = game, batch, rates["critic"]
        self.dynamics: Dynamics = build("dynamics", dynamics)
        self._ratios = {name: rates[name] / rates["critic"] for name in PLAYERS}
        self.generator, self.critic = (
            _thrice_differentiable(copied(network)) for network in (generator, critic)
        )
        if game.where:
            ExactBatchNorm.replace(self.critic)
        self._draws = draws or (lambda: torch.Generator(batch.real.device).manual_seed(0))
        self._progress, self._memory = progress, memory or {}
        if double:
            self.generator, self.critic = self.generator.double(), self.critic.double()
            self.batch = pytree.tree_map_only(
                Tensor, lambda t: t.double() if t.is_floating_point() else t, batch
            )
            self._memory = {key: value.double() for key, value in self._memory.items()}
        modules: dict[Name, nn.Module] = {"generator": self.generator, "critic": self.critic}
        self._shapes = [
            (name, key, p.shape)
            for name in PLAYERS
            for key, p in modules[name].named_parameters()
            if p.requires_grad
        ]
        self._modules = modules
        self.split = sum(shape.numel() for name, _, shape in self._shapes if name == "generator")
        self.size = sum(shape.numel() for _, _, shape in self._shapes)
        if not self.size:
            raise SteadyganError(
                "No parameter requires a gradient, so nothing moves: call .requires_grad_() on"
                " the networks first."
            )
        if scale is not None and scale.shape != (self.size,):
            raise SteadyganError(
                f"scale has one entry for each of the {self.size} trainable parameters, not"
                f" shape {tuple(scale.shape)}."
            )
        self._scale = None if scale is None else self._values(scale.to(self.point()))
        owned = {"generator": generator, "critic": critic}
        self._moves = {
            name: Moves(optimizer, trainable(owned[name]))
            for name, optimizer in (optimizers or {}).items()
        }
        if not memory:
            self._memory = self._seen()
        self._guard()

    def point(self) -> Tensor:
        """Return the networks' parameters as a flat state (n,)."""
        parameters = {name: dict(self._modules[name].named_parameters()) for name in PLAYERS}
        return torch.cat(
            [parameters[name][key].detach().reshape(-1) for name, key, _ in self._shapes]
        )

    def field(self, state: Tensor) -> Tensor:
        """Return v(w) of the field that the dynamics follows, (n,), scaled.

        Consensus and unrolling modify the game's own.
        """
        players = self._players(state)
        descent = self.dynamics.field(players, self.batch)
        return -self._flat(
            {
                name: {key: self._ratios[name] * g for key, g in scaled.items()}
                for name in PLAYERS
                for scaled in [players.scaled(name, descent[name])]
            }
        )

    def step(self, state: Tensor) -> Tensor:
        """Return the state after one step; its first n entries are the parameters."""
        players = self._players(state[: self.size], stepping=True)
        rest = state[self.size :]
        if self.dynamics.remembers:
            players.previous, rest = self._values(rest[: self.size]), rest[self.size :]
        players.states = self._states(rest)
        self.dynamics.step(players)
        parts = [self._flat(players.point)]
        if self.dynamics.remembers:
            parts.append(self._flat(players.previous))
        for name, moves in self._moves.items():
            parts += [players.states[name][key][slot].reshape(-1) for key, slot in moves.slots]
        return torch.cat(parts)

    def step_state(self, state: Tensor) -> Tensor:
        """Return a state from which ``step`` can start, around parameters (n,).

        The present gradients count as the previous ones, and optimizers are as they are now.
        """
        parts = [state]
        if self.dynamics.remembers:
            players = self._players(state.detach().requires_grad_())
            parts.append(self._flat(self.dynamics.field(players, self.batch)).detach())
        for moves in self._moves.values():
            parts += [moves.start[key][slot].reshape(-1).to(state) for key, slot in moves.slots]
        return torch.cat(parts)

    def units(self, state: Tensor) -> Tensor:
        """Return sizes in which the parts of a step's state are alike.

        1 for parameters and their gradients, and for what optimizers remember its size now.
        """
        units, end = torch.ones_like(state), len(state)
        # Of a layer that died long ago they remember numbers that no product could be divided by.
        least = torch.finfo(state.dtype).tiny ** 0.5
        for moves in reversed(list(self._moves.values())):
            for key, slot in reversed(moves.slots):
                value = moves.start[key][slot].to(state).reshape(-1)
                size = torch.maximum(value.abs(), value.square().mean().sqrt())
                units[end - len(value) : end] = torch.where(size > 0, size.clamp(min=least), 1.0)
                end -= len(value)
        return units

    def notes(self) -> list[str]:
        """Return what a reader must know about this linearisation."""
        found = ["It holds for this batch; another batch has another field."]
        if any(BATCH_NORM in couples_of(net).values() for net in self._modules.values()):
            found.append(
                "Batch normalisation uses this batch's statistics; its running averages are held."
            )
        return found

    def _players(self, state: Tensor, *, stepping: bool = False) -> _Moved:
        context = Context(self._progress, self._draws(), self._memory)
        players = _Moved(
            self.game,
            self.generator,
            self.critic,
            lambda: self.batch,
            context,
            lr={name: self.lr * ratio for name, ratio in self._ratios.items()},
            point=self._values(state),
        )
        players.scale = self._scale
        players.moves = self._moves if stepping else {}
        return players

    def _seen(self) -> dict[str, Tensor]:
        players = self._players(self.point().requires_grad_())
        with torch.random.fork_rng():
            players.gradient("critic", self.batch)
        return {key: value.detach() for key, value in players.context.memory.items()}

    def _states(self, flat: Tensor) -> dict[Name, States]:
        """Return what the optimizers remember, its slots from a flat state."""
        found: dict[Name, States] = {}
        for name, moves in self._moves.items():
            found[name] = {key: dict(state) for key, state in moves.start.items()}
            for key, slot in moves.slots:
                shape = moves.start[key][slot].shape
                found[name][key][slot] = flat[: shape.numel()].view(shape)
                flat = flat[shape.numel() :]
        return found

    def _values(self, state: Tensor) -> dict[Name, Values]:
        parts = state.split([shape.numel() for _, _, shape in self._shapes])
        values: dict[Name, Values] = {name: {} for name in PLAYERS}
        for (name, key, shape), part in zip(self._shapes, parts, strict=True):
            values[name][key] = part.view(shape)
        return values

    def _flat(self, values: Mapping[Name, Values]) -> Tensor:
        return torch.cat([values[name][key].reshape(-1) for name, key, _ in self._shapes])

    def _guard(self) -> None:
        point = self.point().requires_grad_()
        with torch.random.fork_rng():
            first = self.field(point).detach()
            before = torch.get_rng_state()
            second = self.field(point).detach()
            drawn = not torch.equal(before, torch.get_rng_state())
        if not first.isfinite().all():
            raise SteadyganError(
                "The field is not finite at this point: there is nothing to linearise. Start"
                " from an earlier checkpoint."
            )
        # Sums on a GPU come in another order each time; what is stochastic differs by far more than
        # that.
        if drawn or (first - second).norm() > 100 * torch.finfo(first.dtype).eps * first.norm():
            raise SteadyganError(
                "Two evaluations of the field differ, so it has no Jacobian:"
                f" {self._culprit(drawn)}"
            )

    def _culprit(self, drawn: bool) -> str:
        modules = [
            (f"{name}.{path}", m)
            for name in PLAYERS
            for path, m in self._modules[name].named_modules()
        ]
        for path, module in modules:
            if (
                isinstance(module, nn.modules.dropout._DropoutNd)
                and module.training
                and module.p > 0
            ):
                return f"{path} is dropout in training mode; call .eval() on the network."
        if drawn:
            return (
                "a network draws noise from torch's global generator; draw it once, outside,"
                " and hold it fixed, or switch it off."
            )
        for path, module in modules:
            if type(module).__name__ in ("_SpectralNorm", "SpectralNorm") and module.training:
                return (
                    f"{path} is spectral normalisation, whose power iteration advances in"
                    " training mode; call .eval() on the network."
                )
        return (
            "a network changes from one call to the next; call .eval() on it, and hold what"
            " it remembers."
        )


class _Moved(FunctionalPlayers):
    """Players that move as an optimizer moves them, or along gradients scaled by a diagonal."""

    scale: dict[Name, Values] | None = None
    moves: Mapping[Name, Moves] = {}
    states: dict[Name, States] = {}

    def scaled(self, player: Name, gradient: Values) -> Values:
        if self.scale is None:
            return gradient
        return {key: self.scale[player][key] * g for key, g in gradient.items()}

    def move(self, player: Name, gradient: Values) -> None:
        if player not in self.moves:
            return super().move(player, self.scaled(player, gradient))
        state, rate = self.states[player], self.learning_rate(player)
        moved, state = self.moves[player](self.point[player], gradient, state, rate)
        self.states = {**self.states, player: state}
        self.point = {**self.point, player: self.constrained(player, moved)}

    def save(self) -> Any:
        return self.point, self.states

    def load(self, point: Any) -> None:
        self.point, self.states = point


def copied(network: nn.Module) -> nn.Module:
    """Return an independent copy of a network.

    Raises:
        SteadyganError: where torch cannot copy it, with what to do.
    """
    try:
        return copy.deepcopy(network)
    except RuntimeError as error:
        raise SteadyganError(
            f"{type(network).__name__} cannot be copied: {error} The legacy"
            " torch.nn.utils.spectral_norm and weight_norm do this;"
            " use those of torch.nn.utils.parametrizations."
        ) from error


def _thrice_differentiable(network: nn.Module) -> nn.Module:
    """Return the same function, with a crop of a larger output for an output padding.

    That of transposed convolutions.
    """

    # torch 2.13 differentiates output_padding twice, and raises the third time.
    def crop(
        module: nn.Module,
        inputs: tuple[Tensor, ...],
        out: Tensor,
        frame: tuple[tuple[int, int], ...],
    ) -> Tensor:
        for axis, (low, extra) in enumerate(frame, start=-len(frame)):
            out = out.narrow(axis, low, out.shape[axis] - 2 * low + extra)
        return out

    for module in network.modules():
        if not isinstance(module, nn.modules.conv._ConvTransposeNd) or not any(
            module.output_padding
        ):
            continue
        sides = (tuple(map(int, values)) for values in (module.padding, module.output_padding))
        frame = tuple(zip(*sides, strict=True))
        if all(low >= extra for low, extra in frame):
            module.padding = module.output_padding = (0,) * len(frame)
            module.register_forward_hook(partial(crop, frame=frame))
    return network


def jacobian(function: Map, point: Tensor) -> Tensor:
    """Return the dense Jacobian (m, n) of a flat map at a point (n,)."""
    point = point.detach().requires_grad_()
    out = function(point)

    def pulled(rows: Tensor, batched: bool) -> Tensor:
        settings = {"retain_graph": True, "materialize_grads": True, "allow_unused": True}
        return torch.autograd.grad(out, point, rows, is_grads_batched=batched, **settings)[0]

    rows = torch.eye(len(out), dtype=out.dtype, device=out.device)
    try:
        return torch.cat([pulled(part, True) for part in rows.split(ROWS)])
    except RuntimeError:  # an operation whose derivative has no rule for many at once
        return torch.stack([pulled(row, False) for row in rows])
