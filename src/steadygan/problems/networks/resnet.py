"""Pre-activation residual networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from ...core.errors import SteadyganError
from ...core.registry import register
from . import blocks
from .blocks import Activation, Critic, CriticNorm, Generator, Norm


class Residual(nn.Module):
    """x -> s(x) + scale · r(x), r = conv3(a(norm(conv3(a(norm(x)))))).

    Maps (B, before, H, W) to (B, after, H, W); s is the identity, or a learned 1x1 convolution
    between channels.

    Args:
        before: channels that come in.
        after: channels that go out.
        norm: how maps are normalised before each activation.
        activation: a.
        scale: of what is added to the shortcut.
    """

    def __init__(
        self, before: int, after: int, norm: CriticNorm, activation: Activation, scale: float
    ) -> None:
        super().__init__()
        hidden = min(before, after)
        self.scale = scale
        self.shortcut = (
            nn.Identity() if before == after else nn.Conv2d(before, after, 1, bias=False)
        )
        self.residual = nn.Sequential(
            *blocks.map_norm(norm, before),
            blocks.activation(activation),
            # Batch normalisation subtracts the mean, and a bias with it: none is learned.
            nn.Conv2d(before, hidden, 3, padding=1, bias=norm != "batch"),
            *blocks.map_norm(norm, hidden),
            blocks.activation(activation),
            nn.Conv2d(hidden, after, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return s(x) + scale · r(x)."""
        return self.shortcut(x) + self.scale * self.residual(x)  # type: ignore[no-any-return]


@register("network", "resnet")
@dataclass(frozen=True)
class ResNet:
    """Pre-activation residual blocks x + 0.1·r(x) between 4x4 maps and images.

    Sides are 8 to 256 and may differ (``pyramid`` in blocks.py says which); ``width`` channels at
    full resolution, doubled at every halving up to 16·width. G: (B, latent) -> linear, (block,
    nearest upsampling) per stage, block, activation, convolution, tanh -> (B, C, H, W) in [-1, 1].
    D: convolution, block, (3x3 average pooling of stride 2, block) per stage, activation, linear ->
    (B,) logits. Weights start as N(0, g²/fan_in), He's rule for the activation, shortcuts as
    N(0, 1/fan_in), biases as 0. The defaults are Mescheder et al.'s architecture;
    ``resnet:activation=relu,norm=batch,critic_norm=batch,residual_scale=1`` is close to Roth et
    al.'s.

    Raises:
        SteadyganError: for width < 1, a residual_scale that is not finite and >= 0, and images that
            doubled maps do not reach.

    >>> import torch
    >>> network = ResNet(width=4)
    >>> G, D = network.generator((3, 32, 32), latent=16), network.critic((3, 32, 32))
    >>> D(G(torch.randn(5, 16))).shape
    torch.Size([5])

    Reference: Mescheder et al. 2018 and the authors' published code.
    """

    width: int = 64
    activation: Activation = "leaky-relu"
    norm: Norm = "none"
    critic_norm: CriticNorm = "none"
    residual_scale: float = 0.1

    def __post_init__(self) -> None:
        blocks.check_choices(self)
        blocks.check_count("width", self.width, 1)
        if not (math.isfinite(self.residual_scale) and self.residual_scale >= 0):
            raise SteadyganError(
                f"residual_scale must be a finite number >= 0, not {self.residual_scale}"
            )

    def generator(self, event: tuple[int, ...], latent: int, classes: int = 0) -> nn.Module:
        """Return G: (B, latent) -> (B, *event) in [-1, 1]; with classes, called as G(z, y)."""
        channels, (_, height, width) = self._channels(event)[::-1], blocks.pyramid(event)
        size = blocks.latent_size(latent, classes)
        layers: list[nn.Module] = [
            nn.Linear(size, channels[0] * height * width),
            nn.Unflatten(1, (channels[0], height, width)),
        ]
        for before, after in pairwise(channels):
            layers += [self._block(before, after, self.norm), nn.Upsample(scale_factor=2)]
        layers += [
            self._block(self.width, self.width, self.norm),
            *blocks.map_norm(self.norm, self.width),
        ]
        layers += [
            blocks.activation(self.activation),
            nn.Conv2d(self.width, event[0], 3, padding=1),
            nn.Tanh(),
        ]
        return self._initialised(Generator(nn.Sequential(*layers), latent, classes))

    def critic(self, event: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return D: (B, *event) -> (B,) logits; with classes, called as D(x, y)."""
        channels, (_, height, width) = self._channels(event), blocks.pyramid(event)
        blocks.check_count("classes", classes, 0)
        layers: list[nn.Module] = [
            nn.Conv2d(event[0], self.width, 3, padding=1),
            self._block(self.width, self.width, self.critic_norm),
        ]
        for before, after in pairwise(channels):
            layers += [
                nn.AvgPool2d(3, stride=2, padding=1),
                self._block(before, after, self.critic_norm),
            ]
        layers += [blocks.activation(self.activation), nn.Flatten()]
        critic = self._initialised(
            Critic(nn.Sequential(*layers), channels[-1] * height * width, event, classes)
        )
        return blocks.spectral(critic) if self.critic_norm == "spectral" else critic

    def _channels(self, event: tuple[int, ...]) -> list[int]:
        return [self.width * min(2**stage, 16) for stage in range(blocks.pyramid(event).stages + 1)]

    def _block(self, before: int, after: int, norm: CriticNorm) -> Residual:
        return Residual(before, after, norm, self.activation, self.residual_scale)

    def _initialised(self, module: nn.Module) -> nn.Module:
        blocks.scaled_init(module, self.activation)
        for layer in module.modules():
            if isinstance(layer, Residual):
                # A shortcut follows no activation: as the first and only layer here, it gets no
                # gain.
                blocks.scaled_init(layer.shortcut, self.activation)
        return module


__all__ = ["ResNet", "Residual"]
