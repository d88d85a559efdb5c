"""What the doctor sees of the networks themselves, before any spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from ..core.context import Context, Samples
from ..core.game import Game
from ..core.players import Batch, Name
from ..core.players.base import generate
from ..core.reading import Reading
from ..core.scores import score, squared_norm
from .ends import bounded
from .gan import moved_to, twins
from .linearize import copied


def slopes(
    networks: Mapping[Name, nn.Module], batch: Batch, reading: Reading = "auto"
) -> dict[str, dict[str, float]]:
    """Return mean and quartiles of ||grad D|| on real and on generated samples."""
    found = {}
    for where, samples in _sides(networks, batch).items():
        with torch.no_grad():
            gradient = score(networks["critic"], samples, gradient=True, reading=reading).gradient
        assert gradient is not None
        norms = squared_norm(gradient).sqrt().double().cpu()
        low, middle, high = norms.quantile(
            torch.tensor([0.25, 0.5, 0.75], dtype=norms.dtype)
        ).tolist()
        found[where] = {
            "mean": norms.mean().item(),
            "lower_quartile": low,
            "median": middle,
            "upper_quartile": high,
        }
    return found


def logits(
    networks: Mapping[Name, nn.Module], batch: Batch, reading: Reading = "auto"
) -> dict[str, float | str | None]:
    """Return the range of the logits on both kinds of samples, and what bounds them, or None."""
    sides = _sides(networks, batch)
    with torch.no_grad():
        judged = (score(networks["critic"], x, reading=reading) for x in sides.values())
        seen = torch.cat([each.logits for each in judged])
    return {
        "lowest": seen.min().item(),
        "highest": seen.max().item(),
        "bounded": bounded(networks["critic"], sides["real"], reading),
    }


def gap(
    game: Game,
    networks: Mapping[Name, nn.Module],
    batch: Batch,
    context: Callable[[], Context],
    original: nn.Module,
    optimizers: Mapping[Name, torch.optim.Optimizer] | None,
    rates: Mapping[Name, float],
    steps: int,
) -> dict[str, float]:
    """Return what a copy of the critic gains by more steps of its own.

    On this batch, against this generator.
    """
    fake, critic = _generated(networks["generator"], batch), copied(original)
    trainable = [p for p in critic.parameters() if p.requires_grad]
    own = moved_to(optimizers["critic"], twins(original, critic)) if optimizers else None
    # What does not train makes no steps.
    steps = steps if trainable else 0
    optimizer = own or torch.optim.SGD(trainable or [torch.zeros(0)], rates["critic"])

    def look() -> tuple[Tensor, list[Tensor], float]:
        loss = game.critic_loss(critic, batch.real, fake, labels=batch.labels, at=context())
        if not loss.requires_grad or not trainable:
            return loss, [torch.zeros_like(p) for p in trainable], 0.0
        pulls = list(
            torch.autograd.grad(loss, trainable, allow_unused=True, materialize_grads=True)
        )
        return loss, pulls, math.sqrt(sum(float(g.square().sum()) for g in pulls))

    loss, pulls, size = look()
    before = loss.item(), size
    for _ in range(steps):
        for p, g in zip(trainable, pulls, strict=True):
            p.grad = g
        optimizer.step()
        game.constrain(critic)
        loss, pulls, size = look()
    return {
        "steps": steps,
        "loss": before[0],
        "loss_after": loss.item(),
        "gradient": before[1],
        "gradient_after": size,
    }


def _sides(networks: Mapping[Name, nn.Module], batch: Batch) -> dict[str, Samples]:
    y_real, y_fake = batch.labels or (None, None)
    fake = _generated(networks["generator"], batch)
    return {"real": Samples(batch.real, y_real), "generated": Samples(fake, y_fake)}


@torch.no_grad()
def _generated(generator: nn.Module, batch: Batch) -> Tensor:
    return generate(generator, batch)
