"""What every problem offers: a stream of samples, the settings of its training, its own metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..core.context import Samples
from ..core.registry import base

Progress = Callable[[int, int], None]
"""Is told ``(done, total)`` while something takes its time."""


class Stream(Protocol):
    """An endless source of samples whose position can be saved and restored exactly."""

    def draw(self, n: int) -> Samples:
        """Return the next n samples (n, *event); with classes their labels (n,), int64."""

    def state(self) -> dict[str, Tensor]:
        """Return the position in the stream as tensors."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved position."""


class RandomStream:
    """A stream of independent samples; its position is the state of its random generator."""

    def __init__(self, sample: Callable[[int, torch.Generator], Tensor], seed: int) -> None:
        self._sample = sample
        self._rng = torch.Generator().manual_seed(seed)

    def draw(self, n: int) -> Samples:
        """Return n independent samples."""
        return Samples(self._sample(n, self._rng))

    def state(self) -> dict[str, Tensor]:
        """Return the state of the generator."""
        return {"rng": self._rng.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Set the state of the generator."""
        self._rng.set_state(state["rng"])


@dataclass(frozen=True)
class Recipe:
    """The settings, specs or numbers, that a problem is trained with unless the user says other."""

    network: str
    optimizer: str
    steps: int
    batch: int
    latent: int
    latent_distribution: str = "normal"
    objective: str = "nonsaturating"
    ema: float = 0.0


@base("problem")
class Problem:
    """Base of every problem: a registered frozen dataclass with event, recipe and stream."""

    recipe: Recipe

    @property
    def numbers(self) -> tuple[str, ...] | None:
        """Names of what ``measure`` returns at most; None where it does not say."""
        return () if type(self).measure is Problem.measure else None

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one sample."""
        raise NotImplementedError

    @property
    def classes(self) -> int:
        """Number of classes; 0 where samples carry no label."""
        return 0

    def load(self, progress: Progress | None = None) -> object:
        """Read what must be read before training; nothing where samples are made.

        Args:
            progress: called with (done, total).

        Returns:
            what was read; None where samples are made.
        """
        return None

    def describe(self) -> dict[str, Any]:
        """Return what a run must find again to go on: plain data about what was read.

        Empty where samples are made.
        """
        return {}

    def changes(self, before: Mapping[str, Any]) -> list[str]:
        """Return in words what has changed since ``describe`` returned ``before``."""
        return []

    def stream(self, seed: int) -> Stream:
        """Return a fresh stream of real samples; the same seed gives the same samples."""
        raise NotImplementedError

    def measure(
        self, samples: Tensor, critic: nn.Module, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Return the problem's own metrics of generated samples; empty where it has none.

        Args:
            samples: (n, *event).
            critic: what they were trained against.
            labels: the classes (n,) that were asked for, where the problem has any.
        """
        return {}


@base("network")
@runtime_checkable
class Network(Protocol):
    """A pair of architectures for every resolution: a registered frozen dataclass.

    Its fields are what can be set: width, activation, norm, ...
    """

    def generator(self, event: tuple[int, ...], latent: int, classes: int = 0) -> nn.Module:
        """Return G: (B, latent) -> (B, *event); with classes, called as G(z, y)."""

    def critic(self, event: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return D: (B, *event) -> (B,) logits, large on real; with classes, called as D(x, y)."""
