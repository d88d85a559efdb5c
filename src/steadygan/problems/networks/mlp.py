"""Fully connected networks, for samples of any shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ...core.errors import SteadyganError
from ...core.registry import register
from . import blocks
from .blocks import Activation, Critic, CriticNorm, Generator, Norm


@register("network", "mlp")
@dataclass(frozen=True)
class MLP:
    """Fully connected networks with equal hidden layers, h ← a(norm(W h + b)), linear at the end.

    Samples may have any shape. G: (B, latent) -> (B, *event), D: (B, *event) -> (B,) logits;
    ``depth`` counts hidden layers, ``width`` their units. The defaults are Roth et al.'s networks
    for the 3-D mixture (``init`` truncated-normal: std 0.1 cut at ±0.2, biases 0);
    ``mlp:width=16,depth=4,activation=relu,init=torch`` are Mescheder et al.'s for 2-D densities
    (``init`` torch: PyTorch's own).

    Batch normalisation leaves the critic's first layer out, as the DCGAN's authors do: with it a
    batch a x + b had the logits of x for every a > 0 and b, and where samples lie would not matter.

    Raises:
        SteadyganError: for width < 1, depth < 0, layer normalisation of one unit, which is
            constant, and a critic whose batch normalisation has no second layer to stand in.

    >>> import torch
    >>> network = MLP(width=16, depth=4, activation="relu", init="torch")
    >>> G, D = network.generator((2,), latent=8), network.critic((2,))
    >>> D(G(torch.randn(5, 8))).shape
    torch.Size([5])

    Reference: the authors' published code of Roth et al. 2017; Mescheder et al. 2018.
    """

    width: int = 128
    depth: int = 2
    activation: Activation = "tanh"
    norm: Norm = "none"
    critic_norm: CriticNorm = "none"
    init: Literal["truncated-normal", "torch"] = "truncated-normal"

    def __post_init__(self) -> None:
        blocks.check_choices(self)
        blocks.check_count("width", self.width, 1)
        blocks.check_count("depth", self.depth, 0)
        if self.width == 1 and "layer" in (self.norm, self.critic_norm):
            raise SteadyganError(
                "layer normalisation over one unit is constant: take width >= 2 or another norm"
            )
        if self.critic_norm == "batch" and self.depth < 2:
            raise SteadyganError(
                "batch normalisation in the critic's first layer hides where samples lie and how"
                " large they are: take depth >= 2, where it begins in the second, or another"
                " critic_norm"
            )

    def generator(self, event: tuple[int, ...], latent: int, classes: int = 0) -> nn.Module:
        """Return G: (B, latent) -> (B, *event); with classes, called as G(z, y)."""
        blocks.check_event(event)
        layers, size = self._hidden(blocks.latent_size(latent, classes), self.norm, self.norm)
        body = nn.Sequential(
            *layers, nn.Linear(size, math.prod(event)), nn.Unflatten(1, tuple(event))
        )
        return self._initialised(Generator(body, latent, classes))

    def critic(self, event: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return D: (B, *event) -> (B,) logits; with classes, called as D(x, y)."""
        blocks.check_event(event)
        blocks.check_count("classes", classes, 0)
        first = "none" if self.critic_norm == "batch" else self.critic_norm
        layers, size = self._hidden(math.prod(event), self.critic_norm, first)
        critic = self._initialised(
            Critic(nn.Sequential(nn.Flatten(), *layers), size, event, classes)
        )
        return blocks.spectral(critic) if self.critic_norm == "spectral" else critic

    def _hidden(
        self, size: int, norm: CriticNorm, first: CriticNorm
    ) -> tuple[list[nn.Module], int]:
        layers: list[nn.Module] = []
        for here in [first, *[norm] * (self.depth - 1)][: self.depth]:
            # Batch normalisation subtracts the mean, and a bias with it: none is learned.
            layers.append(nn.Linear(size, self.width, bias=here != "batch"))
            layers += [*blocks.vector_norm(here, self.width), blocks.activation(self.activation)]
            size = self.width
        return layers, size

    def _initialised(self, module: nn.Module) -> nn.Module:
        if self.init == "truncated-normal":
            blocks.truncated_init(module)
        return module


__all__ = ["MLP"]
