"""Features that have been taken once are kept on disk.

They lie under the hash of the images and of the extractor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..problems.cache import cache_folder
from ..runs.files import Unwritable, clear, make_folder, whole
from .features import Features, Progress, extract, fingerprint
from .statistics import Statistics


class Measured(NamedTuple):
    """What the distances take of a set of images.

    Features (N, D) float32, class probabilities (N, K) or None, and the statistics.
    """

    features: Tensor
    probabilities: Tensor | None
    statistics: Statistics


def measure(pixels: np.ndarray, features: Features, progress: Progress | None = None) -> Measured:
    """Return the features and statistics of images (N, C, H, W) uint8."""
    taken = extract(pixels, features, progress)
    return Measured(
        taken.features, taken.probabilities, Statistics.stream(taken.features.split(4096))
    )


def cached(pixels: np.ndarray, features: Features, progress: Progress | None = None) -> Measured:
    """Return the features and statistics of images (N, C, H, W) uint8, from the cache or for it.

    The file is named after the SHA-256 of the images (order and shape included), of the extractor's
    spec and of its weights. A file that is damaged is made again; a cache that cannot be written
    costs time only.
    """
    key = f"{features.identity}|{features.preparation}|{fingerprint(pixels)}"
    path = cache_folder() / "features" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    held = _read(path, key)
    if held is None:
        held = measure(pixels, features, progress)
        _write(path, held, key)
    return held


def _read(path: Path, key: str) -> Measured | None:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - the file is no mapping
            if file.metadata() != _label(key, tensors):
                return None
        statistics = Statistics(len(tensors["features"]), tensors["mean"], tensors["scatter"])
        return Measured(tensors["features"], tensors.get("probabilities"), statistics)
    except (OSError, SafetensorError, KeyError):
        return None


def _write(path: Path, held: Measured, key: str) -> None:
    tensors = {
        "features": held.features,
        "mean": held.statistics.mean,
        "scatter": held.statistics.scatter,
    }
    if held.probabilities is not None:
        tensors["probabilities"] = held.probabilities
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = save(tensors, metadata=_label(key, tensors))
    with suppress(Unwritable):
        make_folder(path.parent)
        clear(path.parent)
        with whole(path) as file:
            file.write(content)


def _label(key: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return what a file says of itself: whose features it holds, and a sum of all its numbers."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        numbers = tensors[name].numpy()
        digest.update(f"{name} {numbers.dtype} {numbers.shape} ".encode())
        digest.update(memoryview(np.ascontiguousarray(numbers)))  # type: ignore[arg-type]
    return {"of": key, "sum": digest.hexdigest()}
