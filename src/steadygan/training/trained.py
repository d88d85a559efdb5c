"""What the loop trains: one GAN (single.py) or many at once (fleet.py)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..core.auto import finds_gamma
from ..core.dynamics import Dynamics
from ..core.gradients import Decision
from ..core.players import OTHER, PLAYERS, Batch, Name, OptimizerPlayers
from ..core.registry import build
from ..core.schedules import changes, ends
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.averages import Average
from ..runs.config import MADE, Config, stream_seed
from ..runs.models import labels, latents
from ..runs.monitor import DEAD, NON_FINITE, STANDSTILL
from ..runs.optimizers import OptimizerSpec
from .ranks import Ranks
from .watchers import State

GRID, VECTORS = 64, 5120
"""How many samples an evaluation draws: images for a picture, vectors for the problem's metrics."""

_Exact = TypeVar("_Exact", nn.Module, Tensor)

Row = dict[str, float]
"""Losses, norms and logits of one GAN at one step, by name."""


class Trained(ABC):
    """One GAN, or many of one structure, with everything that the next step depends on.

    What the loop asks for has an axis of members in front, which for one GAN has length 1.

    Attributes:
        members: The GANs' resolved configurations.
        config: The first one's, whose cadence is that of all.
        players: What the dynamics drives.
        decision: How the critic's gradient is computed.
        average: The moving average of the generators, where there is one.
        step: The step that was reached.
        stopped: The members that have ended before the last step: when, and why.
        metrics: Each member's numbers at the latest evaluation.
        streams, latents, noises: Each member's own streams of randomness.
        ranks: The processes that share the batches of one GAN out, or deal many out.
    """

    many: ClassVar[bool]
    ranks = Ranks()
    players: OptimizerPlayers
    decision: Decision

    def __init__(self, problem: Problem, members: Sequence[Config]) -> None:
        self.problem, self.members, self.config = problem, list(members), members[0]
        self.device, self.step = self.config.device, 0
        self.dynamics: Dynamics = build("dynamics", self.config.dynamics)
        self.average: Average | None = None
        given = {spec for m in members for spec in (m.optimizer, m.critic_optimizer)}
        self._optimizers_change = any(changes(build("optimizer", each)) for each in given)
        self.stopped: dict[int, tuple[int, str]] = {}
        self._sums: dict[Name, Tensor] = {}
        self.metrics: list[dict[str, float | None]] = [{} for _ in members]
        seeds = [m.seed for m in members]
        self.streams = [problem.stream(stream_seed(seed, "data")) for seed in seeds]
        self.latents = [
            torch.Generator().manual_seed(stream_seed(seed, "latent")) for seed in seeds
        ]
        # Noise as large as the samples is drawn where they live.
        self.noises = [
            torch.Generator(self.device).manual_seed(stream_seed(seed, "noise")) for seed in seeds
        ]
        self._fixed = [
            torch.Generator().manual_seed(stream_seed(seed, "evaluation")) for seed in seeds
        ]
        self.evaluated = GRID if len(problem.event) == 3 else VECTORS
        self.fixed = self.fixed_latents(self.evaluated, times=2)

    # ------------------------------------------------------------ a step

    def advance(self) -> None:
        """Make the next step of every member."""
        progress = self.step / (self.config.steps or 1)
        self.players.context = replace(self.players.context, progress=progress)
        if self._optimizers_change:
            self._set_optimizers()
        with self.precision():
            self.dynamics.step(self.players)
        self.step += 1
        if self.average:
            self.average.update(self.players.generator, self.step)

    def _set_optimizers(self) -> None:
        """Tell the optimizers what their settings are at this step."""
        for name, given in self.config.optimizers(self.step).items():
            for group in self.players.optimizers[name].param_groups:
                group.update(self._hasty(given)(group["params"]).defaults)

    @abstractmethod
    def _hasty(self, optimizer: OptimizerSpec) -> OptimizerSpec:
        """Return an optimizer with the kernel that suits."""

    def precision(self) -> torch.autocast:
        """Return the context that evaluates networks in the precision that was asked for."""
        low = self.config.precision == "bfloat16"
        return torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=low)

    def _exact(self, what: _Exact) -> _Exact:
        """Return networks or numbers in the precision that was asked for; labels as they are."""
        whole = isinstance(what, Tensor) and not what.is_floating_point()
        return what.double() if self.config.precision == "float64" and not whole else what

    def collect(self) -> None:  # noqa: B027 - of most there is nothing to collect
        """Bring together what watchers may ask for, where several processes have parts of it."""

    @abstractmethod
    def fallen(self, logged: bool) -> dict[int, str]:
        """Return the members that have left the finite numbers at this step, and which numbers.

        Args:
            logged: Whether the step is logged; at another one a device need not be waited for.
        """

    def ills(self) -> dict[int, tuple[str, str]]:
        """Return the members that cannot train on, each with a kind of trouble and what was seen.

        Looked at before a checkpoint, which would keep it: a parameter or an optimizer's memory
        that is no longer finite (an overflowed second moment makes every step 0), and a player that
        has not moved since the last look while the other one has.
        """
        found: dict[int, tuple[str, str]] = {}
        count = len(self.members)
        sums = self._totals()
        for name in PLAYERS:
            own = self._own(name)
            states = self.players.optimizers[name].state.values()
            memory = [
                self._each(value).reshape(count, -1)
                for state in states
                for value in state.values()
                if isinstance(value, Tensor) and value.ndim
            ]
            for what, values in (
                (f"a parameter of the {name} is no longer a finite number", own),
                (f"the memory of the {name}'s optimizer has overflowed", memory),
            ):
                bad = [~v.isfinite().all(1) for v in values]
                for i in torch.stack(bad).any(0).nonzero().flatten().tolist() if bad else ():
                    found.setdefault(i, (NON_FINITE, what))
        if self._sums and self.step:
            same = {name: (sums[name] == self._sums[name]).all(0) for name in PLAYERS}
            for name, other in OTHER.items():
                still = same[name] & ~same[other]
                for i in still.nonzero().flatten().tolist():
                    said = f"the {name} did not move since the last look"
                    found.setdefault(i, (STANDSTILL, said))
        self._sums = sums
        return {i: ill for i, ill in found.items() if i not in self.stopped}

    def _totals(self) -> dict[Name, Tensor]:
        """Return sums (2 P, K) of each player's P parameters, which stay where it stands."""
        found = {}
        for name in PLAYERS:
            own = self._own(name)
            each = [torch.stack([v.double().sum(1), v.double().abs().sum(1)]) for v in own]
            found[name] = torch.cat(each) if each else torch.zeros(1, len(self.members))
        return found

    def _own(self, name: Name) -> list[Tensor]:
        """Return a player's parameters, (K, numbers) each."""
        parameters = getattr(self.players, name).parameters()
        return [self._each(p.detach()).reshape(len(self.members), -1) for p in parameters]

    @abstractmethod
    def _each(self, t: Tensor) -> Tensor:
        """Return a player's tensor with the members (K, ...) first."""

    @property
    def savable(self) -> bool:
        """Whether the networks are worth a checkpoint: one GAN's are not once it is lost."""
        return self.many or not self.lost(0)

    def stop(self, member: int, reason: str) -> None:
        """End a member at this step; one that had ended stays as it was."""
        self.stopped.setdefault(member, (self.step, reason))

    @property
    def over(self) -> bool:
        """Whether no member is left."""
        return len(self.stopped) == len(self.members)

    @property
    def reason(self) -> str:
        """Why no member is left."""
        if self.many:
            return "no member is left"
        good = "; the newest checkpoint is the last good one" if self.lost(0) else ""
        return f"{self.stopped[0][1]}{good}"

    def endings(self, state: State) -> list[tuple[State, int, str | None]]:
        """Return how each member stands where the whole is in a state: its own, step and reason."""
        return [
            ("stopped", *self.stopped[i]) if i in self.stopped else (state, self.step, None)
            for i in range(len(self.members))
        ]

    def lost(self, member: int) -> bool:
        """Return whether a member cannot train on: it has left the finite numbers, or stands."""
        return member in self.stopped and self.stopped[member][1].startswith(DEAD)

    # ------------------------------------------------------------ what is looked at

    def rows(self) -> list[Row]:
        """Return every member's losses, norms of the critic's input gradient and logits."""
        terms, loss = self.players.terms, self.players.generator_loss
        assert terms is not None and loss is not None
        columns = {
            "critic_loss": terms.objective,
            "penalty": terms.penalty,
            "generator_loss": loss,
            **{f"gradient_norm_{point}": self._slopes(point) for point in ("real", "fake")},
            **{f"logit_{point}": self._logits(point) for point in ("real", "fake")},
        }
        if finds_gamma(self.players.game.strengths().values()):
            columns["gamma"] = self.players.context.memory["gamma"]
        if self.players.game.augment is not None and self.players.game.augment.adapts:
            memory = self.players.context.memory
            columns |= {"augment": memory["augment.p"], "augment_sign": memory["augment.sign"]}
        if self._optimizers_change:
            each = [m.optimizers(max(0, self.step - 1)) for m in self.members]
            columns |= {
                f"learning_rate_{name}": loss.new_tensor([ends(o[name].lr)[0] for o in each])
                for name in PLAYERS
            }
        table = torch.stack([column.reshape(-1) for column in columns.values()], dim=1)
        start, end = self.ranks.rows(self.config.batch or 1)
        table = self.ranks.averaged({"": table}, end - start)[""]
        return [dict(zip(columns, row, strict=True)) for row in table.tolist()]

    @abstractmethod
    def generate(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Return samples (K, N, *event) of latents z (K, N, latent) and labels y (N,).

        From the moving averages where there are any; on the CPU.
        """

    def sample(self) -> Tensor:
        """Return the samples (K, N, *event) of the fixed latents."""
        return self.generate(*self.fixed)

    def fixed_latents(self, n: int, times: int = 1) -> tuple[Tensor, Tensor | None]:
        """Return latents (K, n, latent) that depend on the seeds only, and labels (n,).

        Each call gives the next ones: asked for once and kept, they are the same at every
        evaluation, resumed or not.

        Args:
            n: How many.
            times: How often each label that occurs must.
        """
        drawn = [latents(m, n, rng) for m, rng in zip(self.members, self._fixed, strict=True)]
        return torch.stack(drawn), labels(self.problem.classes, n, times)

    def measure(self, samples: Tensor) -> list[dict[str, float]]:
        """Return the problem's own metrics of every member's samples, none of lost ones."""
        return [
            {} if self.lost(i) else self.problem.measure(x, self.critic_of(i), self.fixed[1])
            for i, x in enumerate(samples)
        ]

    @abstractmethod
    def critic_of(self, member: int) -> nn.Module:
        """Return a member's critic as a module of its own; valid until the next call."""

    @abstractmethod
    def _slopes(self, point: str) -> Tensor:
        """The mean norm of each critic's input gradient at a point."""

    @abstractmethod
    def _logits(self, point: str) -> Tensor:
        """Each critic's mean logit at a point."""

    # ------------------------------------------------------------ what a checkpoint holds

    def tree(self) -> checkpoint.Tree:
        """Return everything that the next step depends on."""
        players = self.players
        return {
            "step": self.step,
            "made": {name: getattr(self.config, name) for name in MADE},
            "generator": players.generator.state_dict(),
            "critic": players.critic.state_dict(),
            "ema": self.average.module.state_dict() if self.average else {},
            "optimizer": {
                name: checkpoint.optimizer_state(players.optimizers[name]) for name in PLAYERS
            },
            "memory": dict(players.context.memory),
            "previous": players.previous,
            "updates": players.updates,
            "penalty": players.penalty,
            "stopped": {str(i): list(ending) for i, ending in self.stopped.items()},
            **({"averages": more} if self.average and (more := self.average.more()) else {}),
            **self._streams(),
        }

    def restore(self, tree: checkpoint.Tree) -> None:
        """Continue from a tree."""
        players, device = self.players, self.device
        self.step = tree["step"]
        players.generator.load_state_dict(tree["generator"])
        players.critic.load_state_dict(tree["critic"])
        if self.average:
            self.average.restore(tree)
        for name in PLAYERS:
            checkpoint.restore_optimizer(players.optimizers[name], tree["optimizer"][name])
        memory = {key: value.to(device) for key, value in tree["memory"].items()}
        players.context = replace(players.context, memory=memory)
        players.previous = {
            name: {key: value.to(device) for key, value in values.items()}
            for name, values in tree["previous"].items()
        }
        # Folders of version 0.1.0 have less: a fleet was never spared a penalty, and one GAN did
        # not
        # say why it had stopped.
        players.updates, penalty = tree.get("updates", 0), tree.get("penalty")
        players.penalty = None if penalty is None else penalty.to(device)
        ended = tree.get("stopped", {})
        self.stopped = {int(i): (step, reason) for i, (step, reason) in ended.items()}
        self._restore_streams(tree)
        self._sums = self._totals()

    @abstractmethod
    def _streams(self) -> checkpoint.Tree:
        """The streams of randomness, and what else one GAN or many have of their own."""

    @abstractmethod
    def _restore_streams(self, tree: checkpoint.Tree) -> None: ...

    # ------------------------------------------------------------ batches

    def _draw(self) -> Batch:
        n = self.config.batch or 1
        drawn = [stream.draw(n) for stream in self.streams]
        z = [latents(self.config, n, rng) for rng in self.latents]
        y = [each.labels for each in drawn if each.labels is not None]
        real, latent = self._batched([each.x for each in drawn]), self._batched(z)
        if not y:
            return Batch(real, latent)
        together = self._batched(y)
        return Batch(real, latent, (together, together))

    @abstractmethod
    def _batched(self, parts: Sequence[Tensor]) -> Tensor:
        """Put the members' parts of a batch together, where the networks are."""
