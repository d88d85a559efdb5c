"""Features of images: what the distances are measured in.

Registered as ``features``; one's own are ``my_features.py:extractor``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import SteadyganError
from ..core.gradients.paths import precise
from ..core.registry import base, build, register, spec
from ..problems.problem import Progress
from .weights import sha256

_ON_GPU = 100
"""Images that a GPU takes at once, at least."""


class Extracted(NamedTuple):
    """The features (N, D) float32 of N images, and probabilities (N, K) of classes, if any."""

    features: Tensor
    probabilities: Tensor | None = None


def resize(x: Tensor, size: int) -> Tensor:
    """Return images (B, C, H, W) at size x size by bilinear interpolation, antialiased.

    Its support grows with the reduction.

    Without it, a reduction by s reads 2 of every s pixels and skips the rest: fine stripes turn
    into broad ones, and features with them.

    >>> stripes = torch.tensor([0.0, 1.0]).repeat(32).expand(1, 1, 64, 64)
    >>> float(resize(stripes, 16)[..., 4:-4].std()) < 1e-6  # an even grey
    True

    Reference: Parmar, Zhang and Zhu 2022, "On aliased resizing and surprising subtleties in GAN
    evaluation", arXiv:2104.11222.
    """
    if x.shape[-2:] == (size, size):
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def to_float(pixels: Tensor) -> Tensor:
    """Return pixels (B, C, H, W) uint8 as the floats x = pixels / 127.5 - 1 in [-1, 1]."""
    return pixels.float().div_(127.5).sub_(1)


def to_bytes(x: Tensor) -> Tensor:
    """Return images in [-1, 1] as uint8, rounded as a saved picture is.

    Raises SteadyganError where one is not finite.

    >>> to_bytes(torch.tensor([-1.0, 0.0, 1.0, 3.0]))
    tensor([  0, 128, 255, 255], dtype=torch.uint8)
    """
    if not x.isfinite().all():
        raise SteadyganError(
            "a generated image is not finite: the generator has blown up, and nothing can be"
            " measured of it."
        )
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte()


@base("features")
class Features:
    """Base of every extractor.

    A registered frozen dataclass that turns images (B, C, H, W) in [-1, 1] into features (B, D).

    ``name`` is what results call it, ``preparation`` says what is done to an image first, ``batch``
    is how many the network takes at once, ``device`` where it does, ``classes`` whether it gives
    probabilities of classes too.
    """

    preparation: str = ""
    batch: int = 64
    device: str = "cpu"
    classes: bool = False

    @property
    def name(self) -> str:
        """What results call the extractor: its spec."""
        return spec(self)

    @property
    def identity(self) -> str:
        """What the features depend on besides the images: the spec and the hash of the weights."""
        return self.name

    def check(self) -> None:
        """Raise SteadyganError, with what to do, where the features cannot be taken.

        Before any time is spent.
        """

    def extract(self, x: Tensor) -> Extracted:
        """Return the features (B, D) of images (B, C, H, W) in [-1, 1].

        Also the probabilities (B, K) of classes where there are any.
        """
        raise NotImplementedError


class NetworkFeatures(Features):
    """Base of the extractors that are a network with a file of weights.

    Both are looked up on first use and kept; on a GPU where there is one.
    """

    size: int

    @property
    def device(self) -> str:  # type: ignore[override]
        """Where the network is."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def preparation(self) -> str:  # type: ignore[override]
        """What is done to an image before the network sees it."""
        return f"bilinear to {self.size} x {self.size}, antialiased"

    @property
    def identity(self) -> str:
        """The spec and the hash of the weights."""
        return f"{self.name} {sha256(self.find())}"

    def find(self) -> Path:
        """Return the file of weights.

        Raises:
            SteadyganError: Where there is none, with what to do.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Find the weights and build the network."""
        _ = self.network

    def build_network(self) -> nn.Module:
        """Return the network with its weights, ready for evaluation."""
        raise NotImplementedError

    @property
    def network(self) -> nn.Module:
        """The network, built on first use."""
        # functools.cached_property refuses frozen dataclasses; like it, this keeps the value past
        # the fields and out of comparisons.
        if "_network" not in self.__dict__:
            self.__dict__["_network"] = self.build_network().to(self.device)
        return self.__dict__["_network"]  # type: ignore[no-any-return]

    def prepare(self, x: Tensor) -> Tensor:
        """Return images (B, 3, size, size): grey ones repeated in three channels, then resized."""
        return resize(x.expand(-1, 3, -1, -1), self.size)


@register("features", "pixels")
@dataclass(frozen=True)
class Pixels(Features):
    """The pixels themselves, flattened: D = C H W. ``size`` reduces them first (antialiased).

    They know nothing of content.

    >>> Pixels(size=4).extract(torch.zeros(2, 3, 8, 8)).features.shape
    torch.Size([2, 48])

    Reference: none needed.
    """

    size: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise SteadyganError(f"size must be at least 1 pixel, not {self.size}")

    @property
    def name(self) -> str:
        """What results call it."""
        return f"pixels:size={self.size}" if self.size else "pixels"

    @property
    def preparation(self) -> str:  # type: ignore[override]
        """What is done to an image before it is flattened."""
        return f"bilinear to {self.size} x {self.size}, antialiased" if self.size else "none"

    def extract(self, x: Tensor) -> Extracted:
        """Return the pixels (B, C H W) in [-1, 1]."""
        return Extracted((resize(x, self.size) if self.size else x).flatten(1))


class OwnFeatures(Features):
    """A user's function: images (B, C, H, W) in [-1, 1] to features (B, D)."""

    preparation = "the extractor's own"

    def __init__(self, path: Path, function: str) -> None:
        self._path, self._name = path, function
        module = importlib.util.spec_from_file_location(path.stem, path)
        if module is None or module.loader is None or not path.is_file():
            raise SteadyganError(f"--features {path}:{function}: there is no such file.")
        found = importlib.util.module_from_spec(module)
        sys.modules[path.stem] = found  # dataclasses look their module up there
        module.loader.exec_module(found)
        self._extract = getattr(found, function, None)
        if not callable(self._extract):
            choices = [
                name
                for name, value in vars(found).items()
                if callable(value) and not name.startswith("_")
            ]
            raise SteadyganError(
                f"{path} defines no function {function!r}; it defines:"
                f" {', '.join(choices) or 'none'}."
            )

    @property
    def name(self) -> str:
        """The spelling that names it."""
        return f"{self._path.name}:{self._name}"

    @property
    def identity(self) -> str:
        """The spelling and the hash of the file."""
        return f"{self.name} {sha256(self._path)}"

    def extract(self, x: Tensor) -> Extracted:
        """Return what the function returns, checked: (B, D)."""
        found = torch.as_tensor(self._extract(x))  # type: ignore[misc]
        if found.ndim != 2 or len(found) != len(x):
            raise SteadyganError(
                f"{self.name} must return features of shape ({len(x)}, D), not"
                f" {tuple(found.shape)}."
            )
        return Extracted(found)


def build_features(given: str | Features) -> Features:
    """Return an extractor from its spec, or from a file of one's own.

    They are spelled ``effnet-lite0`` and ``my_features.py:extractor``.

    Such a file is run, so give only one that you trust. Raises SteadyganError for an unknown name,
    with the choices.

    >>> build_features("pixels:size=8")
    Pixels(size=8)
    """
    own = re.fullmatch(r"(.+\.py):(\w+)", given) if isinstance(given, str) else None
    return OwnFeatures(Path(own[1]), own[2]) if own else build("features", given)


@torch.inference_mode()
def extract(
    pixels: np.ndarray | Tensor, features: Features, progress: Progress | None = None
) -> Extracted:
    """Return the features (N, D) float32 of images (N, C, H, W) uint8, a batch at a time.

    On a GPU too in single precision, so that distances are the same up to rounding;
    ``progress(done, total)`` after each batch.
    """
    if len(pixels) < 1:
        raise SteadyganError("there are no images to take features of")
    device = torch.device(features.device)
    rows = features.batch if device.type == "cpu" else max(features.batch, _ON_GPU)
    parts = []
    with precise(device):
        for start in range(0, len(pixels), rows):
            x = to_float(torch.as_tensor(pixels[start : start + rows])).to(device)
            found = features.extract(x)
            known = found.probabilities
            parts.append(Extracted(found.features.cpu(), None if known is None else known.cpu()))
            if progress is not None:
                progress(min(start + rows, len(pixels)), len(pixels))
    rest = [part.probabilities for part in parts if part.probabilities is not None]
    return Extracted(
        torch.cat([part.features for part in parts]).float(),
        torch.cat(rest).float() if rest else None,
    )


def fingerprint(pixels: np.ndarray | Tensor) -> str:
    """Return the SHA-256 of images (N, C, H, W) uint8, their order and shape included."""
    array = np.ascontiguousarray(pixels)
    return hashlib.sha256(
        repr((array.shape, array.dtype.str)).encode() + array.tobytes()
    ).hexdigest()


__all__ = [
    "Extracted",
    "Features",
    "NetworkFeatures",
    "OwnFeatures",
    "Pixels",
    "Progress",
    "build_features",
    "extract",
]
__all__ += ["fingerprint", "resize", "to_bytes", "to_float"]
