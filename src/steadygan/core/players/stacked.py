"""The players of many GANs at once: K of one structure.

Their parameters are stacked as (K, ...) and their losses are taken by ``vmap``.

Members are independent, so that the gradient of the sum of their losses is the stack of their
gradients, and every dynamics drives them as it drives one. Random draws are made outside of
``vmap``, from each member's own generator: a member equals the same GAN trained alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.utils.parametrize import is_parametrized
from torch.utils import _pytree as pytree

from ..batchnorm import ExactBatchNorm
from ..context import Context
from ..errors import SteadyganError
from ..game import Game
from ..gradients.chain import Chained, Layer, NoChain, chained
from ..gradients.tracing import Tree, to_terms, to_tree
from ..reading import lifted
from ..registry import spec
from ..schedules import Strength, told
from ..scores import logits_of
from ..spectralnorm import StackedSpectralNorm
from .base import PLAYERS, Batch, Name, Values
from .members import Asked, Members, Stacked, finite, refuse_others, spread, state_of
from .optimizers import OptimizerPlayers
from .plans import Plan, at_once


def stack(modules: Sequence[nn.Module]) -> nn.Module:
    """Return a module whose parameters and buffers are those of all modules, (K, ...) each.

    It holds values and cannot be called as it is.

    Raises:
        SteadyganError: for modules of different structure, or that differ in what they hold without
            registering it.

    >>> stack([nn.Linear(2, 3), nn.Linear(2, 3)]).weight.shape
    torch.Size([2, 3, 2])
    """
    whole = copy.deepcopy(modules[0])
    # What torch's own do to their buffers vmap refuses, or it is lost where passes are traced.
    ExactBatchNorm.replace(whole)
    StackedSpectralNorm.replace(whole)
    refuse_others(modules)
    states = [state_of(module) for module in modules]
    for key, t in state_of(whole).items():
        t.data = torch.stack([state[key].detach() for state in states])
    return whole


def game_of(games: Sequence[Game]) -> Game:
    """Return the structure that all games share, every strength 0.

    Raises:
        SteadyganError: where one has another.
    """
    bare = [game.with_strengths(dict.fromkeys(game.strengths(), 0.0)) for game in games]
    for i, game in enumerate(bare):
        if game != bare[0]:
            raise SteadyganError(
                f"games 0 and {i} differ in more than their strengths, {_spelled(games[0])} and"
                f" {_spelled(games[i])}: GANs that are trained at once may differ in seed,"
                " strengths and learning rates. Train the others by 'steadygan sweep'."
            )
    return bare[0]


def _spelled(game: Game) -> str:
    parts = (game.objective, *game.regularizers, game.smoothing, game.constraint, game.augment)
    return " + ".join(spec(part) for part in parts if part is not None)


class FleetPlayers(OptimizerPlayers):
    """K generators and critics that move together, one optimizer state a member.

    games: one a member, alike but for their strengths. generator, critic: made by ``stack``. draw:
    returns a batch whose tensors have a leading axis of members (K, B, ...). rngs: a member's
    generator of noise each. optimizers: elementwise ones over the stacked parameters;
    rates: a learning rate a member, for each player. penalty_every, penalty_share: as of one GAN.
    chains: whether networks that are chains get their gradients in closed form, as by the ``chain``
    path of one GAN. compiled: trace the gradients once and let ``torch.compile`` fuse them.
    alive: (K,) bool; a member that is not (or whose loss or gradient is no longer finite, which
    ends it) stays where it is. terms, generator_loss, context.memory: as of one GAN, with the
    leading axis of members.

    Raises:
        SteadyganError: where the networks cannot be evaluated for many GANs at once.
    """

    def __init__(
        self,
        games: Sequence[Game],
        generator: nn.Module,
        critic: nn.Module,
        draw: Callable[[], Batch],
        *,
        rngs: Sequence[torch.Generator],
        optimizers: Mapping[Name, torch.optim.Optimizer],
        rates: Mapping[Name, Sequence[float]],
        penalty_every: int = 1,
        penalty_share: float = 1.0,
        keep_fakes: bool = False,
        compiled: bool = False,
        chains: bool = False,
    ) -> None:
        super().__init__(
            game_of(games),
            generator,
            critic,
            draw,
            Context(),
            optimizers=optimizers,
            penalty_every=penalty_every,
            penalty_share=penalty_share,
            keep_fakes=keep_fakes,
            chains=chains,
        )
        self._seen: Batch | None = None
        self.rngs, self.compiled = rngs, compiled
        # Walking through modules at every look costs small networks a tenth of their time.
        self._states = {name: state_of(getattr(self, name)) for name in PLAYERS}
        self._moved = {name: super(FleetPlayers, self).values(name) for name in PLAYERS}
        first = next(generator.parameters())
        self.alive = torch.ones(len(games), dtype=torch.bool, device=first.device)
        self.set_rates(rates)
        self._play = _Play.of(games)
        # Critic updates that take the gradient penalties, and those that are spared them.
        self._lazy = [
            _Play.of([game.lazy(update, penalty_every) for game in games])
            for update in range(min(penalty_every, 2))
        ]
        self._plans: dict[Any, Plan] = {}

    def set_rates(self, rates: Mapping[Name, Sequence[float]]) -> None:
        """Let the members learn at these rates from now on, a number each, for each player."""
        like = next(self.generator.parameters())
        self.rates = {
            name: torch.tensor(rates[name], dtype=like.dtype, device=like.device)
            for name in PLAYERS
        }
        self._common = {
            name: rates[name][0] if len(set(rates[name])) == 1 else None for name in PLAYERS
        }

    def values(self, player: Name) -> Values:
        """Return the stacked trainable parameters themselves."""
        return self._moved[player]

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the stacked gradients of a player's losses."""
        found: Values = self._look("gradient", batch, player)
        return found

    def consensus_gradient(self, batch: Batch, gamma: float) -> dict[Name, Values]:
        """Return both players' stacked gradients of the modified field."""
        found: dict[Name, Values] = self._look("consensus_gradient", batch, gamma)
        return found

    def unrolled_gradient(
        self, batch: Batch, steps: int, step_size: float | None, backprop: bool
    ) -> Values:
        """Return the generators' stacked gradients against critics that have gone ahead."""
        found: Values = self._look("unrolled_gradient", batch, steps, step_size, backprop)
        return found

    @torch.no_grad()
    def move(self, player: Name, gradient: Values) -> None:
        """Let the optimizer step; each member at its own learning rate, and the alive ones only."""
        values, alive, rate = self.values(player), bool(self.alive.all()), self._common[player]
        before = {} if alive and rate is not None else {key: p.clone() for key, p in values.items()}
        # The optimizers' moves are proportional to the learning rate: where rates differ, each
        # member goes its share of a step of rate 1.
        (group,) = self.optimizers[player].param_groups
        group["lr"] = 1.0 if rate is None else rate
        for key, p in values.items():
            p.grad = (
                gradient[key] if alive else torch.where(spread(self.alive, p), gradient[key], 0.0)
            )
        self.optimizers[player].step()
        for key, p in values.items():
            p.grad = None
            if rate is None:
                p.copy_(before[key].lerp(p, spread(self.rates[player], p)))
            if player == "critic" and self.game.constraint is not None:
                p.copy_(vmap(self.game.constraint.project)(p))
            if not alive:
                p.copy_(torch.where(spread(self.alive, p), p, before[key]))

    def learning_rate(self, player: Name) -> float | Tensor:
        """Return the members' learning rates (K,)."""
        return self.rates[player]

    @torch.no_grad()
    def slopes(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the input gradients (K, B, *event) of the critics, each at its own x."""

        own = {name: t.clone() for name, t in self.critic.named_buffers()}  # passes change these
        critic = Stacked(self.critic, {**state_of(self.critic), **own})

        def one(network: Callable[..., Tensor], x: Tensor, *labels: Tensor) -> Tensor:
            return logits_of(network, x, labels[0] if labels else None)

        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits: Tensor = critic.apply(one, x, *(() if labels is None else (labels,)))
            (slope,) = torch.autograd.grad(
                logits.sum(), x, allow_unused=True, materialize_grads=True
            )
        return lifted(slope)

    @torch.no_grad()
    def generate(self, values: Values, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return every generator's samples (K, N, *event), in evaluation mode.

        Args:
            values: of the generators' state, such as moving averages; what is not named stays.
            latents: (K, N, latent).
            labels: (N,).
        """
        was_training = self.generator.training
        self.generator.eval()
        network = Stacked(self.generator, {**state_of(self.generator), **values})
        found: Tensor = network.apply(
            lambda g, z: g(z) if labels is None else g(z, labels), latents
        )
        self.generator.train(was_training)
        return found.detach()  # a view of a parameter keeps its flag under vmap

    def prepare(self, batch: Batch) -> None:
        """Look at a batch as in training, without any effect.

        Raises:
            SteadyganError: for what cannot be done for many GANs at once.
        """
        self._planned(self._play, "gradient", batch, "generator")
        for play in self._lazy:
            self._planned(play, "gradient", batch, "critic")

    def _look(self, method: str, batch: Batch, *settings: Any) -> Any:
        own = (method, settings) == ("gradient", ("critic",))
        play = self._lazy[min(self.updates % self.penalty_every, 1)] if own else self._play
        plan, given = self._planned(play, method, batch, *settings)
        given["draws"] = [self._drawn(*asked) for asked in plan.asked]
        found = plan.run(given)
        if own:
            self._note(to_terms(found["terms"]))
        elif "terms" in found:
            self.terms = to_terms(found["terms"])
        self.generator_loss = found.get("generator_loss", self.generator_loss)
        self.context = Context(self.context.progress, None, found["memory"])
        self.alive = self.alive & found["finite"]  # the others end here, before they move
        if method == "gradient":
            # One GAN keeps the samples of a shared batch; here they are made again, and the same.
            if settings[0] == "generator" and self._seen is batch:
                found["buffers"].pop("generator", None)
            self._seen = batch if self.keep_fakes and settings[0] == "critic" else None
        self._keep(found["buffers"])
        return found["gradient"]

    @torch.no_grad()
    def _keep(self, buffers: Mapping[Name, Values]) -> None:
        """Let the networks have the buffers that passes have left, those of the alive ones."""
        for name, own in buffers.items():
            for key, t in own.items():
                held = self._states[name][key]
                held.copy_(torch.where(spread(self.alive, t), t, held))

    def _planned(self, play: _Play, method: str, batch: Batch, *settings: Any) -> tuple[Plan, Tree]:
        tensors = (batch.real, batch.latent, *(batch.labels or ()))
        memory = dict(self.context.memory)
        given: Tree = {
            "states": self._states,
            "batch": tensors,
            "strengths": self._now(play),
            "memory": memory,
            "rates": self.rates,
        }
        key = play.game, method, settings, tuple(memory), tuple(t.shape for t in tensors)
        if key not in self._plans:
            self._plans[key] = self._plan(play.game, method, settings, given)
        return self._plans[key], given

    def _plan(self, game: Game, method: str, settings: tuple[Any, ...], given: Tree) -> Plan:
        trainable = {name: list(self.values(name)) for name in PLAYERS}
        closed = self.chains and method == "gradient" and not game.regularize_generator
        chains = self._chained(given) if closed else {}
        asked: list[Asked] = []
        changing: dict[Name, list[str]] | None = None

        def pure(given: Tree) -> Tree:
            members = Members(
                game,
                self.generator,
                self.critic,
                trainable,
                given,
                None if "draws" in given else asked,
                self.penalty_share if method == "gradient" else 1.0,
                chains,
                changing,
                outside,
            )
            # The one method that is told the player before the batch.
            arguments = (
                (*settings, members.batch) if method == "gradient" else (members.batch, *settings)
            )
            found: Tree = {
                "gradient": getattr(members, method)(*arguments),
                "memory": dict(members.context.memory),
            }
            if members.terms is not None:
                found["terms"] = to_tree(members.terms)
            if members.generator_loss is not None:
                found["generator_loss"] = members.generator_loss
            found["finite"] = finite(found)
            found["buffers"] = {
                name: {key: t for key, t in own.items() if changing is not None or t._version}
                for name, own in members.buffers.items()
            }
            # Contiguous: torch's fused optimizers on the CPU read gradients as if they were,
            # whatever their strides (2.13).
            detached: Tree = pytree.tree_map(lambda t: t.detach().contiguous(), found)
            return detached

        try:
            outside = self._changed_by_a_pass(given)
            found = pure(given)  # draws are noted instead of made
        except SteadyganError:
            raise
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise SteadyganError(
                f"These networks cannot be evaluated for many GANs at once ({reason}): train"
                " them one by one."
            ) from error
        changing = {name: list(own) for name, own in found["buffers"].items() if own}
        plan = Plan(asked, pure, at_once(given["batch"][0], chains))
        if self.compiled:
            plan.trace({**given, "draws": [self._like(*each) for each in asked]}, compiled=True)
        return plan

    @torch.no_grad()
    def _changed_by_a_pass(self, given: Tree) -> bool:
        """Return whether the critic's buffers change as it looks, as batch normalisation's do."""
        real, _, *labels = given["batch"]
        buffers = {key: t.clone() for key, t in self.critic.named_buffers()}
        if buffers:
            critic = Stacked(self.critic, {**given["states"]["critic"], **buffers})
            critic.apply(lambda network, *inputs: network(*inputs), real, *labels[:1])
        return any(t._version for t in buffers.values())

    def _chained(self, given: Tree) -> dict[Name, Chained]:
        """Return the networks that are chains of one sample's vectors, by player."""
        real, latent, *labels = given["batch"]
        found: dict[Name, Chained] = {}
        for name, x in zip(PLAYERS, (latent, real), strict=True):
            with suppress(NoChain):
                chain = chained(getattr(self, name), x.ndim - 1)
                state = given["states"][name]
                if not labels and all(_own(layer, state) for layer in chain.layers):
                    found[name] = chain
        return found

    def _now(self, play: _Play) -> Values:
        """Return every strength at the present progress, (K,) each."""
        like = self.rates["critic"]
        return {
            place: torch.tensor(
                [float(told(value, self.context.progress)) for value in values],
                dtype=like.dtype,
                device=like.device,
            )
            for place, values in play.strengths.items()
        }

    def _drawn(
        self, kind: str, shape: torch.Size, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        like = torch.empty(shape, dtype=dtype, device=device)
        return torch.stack([getattr(Context(rng=rng), kind)(like) for rng in self.rngs])

    def _like(
        self, kind: str, shape: torch.Size, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        return torch.zeros(len(self.rngs), *shape, dtype=dtype, device=device)


def _own(layer: Layer, state: Values) -> bool:
    """Return whether a layer has a weight and a bias of its own, neither computed nor tied."""
    module, path, _ = layer
    return not is_parametrized(module) and all(
        getattr(module, name) is None or f"{path}.{name}" in state for name in ("weight", "bias")
    )


class _Play(NamedTuple):
    """The structure that games share, and every strength of theirs by its place."""

    game: Game
    strengths: dict[str, list[Strength]]

    @staticmethod
    def of(games: Sequence[Game]) -> _Play:
        """Return what games share and where they differ."""
        shared = game_of(games)
        strengths = [game.strengths() for game in games]
        return _Play(shared, {place: [s[place] for s in strengths] for place in shared.strengths()})
