"""Many small GANs in training at once.

Each is the same GAN as trained alone, its steps equal up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..core.context import Context
from ..core.gradients import Decision
from ..core.players import PLAYERS, Batch, Name
from ..core.players.stacked import FleetPlayers, stack
from ..core.schedules import ends
from ..core.scores import squared_norm
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.averages import Average
from ..runs.config import Config
from ..runs.members import alike
from ..runs.models import build_networks
from ..runs.optimizers import OptimizerSpec, quick
from .decision import settle
from .trained import Trained

_CHUNK = 512  # latents of a member that are turned into samples at a time


class Fleet(Trained):
    """Many GANs: stacked networks and optimizers, each member's own streams of randomness.

    Args:
        problem: What is played.
        members: Their configurations.
        compiled: A minute more at the start, then faster.
        decision: How the critics' gradients are computed, where that was settled before: ``chain``,
            or ``separate``, which stands for vmap over all members.

    Raises:
        SteadyganError: For members that are not of one structure, and for networks that cannot be
            evaluated for many GANs at once.
    """

    many: ClassVar[bool] = True
    players: FleetPlayers

    def __init__(
        self,
        problem: Problem,
        members: Sequence[Config],
        *,
        compiled: bool = False,
        decision: Decision | None = None,
    ) -> None:
        super().__init__(problem, alike(problem, members))
        networks = [
            [
                self._exact(n.to(self.device))
                for n in build_networks(m, problem.event, problem.classes)
            ]
            for m in self.members
        ]
        self._lone_critic = copy.deepcopy(networks[0][1])
        # Refuses a penalty on a part of the batch where the critic's samples see each other.
        alone = settle(
            self.config.game(),
            self._lone_critic,
            self.config,
            problem.event,
            problem.classes,
        )
        closed = alone.path == "chain" and (decision is None or decision.path == "chain")
        self.decision = alone if closed else Decision("separate", "by vmap over all critics")
        generator, critic = (stack(each) for each in zip(*networks, strict=True))
        self.average = Average.of(generator, self.config)
        modules = {"generator": generator, "critic": critic}
        self.players = FleetPlayers(
            [m.game() for m in self.members],
            generator,
            critic,
            self._draw,
            rngs=self.noises,
            optimizers={
                name: self._hasty(given)(modules[name].parameters())
                for name, given in self.config.optimizers().items()
            },
            rates=self._rates(),
            penalty_every=self.config.penalty_every,
            penalty_share=self.config.penalty_share,
            keep_fakes=self.dynamics.share,
            compiled=compiled,
            chains=closed,
        )
        self._prepare()

    def _prepare(self) -> None:
        """Refuse now what cannot be done for many GANs at once."""
        self.players.context = Context(progress=0.0)
        with self.precision():
            self.players.prepare(self._empty())

    def _hasty(self, optimizer: OptimizerSpec) -> OptimizerSpec:
        return quick(optimizer)

    def _set_optimizers(self) -> None:
        super()._set_optimizers()
        self.players.set_rates(self._rates())

    def _rates(self) -> dict[Name, list[float]]:
        """Return the members' learning rates at this step."""
        each = [m.optimizers(self.step) for m in self.members]
        return {name: [ends(given[name].lr)[0] for given in each] for name in PLAYERS}

    def fallen(self, logged: bool) -> dict[int, str]:
        """Return the members whose loss or gradient is not finite; they have not moved since."""
        return {
            i: "a loss or a gradient is no longer a finite number"
            for i, alive in enumerate(self.players.alive.tolist())
            if not alive and i not in self.stopped
        }

    def stop(self, member: int, reason: str) -> None:
        """End a member at this step: it stays where it is."""
        super().stop(member, reason)
        self.players.alive[member] = False

    def generate(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Return samples (K, N, *event) of latents (K, N, latent) and labels (N,)."""
        values = self.average.module.state_dict() if self.average else {}
        parts = []
        for start in range(0, z.shape[1], _CHUNK):
            here = slice(start, start + _CHUNK)
            labels = None if y is None else y[here].to(self.device)
            own = self._exact(z[:, here].to(self.device))
            parts.append(self.players.generate(values, own, labels).cpu())
        return torch.cat(parts, dim=1).to(z.dtype)

    def critic_of(self, member: int) -> nn.Module:
        """Return a module that holds the member's critic until the next call."""
        state = self.players.critic.state_dict()
        self._lone_critic.load_state_dict({key: value[member] for key, value in state.items()})
        return self._lone_critic

    def _slopes(self, point: str) -> Tensor:
        assert self.players.terms is not None
        here = self.players.terms.scores[point]
        slopes = (
            self.players.slopes(here.x, here.labels) if here.gradient is None else here.gradient
        )
        return torch.stack([squared_norm(slope).sqrt().mean() for slope in slopes])

    def _logits(self, point: str) -> Tensor:
        assert self.players.terms is not None
        return self.players.terms.scores[point].logits.mean(1)

    def _each(self, t: Tensor) -> Tensor:
        return t

    def _batched(self, parts: Sequence[Tensor]) -> Tensor:
        return self._exact(torch.stack(list(parts)).to(self.device))

    def _empty(self) -> Batch:
        """Return a batch of the shape that will be drawn."""
        n, count = self.config.batch or 1, len(self.members)
        z = self._exact(self.fixed[0][:, :1].to(self.device)).expand(-1, n, -1)
        real = torch.zeros(count, n, *self.problem.event, dtype=z.dtype, device=self.device)
        if not self.problem.classes:
            return Batch(real, z)
        y = torch.zeros(count, n, dtype=torch.int64, device=self.device)
        return Batch(real, z, (y, y))

    def _streams(self) -> checkpoint.Tree:
        return {
            "alive": self.players.alive,
            "metrics": self.metrics,
            "latent": {str(i): rng.get_state() for i, rng in enumerate(self.latents)},
            "noise": {str(i): rng.get_state() for i, rng in enumerate(self.noises)},
            "streams": {str(i): stream.state() for i, stream in enumerate(self.streams)},
        }

    def _restore_streams(self, tree: checkpoint.Tree) -> None:
        self.players.alive = tree["alive"].to(self.device)
        self.metrics = tree["metrics"]
        for i, (latent, noise, stream) in enumerate(
            zip(self.latents, self.noises, self.streams, strict=True)
        ):
            latent.set_state(tree["latent"][str(i)])
            if "noise" in tree:
                noise.set_state(tree["noise"][str(i)])
            stream.restore(tree["streams"][str(i)])
