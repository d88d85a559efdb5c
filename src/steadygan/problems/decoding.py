"""Every image of a source into one array of bytes, on all cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..core.errors import SteadyganError
from .cores import MANY, cores, on_all_cores
from .problem import Progress
from .readers import Reading, Source
from .readers.pictures import (
    deep_values,
    is_cut,
    is_deep,
    is_grey,
    reduce,
    to_pixels,
    turned,
    why_broken,
)
from .values import Scale, Span, scale

_CHUNK = 16  # images handed over at once: fewer would cost more than decoding them

_DEEP = " of more than 8 bits"
_DARK = 64  # of 255: what 14 of 16 bits reach


@dataclass
class Seen:
    """What was seen while decoding: why images are broken, and what the others are."""

    broken: dict[int, str] = field(default_factory=dict)
    heavy: list[int] = field(default_factory=list)  # to be decoded alone
    waiting: list[int] = field(default_factory=list)  # for a scale, which all images decide
    spans: dict[bool, Span] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    brightest_cut: int = -1
    notes: list[str] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        """Add what was seen of other images."""
        self.broken |= other.broken
        self.heavy += other.heavy
        self.waiting += other.waiting
        self.spans |= {kind: span.join(self.spans.get(kind)) for kind, span in other.spans.items()}
        self.kinds += other.kinds
        self.sizes |= other.sizes
        self.brightest_cut = max(self.brightest_cut, other.brightest_cut)

    def check_range(self, reading: Reading) -> None:
        """Note a range of values that was given and has no use."""
        if reading.limits and not any(_DEEP in kind for kind in self.kinds):
            self.notes.append("all images have 8 bits, so that --value-range has no effect")


class _Decoder:
    """Decodes images of a source into an array of pixels, a few at a call."""

    def __init__(self, source: Source, pixels: np.ndarray, reading: Reading) -> None:
        self.source, self.pixels, self.reading = source, pixels, reading
        self.channels, *self.sides = pixels.shape[1:]
        self.scales: dict[bool, Scale] = {}
        if limits := reading.limits or source.limits:
            self.scales = dict.fromkeys((False, True), Scale(*limits))
        # What all cores take at once stays below the limit, too.
        self.share = reading.bytes // cores()

    def __call__(self, chunk: Sequence[int], alone: bool = False) -> Seen:
        """Return what is seen of some images, decoded here; heavy ones only if ``alone``."""
        seen = Seen()
        for i in chunk:
            try:
                if alone or self.source.size(i) <= self.share:
                    self._decode(i, seen, alone)
                else:
                    seen.heavy.append(i)
            # Pillow's decoders raise nearly every kind of exception on damaged files; whichever
            # it is, this image is broken.
            except Exception as error:
                seen.broken[i] = why_broken(error)
        return seen

    def _decode(self, i: int, seen: Seen, alone: bool) -> None:
        image = self.source.open(i)
        if isinstance(image, np.ndarray):
            height, width = image.shape[:2]
            self._put(i, image, (width, height), "grey" if image.ndim == 2 else "colour", seen)
            return
        with image:
            size, kind = image.size, "grey" if is_grey(image) else "colour"
            reduce(image, max(self.sides))
            much = image.width * image.height * 4
            if much > self.reading.bytes:
                raise ValueError(f"it {self.reading.over(much)}")
            if much > self.share and not alone:
                seen.heavy.append(i)
                return
            cut = is_cut(image)
            decoded = turned(image)
            if is_deep(decoded):
                values, clear = deep_values(decoded), decoded.info.get("transparency")
                self._put(i, values, size, kind, seen, None if clear is None else values == clear)
            else:
                self._put(i, decoded, size, kind, seen)
            if cut:
                seen.brightest_cut = max(seen.brightest_cut, int(self.pixels[i].max()))

    def _put(
        self,
        i: int,
        image: Image.Image | np.ndarray,
        size: tuple[int, int],
        kind: str,
        seen: Seen,
        clear: np.ndarray | None = None,
    ) -> None:
        """Write one image's pixels, white where it is clear, or note that it waits for a scale."""
        if min(size) < 2:
            raise ValueError(f"it measures {size[0]} x {size[1]} pixels")
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8:
                kind += _DEEP
                floats = image.dtype.kind == "f"
                if floats not in self.scales:
                    seen.spans[floats] = Span.of(image).join(seen.spans.get(floats))
                    seen.waiting.append(i)
                    return
                image = self.scales[floats](image)
                if clear is not None:
                    image[clear] = 255
            image = Image.fromarray(image)
        self.pixels[i] = to_pixels(image, (self.sides[0], self.sides[1]), self.channels)
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

    def add(part: Seen) -> None:
        for i, reason in part.broken.items():
            if reading.broken == "refuse":
                raise SteadyganError(
                    f"{source.name(i)} is broken: {reason}. Mend or remove it, or leave out what"
                    " is broken with broken=skip (--broken skip)."
                )
        seen.add(part)
        if progress is not None:
            progress(done - len(seen.heavy), len(everything))

    while everything:
        chunks = [everything[k : k + _CHUNK] for k in range(0, len(everything), _CHUNK)]
        processes, done = source.forks and len(everything) >= MANY, 0
        for chunk, part in zip(chunks, on_all_cores(decoder, chunks, processes), strict=True):
            done += len(chunk)
            add(part)
        while seen.heavy:
            add(decoder([seen.heavy.pop()], alone=True))
        # Those of more than 8 bits come last, when the span of all of them is known.
        decoder.scales |= {kind: scale(span, where) for kind, span in seen.spans.items()}
        everything, seen.waiting, seen.spans = seen.waiting, [], {}
    if 0 <= seen.brightest_cut < _DARK:
        raise SteadyganError(
            f"{where} holds colour pictures of 16 bits that do not use the upper ones, and only"
            " these are read: save them with 8 bits."
        )
    seen.notes = [s.note for s in decoder.scales.values() if s.note]
    seen.check_range(reading)
    if len(seen.kinds) > 1:
        counted = ", ".join(f"{n:,} {kind}" for kind, n in seen.kinds.most_common())
        into = "in colour" if pixels.shape[1] == 3 else "grey"
        seen.notes.append(f"images of several kinds: {counted}; all are read {into}")
    return seen
