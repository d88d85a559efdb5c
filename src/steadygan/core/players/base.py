"""Two ways to hold the players' parameters, one interface for the dynamics.

``FunctionalPlayers`` keep parameters as values: a whole step stays differentiable, so its Jacobian
is exact (analysis). ``OptimizerPlayers`` keep them in the networks and move them by ``torch.optim``
(training); they cut the graph, never the game.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..batchnorm import enough
from ..context import Context
from ..game import Game
from ..terms import CriticTerms

Name = Literal["generator", "critic"]
"""What a player is called."""

PLAYERS: tuple[Name, Name] = ("generator", "critic")
"""Both, in the order of state vectors: (theta, psi)."""

OTHER: dict[Name, Name] = {"generator": "critic", "critic": "generator"}
"""Whom each plays against."""

Values = dict[str, Tensor]
"""Parameters or gradients of one player, by parameter name."""


class Batch(NamedTuple):
    """What one update looks at: real samples, latents, and labels (y_real, y_fake) or None."""

    real: Tensor
    latent: Tensor
    labels: tuple[Tensor, Tensor] | None = None


class Players(ABC):
    """A generator and a critic that know their gradients and can move; what the dynamics drive.

    draw: returns the batch of the next update. context: progress, rng and memory now; the memory
    advances with the critic's gradients.
    terms, generator_loss: the losses at the latest gradients, for logging.
    previous: the gradients that an optimistic step remembers.
    """

    keeps_graph: bool

    def __init__(
        self,
        game: Game,
        generator: nn.Module,
        critic: nn.Module,
        draw: Callable[[], Batch],
        context: Context = Context(),
    ) -> None:
        self.game, self.generator, self.critic, self.draw, self.context = (
            game,
            generator,
            critic,
            draw,
            context,
        )
        self.terms: CriticTerms | None = None
        self.generator_loss: Tensor | None = None
        self.previous: dict[Name, Values] = {}

    @abstractmethod
    def values(self, player: Name) -> Values:
        """Return a player's trainable parameters at the present point."""

    @abstractmethod
    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the gradient of a player's loss in its own parameters, at the present point."""

    @abstractmethod
    def move(self, player: Name, gradient: Values) -> None:
        """Step a player down a gradient; the critic then obeys the game's constraint."""

    @abstractmethod
    def learning_rate(self, player: Name) -> float | Tensor:
        """Return a player's present learning rate."""

    @abstractmethod
    def save(self) -> Any:
        """Return the present point with everything that ``move`` changes."""

    @abstractmethod
    def load(self, point: Any) -> None:
        """Return to a saved point."""

    def consensus_gradient(self, batch: Batch, gamma: float) -> dict[Name, Values]:
        """Return both gradients plus gamma times the gradient of half the joint field's square."""
        point: dict[Name, Values] = {name: self._alias(name) for name in PLAYERS}
        generator, critic = self._network("generator", point), self._network("critic", point)
        fake = generate(generator, batch)
        field: dict[Name, Values] = {
            "critic": differentiate(
                self._critic_loss(critic, batch, fake), point["critic"], create_graph=True
            ),
            "generator": differentiate(
                self._generator_loss(critic, batch, fake), point["generator"], create_graph=True
            ),
        }
        self._observe()
        half_norm = self._half_norm(field)
        # A linear game has a constant norm in some players' parameters, or in none that remain in
        # the graph.
        pulls = {name: differentiate(half_norm, point[name], create_graph=True) for name in PLAYERS}
        return {
            name: self._cut({key: g + gamma * pulls[name][key] for key, g in field[name].items()})
            for name in PLAYERS
        }

    def _half_norm(self, field: Mapping[Name, Values]) -> Tensor:
        """Return half the square of a joint field, to be differentiated."""
        squares = [g.square().sum() for values in field.values() for g in values.values()]
        return torch.stack(squares).sum() / 2

    def unrolled_gradient(
        self, batch: Batch, steps: int, step_size: float | None, backprop: bool
    ) -> Values:
        """Return the generator's gradient against a critic ``steps`` plain descent steps ahead."""
        size = self.learning_rate("critic") if step_size is None else step_size
        own, ahead = self._alias("generator"), self._alias("critic")
        # Without backprop the inner steps see the generator's own values, not this alias, so only
        # the last look is differentiated.
        fake = generate(
            self._network(
                "generator", {"generator": own if backprop else self.values("generator")}
            ),
            batch,
        )
        for _ in range(steps):
            loss = self._critic_loss(self._network("critic", {"critic": ahead}), batch, fake)
            slope = differentiate(loss, ahead, create_graph=backprop or self.keeps_graph)
            ahead = self._descended(ahead, slope, size)
        point: dict[Name, Values] = {"generator": own, "critic": ahead}
        fake = generate(self._network("generator", point), batch)
        loss = self._generator_loss(self._network("critic", point), batch, fake)
        return self._cut(differentiate(loss, own, create_graph=self.keeps_graph))

    def _alias(self, player: Name) -> Values:
        # Fresh views: a partial derivative is with respect to this use of the parameters, not to
        # the earlier ones that moved the other player; without them an alternating step would
        # silently be an unrolled one.
        return {key: p.view_as(p) for key, p in self.values(player).items()}

    def _network(self, player: Name, point: Mapping[Name, Values]) -> Callable[..., Tensor]:
        module = self.generator if player == "generator" else self.critic
        return lambda *inputs: functional_call(module, point[player], inputs)

    def _critic_loss(self, critic: Callable[..., Tensor], batch: Batch, fake: Tensor) -> Tensor:
        self.terms = self.game.critic_terms(
            critic, batch.real, fake, labels=batch.labels, at=self.context
        )
        return self.terms.loss

    def _generator_loss(self, critic: Callable[..., Tensor], batch: Batch, fake: Tensor) -> Tensor:
        self.generator_loss = self.game.generator_loss(
            critic, batch.real, fake, labels=batch.labels, at=self.context
        )
        return self.generator_loss

    def _observe(self) -> None:
        assert self.terms is not None
        memory = self.game.observe(self.terms.scores, self.context.memory, self.context)
        self.context = replace(self.context, memory=memory)

    def _descended(self, values: Values, gradient: Values, rate: float | Tensor) -> Values:
        return {key: p - rate * gradient[key] for key, p in values.items()}

    def _cut(self, values: Values) -> Values:
        return values if self.keeps_graph else {key: g.detach() for key, g in values.items()}


def trainable(module: nn.Module) -> Values:
    """Return the parameters that training moves, by name."""
    return {key: p for key, p in module.named_parameters() if p.requires_grad}


def generate(generator: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Return the samples of a batch's latents (B, *event), in the precision of the real ones."""
    inputs = (batch.latent,) if batch.labels is None else (batch.latent, batch.labels[1])
    with enough():
        fake = generator(*inputs)
    # Under autocast the critic would else see samples of two precisions, and penalties take
    # derivatives in the samples.
    return fake.to(batch.real.dtype)


def differentiate(loss: Tensor, values: Values, *, create_graph: bool) -> Values:
    """Return a loss's gradient by parameter name, zeros where it does not depend on one."""
    if not loss.requires_grad:
        return {key: torch.zeros_like(p) for key, p in values.items()}
    found = torch.autograd.grad(
        loss,
        list(values.values()),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(values, found, strict=True))
