"""One training on several processes that share every batch out, as ``torchrun`` starts them.

The number of processes is no part of the run: each draws the whole batch, latents and noise, and
takes its rows; gradients are averaged by the rows that they come from. Rank zero alone writes.
"""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..core.context import Context
from ..core.couples import BATCH_NORM, couples_in, couples_of
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError, foreign
from ..core.game import Game
from ..core.players import Batch, Name, OptimizerPlayers
from ..core.players.base import Values
from ..core.ranks import average, together
from ..runs.config import Config

_Value = TypeVar("_Value")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, of which rank zero may be measuring samples. One that
ends is noticed at once: its connections close."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training: how many, and which of them this is.

    >>> Ranks(1, 3).rows(8), [Ranks(i, 3).mine(torch.arange(8)).tolist() for i in range(3)]
    ((3, 6), [[0, 1, 2], [3, 4, 5], [6, 7]])
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def rows(self, n: int) -> tuple[int, int]:
        """Return where this process's part of n rows begins and ends."""
        size, over = divmod(n, self.count)
        start = self.rank * size + min(self.rank, over)
        return start, start + size + (self.rank < over)

    def mine(self, whole: Tensor) -> Tensor:
        """Return this process's rows of a whole batch."""
        start, end = self.rows(len(whole))
        return whole[start:end]

    def averaged(self, values: Values, rows: int) -> Values:
        """Return the mean of the processes' values, each by its number of rows."""
        if self.count == 1:
            return values
        found = average(list(values.values()), list(values.values()), weight=rows)
        return {key: g for key, g in zip(values, found, strict=True) if g is not None}

    def any(self, *here: bool) -> list[bool]:
        """Return of each question whether it is so on one process at least."""
        if self.count == 1:
            return list(here)
        # The group's own device: nccl knows no other.
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        seen = torch.tensor(here, dtype=torch.int32, device=device)
        with together():
            dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return [bool(each) for each in seen.tolist()]

    def meet(self) -> None:
        """Wait until every process is here."""
        self.any(False)

    def told(self, value: Any) -> Any:
        """Return what rank zero has, wherever this is called."""
        if self.count == 1:
            return value
        box = [value]
        with together():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def each(self, value: _Value) -> list[_Value]:
        """Return what every process has, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with together():
            dist.all_gather_object(found, value)
        return found

    def united(self, mine: dict[int, _Value]) -> dict[int, _Value]:
        """Return the entries of all processes; of one that several have the last one's."""
        return {key: value for each in self.each(mine) for key, value in each.items()}

    def brought(self, value: _Value) -> list[_Value]:
        """Return on rank zero what every process has, and nothing on others."""
        if self.count == 1:
            return [value]
        found: list[Any] | None = [None] * self.count if self.first else None
        with together():
            dist.gather_object(value, found)
        return found or []

    def check(self, config: Config, game: Game, dynamics: Dynamics, *networks: nn.Module) -> None:
        """Refuse what several processes would not train as one does.

        Raises:
            SteadyganError: With the reason.
        """
        if self.count == 1:
            return
        why = ""
        if (config.batch or 1) < self.count:
            why = f"a batch of {config.batch} has no row for each of {self.count} processes"
        elif batch := {p: c for p, c in couples_in(game).items() if c.by == "batch"}:
            part, declared = next(iter(batch.items()))
            why = f"{part} couples samples, by {declared.what}"
        elif dynamics.twice and couples_in(game):
            name = type(dynamics).__name__.lower()
            why = f"{name} differentiates means over the batch twice, across processes"
        elif dynamics.joint:
            why = f"{type(dynamics).__name__.lower()} takes inner steps on the whole batch"
        elif config.cuda_graphs:
            why = "they exchange gradients, which a recording cannot (--cuda-graphs)"
        elif config.penalty_share < 1:
            why = "--penalty-share takes the first rows of the whole batch"
        elif others := [
            each.what for n in networks for each in couples_of(n).values() if each is not BATCH_NORM
        ]:
            why = f"a layer couples samples, by {others[0]}"
        elif (
            any(map(couples_of, networks))
            and config.batchnorm != "local"
            and config.gradient_path not in ("auto", "separate")
        ):
            why = (
                "batch normalisation of the whole batch has its gradients by the paths auto and"
                f" separate, not {config.gradient_path}"
            )
        if why:
            raise SteadyganError(f"{self.count} processes cannot train this as one would: {why}.")


def here() -> Ranks:
    """Return the processes that ``torchrun`` started, joined into a group; one where it did not.

    The group is made once, with gloo, on GPUs with nccl, a process on each.

    Raises:
        SteadyganError: Where the environment names processes that cannot be joined.
    """
    told = os.environ.get("WORLD_SIZE", "1")
    mend = "start all of them with torchrun, or unset WORLD_SIZE to train in this one alone"
    with foreign(f"The processes of which WORLD_SIZE says {told!r} cannot be joined", mend):
        if int(told) > 1 and not dist.is_initialized():
            cuda = torch.cuda.is_available()
            if cuda:
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            # Imported later, its functions would keep this group as their default: destroyed, it
            # would have threads still, and where one asks for the interpreter at its end, torch
            # aborts a training that is through.
            importlib.import_module("torch.distributed.nn.functional")
            dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
            atexit.register(dist.destroy_process_group)
    if not (dist.is_available() and dist.is_initialized()):
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


class RankDraws:
    """Draws for the whole batch, of which a process takes its rows."""

    def __init__(self, rng: torch.Generator, ranks: Ranks, batch: int) -> None:
        self._source, self._ranks, self._batch = Context(rng=rng), ranks, batch

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal draws shaped like ``like``."""
        return self._rows(self._source.normal, like)

    def uniform(self, like: Tensor) -> Tensor:
        """Return draws from U[0, 1] shaped like ``like``."""
        return self._rows(self._source.uniform, like)

    def _rows(self, draw: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        start, end = self._ranks.rows(self._batch)
        if len(like) != end - start:
            raise SteadyganError(
                f"Noise for {len(like)} rows was asked for on a process that has {end - start} of"
                f" the batch's {self._batch}: several processes cannot draw it as one would."
            )
        return draw(like.new_empty(self._batch, *like.shape[1:]))[start:end]


class RankPlayers(OptimizerPlayers):
    """Players whose gradients are those of the whole batch, of which each process sees its rows."""

    ranks = Ranks()
    exchange = False
    """Whether the networks exchange statistics, so that what all processes' losses pull at them is
    added up: they count by their rows before that, and not after."""
    _rows = 0

    def share(self, ranks: Ranks, batch: int, *, exchange: bool) -> None:
        """Say who takes which rows of batches of ``batch``."""
        self.ranks, self.exchange = ranks, exchange
        start, end = ranks.rows(batch)
        self.scale = ranks.count * (end - start) / batch if exchange else 1.0

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the mean of the processes' gradients; neither network's ``.grad`` is touched."""
        self._rows = len(batch.latent)
        return self._averaged(super().gradient(player, batch))

    def consensus_gradient(self, batch: Batch, gamma: float) -> dict[Name, Values]:
        """Return the means of the processes' gradients, the norm being that of the mean field."""
        self._rows = len(batch.latent)
        found = super().consensus_gradient(batch, gamma)
        return {name: self._averaged(values) for name, values in found.items()}

    def _half_norm(self, field: Mapping[Name, Values]) -> Tensor:
        if self.ranks.count == 1:
            return super()._half_norm(field)
        # Its gradient, averaged, is the mean of J^T v for the field v of the whole batch.
        own = {f"{name}.{key}": g for name in field for key, g in field[name].items()}
        detached = {key: g.detach().clone() for key, g in own.items()}
        whole = self._averaged(detached)
        return torch.stack([(g * whole[key]).sum() for key, g in own.items()]).sum()

    def _averaged(self, values: Values) -> Values:
        return self.ranks.averaged(values, 1 if self.exchange else self._rows)

    def _critic_loss(self, critic: Callable[..., Tensor], batch: Batch, fake: Tensor) -> Tensor:
        return self.scale * super()._critic_loss(critic, batch, fake)

    def _generator_loss(self, critic: Callable[..., Tensor], batch: Batch, fake: Tensor) -> Tensor:
        return self.scale * super()._generator_loss(critic, batch, fake)
