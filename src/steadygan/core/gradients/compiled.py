"""A path as one compiled function, for GPUs and for small networks.

In those Python costs more than arithmetic.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from ..context import Context, Samples
from ..game import Game
from ..schedules import at as strength_at
from .paths import PATHS, Found, Points
from .tracing import Tree, compile_tree, to_terms, to_tree

_compiled: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Callable[[Tree], Tree]]] = (
    weakref.WeakKeyDictionary()
)


def compiled(
    game: Game,
    critic: nn.Module,
    points: Points,
    at: Context,
    parameters: Sequence[Tensor],
    path: str,
    key: Hashable,
    scale: Tensor | float = 1.0,
) -> Found:
    """Return what a path finds, by its compiled form; ``key`` says when two calls may share one.

    Compiling takes the best part of a minute, once for each shape of a batch. Dropout draws from
    the compiler's own random streams.
    """
    held, learned = (
        dict(critic.named_parameters()) | dict(critic.named_buffers()),
        {id(p) for p in parameters},
    )
    given: Tree = {
        "learned": {name: t.detach() for name, t in held.items() if id(t) in learned},
        "fixed": {name: t.detach() for name, t in held.items() if id(t) not in learned},
        "points": {
            name: {k: t for k, t in samples._asdict().items() if t is not None}
            for name, samples in points.items()
        },
        "memory": dict(at.memory),
        "strengths": {
            place: torch.as_tensor(strength_at(value, at.progress), dtype=torch.float64)
            for place, value in game.strengths().items()
        },
        "scale": torch.as_tensor(scale, dtype=torch.float32),
    }
    leaves, shape = pytree.tree_flatten(given)
    bare = game.with_strengths(dict.fromkeys(given["strengths"], 0.0))
    key = key, path, repr(bare), str(shape), tuple((t.shape, t.dtype, t.device) for t in leaves)

    def pure(given: Tree) -> Tree:
        own = {name: t.detach().requires_grad_() for name, t in given["learned"].items()}
        here = {name: Samples(**samples) for name, samples in given["points"].items()}
        network = lambda *x: functional_call(critic, own | given["fixed"], x)  # noqa: E731
        context = Context(memory=given["memory"])
        found = PATHS[path](
            game.with_strengths(given["strengths"]), network, here, context, given["scale"]
        )
        pairs = zip(own, found.gradients(list(own.values())), strict=True)
        gradients = {name: g.detach() for name, g in pairs if g is not None}
        return {"terms": to_tree(found.terms.detach()), "gradients": gradients}

    known = _compiled.setdefault(critic, {})
    if key not in known:
        # Traced on copies of what the critic changes in passing, such as the statistics of a
        # normalisation.
        known[key] = compile_tree(
            pure, {**given, "fixed": {name: t.clone() for name, t in given["fixed"].items()}}
        )
    found = known[key](given)
    return Found(
        to_terms(found["terms"]),
        [held[name] for name in found["gradients"]],
        list(found["gradients"].values()),
    )
