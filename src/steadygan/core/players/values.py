"""Players that keep parameters as values, so that a whole step stays differentiable (analysis)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from ..context import Context
from ..game import Game
from .base import Batch, Name, Players, Values, differentiate, generate, trainable


class FunctionalPlayers(Players):
    """Parameters as values: every step is a differentiable function of the start.

    Moves by plain gradient descent.

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
            point or {"generator": trainable(generator), "critic": trainable(critic)}
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
            generate(self._network("generator", point), batch),
        )
        if player == "generator":
            return differentiate(
                self._generator_loss(critic, batch, fake), own, create_graph=self.keeps_graph
            )
        slope = differentiate(
            self._critic_loss(critic, batch, fake), own, create_graph=self.keeps_graph
        )
        self._observe()
        return slope

    def move(self, player: Name, gradient: Values) -> None:
        """Replace the player's values by values - lr * gradient."""
        moved = self._descended(self.point[player], gradient, self.learning_rate(player))
        self.point = {**self.point, player: self.constrained(player, moved)}

    def constrained(self, player: Name, values: Values) -> Values:
        """Return the admissible values nearest to a player's new ones."""
        constraint = self.game.constraint
        if player != "critic" or constraint is None:
            return values
        return {key: constraint.project(p) for key, p in values.items()}

    def learning_rate(self, player: Name) -> float | Tensor:
        """Return the player's learning rate."""
        return self._lr[player] if isinstance(self._lr, Mapping) else self._lr

    def save(self) -> dict[Name, Values]:
        """Return the values."""
        return self.point

    def load(self, point: dict[Name, Values]) -> None:
        """Set the values."""
        self.point = point
