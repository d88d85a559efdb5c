"""Players whose gradients a GPU replays from recordings (CUDA graphs).

A small network's kernels take less time than launching them one by one from Python: a DCGAN on 32 x
32 with the JS penalty launches 850 an iteration. A recording launches them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import SteadyganError
from ..gradients.tracing import copy_all
from ..schedules import Schedule, strength_at
from ..terms import CriticTerms
from .base import PLAYERS, Batch, Name, Values
from .optimizers import OptimizerPlayers

WARM = 3
"""Looks before a recording, in which libraries choose their kernels."""


class Recording(NamedTuple):
    """One kind of look: what it reads and writes, and the graph that does it."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    strengths: dict[str, Tensor]
    gradient: Values
    terms: CriticTerms | None
    loss: Tensor | None

    def replay(self, batch: Batch, strengths: dict[str, float]) -> Values:
        """Return the gradient at a batch, with the networks as they are now."""
        copy_all(_tensors(self.batch), _tensors(batch))
        for place, value in strengths.items():
            self.strengths[place].fill_(value)
        self.graph.replay()
        found = {key: torch.empty_like(g) for key, g in self.gradient.items()}
        copy_all(list(found.values()), list(self.gradient.values()))
        return found


class RecordedPlayers(OptimizerPlayers):
    """Players whose gradients are recorded at their first look of a kind, and replayed from then.

    The same kernels in the same order as unrecorded: the same bits, but for strengths that change
    over the training, which are numbers in single precision here. Both networks, their parameters
    moved in place, lie on one GPU. ``terms`` and ``generator_loss`` are those of the latest look.

    Raises:
        SteadyganError: At the first look, for what no recording can hold: a generator that moves on
            the critic's samples, what remembers from step to step, and networks that look at their
            own numbers.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._recordings: dict[Any, Recording] = {}

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the gradient without a graph; neither network's ``.grad`` is touched."""
        now = {
            place: float(strength_at(value, self.context.progress))
            for place, value in self.game.strengths().items()
            if isinstance(value, Schedule)
        }
        lazy = player == "critic" and self.updates % self.penalty_every
        key = player, bool(lazy), tuple(t.shape for t in _tensors(batch))
        if key not in self._recordings:
            self._recordings[key] = self._record(player, batch, now)
        recording = self._recordings[key]
        found = recording.replay(batch, now)
        if player == "generator":
            self.generator_loss = recording.loss
            return found
        assert recording.terms is not None
        if not lazy:
            # Another kind of look is told of it, when this one may have written anew.
            penalty = recording.terms.penalty
            self.penalty = penalty.clone() if self.penalty_every > 1 else penalty
        assert self.penalty is not None
        self.terms = recording.terms._replace(penalty=self.penalty)
        self.updates += 1
        return found

    def _record(self, player: Name, batch: Batch, strengths: dict[str, float]) -> Recording:
        if self.keep_fakes:
            raise SteadyganError(
                "A generator that moves on the critic's samples cannot be recorded: choose"
                " --dynamics alternating, or leave --cuda-graphs out."
            )
        reads = Batch(
            batch.real.clone(),
            batch.latent.clone(),
            batch.labels and (batch.labels[0].clone(), batch.labels[1].clone()),
        )
        device = batch.real.device
        like = next(self.critic.parameters())
        numbers = {
            place: torch.tensor(value, dtype=like.dtype, device=device)
            for place, value in strengths.items()
        }
        rng = self.context.rng
        with self._untouched(numbers, device), torch.cuda.device(device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM):
                    self._look(player, reads)
            torch.cuda.current_stream().wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            if isinstance(rng, torch.Generator):
                graph.register_generator_state(rng)
            try:
                with torch.cuda.graph(graph):
                    gradient = self._look(player, reads)
            except RuntimeError as error:
                raise SteadyganError(
                    f"The {player}'s gradient cannot be recorded"
                    f" ({str(error).splitlines()[0].rstrip('.')}): leave --cuda-graphs out."
                ) from error
            if self.context.memory:
                raise SteadyganError(
                    f"This game remembers {', '.join(self.context.memory)} from step to step, which"
                    " a recording does not: leave --cuda-graphs out."
                )
            terms = self.terms.detach() if player == "critic" and self.terms else None
            loss = self.generator_loss if player == "generator" else None
        return Recording(graph, reads, numbers, gradient, terms, loss)

    def _look(self, player: Name, batch: Batch) -> Values:
        updates = self.updates  # says whether it is spared the penalty
        found = super().gradient(player, batch)
        self.updates = updates
        return found

    @contextmanager
    def _untouched(self, strengths: dict[str, Tensor], device: torch.device) -> Iterator[None]:
        """Play with strengths that a recording reads, and leave everything else as it was."""
        kept = {
            name: getattr(self, name)
            for name in ("game", "context", "updates", "penalty", "terms", "generator_loss")
        }
        buffers = [t for name in PLAYERS for t in getattr(self, name).buffers()]
        values = [t.clone() for t in buffers]
        rng = self.context.rng
        state = rng.get_state() if isinstance(rng, torch.Generator) else None
        self.game = self.game.with_strengths(strengths)
        # What still changed with the progress would stay as it is now.
        self.context = replace(self.context, progress=None)
        with torch.random.fork_rng([device]):
            try:
                yield
            finally:
                for name, value in kept.items():
                    setattr(self, name, value)
                with torch.no_grad():
                    for t, value in zip(buffers, values, strict=True):
                        t.copy_(value)
                if state is not None and isinstance(rng, torch.Generator):
                    rng.set_state(state)


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.real, batch.latent, *(batch.labels or ())]
