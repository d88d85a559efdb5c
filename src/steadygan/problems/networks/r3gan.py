"""R3GAN's networks: residual blocks of grouped convolutions, without normalisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import SteadyganError
from ...core.registry import register
from . import blocks
from .blocks import GAINS, Critic, Generator

_EXPANSION = 2
"""How many times as many channels a block has inside."""
_FULL = 4
"""How many of the coarsest stages have all channels; each finer one has half of those before."""


class Bottleneck(nn.Module):
    """x + r(x), r = conv1(a(groups of conv3(a(conv1(x))))): an inverted bottleneck, wide inside.

    Maps (B, channels, H, W) to the same shape; a is leaky-relu with slope 0.2, its biases those of
    the convolutions before it.

    Args:
        channels: of the maps; inside there are twice as many.
        group: how many of those inside meet in the 3x3 convolution.
        total: how many blocks the network has in a row; the more, the smaller r starts.

    Reference: Zhang et al. 2019, Fixup Initialization (the last convolution starts at 0, the others
    are scaled by total^(-1/4)).
    """

    def __init__(self, channels: int, group: int, total: int) -> None:
        super().__init__()
        inside, gain = channels * _EXPANSION, GAINS["leaky-relu"] * total**-0.25
        self.residual = nn.Sequential(
            _start(nn.Conv2d(channels, inside, 1), gain),
            blocks.activation("leaky-relu"),
            _start(nn.Conv2d(inside, inside, 3, padding=1, groups=inside // group), gain),
            blocks.activation("leaky-relu"),
            _start(nn.Conv2d(inside, channels, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return x + r(x)."""
        return x + self.residual(x)  # type: ignore[no-any-return]


class Resample(nn.Module):
    """Maps (B, channels, H, W) at twice or half the resolution, by the filter [1, 3, 3, 1] / 8.

    The filter runs along both sides; beyond the edges there are zeros.

    Args:
        channels: of the maps.
        up: double the resolution; else halve it.
    """

    kernel: Tensor

    def __init__(self, channels: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if up else 8)
        kernel = torch.outer(line, line).repeat(channels, 1, 1, 1)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the resampled maps."""
        convolve = F.conv_transpose2d if self.up else F.conv2d
        return convolve(x, self.kernel, stride=2, padding=1, groups=len(self.kernel))


class Basis(nn.Module):
    """Learned maps (channels, H, W), each scaled by a linear function of the input (B, size).

    Args:
        size: length of the input.
        channels: how many maps.
        height: of the maps.
        width: of the maps.
    """

    def __init__(self, size: int, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, height, width))
        self.scales = _start(nn.Linear(size, channels, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, channels, H, W)."""
        return self.maps * self.scales(x)[..., None, None]  # type: ignore[no-any-return]


@register("network", "r3gan")
@dataclass(frozen=True)
class R3GAN:
    """Bottlenecks x + r(x) without normalisation between 4x4 maps and images.

    Sides are 8 to 256 and may differ (``pyramid`` in blocks.py says which). The four coarsest
    stages have ``width`` channels, each finer one half of those before; each has ``depth``
    bottlenecks, whose 3x3 convolution lets ``group`` channels meet. G: (B, latent) -> basis of 4x4
    maps, blocks, (1x1 convolution where channels change, doubling, blocks) per stage, 1x1
    convolution -> (B, C, H, W), of any size; D: its mirror image, (B, C, H, W) -> (B,) logits.
    Weights start as N(0, g²/fan_in), every r as 0. The defaults are the published networks for
    CIFAR-10 and FFHQ; ``r3gan:width=1536,group=32`` are those for ImageNet. With classes the class
    enters as in all networks here.

    Raises:
        SteadyganError: for settings below 1, groups that do not divide the channels of a stage, and
            images that doubled maps do not reach.

    >>> network = R3GAN(width=16)
    >>> G, D = network.generator((3, 32, 32), latent=16), network.critic((3, 32, 32))
    >>> D(G(torch.randn(5, 16))).shape
    torch.Size([5])

    Reference: Huang et al. 2024, The GAN is dead; long live the GAN, and the authors' published
    code.
    """

    width: int = 768
    depth: int = 2
    group: int = 16

    def __post_init__(self) -> None:
        for name in ("width", "depth", "group"):
            blocks.check_count(name, getattr(self, name), 1)

    def generator(self, event: tuple[int, ...], latent: int, classes: int = 0) -> nn.Module:
        """Return G: (B, latent) -> (B, *event); with classes, called as G(z, y)."""
        channels, (_, height, width) = self._channels(event), blocks.pyramid(event)
        size = blocks.latent_size(latent, classes)
        basis = Basis(size, channels[0], height, width)
        layers: list[nn.Module] = [basis, *self._stage(channels, 0)]
        for stage, (before, after) in enumerate(pairwise(channels), 1):
            layers += [*_changed(before, after), Resample(after, up=True)]
            layers += self._stage(channels, stage)
        layers.append(_to(channels[-1], event[0]))
        return Generator(nn.Sequential(*layers), latent, classes)

    def critic(self, event: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return D: (B, *event) -> (B,) logits; with classes, called as D(x, y)."""
        channels, (_, height, width) = self._channels(event)[::-1], blocks.pyramid(event)
        blocks.check_count("classes", classes, 0)
        layers: list[nn.Module] = [_to(event[0], channels[0]), *self._stage(channels, 0)]
        for stage, (before, after) in enumerate(pairwise(channels), 1):
            layers += [Resample(before, up=False), *_changed(before, after)]
            layers += self._stage(channels, stage)
        last = channels[-1]
        basis = nn.Conv2d(last, last, (height, width), groups=last, bias=False)
        layers += [_start(basis), nn.Flatten()]
        critic = Critic(nn.Sequential(*layers), last, event, classes, bias=False)
        for head in (critic.head, critic.class_heads):
            if head is not None:
                _start(head)
        return critic

    def _channels(self, event: tuple[int, ...]) -> list[int]:
        """Return the channels of each stage, the coarsest first."""
        stages = blocks.pyramid(event).stages + 1
        finest = 2 ** max(0, stages - _FULL)
        if self.width % finest or self.width * _EXPANSION // finest % self.group:
            step = math.lcm(finest, finest * self.group // math.gcd(_EXPANSION, self.group))
            raise SteadyganError(
                f"r3gan of width {self.width} has no whole groups of {self.group} at"
                f" {event[1]} x {event[2]}: take a width that {step} divides, or a smaller group"
            )
        return [self.width // 2 ** max(0, stage - _FULL + 1) for stage in range(stages)]

    def _stage(self, channels: list[int], stage: int) -> list[nn.Module]:
        total = self.depth * len(channels)
        return [Bottleneck(channels[stage], self.group, total) for _ in range(self.depth)]


def _to(before: int, after: int) -> nn.Module:
    return _start(nn.Conv2d(before, after, 1, bias=False))


def _changed(before: int, after: int) -> list[nn.Module]:
    return [] if before == after else [_to(before, after)]


def _start(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Module:
    """Return a layer with weights drawn from N(0, gain²/fan_in), and biases 0."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


__all__ = ["R3GAN", "Basis", "Bottleneck", "Resample"]
