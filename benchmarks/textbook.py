"""GANs as public codebases train them, written by us as what steadygan is measured against.

Real and generated samples go through D on their own; the loss and the penalty are two
``backward()`` calls, the penalty by double backward (``autograd.grad(create_graph=True)``); plain
``torch.optim.Adam``; fresh latents for both updates; each network's parameters are frozen while the
other one learns. The Dirac-GAN is simulated one trajectory at a time, in a Python loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

PENALTIES = {
    "none": (),
    "r1": ("real",),
    "r1r2": ("real", "fake"),
    "js": ("real", "fake"),
    "wgan-gp": ("between",),
}
"""Where each penalty looks."""


class Textbook:
    """A generator, a critic and their training. draw: (real samples, latents) of an update. gamma:
    in steadygan's units, gamma/2 E[...]."""

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        draw: Callable[[], tuple[Tensor, Tensor]],
        *,
        objective: str,
        penalty: str,
        gamma: float,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    ) -> None:
        self.generator, self.critic, self.draw = generator, critic, draw
        self.objective, self.penalty, self.gamma = objective, penalty, gamma
        self.generator_optimizer, self.critic_optimizer = (
            optimizer(generator.parameters()),
            optimizer(critic.parameters()),
        )

    def step(self) -> None:
        """Train both once."""
        real, z = self.draw()
        self.critic_optimizer.zero_grad()
        with torch.no_grad():
            fake = self.generator(z)
        self.critic_backward(real, fake)
        self.critic_optimizer.step()

        _, z = self.draw()
        self.generator_optimizer.zero_grad()
        self.generator_backward(z)
        self.generator_optimizer.step()

    def critic_backward(self, real: Tensor, fake: Tensor) -> None:
        """Add the gradient of the critic's loss to its ``.grad``."""
        _freeze(self.generator, True)
        _freeze(self.critic, False)
        for name, samples in (("real", real), ("fake", fake)):
            looked_at = name in PENALTIES[self.penalty]
            x = samples.detach().requires_grad_(looked_at)
            logits = self.critic(x)
            self._loss(logits, name == "real").backward(retain_graph=looked_at)
            if looked_at:
                size = _squared_slope(logits, x)
                if self.penalty == "js":
                    size = torch.sigmoid(-logits if name == "real" else logits).pow(2) * size
                (self.gamma / 2 * size.mean()).backward()
        if self.penalty == "wgan-gp":
            mix = torch.rand(len(real), dtype=real.dtype).view(-1, *[1] * (real.ndim - 1))
            x = (mix * real + (1 - mix) * fake).detach().requires_grad_()
            (
                self.gamma / 2 * (_squared_slope(self.critic(x), x).sqrt() - 1).pow(2).mean()
            ).backward()

    def generator_backward(self, z: Tensor) -> None:
        """Add the gradient of the generator's loss to its ``.grad``."""
        _freeze(self.generator, False)
        _freeze(self.critic, True)
        logits = self.critic(self.generator(z))
        # The saturating loss is the critic's own on generated samples, turned round.
        loss = (
            -self._loss(logits, False) if self.objective == "minimax" else self._loss(logits, True)
        )
        loss.backward()

    def _loss(self, logits: Tensor, real: bool) -> Tensor:
        if self.objective == "wasserstein":
            return -logits.mean() if real else logits.mean()
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def _freeze(module: nn.Module, frozen: bool) -> None:
    for p in module.parameters():
        p.requires_grad_(not frozen)


def _squared_slope(logits: Tensor, x: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.pow(2).flatten(1).sum(1)


# ------------------------------------------------------------ the Dirac-GAN: minimax, R1,
# simultaneous descent


def dirac_autograd(
    theta: float, psi: float, *, gamma: float, lr: float, steps: int
) -> tuple[float, float]:
    """Follow one trajectory with a network of one parameter each, autograd and torch's SGD, like a
    GAN of any size."""
    generator, critic = (
        nn.Parameter(torch.tensor([[value]], dtype=torch.float64)) for value in (theta, psi)
    )
    optimizers = [torch.optim.SGD([p], lr=lr) for p in (generator, critic)]
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        real = zero.clone().requires_grad_()
        logits = real @ critic
        fake_logits = generator.detach() @ critic
        loss = F.binary_cross_entropy_with_logits(logits, one) + F.binary_cross_entropy_with_logits(
            fake_logits, zero
        )
        (loss + gamma / 2 * _squared_slope(logits, real).mean()).backward()
        (-F.binary_cross_entropy_with_logits(generator @ critic.detach(), zero)).backward()
        for optimizer in optimizers:
            optimizer.step()
    return generator.item(), critic.item()


def dirac_numpy(
    theta: float, psi: float, *, gamma: float, lr: float, steps: int
) -> tuple[float, float]:
    """Follow one trajectory by derivatives worked out by hand, in NumPy arrays of one number."""
    point = np.array([theta]), np.array([psi])
    for _ in range(steps):
        weight = 1 / (1 + np.exp(-point[0] * point[1]))
        point = (
            point[0] + lr * point[1] * weight,
            point[1] - lr * (point[0] * weight + gamma * point[1]),
        )
    return float(point[0][0]), float(point[1][0])


def dirac_floats(
    theta: float, psi: float, *, gamma: float, lr: float, steps: int
) -> tuple[float, float]:
    """Follow one trajectory by derivatives worked out by hand, in Python's floats: as little as a
    loop can do."""
    for _ in range(steps):
        weight = 1 / (1 + math.exp(-theta * psi))
        theta, psi = theta + lr * psi * weight, psi - lr * (theta * weight + gamma * psi)
    return theta, psi
