"""Images as a problem: read once into bytes, then streamed in a reproducible order."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from ..core.errors import SteadyganError, unknown
from ..core.registry import register
from .measures import spread
from .problem import Draw, Problem, Recipe
from .readers import open_source

MEMORY_LIMIT = 4 * 2**30
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ImageArray:
    """Decoded images: pixels (N, C, H, W) uint8, labels (N,) int64 or None, names of classes, and
    the broken ones skipped, with reasons."""

    pixels: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    broken: list[str]

    def __len__(self) -> int:
        return len(self.pixels)


def load_images(
    path: str | os.PathLike[str],
    resolution: int,
    *,
    broken: Literal["refuse", "skip"] = "refuse",
    channels: int = 3,
    memory_limit: int = MEMORY_LIMIT,
    progress: Progress | None = None,
) -> ImageArray:
    """Decode every image once into uint8 (N, channels, resolution, resolution), in the order of
    their names.

    ``path`` is a folder or zip (class = the folder that directly holds the image, if every image
    lies in one), an ``.npz`` or ``.npy`` of uint8, CIFAR's published archive, an IDX file or a
    folder of them, ``digits`` (a folder of that name is ``./digits``), or ``hf:NAME[:split]``. Each
    image is turned as its EXIF data say, composited on white, cropped to its central square and
    resized with Pillow's LANCZOS filter, whose support grows with the reduction (antialiased). Over
    ``memory_limit`` bytes the pixels lie in a memory-mapped temporary file. ``progress(done,
    total)`` is called as images are done.

    Raises SteadyganError for a path that is missing, empty, unreadable or of unknown kind, for
    fewer than two images, and for a broken image (one of 1 pixel counts as broken) unless
    ``broken="skip"``, which leaves it out and lists it in ``.broken``.

    >>> digits = load_images("digits", 8, channels=1)
    >>> digits.pixels.shape, digits.class_names[:3]
    ((1797, 1, 8, 8), ('0', '1', '2'))
    """
    _check(resolution, channels, broken)
    failures: list[str] = []
    good: list[int] = []
    with open_source(path) as source:
        if source.count < 2:
            raise SteadyganError(f"{path} holds {source.count} image(s); at least two are needed.")
        pixels = _allocate((source.count, channels, resolution, resolution), memory_limit)

        def decode(chunk: range) -> list[str | None]:
            reasons: list[str | None] = [None] * len(chunk)
            for at, i in enumerate(chunk):
                try:
                    with source.open(i) as image:
                        pixels[i] = _to_array(image, resolution, channels)
                except UnidentifiedImageError:
                    reasons[at] = "its content is of no image format that Pillow knows"
                # Pillow's decoders raise nearly every kind of exception on damaged files; whichever
                # it is, this image is broken.
                except Exception as error:
                    reasons[at] = str(error) or type(error).__name__
            return reasons

        # Handing over single images of 32 x 32 would cost the pool more than decoding them.
        chunks = [
            range(start, min(start + 16, source.count)) for start in range(0, source.count, 16)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for chunk, reasons in zip(chunks, pool.map(decode, chunks), strict=True):
                for i, reason in zip(chunk, reasons, strict=True):
                    if reason is None:
                        good.append(i)
                    elif broken == "skip":
                        failures.append(f"{source.name(i)}: {reason}")
                    else:
                        raise SteadyganError(
                            f"{source.name(i)} is broken: {reason}. Mend or remove it, or leave"
                            " out what is broken with broken=skip."
                        )
                if progress is not None:
                    progress(chunk.stop, source.count)
        if len(good) < 2:
            raise SteadyganError(
                f"Only {len(good)} of the {source.count} images of {path} can be read. The first"
                f" broken one is {failures[0]}"
            )
        if failures:
            for slot, i in enumerate(good):
                pixels[slot] = pixels[i]
        labels = None if source.labels is None else source.labels[good]
        return ImageArray(pixels[: len(good)], labels, source.class_names, failures)


def to_floats(pixels: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [-1, 1], as networks see them."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)


def _check(resolution: int, channels: int, broken: str) -> None:
    if resolution < 2:
        raise SteadyganError(f"resolution must be at least 2 pixels, not {resolution}.")
    if channels not in (1, 3):
        raise SteadyganError(f"channels must be 1 (grey) or 3 (RGB), not {channels}.")
    if broken not in ("refuse", "skip"):
        raise unknown("choice for broken", broken, ("refuse", "skip"))


def _allocate(shape: tuple[int, ...], memory_limit: int) -> np.ndarray:
    size = int(np.prod(shape, dtype=object))
    if size <= memory_limit:
        return np.empty(shape, np.uint8)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    # Writing to a mapped file on a full disk kills the process (SIGBUS), with no exception to
    # catch.
    if size > free:
        raise SteadyganError(
            f"{shape[0]} images at {shape[2]} x {shape[3]} take {size / 2**30:.1f} GiB, and"
            f" {folder} has {free / 2**30:.1f} GiB free: "
            "set TMPDIR to a folder on a larger disk, or lower the resolution."
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _to_array(image: Image.Image, resolution: int, channels: int) -> np.ndarray:
    width, height = image.size
    if min(width, height) < 2:
        raise ValueError(f"it measures {width} x {height} pixels")
    # JPEG then decodes large photographs at 1/2 to 1/8 of their size, never below 4 x resolution:
    # 10 times faster, within 1 of 255 levels.
    image.draft(None, (4 * resolution, 4 * resolution))
    ImageOps.exif_transpose(image, in_place=True)
    # Pillow's own conversion of 16-bit grey levels clips them at 255.
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("its pixels are floats, whose range is unknown; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    square = ImageOps.fit(
        image.convert("RGB" if channels == 3 else "L"),
        (resolution, resolution),
        Image.Resampling.LANCZOS,
    )
    return np.asarray(square).reshape(resolution, resolution, channels).transpose(2, 0, 1)


class EpochStream:
    """An endless stream of images, each once an epoch in a fresh order; its position is the number
    of samples drawn so far.

    x = pixels / 127.5 - 1, float32 (n, C, H, W) in [-1, 1]; labels int64 (n,). Order and horizontal
    flips depend on the seed and the epoch alone, so neither the sizes of the batches nor a restored
    position change the sequence of samples. ``draw`` raises SteadyganError for n < 1.

    >>> stream = EpochStream(np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), None, flip=False, seed=0)
    >>> stream.draw(3).x.shape, stream.state()
    (torch.Size([3, 3, 2, 2]), {'position': tensor(3)})
    """

    def __init__(
        self, pixels: np.ndarray, labels: np.ndarray | None, *, flip: bool, seed: int
    ) -> None:
        self._pixels, self._labels, self._flip = pixels, labels, flip
        # The remapping of negative seeds that torch.manual_seed makes.
        self._seed = seed % 2**64
        self._position = 0
        self._epoch, self._order, self._flipped = self._shuffle(0)

    def _shuffle(self, epoch: int) -> tuple[int, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(epoch,)))
        count = len(self._pixels)
        return epoch, rng.permutation(count), rng.random(count) < (0.5 if self._flip else 0.0)

    def draw(self, n: int) -> Draw:
        """Return the next n samples; batches straddle epochs."""
        if n < 1:
            raise SteadyganError(f"A batch needs at least one sample, not {n}.")
        chosen, flipped = [], []
        end = self._position + n
        while self._position < end:
            epoch, start = divmod(self._position, len(self._pixels))
            if epoch != self._epoch:
                self._epoch, self._order, self._flipped = self._shuffle(epoch)
            stop = min(start + end - self._position, len(self._pixels))
            chosen.append(self._order[start:stop])
            flipped.append(self._flipped[start:stop])
            self._position += stop - start
        index = np.concatenate(chosen)
        images = torch.from_numpy(self._pixels[index])
        mirror = torch.from_numpy(np.concatenate(flipped))
        images[mirror] = images[mirror].flip(-1)
        labels = None if self._labels is None else torch.from_numpy(self._labels[index])
        return Draw(to_floats(images), labels)

    def state(self) -> dict[str, Tensor]:
        """Return the number of samples drawn so far."""
        return {"position": torch.tensor(self._position)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved number of samples; raises SteadyganError where the state is of
        another kind of stream."""
        if "position" not in state or int(state["position"]) < 0:
            raise SteadyganError(
                f"This is no position in a stream of images: {state}. It was saved with another"
                " problem; start a new run."
            )
        self._position = int(state["position"])


@register("problem", "images")
@dataclass(frozen=True)
class Images(Problem):
    """Images of your own: a folder, a zip, arrays, CIFAR, MNIST, the digits or a Hugging Face data
    set, as floats in [-1, 1].

    ``data`` says where they lie (see ``load_images``); they are read on first use, or by ``load``.
    Samples are (channels, resolution, resolution), flipped left to right with probability 1/2 if
    ``flip``. With ``conditional`` their classes are passed on as labels. Raises SteadyganError for
    settings out of range, for data that cannot be read, and where ``conditional`` finds fewer than
    two classes.

    >>> digits = Images(data="digits", resolution=8, channels=1, flip=False, conditional=True)
    >>> digits.event, digits.classes, digits.stream(seed=0).draw(5).x.shape
    ((1, 8, 8), 10, torch.Size([5, 1, 8, 8]))

    Reference: Radford, Metz, Chintala, 2016, arXiv:1511.06434 (the network, the optimizer and the
    range [-1, 1] of the recipe).
    """

    data: str = ""
    resolution: int = 32
    channels: int = 3
    flip: bool = True
    broken: Literal["refuse", "skip"] = "refuse"
    conditional: bool = False

    recipe = Recipe(
        network="dcgan",
        optimizer="adam:lr=0.0002,beta1=0.5",
        steps=20000,
        batch=64,
        latent=128,
        ema=0.999,
    )

    def __post_init__(self) -> None:
        _check(self.resolution, self.channels, self.broken)

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return self.channels, self.resolution, self.resolution

    @property
    def classes(self) -> int:
        """Number of classes if ``conditional`` (reads the images), else 0."""
        return len(self.load().class_names) if self.conditional else 0

    def load(self, progress: Progress | None = None) -> ImageArray:
        """Return the images, read on the first call and kept; ``progress(done, total)`` is called
        after each image."""
        # functools.cached_property takes no arguments; like it, this keeps the value past the
        # frozen fields and out of comparisons.
        if "_loaded" not in self.__dict__:
            loaded = load_images(
                self.data,
                self.resolution,
                broken=self.broken,
                channels=self.channels,
                progress=progress,
            )
            if self.conditional and len(loaded.class_names) < 2:
                raise SteadyganError(
                    f"conditional needs at least two classes, and {self.data} has"
                    f" {', '.join(loaded.class_names) or 'none'}: put every "
                    "image into a sub-folder named after its class, or labels beside the images"
                    " of an .npz."
                )
            self.__dict__["_loaded"] = loaded
        return self.__dict__["_loaded"]

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
        """Return a fresh stream of the images; the same seed gives the same order and the same
        flips."""
        loaded = self.load()
        return EpochStream(
            loaded.pixels, loaded.labels if self.conditional else None, flip=self.flip, seed=seed
        )


__all__ = ["MEMORY_LIMIT", "EpochStream", "ImageArray", "Images", "Progress", "load_images"]
