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

from .constraints import Constraint
from .context import Context
from .game import CriticTerms, Game
from .gradients import Path, critic_gradient

Name = Literal["generator", "critic"]
PLAYERS: tuple[Name, Name] = ("generator", "critic")
Values = dict[str, Tensor]
"""Parameters or gradients of one player, by parameter name."""


class Batch(NamedTuple):
    """What one update looks at: real samples, latents, and labels (y_real, y_fake) where the GAN is
    conditional."""

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
        """Return the partial gradient of a player's loss with respect to its own parameters, at the
        present point."""

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
        """Return both players' gradients plus gamma times the gradient of half the squared norm of
        the joint field."""
        point: dict[Name, Values] = {name: self._alias(name) for name in PLAYERS}
        generator, critic = self._network("generator", point), self._network("critic", point)
        fake = _generate(generator, batch)
        field: dict[Name, Values] = {
            "critic": _differentiate(
                self._critic_loss(critic, batch, fake), point["critic"], create_graph=True
            ),
            "generator": _differentiate(
                self._generator_loss(critic, batch, fake), point["generator"], create_graph=True
            ),
        }
        self._observe()
        half_norm = (
            torch.stack(
                [g.square().sum() for values in field.values() for g in values.values()]
            ).sum()
            / 2
        )
        # A linear game has a constant norm in some players' parameters, or in none that remain in
        # the graph.
        pulls = {
            name: _differentiate(half_norm, point[name], create_graph=True) for name in PLAYERS
        }
        return {
            name: self._cut({key: g + gamma * pulls[name][key] for key, g in field[name].items()})
            for name in PLAYERS
        }

    def unrolled_gradient(
        self, batch: Batch, steps: int, step_size: float | None, backprop: bool
    ) -> Values:
        """Return the generator's gradient against a critic that has taken ``steps`` further steps
        of plain gradient descent."""
        size = self.learning_rate("critic") if step_size is None else step_size
        own, ahead = self._alias("generator"), self._alias("critic")
        # Without backprop the inner steps see the generator's own values, not this alias, so only
        # the last look is differentiated.
        fake = _generate(
            self._network(
                "generator", {"generator": own if backprop else self.values("generator")}
            ),
            batch,
        )
        for _ in range(steps):
            loss = self._critic_loss(self._network("critic", {"critic": ahead}), batch, fake)
            slope = _differentiate(loss, ahead, create_graph=backprop or self.keeps_graph)
            ahead = self._descended(ahead, slope, size)
        point: dict[Name, Values] = {"generator": own, "critic": ahead}
        fake = _generate(self._network("generator", point), batch)
        loss = self._generator_loss(self._network("critic", point), batch, fake)
        return self._cut(_differentiate(loss, own, create_graph=self.keeps_graph))

    def _alias(self, player: Name) -> Values:
        # Fresh views: a partial derivative is with respect to this use of the parameters, not to
        # the earlier ones that moved the other
        # player; without them an alternating step would silently be an unrolled one.
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
        self.context = replace(
            self.context, memory=self.game.observe(self.terms.scores, self.context.memory)
        )

    def _descended(self, values: Values, gradient: Values, rate: float | Tensor) -> Values:
        return {key: p - rate * gradient[key] for key, p in values.items()}

    def _cut(self, values: Values) -> Values:
        return values if self.keeps_graph else {key: g.detach() for key, g in values.items()}


class FunctionalPlayers(Players):
    """Parameters as values: every step is a differentiable function of the start. Moves by plain
    gradient descent.

    point: the parameters of both players by name; by default those of the networks. lr: one
    learning rate, or one for each player.
    """

    keeps_graph = True

    def __init__(
        self,
        game: Game,
        generator: nn.Module,
        critic: nn.Module,
        draw: Callable[[], Batch],
        context: Context = Context(),
        *,
        lr: float | Tensor | Mapping[Name, float | Tensor],
        point: Mapping[Name, Values] | None = None,
    ) -> None:
        super().__init__(game, generator, critic, draw, context)
        self._lr = lr
        self.point: dict[Name, Values] = dict(
            point or {"generator": _trainable(generator), "critic": _trainable(critic)}
        )

    def values(self, player: Name) -> Values:
        """Return the values of a player's parameters, with their graph."""
        return self.point[player]

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the partial gradient with the graph of its dependence on both players."""
        own = self._alias(player)
        point = {**self.point, player: own}
        critic, fake = (
            self._network("critic", point),
            _generate(self._network("generator", point), batch),
        )
        if player == "generator":
            return _differentiate(
                self._generator_loss(critic, batch, fake), own, create_graph=self.keeps_graph
            )
        slope = _differentiate(
            self._critic_loss(critic, batch, fake), own, create_graph=self.keeps_graph
        )
        self._observe()
        return slope

    def move(self, player: Name, gradient: Values) -> None:
        """Replace the player's values by values - lr * gradient."""
        moved = self._descended(self.point[player], gradient, self.learning_rate(player))
        if player == "critic" and isinstance(self.game.constraint, Constraint):
            moved = {key: self.game.constraint.project(p) for key, p in moved.items()}
        self.point = {**self.point, player: moved}

    def learning_rate(self, player: Name) -> float | Tensor:
        """Return the player's learning rate."""
        return self._lr[player] if isinstance(self._lr, Mapping) else self._lr

    def save(self) -> dict[Name, Values]:
        """Return the values."""
        return self.point

    def load(self, point: dict[Name, Values]) -> None:
        """Set the values."""
        self.point = point


class OptimizerPlayers(Players):
    """Parameters in the networks, moved by ``torch.optim``. optimizers: one for each player, over
    its trainable parameters.

    path: how the critic's gradient is computed (gradients.py). penalty_every: gradient penalties in
    every so many critic updates only, where they count as often; penalty_share: on this part of
    each batch. keep_fakes: for a generator that moves on the critic's batch; its samples are then
    kept with their graph. updates: the critic's gradients so far.
    """

    keeps_graph = False

    def __init__(
        self,
        game: Game,
        generator: nn.Module,
        critic: nn.Module,
        draw: Callable[[], Batch],
        context: Context = Context(),
        *,
        optimizers: Mapping[Name, torch.optim.Optimizer],
        path: Path = "separate",
        penalty_every: int = 1,
        penalty_share: float = 1.0,
        keep_fakes: bool = False,
    ) -> None:
        super().__init__(game, generator, critic, draw, context)
        self.optimizers, self.path = optimizers, path
        self.penalty_every, self.penalty_share, self.keep_fakes, self.updates = (
            penalty_every,
            penalty_share,
            keep_fakes,
            0,
        )
        self._fake: tuple[Batch, Tensor] | None = None

    def values(self, player: Name) -> Values:
        """Return the network's trainable parameters themselves."""
        return _trainable(self.generator if player == "generator" else self.critic)

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the gradient without a graph; neither network's ``.grad`` is touched."""
        if player == "generator":
            seen, self._fake = self._fake, None
            fake = seen[1] if seen and seen[0] is batch else _generate(self.generator, batch)
            slope = _differentiate(
                self._generator_loss(self.critic, batch, fake),
                self.values(player),
                create_graph=False,
            )
            self.generator_loss = (
                None if self.generator_loss is None else self.generator_loss.detach()
            )
            return slope
        with torch.set_grad_enabled(self.keep_fakes):
            fake = _generate(self.generator, batch)
        self._fake = (batch, fake) if self.keep_fakes else None
        point = self.values(player)
        found, _, gradients = critic_gradient(
            self.game.lazy(self.updates, self.penalty_every),
            self.critic,
            batch.real,
            fake.detach(),
            list(point.values()),
            labels=batch.labels,
            at=self.context,
            path=self.path,
            share=self.penalty_share,
        )
        if self.updates % self.penalty_every == 0:
            penalty = found.terms.penalty / self.penalty_every
        else:
            penalty = (self.terms or found.terms).penalty  # the latest that was computed
        self.terms = found.terms._replace(penalty=penalty)
        self.updates += 1
        self._observe()
        return {
            key: torch.zeros_like(p) if g is None else g
            for (key, p), g in zip(point.items(), gradients, strict=True)
        }

    def move(self, player: Name, gradient: Values) -> None:
        """Hand the gradient to the player's optimizer and let it step."""
        if player == "generator":
            self._fake = None
        parameters = self.values(player)
        for key, p in parameters.items():
            p.grad = laid_out(gradient[key], p)
        self.optimizers[player].step()
        for p in parameters.values():
            p.grad = None
        if player == "critic":
            self.game.constrain(self.critic)

    def learning_rate(self, player: Name) -> float | Tensor:
        """Return the learning rate of the optimizer's first group."""
        rate: float | Tensor = self.optimizers[player].param_groups[0]["lr"]
        return rate

    def save(self) -> dict[Name, list[tuple[Tensor, Tensor, dict[str, Any]]]]:
        """Return a copy of every parameter and of its optimizer's state."""
        return {
            name: [
                (p, p.detach().clone(), _copied(self.optimizers[name].state[p]))
                for p in self.values(name).values()
            ]
            for name in PLAYERS
        }

    @torch.no_grad()
    def load(self, point: dict[Name, list[tuple[Tensor, Tensor, dict[str, Any]]]]) -> None:
        """Copy parameters and optimizers' states back."""
        for name, saved in point.items():
            for p, value, state in saved:
                p.copy_(value)
                self.optimizers[name].state[p] = _copied(state)


def _trainable(module: nn.Module) -> Values:
    return {key: p for key, p in module.named_parameters() if p.requires_grad}


def laid_out(value: Tensor, like: Tensor) -> Tensor:
    """Return a value in the memory layout of a parameter: torch's fused optimizers pair elements by
    their place in memory."""
    same = value.shape != like.shape or value.stride() == like.stride()
    return value if same else torch.empty_like(like, dtype=value.dtype).copy_(value)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()
    }


def _generate(generator: Callable[..., Tensor], batch: Batch) -> Tensor:
    fake = (
        generator(batch.latent)
        if batch.labels is None
        else generator(batch.latent, batch.labels[1])
    )
    # Under autocast the critic would else see samples of two precisions, and penalties take
    # derivatives in the samples.
    return fake.to(batch.real.dtype)


def _differentiate(loss: Tensor, values: Values, *, create_graph: bool) -> Values:
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
