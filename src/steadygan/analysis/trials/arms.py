"""GANs in a trial, side by side: as many at once as share a structure, the others one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...core.context import Context
from ...core.dynamics import Dynamics
from ...core.errors import SteadyganError
from ...core.players import PLAYERS, Batch, Name, OptimizerPlayers
from ...core.players.stacked import FleetPlayers, stack
from ...core.registry import build
from ...problems.measures import sliced_wasserstein
from ...runs.averages import Average, Decay
from ..gan import Gan, some_of, twins
from .change import Change

SAMPLES = 512
"""How many samples are measured."""

WIDEST = 32
"""Images larger than this are averaged down to it before they are measured."""

MANY = 4
"""So many members or more are quicker at once than one by one."""

LOST = 1e3
"""What a distance counts at most, in spreads of the data: samples that are no numbers are lost."""


@dataclass(frozen=True)
class Member:
    """One GAN of a trial: which change, with which seed."""

    arm: int
    seed: int
    gan: Gan
    change: Change

    @property
    def shift(self) -> tuple[float, float]:
        """What the networks see is (x - shift)/factor."""
        shift, factor = self.change.settings.get("scale", (0.0, 1.0))
        return float(shift), float(factor)


class Ruler:
    """Measures samples against the data by the sliced Wasserstein-1 distance.

    In units of the data; images are averaged down to 32 x 32 at most.
    """

    def __init__(self, data: Tensor) -> None:
        self._data = _flat(data[some_of(len(data), 4 * SAMPLES)])
        self.spread = float((self._data - self._data.mean(0)).square().sum(1).mean().sqrt())
        # Every other one: data of any order have halves that are alike.
        halves = self._data[::2], self._data[1::2]
        self.floor = sliced_wasserstein(*halves) if len(halves[1]) > 1 else 0.0

    def __call__(self, samples: Tensor) -> float:
        """Return the distance of samples (N, *event); what is not finite is lost."""
        most = LOST * max(self.spread, 1e-12)
        return min(sliced_wasserstein(_flat(samples), self._data), most)


def _flat(x: Tensor) -> Tensor:
    if x.ndim == 4 and max(x.shape[-2:]) > WIDEST:
        height, width = (min(n, WIDEST) for n in x.shape[-2:])
        x = nn.functional.adaptive_avg_pool2d(x, (height, width))
    return x.flatten(1).double().cpu()


class Group:
    """Members that are trained together."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        first = members[0]
        self._gan, (self._shift, self._factor) = first.gan, first.shift
        self._new = "anew" in first.change.settings
        self._rngs = [torch.Generator().manual_seed(1000 + m.seed) for m in members]
        self._noises = [
            torch.Generator(self._gan.data.real.device).manual_seed(2000 + m.seed) for m in members
        ]
        self._fixed = [
            first.gan.latents(SAMPLES, torch.Generator().manual_seed(3000 + m.seed))
            for m in members
        ]
        self._dynamics: Dynamics = build("dynamics", self._gan.dynamics)
        self.players = self._many() if len(members) > 1 else self._one()
        decay = first.change.settings.get("ema")
        self._average = Average(self.players.generator, Decay(float(decay))) if decay else None
        self._step = 0
        self.lost, self.seconds = False, 0.0

    def advance(self) -> None:
        """Make a step of every member; one that leaves the finite numbers stays where it is.

        ``seconds`` is then what it took.
        """
        if self.lost:
            return
        began = time.perf_counter()
        self._dynamics.step(self.players)
        self.seconds = time.perf_counter() - began
        self._step += 1
        if self._average:
            self._average.update(self.players.generator, self._step)
        loss = self.players.generator_loss
        if not isinstance(self.players, FleetPlayers) and loss is not None:
            self.lost = not bool(loss.isfinite().all())

    @torch.no_grad()
    def samples(self) -> list[Tensor]:
        """Return every member's samples, in the data's units and in evaluation mode."""
        network = self._average.module if self._average else self.players.generator
        labels = self._labels()
        if isinstance(self.players, FleetPlayers):
            values = self._average.module.state_dict() if self._average else {}
            found = list(self.players.generate(values, torch.stack(self._fixed), labels))
        else:
            was = {module: module.training for module in network.modules()}
            network.eval()
            found = [network(*[t for t in (self._fixed[0], labels) if t is not None])]
            for module, mode in was.items():
                module.training = mode
        alive = self._alive()
        return [
            self._shift + self._factor * x if ok else torch.full_like(x, torch.nan)
            for x, ok in zip(found, alive, strict=True)
        ]

    def _alive(self) -> list[bool]:
        if isinstance(self.players, FleetPlayers):
            return [bool(a) for a in self.players.alive]
        return [not self.lost]

    def _labels(self) -> Tensor | None:
        labels = self._gan.data.labels
        return None if labels is None else labels[1][torch.arange(SAMPLES) % len(labels[1])]

    def _one(self) -> OptimizerPlayers:
        gan = self._gan
        return OptimizerPlayers(
            gan.game,
            gan.generator,
            gan.critic,
            lambda: Batch(*_squeezed(self._draw())),
            Context(gan.progress, self._noises[0]),
            optimizers=self._optimizers(gan.networks),
            keep_fakes=self._dynamics.share,
        )

    def _many(self) -> FleetPlayers:
        gans = [m.gan for m in self.members]
        whole = {name: stack([gan.networks[name] for gan in gans]) for name in PLAYERS}
        players = FleetPlayers(
            [gan.game for gan in gans],
            whole["generator"],
            whole["critic"],
            self._draw,
            rngs=self._noises,
            optimizers=self._optimizers(whole, len(gans)),
            rates={name: [gan.lr[name] for gan in gans] for name in PLAYERS},
        )
        players.context = Context(self._gan.progress)
        players.prepare(self._draw())
        for m, rng in zip(self.members, self._rngs, strict=True):
            rng.manual_seed(1000 + m.seed)  # what prepare has drawn
        return players

    def _optimizers(
        self, networks: Mapping[Name, nn.Module], count: int = 0
    ) -> dict[Name, torch.optim.Optimizer]:
        made: dict[Name, torch.optim.Optimizer] = {}
        settings = self.members[0].change.settings
        for name, network in networks.items():
            again, whole = self._new and name in settings["anew"], bool(settings.get("unfreeze"))
            new = again or bool(count)
            made[name] = self._gan.optimizer(name, network, new=new, whole=whole)
            if count and len(made[name].param_groups) > 1:
                raise SteadyganError("Members whose optimizers have groups train one by one.")
            if count and not (again or whole):
                _spread(self._gan, name, network, made[name], count)
        return made

    def _draw(self) -> Batch:
        gan, reals, latents, labels = self._gan, list[Tensor](), list[Tensor](), list[Tensor]()
        for rng in self._rngs:
            picked = torch.randint(len(gan.data.real), (gan.batch,), generator=rng)
            reals.append((gan.data.real[picked] - self._shift) / self._factor)
            latents.append(gan.latents(gan.batch, rng))
            if gan.data.labels is not None:
                labels.append(gan.data.labels[0][picked])
        y = torch.stack(labels) if labels else None
        return Batch(torch.stack(reals), torch.stack(latents), None if y is None else (y, y))


def grouped(members: Sequence[Member]) -> Iterator[Group]:
    """Yield groups that hold all members; what cannot be trained together is trained alone."""
    alike: dict[Any, list[Member]] = {}
    for member in members:
        alike.setdefault(_structure(member), []).append(member)
    for group in alike.values():
        if len(group) >= MANY:
            with suppress(SteadyganError, ValueError, RuntimeError):
                yield Group(group)
                continue
        for member in group:
            yield Group([member])


def _structure(member: Member) -> Any:
    """Return what members that are trained together have in common."""
    gan, settings = member.gan, member.change.settings
    bare = gan.game.with_strengths(dict.fromkeys(gan.game.strengths(), 0.0))
    same = {k: str(v) for k, v in settings.items() if k not in ("lr", "regularizers", "dynamics")}
    return repr(bare), str(gan.dynamics), tuple(sorted(same.items()))


def _spread(
    gan: Gan, name: Name, network: nn.Module, optimizer: torch.optim.Optimizer, count: int
) -> None:
    """Give every member of a stacked optimizer the state that the one has now."""
    held = gan.optimizers[name].state if gan.optimizers else {}
    for before, p in twins((gan.held or gan.networks)[name], network).items():
        for key, value in (held.get(before) or {}).items():
            if not isinstance(value, Tensor):
                optimizer.state[p][key] = value
            elif value.shape == before.shape and value.ndim:
                optimizer.state[p][key] = value.detach().expand(count, *value.shape).clone()
            else:
                optimizer.state[p][key] = value.detach().clone()


def _squeezed(batch: Batch) -> tuple[Any, ...]:
    labels = None if batch.labels is None else (batch.labels[0][0], batch.labels[1][0])
    return batch.real[0], batch.latent[0], labels


def at_seed(gan: Gan, arm: int, change: Change, seed: int) -> Member:
    """Return a member: the GAN with a change, played with a seed."""
    return Member(arm, seed, replace(change.applied(gan, seed)), change)


__all__ = ["Group", "Member", "Ruler", "at_seed", "grouped"]
