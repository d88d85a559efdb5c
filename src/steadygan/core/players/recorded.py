"""Players whose gradients a GPU replays from recordings (CUDA graphs).

A small network's kernels take less time than launching them one by one from Python: a DCGAN on 32 x
32 with the JS penalty launches 850 an iteration. A recording launches them all at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import SteadyganError
from ..gradients.tracing import copies, copy_all, warm_up
from ..schedules import Schedule, strength_at
from ..terms import CriticTerms
from .base import PLAYERS, Batch, Name, Values
from .optimizers import OptimizerPlayers

CHECKED = (0, 100)
"""Replays of a recording that are held against the gradient as it is computed."""

FAR = 0.05
"""Relative difference that is more than the rounding of GPUs, which is a thousandth at most."""


@dataclass
class Recording:
    """One kind of look: what it reads and writes, and the graph that does it."""

    graph: Any
    batch: Batch
    strengths: dict[str, Tensor]
    gradient: Values
    terms: CriticTerms | None
    loss: Tensor | None
    replays: int = 0

    def replay(self, batch: Batch, strengths: Mapping[str, float]) -> Values:
        """Return the gradient at a batch, with the networks as they are now."""
        copy_all(_tensors(self.batch), _tensors(batch))
        for place, value in strengths.items():
            self.strengths[place].fill_(value)
        self.graph.replay()
        self.replays += 1
        found = copies(list(self.gradient.values()))
        return dict(zip(self.gradient, found, strict=True))


class RecordedPlayers(OptimizerPlayers):
    """Players whose gradients are recorded at their first look of a kind, and replayed from then.

    The same kernels in the same order as unrecorded, with strengths that change over the training
    in the networks' precision. Both networks, their parameters moved in place, lie on one GPU.
    ``terms`` and ``generator_loss`` are those of the latest look. The first replay and the
    hundredth are held against the gradient as it is computed: where they differ a warning says so,
    and it is computed from then on.

    Raises:
        SteadyganError: For a generator that moves on the critic's samples; and at the first look,
            for what no recording can hold: what remembers from step to step, and networks that look
            at their own numbers.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        if self.keep_fakes:
            raise SteadyganError(
                "A generator that moves on the critic's samples cannot be recorded: choose"
                " --dynamics alternating, or leave --cuda-graphs out."
            )
        self._recordings: dict[Any, Recording | None] = {}

    def gradient(self, player: Name, batch: Batch) -> Values:
        """Return the gradient without a graph; neither network's ``.grad`` is touched."""
        now = {
            place: float(strength_at(value, self.context.progress))
            for place, value in self.game.strengths().items()
            if isinstance(value, Schedule)
        }
        lazy = player == "critic" and bool(self.updates % self.penalty_every)
        key = player, lazy, tuple(t.shape for t in _tensors(batch))
        if key not in self._recordings:
            self._recordings[key] = self._record(player, batch, now)
        recording = self._recordings[key]
        if recording is None:
            return super().gradient(player, batch)
        expected: Values = {}
        if recording.replays in CHECKED:
            with self._untouched():
                expected = super().gradient(player, batch)
        found = recording.replay(batch, now)
        if far := difference(found, expected):
            warnings.warn(
                f"a recording of the {player}'s gradient differs from it by {far:.0%}: it is"
                " computed from now on, without --cuda-graphs",
                stacklevel=2,
            )
            self._recordings[key] = None
            return super().gradient(player, batch)
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

    def _record(self, player: Name, batch: Batch, strengths: Mapping[str, float]) -> Recording:
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
        with self._untouched(), torch.cuda.device(device):
            self.game = self.game.with_strengths(numbers)
            # What still changed with the progress would stay as it is now.
            self.context = replace(self.context, progress=None)
            warm_up(lambda: self._look(player, reads))
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
    def _untouched(self) -> Iterator[None]:
        """Leave everything as it was but the parameters, which looks do not change."""
        names = ("game", "context", "updates", "penalty", "terms", "generator_loss")
        kept = {name: getattr(self, name) for name in names}
        buffers = [t for name in PLAYERS for t in getattr(self, name).buffers()]
        values = [t.clone() for t in buffers]
        rng = self.context.rng
        state = rng.get_state() if isinstance(rng, torch.Generator) else None
        device = next(self.critic.parameters()).device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
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


def difference(found: Values, expected: Values) -> float:
    """Return the relative difference of two gradients, 0 up to ``FAR`` and where it is no number.

    >>> difference({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([3.0, 0.0])})
    1.3333333333333333
    >>> difference({"w": torch.tensor([1.001])}, {"w": torch.tensor([1.0])})
    0.0
    """
    if not expected:
        return 0.0
    apart = sum((found[key] - g).double().square().sum() for key, g in expected.items())
    whole = sum(g.double().square().sum() for g in expected.values())
    far = float((torch.as_tensor(apart) / torch.as_tensor(whole).clamp_min(1e-300)).sqrt())
    return far if far > FAR else 0.0


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch.real, batch.latent, *(batch.labels or ())]
