"""Players that keep parameters in the networks and move them by ``torch.optim`` (training)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..context import Context
from ..game import Game
from ..gradients import GradientPath, critic_gradient
from ..gradients.chain import quick
from ..terms import CriticTerms
from .base import PLAYERS, Batch, Name, Players, Values, differentiate, generate, trainable


class OptimizerPlayers(Players):
    """Parameters in the networks, moved by ``torch.optim``.

    optimizers: one for each player, over its trainable parameters.

    path: how the critic's gradient is computed (gradients.py). penalty_every: gradient penalties in
    every so many critic updates only, where they count as often; penalty_share: on this part of
    each batch. keep_fakes: for a generator that moves on the critic's batch; its samples are then
    kept with their graph. chains: whether networks that are chains are evaluated in closed form in
    the generator's step as well. updates: the critic's gradients so far; penalty: the latest that
    was computed, as it counts on average.
    """

    keeps_graph = False
    scale = 1.0
    """What losses are multiplied by before they are differentiated."""

    def __init__(
        self,
        game: Game,
        generator: nn.Module,
        critic: nn.Module,
        draw: Callable[[], Batch],
        context: Context = Context(),
        *,
        optimizers: Mapping[Name, torch.optim.Optimizer],
        path: GradientPath = "separate",
        penalty_every: int = 1,
        penalty_share: float = 1.0,
        keep_fakes: bool = False,
        chains: bool = False,
    ) -> None:
        super().__init__(game, generator, critic, draw, context)
        self.optimizers, self.path = optimizers, path
        self.penalty_every, self.penalty_share, self.keep_fakes, self.updates = (
            penalty_every,
            penalty_share,
            keep_fakes,
            0,
        )
        self.penalty: Tensor | None = None
        self.chains = chains
        self._fake: tuple[Batch, Tensor] | None = None

    def values(self, player: Name) -> Values:
        """Return the network's trainable parameters themselves."""
        return trainable(self.generator if player == "generator" else self.critic)

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the gradient without a graph; neither network's ``.grad`` is touched."""
        if player == "generator":
            seen, self._fake = self._fake, None
            generator, critic = self._networks()
            fake = seen[1] if seen and seen[0] is batch else generate(generator, batch)
            slope = differentiate(
                self._generator_loss(critic, batch, fake),
                self.values(player),
                create_graph=False,
            )
            self.generator_loss = (
                None if self.generator_loss is None else self.generator_loss.detach()
            )
            return slope
        with torch.set_grad_enabled(self.keep_fakes):
            fake = generate(self._networks()[0], batch)
        self._fake = (batch, fake) if self.keep_fakes else None
        point = self.values(player)
        found, gradients = critic_gradient(
            self.game.lazy(self.updates, self.penalty_every),
            self.critic,
            batch.real,
            fake.detach(),
            list(point.values()),
            labels=batch.labels,
            at=self.context,
            path=self.path,
            share=self.penalty_share,
            scale=self.scale,
        )
        self._note(found.terms)
        self._observe()
        return {
            key: torch.zeros_like(p) if g is None else g
            for (key, p), g in zip(point.items(), gradients, strict=True)
        }

    def _networks(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """Return generator and critic as the generator's loss sees them."""
        if not self.chains or self.game.regularize_generator:
            return self.generator, self.critic
        return quick(self.generator, learns=True), quick(self.critic, learns=False)

    def _note(self, terms: CriticTerms) -> None:
        """Keep the terms of a gradient of the critic.

        Where updates are spared the penalty, with the latest one that was computed.
        """
        if self.updates % self.penalty_every == 0:
            self.penalty = terms.penalty / self.penalty_every
        self.terms = terms if self.penalty is None else terms._replace(penalty=self.penalty)
        self.updates += 1

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


def laid_out(value: Tensor, like: Tensor) -> Tensor:
    """Return a value in the memory layout of a parameter.

    torch's fused optimizers pair elements by their place in memory.
    """
    same = value.shape != like.shape or value.stride() == like.stride()
    return value if same else torch.empty_like(like, dtype=value.dtype).copy_(value)


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.clone() if isinstance(value, Tensor) else value for key, value in state.items()
    }
