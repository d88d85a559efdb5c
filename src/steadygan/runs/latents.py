"""What a generator makes samples from: how it is drawn, where its middle is, ways between two.

Which of them a run has is its ``latent_distribution``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Latent(ABC):
    """A distribution of latents (size,)."""

    size: int
    mean: ClassVar[float] = 0.0
    way: ClassVar[str]
    """In a word, how one goes from one latent to another."""

    @abstractmethod
    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent latents (n, size)."""

    @abstractmethod
    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Return latents (T, size) on the way from a (size,), t = 0, to b, t = 1.

        It runs where latents of the distribution are.

        Args:
            a: Where it starts.
            b: Where it ends.
            t: How far each is (T,), in [0, 1].
        """

    def truncated(self, z: Tensor, psi: float) -> Tensor:
        """Return latents moved towards the mean: mean + psi (z - mean)."""
        return self.mean + psi * (z - self.mean)


@dataclass(frozen=True)
class Normal(Latent):
    """Latents from N(0, I), nearly all of them at a distance of √size from the middle."""

    way: ClassVar[str] = "spherical"

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent latents (n, size)."""
        return torch.randn((n, self.size), generator=rng)

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Return (sin((1-t)ω) a + sin(tω) b) / sin ω, ω the angle between the two.

        The straight way would go through the middle, where there are hardly any latents.

        >>> a, b = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
        >>> round(Normal(2).between(a, b, torch.tensor([0.5])).norm().item(), 5)
        2.0

        Reference: White 2016, Sampling Generative Networks.
        """
        cosine = torch.dot(a, b) / (a.norm() * b.norm())
        angle, t = torch.arccos(cosine.clamp(-1, 1)), t[:, None]
        if not torch.sin(angle) > 1e-4:  # one number, or one direction: there is no arc
            return torch.lerp(a, b, t)
        return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


@dataclass(frozen=True)
class Uniform(Latent):
    """Latents from the cube [-1, 1]^size."""

    way: ClassVar[str] = "linear"

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Return n independent latents (n, size)."""
        return torch.rand((n, self.size), generator=rng) * 2 - 1

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Return (1-t) a + t b, which stays in the cube; an arc would leave it."""
        return torch.lerp(a, b, t[:, None])


LATENTS: dict[str, type[Latent]] = {"normal": Normal, "uniform": Uniform}
"""The distributions by the names that a configuration has for them."""


def path(latent: Latent, stops: Tensor, frames: int, *, loop: bool = False) -> Tensor:
    """Return latents along the way through several: ``frames`` for each leg, its start included.

    Args:
        latent: Their distribution, which knows the way.
        stops: The latents (S, size) that it goes through.
        frames: How many latents a leg has.
        loop: Go back to the first one at the end, without repeating it.

    Returns:
        (S·frames, size) with ``loop``, else ((S - 1)·frames + 1, size): the last stop ends it.

    >>> path(Uniform(1), torch.tensor([[0.0], [1.0]]), 2).flatten().tolist()
    [0.0, 0.5, 1.0]
    >>> path(Uniform(1), torch.tensor([[0.0], [1.0]]), 2, loop=True).flatten().tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    t = torch.arange(frames) / frames
    ends = stops.roll(-1, 0) if loop else stops[1:]
    legs = [latent.between(a, b, t) for a, b in zip(stops, ends, strict=False)]
    return torch.cat(legs if loop else [*legs, stops[-1:]])
