"""Path angle and path norm: the field on the straight line between two states of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..core.context import Context
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import Batch
from .linearize import System


@dataclass(frozen=True)
class GamePath:
    """The field v on w(s) = w0 + s (w1 - w0).

    ``share`` s, ``cosine`` of the angle between v and w1 - w0, ``norm`` of v. ``length`` is ||w1 -
    w0||, in units of the parameters. Where players are drawn straight into the end, the cosine
    falls from 1 to -1 at s = 1; around an end about which they rotate it is near 0 on both sides
    with a bump between.
    """

    share: list[float]
    cosine: list[float]
    norm: list[float]
    length: float

    def words(self) -> str:
        """Return what the curve says, in one sentence."""
        before = [c for s, c in zip(self.share, self.cosine, strict=True) if 0.5 <= s < 1]
        after = [c for s, c in zip(self.share, self.cosine, strict=True) if s > 1]
        if not (before and after):
            return (
                "Of the line between the two checkpoints nothing is said: it has no points on both"
                " sides of the end."
            )
        drawn, back = sum(before) / len(before), sum(after) / len(after)
        if drawn - back > 0.5:
            way = "the field points towards the end from both sides: along this line it attracts"
        elif max(map(abs, (*before, *after))) < 0.2:
            way = (
                "the field is nearly across the line everywhere: along it there is neither"
                " attraction nor flight, as where players rotate"
            )
        else:
            way = (
                "the field does not point to the end from both sides: the run was still on its"
                " way, or passes by"
            )
        return (
            f"On the line between the two checkpoints the cosine to the field is {drawn:.2f}"
            f" before the end and {back:.2f} beyond: {way}."
        )


def game_path(
    game: Game,
    start: tuple[nn.Module, nn.Module],
    end: tuple[nn.Module, nn.Module],
    batch: Batch,
    *,
    context: Context = Context(),
    points: int = 16,
    beyond: float = 0.5,
) -> GamePath:
    """Return path angle and norm from one (generator, critic) to another, on one batch.

    And ``beyond`` of the way further.
    cos s = <w1 - w0, v(w(s))> / (||w1 - w0|| ||v(w(s))||). Buffers (running averages) are those of
    the end.

    Raises:
        SteadyganError: where the two states are equal or of other shapes.

    Reference: Berard et al. 2020, A Closer Look at the Optimization Landscapes of Generative
    Adversarial Networks.
    """
    system = System(
        game, "simultaneous", *end, batch, progress=context.progress, memory=context.memory
    )
    parameters = [dict(module.named_parameters()) for module in start]
    other = [dict(module.named_parameters()) for module in end]
    if [{k: p.shape for k, p in values.items()} for values in parameters] != [
        {k: p.shape for k, p in values.items()} for values in other
    ]:
        raise SteadyganError(
            "A path joins two states of the same networks; these differ in their parameters."
        )
    first = torch.cat(
        [
            values[key].detach().reshape(-1)
            for values, moving in zip(parameters, other, strict=True)
            for key, p in moving.items()
            if p.requires_grad
        ]
    )
    line = system.point() - first
    length = line.norm()
    if length == 0:
        raise SteadyganError("The two states are equal: there is no path between them.")
    shares = torch.linspace(0, 1 + beyond, points).tolist()
    cosines, norms = [], []
    for share in shares:
        field = system.field((first + share * line).requires_grad_()).detach()
        norm = field.norm()
        cosines.append((field @ line / (norm * length)).item() if norm > 0 else 0.0)
        norms.append(norm.item())
    return GamePath(shares, cosines, norms, length.item())
