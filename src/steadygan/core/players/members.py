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
from ..errors import SteadyganError
from ..game import Game
from ..gradients.chain import Chained, Looks, applied, mapped
from ..gradients.paths import groups_of, leaf_of, parts_of, terms_of, value_of
from ..gradients.tracing import Tree, to_terms, to_tree
from ..reading import lifted
from ..scores import Scores, heads_of, once
from ..slopes import FUNC, explained, twice
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
    buffers: those of a player that passes change, None for all, of which the given ones stay as
    they are: what they are after the passes so far is in ``buffers``. outside: whether the critic
    takes its slopes outside of ``vmap``, as one must whose passes change it.
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
        buffers: Mapping[Name, Sequence[str]] | None = None,
        outside: bool = False,
    ) -> None:
        real, latent, *labels = given["batch"]
        self.batch = Batch(real, latent, (labels[0], labels[1]) if labels else None)
        states = given["states"]
        if buffers is None:
            networks = zip(PLAYERS, (generator, critic), strict=True)
            buffers = {name: list(dict(module.named_buffers())) for name, module in networks}
        self.buffers: dict[Name, Values] = {
            name: {key: states[name][key].clone() for key in keys} for name, keys in buffers.items()
        }
        self._rest: dict[Name, Values] = {
            name: {**states[name], **self.buffers.get(name, {})} for name in PLAYERS
        }
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
        self._share, self._chains, self._outside = share, chains or {}, outside
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
        batches = self._points(critic, batch, fake)
        with torch.no_grad():
            x = {name: given["x"] for name, given in batches.items()}
            looks = Looks(chain.links(critic.values), x, groups_of(self.game, x))
        logits, slopes = (
            {name: leaf_of(t) for name, t in given.items()}
            for given in (looks.logits, looks.slopes)
        )
        loss = self._valued(critic, batches, logits, slopes)
        pulls = iter(
            torch.autograd.grad(
                loss,
                [*logits.values(), *slopes.values()],
                allow_unused=True,
                materialize_grads=True,
            )
        )
        c, v = ({name: next(pulls) for name in given} for given in (logits, slopes))
        of: dict[int, Tensor] = {}
        with torch.no_grad():
            for t, g in looks.gradients(c, v):
                of[id(t)] = of[id(t)] + g if id(t) in of else g
        self._observe()
        values = self.point["critic"]
        return {key: of.get(id(p), torch.zeros_like(p)) for key, p in values.items()}

    def _points(self, critic: Stacked, batch: Batch, fake: Tensor) -> dict[str, Values]:
        """Return the samples x at which the critics are looked at, and labels where there are."""

        def points(
            network: Any, game: Game, context: Context, real: Tensor, fake: Tensor, *labels: Any
        ) -> Any:
            points = game.points(real, fake, labels=labels or None, at=context)
            return {
                name: {"x": x} if y is None else {"x": x, "labels": y}
                for name, (x, y) in parts_of(game, points, self._share).items()
            }

        found: dict[str, Values] = self._each(
            critic, points, batch.real, fake, *(batch.labels or ())
        )
        return found

    def _valued(
        self, critic: Stacked, batches: Mapping[str, Values], logits: Values, slopes: Values
    ) -> Tensor:
        """Note the critics' terms, from logits and input gradients by point.

        Returns:
            The sum of their losses.
        """

        def value(network: Any, game: Game, context: Context, given: Tree) -> Any:
            terms = value_of(game, {n: Scores(**each) for n, each in given.items()}, context)
            return to_tree(terms), game.observe(terms.scores, context.memory)

        given = {
            name: {**each, "logits": logits[name]}
            | ({"gradient": slopes[name]} if name in slopes else {})
            for name, each in batches.items()
        }
        terms, self._later = self._each(critic, value, given)
        self.terms = to_terms(terms)
        return self.terms.loss.sum()

    def _critic_loss_outside(self, critic: Stacked, batch: Batch, fake: Tensor) -> Tensor:
        """Return the critics' loss, the slopes taken of all members' logits at once.

        A pass that changes the critic, as batch normalisation does, cannot be differentiated by
        torch.func; members do not see each other, so that the sum of all logits can.
        """
        batches = self._points(critic, batch, fake)
        for name in self.game.where:
            x = batches[name]["x"]
            # An alias: unrolled critics depend on the samples themselves, and so do other points.
            batches[name]["x"] = x.view_as(x) if x.requires_grad else leaf_of(x)

        def passes(network: Any, given: Tree) -> Any:
            return {name: _logits(network, self.game, **each) for name, each in given.items()}

        with twice(), once(self.critic):
            logits: Values = critic.apply(passes, batches)
        slopes: Values = {}
        if where := self.game.where:
            with explained():
                found = torch.autograd.grad(
                    torch.stack([logits[name].sum() for name in where]).sum(),
                    [batches[name]["x"] for name in where],
                    create_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
            slopes = {name: lifted(t) for name, t in zip(where, found, strict=True)}
        return self._valued(critic, batches, logits, slopes)

    def _network(self, player: Name, point: Mapping[Name, Values]) -> Stacked:
        return Stacked(
            self.generator if player == "generator" else self.critic,
            {**self._rest[player], **point[player]},
            self._chains.get(player),
        )

    def _critic_loss(self, critic: Any, batch: Batch, fake: Tensor) -> Tensor:
        if self._outside:
            return self._critic_loss_outside(critic, batch, fake)

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


def _logits(network: Any, game: Game, x: Tensor, labels: Tensor | None = None) -> Tensor:
    heads = heads_of(network, x, labels, game.outputs.reading)
    if not heads.single:
        raise SteadyganError(
            "A critic of many outputs that every pass changes, as batch normalisation does, is"
            " not trained many at once: train the GANs one by one."
        )
    return heads.logits[0]


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


def refuse_others(modules: Sequence[nn.Module]) -> None:
    """Refuse modules that differ in more than the values of parameters and buffers.

    Raises:
        SteadyganError: with what differs.
    """
    shapes = [{key: t.shape for key, t in state_of(module).items()} for module in modules]
    held = [_unregistered(module) for module in modules]
    for i, _ in enumerate(modules):
        if shapes[i] != shapes[0]:
            raise SteadyganError(
                f"networks 0 and {i} have different parameters; GANs that are trained at once"
                " have the same networks"
            )
        for key in held[0] | held[i]:
            if not _same(held[0].get(key, []), held[i].get(key, [])):
                raise SteadyganError(
                    f"networks 0 and {i} differ in {key}, which is neither a parameter nor a"
                    " buffer, and all would have that of the first: make it a buffer,"
                    ' self.register_buffer("name", tensor), or lists of layers an nn.ModuleList'
                )


def _unregistered(module: nn.Module) -> dict[str, list[Tensor]]:
    """Return what a module holds without registering it, by name: tensors, and those of layers."""
    usual, found = vars(nn.Module()), dict[str, list[Tensor]]()
    for path, part in module.named_modules():
        if type(part).__module__.startswith("torch.nn."):
            continue  # torch's compute it from what they register
        for key in (key for key in vars(part) if key not in usual):
            leaves = pytree.tree_leaves(vars(part)[key])
            states = [state_of(leaf) for leaf in leaves if isinstance(leaf, nn.Module)]
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            found[f"{path}.{key}" if path else key] = [
                *tensors,
                *(t for state in states for t in state.values()),
            ]
    return found


def _same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def spread(members: Tensor, like: Tensor) -> Tensor:
    """Return (K,) viewed as (K, 1, ...), to stand before ``like``."""
    return members.view(-1, *[1] * (like.ndim - 1))
