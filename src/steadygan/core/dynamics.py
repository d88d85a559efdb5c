"""Who looks where, and who moves when.

One object drives plain values (analysis) and ``torch.optim`` (training) alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .errors import SteadyganError
from .linear import Linear
from .players import PLAYERS, Batch, Name, Players, Values
from .registry import base, register


@base("dynamics")
class Dynamics:
    """Base of every dynamics; a subclass is a registered frozen dataclass.

    share: the generator moves on the critic's last batch. remembers: a step needs the gradients of
    the one before, ``players.previous``. whole: why the critic's gradient is taken of its whole
    loss, in one way: no penalties in some updates only, on a part of the batch, or by a path that
    one names; '' where it can be otherwise. joint: a step goes through inner steps on the batch, so
    that the mean of its parts' steps is not its own. twice: gradients are differentiated again,
    also those of means over the batch, of which a process has the gradient of its own rows only.
    """

    share = False
    remembers = False
    whole: ClassVar[str] = ""
    joint: ClassVar[bool] = False
    twice: ClassVar[bool] = False

    def field(self, players: Players, batch: Batch) -> dict[Name, Values]:
        """Return what each player descends: -v of the continuous system that the steps follow."""
        return {name: players.gradient(name, batch) for name in PLAYERS}

    def step(self, players: Players) -> None:
        """Move both players once, at the same time."""
        field = self.field(players, players.draw())
        for name in PLAYERS:
            players.move(name, field[name])

    def linear_field(self, game: Linear, lr: float) -> Tensor | None:
        """Return the Jacobian (n, n) of the field -``field`` where v(w) = J w, or None."""
        return None

    def linear_step(self, game: Linear, lr: float) -> Tensor | None:
        """Return the Jacobian of one step where v(w) = J w, of the size of its state, or None."""
        return None


@register("dynamics", "simultaneous")
@dataclass(frozen=True)
class Simultaneous(Dynamics):
    """Simultaneous gradient descent, w <- w + h v(w): both gradients at one point, then both moves.

    Both gradients are taken on one batch.

    The step size h is the optimizer's, in units of the parameters. Reference: Mescheder et al.
    2017; 2018, Eq. 3.

    >>> build("dynamics", "simultaneous")
    Simultaneous()
    """

    def linear_field(self, game: Linear, lr: float) -> Tensor:
        """Return J."""
        return game.jacobian

    def linear_step(self, game: Linear, lr: float) -> Tensor:
        """Return 1 + h J."""
        return _one(game.jacobian) + lr * game.jacobian


@register("dynamics", "alternating")
@dataclass(frozen=True)
class Alternating(Dynamics):
    """Alternating gradient descent: critic_steps of the critic, then generator_steps of the other.

    Each step has a fresh batch.

    order: who moves first; critic-first is Algorithm 1. share: the generator moves on the batch of
    the critic's last step, which spares one pass of the generator. The step size h is the
    optimizer's, in units of the parameters.
    Reference: Goodfellow et al. 2014; Roth et al. 2017, Algorithm 1; Mescheder et al. 2018, section
    2.

    >>> build("dynamics", "alternating:critic_steps=5,order=generator-first").critic_steps
    5
    """

    critic_steps: int = 1
    generator_steps: int = 1
    order: Literal["critic-first", "generator-first"] = "critic-first"
    share: bool = False

    def __post_init__(self) -> None:
        _at_least_one(critic_steps=self.critic_steps, generator_steps=self.generator_steps)
        if self.share and self.order != "critic-first":
            raise SteadyganError(
                "share=true needs order=critic-first: the generator's samples are those that the"
                " critic has just seen"
            )

    def step(self, players: Players) -> None:
        """Move both players, each as often as it is its turn."""
        critic: list[Name] = ["critic"] * self.critic_steps
        generator: list[Name] = ["generator"] * self.generator_steps
        before: tuple[Name, Batch] | None = None
        for name in critic + generator if self.order == "critic-first" else generator + critic:
            shared = (
                self.share and name == "generator" and before is not None and before[0] == "critic"
            )
            batch = before[1] if shared and before is not None else players.draw()
            players.move(name, players.gradient(name, batch))
            before = name, batch

    def linear_field(self, game: Linear, lr: float) -> Tensor:
        """Return J."""
        return game.jacobian

    def linear_step(self, game: Linear, lr: float) -> Tensor:
        """Return (1 + h J_G)^m (1 + h J_D)^n, or the other order; J_G has the generator's rows."""
        return _in_turn(
            game, lr, self.critic_steps, self.generator_steps, self.order == "critic-first"
        )


@register("dynamics", "consensus")
@dataclass(frozen=True)
class Consensus(Dynamics):
    """Consensus optimisation: both players follow v - gamma grad(||v||^2 / 2), v the joint field.

    gamma: weight, in units of 1/curvature; alternating: critic_steps of the critic before each of
    the generator, a fresh batch for each.
    Reference: Mescheder, Nowozin and Geiger 2017, "The Numerics of GANs".

    >>> build("dynamics", "consensus:gamma=1,alternating=true,critic_steps=5")
    Consensus(gamma=1.0, alternating=True, critic_steps=5)
    """

    twice: ClassVar[bool] = True
    whole: ClassVar[str] = "consensus differentiates the joint field once more, penalties and all"

    gamma: float = 1.0
    alternating: bool = False
    critic_steps: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise SteadyganError(f"gamma must be a finite number >= 0, not {self.gamma:g}")
        _at_least_one(critic_steps=self.critic_steps)
        if self.critic_steps > 1 and not self.alternating:
            raise SteadyganError(
                "critic_steps > 1 needs alternating=true: a simultaneous step moves each player"
                " once"
            )

    def field(self, players: Players, batch: Batch) -> dict[Name, Values]:
        """Return the gradients of the modified field."""
        return players.consensus_gradient(batch, self.gamma)

    def step(self, players: Players) -> None:
        """Move both players along the modified field."""
        if not self.alternating:
            return super().step(players)
        critic: list[Name] = ["critic"] * self.critic_steps
        for name in (*critic, "generator"):
            players.move(name, self.field(players, players.draw())[name])

    def linear_field(self, game: Linear, lr: float) -> Tensor:
        """Return J - gamma J^T J."""
        return game.jacobian - self.gamma * game.jacobian.T @ game.jacobian

    def linear_step(self, game: Linear, lr: float) -> Tensor:
        """Return the step of a game with that field."""
        here = game._replace(jacobian=self.linear_field(game, lr))
        if self.alternating:
            return _in_turn(here, lr, self.critic_steps, 1, critic_first=True)
        return _one(here.jacobian) + lr * here.jacobian


@register("dynamics", "extragradient")
@dataclass(frozen=True)
class Extragradient(Dynamics):
    """Extragradient: look ahead at w' = w + h v(w), then step from the start, w <- w + h v(w').

    Parameters and optimizers' states return to the start before the real step. Reference:
    Korpelevich 1976; Gidel et al. 2019.

    >>> build("dynamics", "extragradient")
    Extragradient()
    """

    whole: ClassVar[str] = "extragradient looks twice before it moves once, by the same loss"

    def step(self, players: Players) -> None:
        """Move both players once, by the field one step ahead."""
        start = players.save()
        super().step(players)
        ahead = self.field(players, players.draw())
        players.load(start)
        for name in PLAYERS:
            players.move(name, ahead[name])

    def linear_field(self, game: Linear, lr: float) -> Tensor:
        """Return J."""
        return game.jacobian

    def linear_step(self, game: Linear, lr: float) -> Tensor:
        """Return 1 + h J + h^2 J^2."""
        j = lr * game.jacobian
        return _one(j) + j + j @ j


@register("dynamics", "optimistic")
@dataclass(frozen=True)
class Optimistic(Dynamics):
    """Optimistic gradient descent: w <- w + h (2 v(w_t) - v(w_{t-1})); the first step is plain.

    The step size h is the optimizer's, in units of the parameters. Reference: Popov 1980;
    Daskalakis et al. 2018.

    >>> build("dynamics", "optimistic")
    Optimistic()
    """

    remembers = True

    def step(self, players: Players) -> None:
        """Move both players once, remembering their gradients."""
        now = self.field(players, players.draw())
        before = players.previous or now
        for name in PLAYERS:
            players.move(name, {key: 2 * g - before[name][key] for key, g in now[name].items()})
        players.previous = now

    def linear_field(self, game: Linear, lr: float) -> Tensor:
        """Return J."""
        return game.jacobian

    def linear_step(self, game: Linear, lr: float) -> Tensor:
        """Return [[1 + 2h J, h], [-J, 0]] (2n, 2n): the state also holds the previous gradients."""
        j, one = game.jacobian, _one(game.jacobian)
        return torch.cat([torch.cat([one + 2 * lr * j, lr * one], 1), torch.cat([-j, 0 * one], 1)])


@register("dynamics", "unrolled")
@dataclass(frozen=True)
class Unrolled(Dynamics):
    """Unrolled GAN: the generator looks at a critic ``steps`` plain gradient steps ahead.

    Both then move simultaneously.

    step_size: of the inner steps, by default the critic's learning rate; backprop: differentiate
    through them.
    Reference: Metz et al. 2017.

    >>> build("dynamics", "unrolled:steps=5,step_size=0.1,backprop=true").steps
    5
    """

    joint: ClassVar[bool] = True
    steps: int = 5
    step_size: float | None = None
    backprop: bool = True

    def __post_init__(self) -> None:
        _at_least_one(steps=self.steps)
        if self.step_size is not None and not (
            math.isfinite(self.step_size) and self.step_size > 0
        ):
            raise SteadyganError(f"step_size must be a finite number > 0, not {self.step_size:g}")

    def field(self, players: Players, batch: Batch) -> dict[Name, Values]:
        """Return the generator's gradient against the critic ahead, and the critic's here."""
        ahead = players.unrolled_gradient(batch, self.steps, self.step_size, self.backprop)
        return {"generator": ahead, "critic": players.gradient("critic", batch)}

    def linear_field(self, game: Linear, lr: float) -> Tensor:
        """Return J whose generator sees psi_k = R^k psi + P theta, R = 1 + e E, P = e sum R^i C.

        J = [[A, B], [C, E]]: its rows become [A + B P, B R^k]; with backprop a further
        P^T (B^T theta - N psi_k), N the bend of its loss in psi.
        """
        j, m = game.jacobian, game.split
        coupled, pull, own = j[:m, m:], j[m:, :m], j[m:, m:]
        size = lr if self.step_size is None else self.step_size
        grown, ahead = _one(own), torch.zeros_like(pull)
        for _ in range(self.steps):
            ahead = ahead + size * grown @ pull
            grown = grown + size * own @ grown
        seen = coupled - ahead.T @ game.bend if self.backprop else coupled
        back = ahead.T @ coupled.T if self.backprop else 0.0
        rows = torch.cat([j[:m, :m] + seen @ ahead + back, seen @ grown], 1)
        return torch.cat([rows, j[m:]])

    def linear_step(self, game: Linear, lr: float) -> Tensor:
        """Return 1 + h times that."""
        return _one(game.jacobian) + lr * self.linear_field(game, lr)


def _at_least_one(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise SteadyganError(f"{name} must be a whole number >= 1, not {count}")


def _one(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype)


def _in_turn(
    game: Linear, lr: float, critic_steps: int, generator_steps: int, critic_first: bool
) -> Tensor:
    moves = [
        torch.linalg.matrix_power(_one(game.jacobian) + lr * game.only(name), count)
        for name, count in (("critic", critic_steps), ("generator", generator_steps))
    ]
    if not critic_first:
        moves.reverse()
    whole: Tensor = moves[1] @ moves[0]
    return whole
