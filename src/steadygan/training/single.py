"""One GAN in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.batchnorm import ExactBatchNorm, WholeBatchNorm
from ..core.context import Context, Samples
from ..core.errors import SteadyganError
from ..core.gradients import Decision
from ..core.players import PLAYERS, OptimizerPlayers
from ..core.players.recorded import RecordedPlayers
from ..core.scores import Scores, score, squared_norm
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.averages import Average
from ..runs.config import Config, stream_seed
from ..runs.folder import RunFolder
from ..runs.models import build_networks, generate
from ..runs.optimizers import OptimizerSpec, quick
from .decision import settle
from .layout import to_channels_last
from .ranks import RankDraws, RankPlayers, Ranks
from .trained import Trained


class Single(Trained):
    """One GAN: networks, optimizers and streams of randomness in memory.

    Args:
        problem: What is played.
        config: Its resolved configuration.
        decision: How the critic's gradient is computed, where that was settled before.
        ranks: The processes that share its batches out.

    Raises:
        SteadyganError: For what several processes would not train as one does.
    """

    many: ClassVar[bool] = False

    def __init__(
        self,
        problem: Problem,
        config: Config,
        decision: Decision | None = None,
        ranks: Ranks = Ranks(),
    ) -> None:
        super().__init__(problem, [config])
        self.game, self.ranks = config.game(), ranks
        networks = build_networks(config, problem.event, problem.classes)
        ranks.check(config, self.game, self.dynamics, *networks)
        exchange = False
        if ranks.count > 1 and config.batchnorm != "local":
            exchange = WholeBatchNorm.replace(*networks)
        elif self.game.where and (self.dynamics.twice or self.dynamics.joint):
            ExactBatchNorm.replace(networks[1])
        self.generator, self.critic = (self._exact(n.to(self.device)) for n in networks)
        self.decision = settle(
            self.game, self.critic, config, problem.event, problem.classes, decision
        )
        if self.decision.path in ("merged", "joined") and len(problem.event) == 3:
            to_channels_last(self.device, self.generator, self.critic)
        self.average = Average.of(self.generator, config)
        torch.manual_seed(stream_seed(config.seed, "global"))
        noise: torch.Generator | RankDraws = self.noises[0]
        if ranks.count > 1:
            noise = RankDraws(self.noises[0], ranks, config.batch or 1)
        kind = RecordedPlayers if config.cuda_graphs else RankPlayers
        self.players: OptimizerPlayers = kind(
            self.game,
            self.generator,
            self.critic,
            self._draw,
            Context(rng=noise, ranks=ranks.count > 1),
            optimizers={
                name: self._hasty(given)(getattr(self, name).parameters())
                for name, given in config.optimizers().items()
            },
            path=config.gradient_path,
            penalty_every=config.penalty_every,
            penalty_share=config.penalty_share,
            keep_fakes=self.dynamics.share,
            chains=self.decision.path == "chain",
        )
        if isinstance(self.players, RankPlayers):
            self.players.share(ranks, config.batch or 1, exchange=exchange)

    def _hasty(self, optimizer: OptimizerSpec) -> OptimizerSpec:
        # Where launching kernels is what takes the time, few of them are better.
        few = self.decision.path == "chain" or self.config.cuda_graphs
        return quick(optimizer) if few else optimizer

    def begin_from(self, run: Path) -> dict[str, Any]:
        """Start from the networks of another run's newest checkpoint.

        Returns:
            Which run and step that is.

        Raises:
            SteadyganError: Where that run's networks are others than this one's.
        """
        path = checkpoint.latest(RunFolder.open(run).path)
        tree = checkpoint.load(path)
        with checkpoint.fitting(path, self.config.network):
            for name in PLAYERS:
                try:
                    getattr(self, name).load_state_dict(tree[name])
                except RuntimeError as error:
                    raise SteadyganError(
                        f"The {name} of {run} is another network than this run's"
                        f" {self.config.network}: {str(error).splitlines()[-1].strip()} Choose the"
                        " same --network, samples of the same shape and as many classes."
                    ) from error
            step = int(tree["step"])
        if self.average:
            self.average.begin(self.generator)
        return {"run": str(run.resolve()), "step": step}

    def fallen(self, logged: bool) -> dict[int, str]:
        """Return the losses that are not finite.

        On a GPU the look waits for the device, so it is kept to the logged steps.
        """
        if not logged and self.device != "cpu":
            return {}
        terms = self.players.terms
        losses = {
            "critic_loss": terms.loss if terms else None,
            "generator_loss": self.players.generator_loss,
        }
        bad = [
            name
            for name, loss in losses.items()
            if loss is not None and not math.isfinite(loss.item())
        ]
        return {0: f"{' and '.join(bad)} is no longer a finite number"} if bad else {}

    def collect(self) -> None:
        """Let the latest penalty be that of all processes, as a checkpoint keeps it."""
        if self.players.penalty is not None:
            start, end = self.ranks.rows(self.config.batch or 1)
            own = {"": self.players.penalty.clone()}
            self.players.penalty = self.ranks.averaged(own, end - start)[""]

    def generate(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Return samples (1, N, *event) of latents (1, N, latent) and labels (N,)."""
        network = self.average.module if self.average else self.generator
        return generate(network, self._exact(z[0]), y, self.device).float()[None]

    def critic_of(self, member: int) -> nn.Module:
        """Return the critic."""
        return self.critic

    def _slopes(self, point: str) -> Tensor:
        assert self.players.terms is not None
        return slope_norm(self.critic, self.players.terms.scores[point])

    def _logits(self, point: str) -> Tensor:
        assert self.players.terms is not None
        return self.players.terms.scores[point].logits.mean()

    def _each(self, t: Tensor) -> Tensor:
        return t[None]

    def _batched(self, parts: Sequence[Tensor]) -> Tensor:
        return self._exact(self.ranks.mine(parts[0]).to(self.device, non_blocking=True))

    def _streams(self) -> checkpoint.Tree:
        rngs = {"latent": self.latents[0], "noise": self.noises[0]}
        return {
            "rng": checkpoint.random_state(rngs, self.device),
            "stream": self.streams[0].state(),
        }

    def _restore_streams(self, tree: checkpoint.Tree) -> None:
        rngs = {"latent": self.latents[0], "noise": self.noises[0]}
        checkpoint.restore_random(tree["rng"], rngs, self.device)
        self.streams[0].restore(tree["stream"])


def slope_norm(critic: nn.Module, scores: Scores) -> Tensor:
    """Return the mean norm, 0-d, of the critic's input gradient at scored samples.

    It leaves no trace in the critic's buffers or in the random streams.
    """
    gradient = scores.gradient
    if gradient is None:
        values = {name: t.detach().clone() for name, t in critic.named_buffers()}
        with torch.random.fork_rng(), torch.no_grad():
            samples = Samples(scores.x.detach(), scores.labels)
            gradient = score(
                lambda *inputs: functional_call(critic, values, inputs), samples, gradient=True
            ).gradient
    assert gradient is not None
    return squared_norm(gradient).sqrt().mean()
