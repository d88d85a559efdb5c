"""A learned point against a bilinear critic: the games whose dynamics have closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.errors import SteadyganError
from ...core.registry import register
from . import blocks


class PointGenerator(nn.Module):
    """G(z) = θ for every z: latents (B, latent) -> (B, d)."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(theta)

    def forward(self, z: Tensor) -> Tensor:
        """Return θ once for each latent."""
        return self.theta.expand(z.shape[0], -1)


class PointCritic(nn.Module):
    """D(x) = xᵀ A ψ with a fixed diagonal A: (B, d) -> (B,)."""

    scales: Tensor

    def __init__(self, psi: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.psi = nn.Parameter(psi)
        self.register_buffer("scales", scales)

    def forward(self, x: Tensor) -> Tensor:
        """Return xᵀ A ψ."""
        return x @ (self.scales * self.psi)


@register("network", "point")
@dataclass(frozen=True)
class Point:
    """A learned point G(z) = θ against the bilinear critic D(x) = xᵀ A ψ.

    In one dimension it is the Dirac-GAN, D(x) = ψx. θ and ψ (d,) start with every component at
    ``theta`` and ``psi``; A is diagonal and fixed, its entries run geometrically from 1 down to
    1/condition. G: (B, latent) -> (B, d), D: (B, d) -> (B,) logits.

    Raises:
        SteadyganError: for start values that are not finite, condition < 1 (or > 1 in one
            dimension), events that are not vectors and classes: one point cannot depend on a label.

    >>> network = Point(theta=2.0, psi=0.5)
    >>> G, D = network.generator((1,), latent=1), network.critic((1,))
    >>> D(G(torch.randn(3, 1))).tolist()
    [1.0, 1.0, 1.0]

    Reference: Mescheder et al. 2018, section 2 (the Dirac-GAN); Daskalakis et al. 2018 (the
    bilinear game).
    """

    theta: float = 1.0
    psi: float = -1.0
    condition: float = 1.0

    def __post_init__(self) -> None:
        for name in ("theta", "psi"):
            if not math.isfinite(getattr(self, name)):
                raise SteadyganError(
                    f"{name}, a start value, must be a finite number, not {getattr(self, name)}"
                )
        if not (math.isfinite(self.condition) and self.condition >= 1):
            raise SteadyganError(
                "condition, the largest over the smallest singular value, must be a finite"
                f" number >= 1, not {self.condition}"
            )

    def generator(self, event: tuple[int, ...], latent: int, classes: int = 0) -> nn.Module:
        """Return G: (B, latent) -> (B, d), which ignores its latents."""
        blocks.check_count("latent", latent, 1)
        return PointGenerator(torch.full((self._size(event, classes),), float(self.theta)))

    def critic(self, event: tuple[int, ...], classes: int = 0) -> nn.Module:
        """Return D: (B, d) -> (B,) logits."""
        size = self._size(event, classes)
        return PointCritic(
            torch.full((size,), float(self.psi)), self.condition ** -torch.linspace(0, 1, size)
        )

    def _size(self, event: tuple[int, ...], classes: int) -> int:
        blocks.check_event(event)
        if len(event) != 1:
            raise SteadyganError(
                f"the point network plays with vectors, event (d,), not {tuple(event)}: use the"
                " mlp for other shapes"
            )
        if classes:
            raise SteadyganError(
                "the point network cannot be conditional: its generator is one point, whatever"
                " the label; use the mlp"
            )
        if event[0] == 1 and self.condition > 1:
            raise SteadyganError(
                "in one dimension there is one singular value, so condition must be 1, not"
                f" {self.condition}"
            )
        return event[0]


__all__ = ["Point", "PointCritic", "PointGenerator"]
