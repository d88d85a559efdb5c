"""A path as one compiled function of plain tensors, for GPUs and for networks so small that Python costs more than arithmetic.

PyTorch refuses double backward through a compiled module. Here the whole gradient, its double backward included, is traced to tensor
operations first, so that nothing is left to differentiate when it is compiled.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from .context import Context, Samples
from .game import CriticTerms, Game
from .paths import PATHS, REST, Found, Points
from .schedules import at as strength_at
from .scores import Scores

_compiled: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, tuple[Callable[..., Any], list[bool]]]] = weakref.WeakKeyDictionary()


def compiled(game: Game, critic: nn.Module, points: Points, at: Context, parameters: Sequence[Tensor], path: str, key: Hashable) -> Found:
    """Return what a path finds, by its compiled form; ``key`` says when two calls may share one.

    Compiling takes the best part of a minute, once for each shape of a batch. Dropout draws from the compiler's own random streams.
    """
    strengths = {place: torch.as_tensor(strength_at(value, at.progress), dtype=torch.float64) for place, value in game.strengths().items()}
    held = dict(critic.named_parameters()) | dict(critic.named_buffers())
    fixed = {name: t for name, t in held.items() if not any(t is p for p in parameters)}
    moving = {name: t.detach() for name, t in held.items() if name not in fixed}
    given = [points[name].x for name in points]
    labels = [y for name in points if (y := points[name].labels) is not None]
    inputs = [*moving.values(), *fixed.values(), *given, *labels, *at.memory.values(), *strengths.values()]
    shapes = tuple((t.shape, t.dtype, t.device) for t in inputs)
    key = key, path, repr(game.with_strengths(dict.fromkeys(strengths, 0.0))), tuple(points), tuple(at.memory), shapes
    known = _compiled.setdefault(critic, {})
    if key not in known:
        present: list[bool] = []

        def gradient(*tensors: Tensor) -> list[Tensor]:
            left = iter(tensors)
            leaves = {name: next(left).detach().requires_grad_() for name in moving}
            values = leaves | {name: next(left) for name in fixed}
            samples = [next(left) for _ in given]
            ys: list[Tensor | None] = [next(left) for _ in labels] or [None] * len(samples)
            here = {name: Samples(x, y) for name, x, y in zip(points, samples, ys, strict=True)}
            memory = {name: next(left) for name in at.memory}
            now = game.with_strengths({place: next(left) for place in strengths})
            network = lambda *x: functional_call(critic, values, x)  # noqa: E731
            terms, _, gradients = PATHS[path](now, network, here, Context(memory=memory), list(leaves.values()))
            found = [t for s in terms.scores.values() for t in (s.logits, s.gradient)] + list(gradients)
            present[:] = [t is not None for t in found]
            return [terms.loss, terms.objective, terms.penalty, *(t.detach() for t in found if t is not None)]

        # Traced on copies of what the critic changes in passing, such as the statistics of a normalisation.
        copies = [t.clone() if any(t is f for f in fixed.values()) else t for t in inputs]
        known[key] = torch.compile(make_fx(gradient)(*copies), dynamic=False), present
    run, present = known[key]
    with torch.no_grad():
        loss, objective, penalty, *rest = run(*inputs)
    tensors = iter(rest)
    found = [next(tensors) if there else None for there in present]
    names = [name for name in points if not name.endswith(REST)]
    pairs = [found[2 * i : 2 * i + 2] for i in range(len(names))]
    scores = {}
    for name, (logits, slope) in zip(names, pairs, strict=True):
        assert logits is not None
        whole = [points[part].x for part in (name, name + REST) if part in points]
        scores[name] = Scores(torch.cat(whole), logits, slope, points[name].labels)
    return CriticTerms(loss, objective, penalty, scores), parameters, found[2 * len(names) :]
