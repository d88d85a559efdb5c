"""Samples of a trained generator by seed, by class, and nearer to the mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.errors import SteadyganError, unknown
from .config import stream_seed
from .description import Description
from .latents import Latent
from .models import Which, generate, latent, load


class Sampler(NamedTuple):
    """A generator and what it is asked by.

    Attributes:
        generator: On the CPU, in evaluation mode.
        latent: The distribution of its latents.
        about: What its run says of itself.
        step: Of its checkpoint.
    """

    generator: nn.Module
    latent: Latent
    about: Description
    step: int

    @classmethod
    def open(
        cls,
        run: Path | str,
        checkpoint: Path | str | None = None,
        member: int | None = None,
        which: Which = Which(),
    ) -> Sampler:
        """Return that of a place; arguments and errors are those of ``load_generator``."""
        loaded = load(run, checkpoint, member, *which)
        return cls(loaded.generator.eval(), latent(loaded.config), loaded.about, loaded.step)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their labels; empty without."""
        return self.about.class_names

    @property
    def makes_images(self) -> bool:
        """Whether samples are images."""
        return len(self.about.event) == 3

    def draw(self, n: int, seed: int) -> Tensor:
        """Return n latents (n, size), of one seed together."""
        return self.latent.draw(n, torch.Generator().manual_seed(stream_seed(seed, "sample")))

    def of_seeds(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of each seed, (S, size), which the others have no part in."""
        return torch.cat([self.draw(1, seed) for seed in seeds])

    def labels(self, asked: str) -> list[int]:
        """Return the labels that a name, an index or ``all`` stands for; a name comes first.

        Raises:
            SteadyganError: For a run without classes, and for a class that is not there, with those
                that are.
        """
        if not self.classes:
            raise SteadyganError(
                f"--class {asked}: this generator has no classes; train one with --conditional."
            )
        if asked in self.classes:
            return [self.classes.index(asked)]
        if asked == "all":
            return list(range(len(self.classes)))
        if asked.isascii() and asked.isdecimal() and int(asked) < len(self.classes):
            return [int(asked)]
        raise unknown("class", asked, (*self.classes, "all"))

    def __call__(self, z: Tensor, y: Tensor | None, *, alone: bool = False) -> Tensor:
        """Return samples (n, *event) in evaluation mode.

        Args:
            z: Latents (n, size).
            y: Labels (n,) with classes; None without.
            alone: Make each in a batch of its own: kernels round by the size of the batch, so only
                then has a latent the same sample, to the bit, whatever stands beside it.
        """
        return generate(self.generator, z, y, "cpu", 1 if alone else 256)
