"""Every image of a source into one array of bytes, on all cores."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from PIL import Image

from ..core.errors import SteadyganError
from .readers import Reading, Source
from .readers.pictures import deep_values, is_cut, is_deep, is_grey, prepare, to_pixels, why_broken
from .values import Scale, Span, scale

Progress = Callable[[int, int], None]
T = TypeVar("T")
R = TypeVar("R")
_CHUNK = 16  # images handed over at once: fewer would cost the pool more than decoding them
_HEAVY = 2**25  # bytes of a file or of a picture above which only one is decoded at a time
_DARK = 64  # of 255: what 14 of 16 bits reach


@dataclass
class Seen:
    """What was seen while decoding: why images are broken, and what the others are."""

    broken: dict[int, str] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)  # for a scale, which all images decide
    spans: dict[bool, Span] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    brightest_cut: int = -1
    notes: list[str] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        """Add what was seen of other images."""
        self.broken |= other.broken
        self.waiting += other.waiting
        self.spans |= {kind: span.join(self.spans.get(kind)) for kind, span in other.spans.items()}
        self.kinds += other.kinds
        self.sizes |= other.sizes
        self.brightest_cut = max(self.brightest_cut, other.brightest_cut)


class _Decoder:
    """Decodes images of a source into an array of pixels, a few at a call."""

    def __init__(self, source: Source, pixels: np.ndarray, reading: Reading) -> None:
        self.source, self.pixels, self.reading = source, pixels, reading
        self.channels, self.resolution = pixels.shape[1:3]
        self.scales: dict[bool, Scale] = {}
        if limits := reading.limits or source.limits:
            self.scales = dict.fromkeys((False, True), Scale(*limits))
        self._one_at_a_time = threading.RLock()

    def __call__(self, chunk: Sequence[int]) -> Seen:
        """Decode some images and return what was seen of them."""
        seen = Seen()
        for i in chunk:
            try:
                with self._one_at_a_time if self.source.size(i) > _HEAVY else nullcontext():
                    self._decode(i, seen)
            # Pillow's decoders raise nearly every kind of exception on damaged files; whichever
            # it is, this image is broken.
            except Exception as error:
                seen.broken[i] = why_broken(error)
        return seen

    def _decode(self, i: int, seen: Seen) -> None:
        image = self.source.open(i)
        if isinstance(image, np.ndarray):
            height, width = image.shape[:2]
            self._put(i, image, (width, height), "grey" if image.ndim == 2 else "colour", seen)
            return
        with image:
            width, height = image.size
            much = width * height * 4
            if much > self.reading.bytes:
                raise ValueError(f"it {self.reading.over(much)}")
            kind = "grey" if is_grey(image) else "colour"
            with self._one_at_a_time if much > _HEAVY else nullcontext():
                cut = is_cut(image)
                decoded = prepare(image, self.resolution)
                values = deep_values(decoded) if is_deep(decoded) else decoded
                self._put(i, values, (width, height), kind, seen)
            if cut:
                seen.brightest_cut = max(seen.brightest_cut, int(self.pixels[i].max()))

    def _put(
        self, i: int, image: Image.Image | np.ndarray, size: tuple[int, int], kind: str, seen: Seen
    ) -> None:
        """Write one image's pixels, or note that it waits for the scale of all."""
        if min(size) < 2:
            raise ValueError(f"it measures {size[0]} x {size[1]} pixels")
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8:
                kind = f"{kind} of more than 8 bits"
                floats = image.dtype.kind == "f"
                if floats not in self.scales:
                    seen.spans[floats] = Span.of(image).join(seen.spans.get(floats))
                    seen.waiting.append(i)
                    return
                image = self.scales[floats](image)
            image = Image.fromarray(image)
        self.pixels[i] = to_pixels(image, self.resolution, self.channels)
        seen.sizes.add(size)
        seen.kinds[kind] += 1


def decode(
    source: Source, where: str, pixels: np.ndarray, reading: Reading, progress: Progress | None
) -> Seen:
    """Decode all images of a source; the broken ones are skipped where that is asked for.

    Args:
        source: the images.
        where: what they are called.
        pixels: (N, C, H, W), where they are written to.
        reading: what is done with broken images, and which values are black and white.
        progress: called with (done, total).

    Returns:
        What was seen; the pixels of broken images are undefined.

    Raises:
        SteadyganError: for a broken image, and for values that could mean two things.
    """
    decoder, seen = _Decoder(source, pixels, reading), Seen()
    everything: Sequence[int] = range(source.count)
    while everything:
        chunks = [everything[k : k + _CHUNK] for k in range(0, len(everything), _CHUNK)]
        done = 0
        for chunk, part in zip(chunks, on_all_cores(decoder, chunks), strict=True):
            for i, reason in part.broken.items():
                if reading.broken == "refuse":
                    raise SteadyganError(
                        f"{source.name(i)} is broken: {reason}. Mend or remove it, or leave out"
                        " what is broken with broken=skip (--broken skip)."
                    )
            seen.add(part)
            done += len(chunk)
            if progress is not None:
                progress(done, len(everything))
        # Those of more than 8 bits come last, when the span of all of them is known.
        decoder.scales |= {kind: scale(span, where) for kind, span in seen.spans.items()}
        everything, seen.waiting, seen.spans = seen.waiting, [], {}
    if 0 <= seen.brightest_cut < _DARK:
        raise SteadyganError(
            f"{where} holds colour pictures of 16 bits that do not use the upper ones, and only"
            " these are read: save them with 8 bits."
        )
    seen.notes = [s.note for s in decoder.scales.values() if s.note]
    if len(seen.kinds) > 1:
        counted = ", ".join(f"{n:,} {kind}" for kind, n in seen.kinds.most_common())
        into = "in colour" if pixels.shape[1] == 3 else "grey"
        seen.notes.append(f"images of several kinds: {counted}; all are read {into}")
    return seen


def on_all_cores(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield the results of work on items, in their order."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Threads, since Pillow decodes and resizes without holding the interpreter's lock.
    pool = ThreadPoolExecutor(cores)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)
