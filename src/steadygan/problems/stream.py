"""Images as an endless stream in a reproducible order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..core.context import Samples
from ..core.errors import SteadyganError


def to_floats(pixels: Tensor) -> Tensor:
    """Return uint8 pixels as float32 in [-1, 1], as networks see them."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)


class EpochStream:
    """An endless stream of images, each once an epoch in a fresh order.

    x = pixels / 127.5 - 1, float32 (n, C, H, W) in [-1, 1]; labels int64 (n,). Order and horizontal
    flips depend on the seed and the epoch alone, so neither the sizes of the batches nor a restored
    position, the number of samples drawn so far, change the sequence of samples.

    >>> pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    >>> stream = EpochStream(pixels, None, flip=False, seed=0)
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

    def draw(self, n: int) -> Samples:
        """Return the next n samples, at least one; batches straddle epochs."""
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
        # Contiguous, because the pixels may be a view of an array in another order.
        images = torch.from_numpy(np.ascontiguousarray(self._pixels[index]))
        mirror = torch.from_numpy(np.concatenate(flipped))
        images[mirror] = images[mirror].flip(-1)
        labels = None if self._labels is None else torch.from_numpy(self._labels[index])
        return Samples(to_floats(images), labels)

    def state(self) -> dict[str, Tensor]:
        """Return the number of samples drawn so far."""
        return {"position": torch.tensor(self._position)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved number of samples.

        Raises:
            SteadyganError: where the state is of another kind of stream.
        """
        if "position" not in state or int(state["position"]) < 0:
            raise SteadyganError(
                f"This is no position in a stream of images: {state}. It was saved with another"
                " problem; start a new run."
            )
        self._position = int(state["position"])
