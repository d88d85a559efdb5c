"""Images as a problem: read once into bytes, then streamed in a reproducible order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
import PIL
import torch
from torch import Tensor, nn

from ..core.errors import SteadyganError
from ..core.registry import register
from .loading import MEMORY_LIMIT, ImageArray, check_shape, load_images
from .measures import spread
from .problem import Problem, Progress, Recipe
from .readers import Reading
from .stream import EpochStream, to_floats


@register("problem", "images")
@dataclass(frozen=True)
class Images(Problem):
    """Images of your own: a folder, a zip, arrays, CIFAR, MNIST, the digits or the hub's.

    ``data`` says where they lie; they are read on first use, or by ``load``. Samples are floats in
    [-1, 1] of shape (channels, height, width), both ``resolution`` or, where it is ``48x32``, of 48
    pixels width and 32 height, flipped left to right with probability 1/2
    if ``flip``. With ``conditional`` their classes are passed on as labels, found as
    ``classes_from`` says. ``broken``, ``value_range`` and ``limit`` are those of ``load_images``.

    Raises:
        SteadyganError: for settings out of range, for data that cannot be read, and where
            ``conditional`` finds fewer than two classes.

    >>> digits = Images(data="digits", resolution=8, channels=1, flip=False, conditional=True)
    >>> digits.event, digits.classes, digits.stream(seed=0).draw(5).x.shape
    ((1, 8, 8), 10, torch.Size([5, 1, 8, 8]))

    Reference: Radford, Metz, Chintala, 2016, arXiv:1511.06434 (the network, the optimizer and the
    range [-1, 1] of the recipe).
    """

    data: str = ""
    resolution: int | str = 32
    channels: int = 3
    flip: bool = True
    broken: Literal["refuse", "skip"] = "refuse"
    conditional: bool = False
    classes_from: str = "auto"
    value_range: str = "auto"
    limit: float = 1.0

    recipe = Recipe(
        network="dcgan",
        optimizer="adam:lr=0.0002,beta1=0.5",
        steps=20000,
        batch=64,
        latent=128,
        ema=0.999,
    )

    def __post_init__(self) -> None:
        check_shape(self.resolution, self.channels)
        Reading(self.broken, self.classes_from, self.value_range, self.limit)

    @property
    def reading(self) -> Reading:
        """How the data are read; without classes where none are needed."""
        classes = self.classes_from if self.conditional else "none"
        return Reading(self.broken, classes, self.value_range, self.limit)

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return self.channels, *check_shape(self.resolution, self.channels)

    @property
    def classes(self) -> int:
        """Number of classes if ``conditional`` (reads the images), else 0."""
        return len(self.load().class_names) if self.conditional else 0

    def load(self, progress: Progress | None = None) -> ImageArray:
        """Return the images, read on the first call and kept.

        Args:
            progress: called with (done, total) as they are decoded.
        """
        # functools.cached_property takes no arguments; like it, this keeps the value past the
        # frozen fields and out of comparisons.
        if "_loaded" not in self.__dict__:
            loaded = load_images(
                self.data,
                self.resolution,
                channels=self.channels,
                broken=self.broken,
                classes=self.classes_from if self.conditional else "none",
                value_range=self.value_range,
                limit=self.limit,
                progress=progress,
            )
            if self.conditional and len(loaded.class_names) < 2:
                why = loaded.why or f"all images are of the class {loaded.class_names[0]}"
                raise SteadyganError(
                    f"conditional needs at least two classes, and {self.data} has none: {why}."
                )
            self.__dict__["_loaded"] = loaded
        found: ImageArray = self.__dict__["_loaded"]
        return found

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of what ``measure`` returns at most."""
        return ("spread", "least_spread") if self.conditional else ("spread",)

    def measure(
        self, samples: Tensor, critic: nn.Module, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Return how widely samples spread, as a share of what real images do.

        ``spread``: the mean over pixels of the standard deviation over samples, over that of real
        images; with classes within each of them, where a sample has company, and averaged over
        them. ``least_spread``: that of the class which has the least. Real images are at most 256
        of a class, without their mirror images.

        Args:
            samples: (n, C, H, W) in [-1, 1].
            critic: not used.
            labels: the classes (n,) that were asked for.
        """
        found = []
        for group in [None] if labels is None else labels.unique().tolist():
            alike = samples if labels is None else samples[labels == group]
            real = self._real_spread(group)
            if len(alike) > 1 and real > 0:
                found.append(spread(alike) / real)
        if not found:
            return {}
        return {"spread": fmean(found)} | ({} if labels is None else {"least_spread": min(found)})

    def _real_spread(self, group: int | None) -> float:
        known: dict[int | None, float] = self.__dict__.setdefault("_spreads", {})
        if group not in known:
            loaded = self.load()
            of = np.arange(len(loaded))
            if group is not None and loaded.labels is not None:
                of = of[loaded.labels == group]
            # Evenly from all of them: the order of the files may be that of a film.
            of = of[:: -(-len(of) // 256) or 1]
            pixels = torch.from_numpy(loaded.pixels[of])
            known[group] = spread(to_floats(pixels)) if len(of) > 1 else 0.0
        return known[group]

    def stream(self, seed: int) -> EpochStream:
        """Return a fresh stream of the images; one seed gives one order and the same flips."""
        loaded = self.load()
        labels = loaded.labels if self.conditional else None  # some sources have them in any case
        return EpochStream(loaded.pixels, labels, flip=self.flip, seed=seed)

    def describe(self) -> dict[str, Any]:
        """Return what the images are: how many, of which classes, and digests of both."""
        loaded = self.load()
        found = {"images": len(loaded), "pixels": loaded.digest, "pillow": PIL.__version__}
        if loaded.labels is None:
            return found
        counts = np.bincount(loaded.labels, minlength=len(loaded.class_names)).tolist()
        return found | {
            "classes": dict(zip(loaded.class_names, counts, strict=True)),
            "labels": hashlib.sha256(loaded.labels.tobytes()).hexdigest(),
        }

    def changes(self, before: Mapping[str, Any]) -> list[str]:
        """Return in words what has changed since the images were described."""
        now, found = self.describe(), []
        if before["images"] != now["images"]:
            found.append(f"{before['images']:,} images are {now['images']:,}")
        counts = before.get("classes") or {}, now.get("classes") or {}
        if list(counts[0]) != list(counts[1]):
            were, are = (", ".join(names) or "none" for names in counts)
            found.append(f"the classes {were} are {are}")
        elif counts[0] != counts[1]:
            found += [
                f"{n:,} of class {name} are {counts[1][name]:,}"
                for name, n in counts[0].items()
                if n != counts[1][name]
            ]
        elif before.get("labels") != now.get("labels"):
            found.append("labels are others")
        if not found and before["pixels"] != now["pixels"]:
            pillow = before["pillow"] != now["pillow"]
            decoder = f" (or decoded otherwise by Pillow {now['pillow']})" if pillow else ""
            found.append(f"pictures are others{decoder}")
        return found


__all__ = ["MEMORY_LIMIT", "EpochStream", "ImageArray", "Images", "Progress", "load_images"]
