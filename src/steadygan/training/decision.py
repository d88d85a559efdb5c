"""How a run's critic gets its gradient.

Decided before the first step, written into the run folder and taken up again on resume.
"""

from __future__ import annotations

import torch
from torch import nn

from ..core.context import Context
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.gradients import Decision, decide, remember
from ..runs.config import Config


def settle(
    game: Game,
    critic: nn.Module,
    config: Config,
    event: tuple[int, ...],
    classes: int,
    known: Decision | None = None,
) -> Decision:
    """Return how the critic's gradient is computed, ``known`` where it was decided before.

    Raises:
        SteadyganError: For a batch that the game cannot use (an indivisible noise-to-signal ratio)
            and for a penalty on a part of the batch where samples see each other: now, and not
            after the data and the folder are made.
    """
    rng, rows = torch.Generator().manual_seed(0), config.batch or 1
    shape = torch.zeros(rows, *event)
    labels = (torch.zeros(rows, dtype=torch.long),) * 2 if classes else None
    at = Context(progress=0.0, rng=rng)
    game.points(shape, shape, labels=labels, at=at)
    if config.gradient_path not in ("auto", "compiled"):
        return Decision(config.gradient_path)
    batch = torch.randn(rows, *event, generator=rng).to(config.device)
    if config.precision == "float64":
        batch = batch.double()
    labels = labels and tuple(y.to(config.device) for y in labels)  # type: ignore[assignment]
    # Smoothing changes nothing that the decision looks at.
    bare = Game(game.objective, game.regularizers)
    points = bare.points(batch, batch.flip(0), labels=labels, at=at)
    with torch.autocast(
        config.device.partition(":")[0], torch.bfloat16, enabled=config.precision == "bfloat16"
    ):
        if known:
            remember(game, critic, points, known)
        decision = decide(game, critic, points, at)
        if config.penalty_every > 1:
            # Updates that are spared the penalties have a decision of their own. What was begun
            # before there were chains goes on without.
            free = bare.lazy(1, config.penalty_every)
            if decide(free, critic, points, at).path == "chain" != decision.path:
                remember(free, critic, points, Decision("joined"))
    if config.penalty_share < 1 and decision.path == "separate":
        raise SteadyganError(
            f"--penalty-share needs a critic that keeps samples apart: {decision.why}."
        )
    return (
        decision
        if config.gradient_path == "auto"
        else Decision("compiled", f"of the {decision.path} path")
    )
