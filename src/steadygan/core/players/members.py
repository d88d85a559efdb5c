"""All members of a fleet at one point, as plain values.

One look at them evaluates these, and they are traced where it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from ..context import Context
from ..game import Game
from ..gradients.chain import Chained, Looks, applied, mapped
from ..gradients.paths import groups_of, leaf_of, parts_of, terms_of, value_of
from ..gradients.tracing import Tree, to_terms, to_tree
from ..scores import Scores
from ..slopes import FUNC
from .base import PLAYERS, Batch, Name, Values, generate
from .values import FunctionalPlayers

Asked = tuple[str, torch.Size, torch.dtype, torch.device]
"""A draw that a game asks for: its kind and what it shall look like, for one member."""


class Recorder:
    """Notes what is drawn and answers with zeros."""

    def __init__(self, asked: list[Asked]) -> None:
        self._asked = asked

    def normal(self, like: Tensor) -> Tensor:
        """Return zeros, and note it."""
        return self._note("normal", like)

    def uniform(self, like: Tensor) -> Tensor:
        """Return zeros, and note it."""
        return self._note("uniform", like)

    def _note(self, kind: str, like: Tensor) -> Tensor:
        self._asked.append((kind, like.shape, like.dtype, like.device))
        return torch.zeros_like(like)


class Replay:
    """Hands out draws that were made before, in their order."""

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self._draws, self.used = draws, 0

    def normal(self, like: Tensor) -> Tensor:
        """Return the next draw."""
        self.used += 1
        return self._draws[self.used - 1]

    uniform = normal


class Stacked:
    """One player of all members: its module, and values with a leading axis of members."""

    def __init__(self, module: nn.Module, values: Values, chain: Chained | None = None) -> None:
        self._module, self.values, self.chain = module, values, chain

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return every member's output at its own inputs."""
        if self.chain is not None:
            (x,) = inputs
            out = applied(self.chain.links(self.values), x.flatten(2))
            return out.view(*x.shape[:2], *self.chain.shape)
        found: Tensor = self.apply(lambda network, *inputs: network(*inputs), *inputs)
        return found

    def apply(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """Return ``function(network, *inputs)`` of every member."""
        return vmap(lambda values, *inputs: function(lambda *x: self._one(values, x), *inputs))(
            self.values, *inputs
        )

    def _one(self, values: Values, inputs: Sequence[Tensor]) -> Tensor:
        if self.chain is None:
            return functional_call(self._module, values, tuple(inputs))  # type: ignore[no-any-return]
        (x,) = inputs
        out = mapped(self.chain.links(values), x.flatten(1))
        return out.view(len(x), *self.chain.shape)


class Members(FunctionalPlayers):
    """The members at one point.

    given: everything that a gradient depends on, stacked. asked: where the draws that the game asks
    for are noted, instead of made. share: of each batch, the part that gradient penalties look at.
    chains: of the networks that are to be taken in closed form.
    """

    keeps_graph = False

    def __init__(
        self,
        game: Game,
        generator: nn.Module,
        critic: nn.Module,
        trainable: dict[Name, list[str]],
        given: Tree,
        asked: list[Asked] | None,
        share: float = 1.0,
        chains: Mapping[Name, Chained] | None = None,
    ) -> None:
        real, latent, *labels = given["batch"]
        self.batch = Batch(real, latent, (labels[0], labels[1]) if labels else None)
        self._rest: dict[Name, Values] = given["states"]
        point: dict[Name, Values] = {
            name: {key: self._rest[name][key].detach().requires_grad_() for key in trainable[name]}
            for name in PLAYERS
        }
        super().__init__(
            game,
            generator,
            critic,
            lambda: self.batch,
            Context(memory=given["memory"]),
            lr=given["rates"],
            point=point,
        )
        self._strengths, self._draws, self._asked = (
            given["strengths"],
            list(given.get("draws", [])),
            asked,
        )
        self._share, self._chains = share, chains or {}
        self._later: dict[str, Tensor] = {}

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the stacked gradients; the other player's values need no graph."""
        other = PLAYERS[1 - PLAYERS.index(player)]
        self.point[other] = {key: p.detach() for key, p in self.point[other].items()}
        if player == "critic" and player in self._chains:
            return self._critic_in_closed_form(self._chains[player], batch)
        return super().gradient(player, batch)

    def _critic_in_closed_form(self, chain: Chained, batch: Batch) -> Values:
        critic = self._network("critic", self.point)
        fake = generate(self._network("generator", self.point), batch)

        def points(network: Any, game: Game, context: Context, real: Tensor, fake: Tensor) -> Any:
            found = parts_of(game, game.points(real, fake, at=context), self._share)
            return {name: samples.x for name, samples in found.items()}

        batches: Values = self._each(critic, points, batch.real, fake)
        with torch.no_grad():
            looks = Looks(chain.links(critic.values), batches, groups_of(self.game, batches))
        leaves = {
            kind: {name: leaf_of(t) for name, t in given.items()}
            for kind, given in (("logits", looks.logits), ("gradient", looks.slopes))
        }

        def value(network: Any, game: Game, context: Context, given: Tree) -> Any:
            scores = {
                name: Scores(x, given["logits"][name], given["gradient"].get(name))
                for name, x in given["x"].items()
            }
            terms = value_of(game, scores, context)
            return to_tree(terms), game.observe(terms.scores, context.memory)

        terms, self._later = self._each(critic, value, {"x": batches, **leaves})
        self.terms = to_terms(terms)
        ends = [t for given in leaves.values() for t in given.values()]
        pulls = iter(
            torch.autograd.grad(
                self.terms.loss.sum(), ends, allow_unused=True, materialize_grads=True
            )
        )
        c, v = ({name: next(pulls) for name in given} for given in leaves.values())
        of: dict[int, Tensor] = {}
        with torch.no_grad():
            for t, g in looks.gradients(c, v):
                of[id(t)] = of[id(t)] + g if id(t) in of else g
        self._observe()
        values = self.point["critic"]
        return {key: of.get(id(p), torch.zeros_like(p)) for key, p in values.items()}

    def _network(self, player: Name, point: Mapping[Name, Values]) -> Stacked:
        return Stacked(
            self.generator if player == "generator" else self.critic,
            {**self._rest[player], **point[player]},
            self._chains.get(player),
        )

    def _critic_loss(self, critic: Any, batch: Batch, fake: Tensor) -> Tensor:
        def one(
            network: Any, game: Game, context: Context, real: Tensor, fake: Tensor, *labels: Any
        ) -> Any:
            points = game.points(real, fake, labels=labels or None, at=context)
            terms = terms_of(game, network, points, context, share=self._share, slopes=FUNC)
            return to_tree(terms), game.observe(terms.scores, context.memory)

        terms, self._later = self._each(critic, one, batch.real, fake, *(batch.labels or ()))
        self.terms = to_terms(terms)
        return self.terms.loss.sum()

    def _generator_loss(self, critic: Any, batch: Batch, fake: Tensor) -> Tensor:
        def one(
            network: Any, game: Game, context: Context, real: Tensor, fake: Tensor, *labels: Any
        ) -> Tensor:
            return game.generator_loss(
                network, real, fake, labels=labels or None, at=context, slopes=FUNC
            )

        self.generator_loss = self._each(critic, one, batch.real, fake, *(batch.labels or ()))
        return self.generator_loss.sum()

    def _each(self, critic: Stacked, function: Callable[..., Any], *inputs: Any) -> Any:
        """Return ``function(network, game, context, *inputs)`` of every member, with its draws."""
        used = 0

        def one(
            network: Any, strengths: Values, memory: Values, draws: list[Tensor], *inputs: Any
        ) -> Any:
            nonlocal used
            source = Replay(draws) if self._asked is None else Recorder(self._asked)
            found = function(
                network,
                self.game.with_strengths(strengths),
                Context(rng=source, memory=memory),
                *inputs,
            )
            used = source.used if isinstance(source, Replay) else 0
            return found

        found = critic.apply(one, self._strengths, dict(self.context.memory), self._draws, *inputs)
        self._draws = self._draws[used:]
        return found

    def _observe(self) -> None:
        self.context = Context(memory=self._later)

    def _descended(self, values: Values, gradient: Values, rate: float | Tensor) -> Values:
        rates = {
            key: spread(rate, p) if isinstance(rate, Tensor) else rate for key, p in values.items()
        }
        return {key: p - rates[key] * gradient[key] for key, p in values.items()}


def finite(found: Tree) -> Tensor:
    """Return which members' losses and gradients are finite (K,)."""
    losses = [found["terms"]["loss"]] if "terms" in found else []
    losses += [found["generator_loss"]] if "generator_loss" in found else []
    gradients = pytree.tree_leaves(found["gradient"])
    sums = torch.stack([*losses, *(g.flatten(1).sum(1) for g in gradients)])
    return sums.isfinite().all(0)


def state_of(module: nn.Module) -> Values:
    """Return parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def spread(members: Tensor, like: Tensor) -> Tensor:
    """Return (K,) viewed as (K, 1, ...), to stand before ``like``."""
    return members.view(-1, *[1] * (like.ndim - 1))
