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
from ..errors import SteadyganError
from ..game import Game
from ..schedules import told
from .paths import PATHS, Found, Points
from .tracing import Tree, to_terms, to_tree, trace_tree

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

    Compiling takes the best part of a minute, once for each shape of a batch. Dropout and signs
    draw from the compiler's own random streams; signs that shall come from a generator are refused.
    """
    source = None if at.rng is None else _Elsewhere()
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
            place: torch.as_tensor(told(value, at.progress), dtype=torch.float64)
            for place, value in game.strengths().items()
        },
        "scale": torch.as_tensor(scale, dtype=torch.float32),
    }
    leaves, shape = pytree.tree_flatten(given)
    bare = game.with_strengths(dict.fromkeys(given["strengths"], 0.0))
    looks = tuple((t.shape, t.dtype, t.device) for t in leaves)
    key = key, path, repr(bare), str(shape), looks, source is None

    lent = _Lent(critic)

    def pure(given: Tree) -> Tree:
        own = {name: t.detach().requires_grad_() for name, t in given["learned"].items()}
        here = {name: Samples(**samples) for name, samples in given["points"].items()}
        context = Context(memory=given["memory"], rng=source)
        now = game.with_strengths(given["strengths"])
        take = lambda network: PATHS[path](now, network, here, context, given["scale"])  # noqa: E731
        values = {f"critic.{name}": t for name, t in (own | given["fixed"]).items()}
        found: Found = functional_call(lent, values, (take,))
        pairs = zip(own, found.gradients(list(own.values())), strict=True)
        gradients = {name: g.detach() for name, g in pairs if g is not None}
        return {"terms": to_tree(found.terms.detach()), "gradients": gradients}

    known = _compiled.setdefault(critic, {})
    if key not in known:
        # Traced on copies of what the critic changes in passing, such as the statistics of a
        # normalisation.
        copies = {name: t.clone() for name, t in given["fixed"].items()}
        known[key] = trace_tree(pure, {**given, "fixed": copies}, compiled=True)
    found = known[key](given)
    return Found(
        to_terms(found["terms"]),
        [held[name] for name in found["gradients"]],
        list(found["gradients"].values()),
    )


class _Lent(nn.Module):
    """Lends a critic, so that a path sees the module with other values in it."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def forward(self, use: Callable[[nn.Module], Found]) -> Found:
        return use(self.critic)


class _Elsewhere:
    """Refuses draws: a compiled function cannot take them from a generator."""

    def uniform(self, like: Tensor) -> Tensor:
        raise SteadyganError(
            "the compiled path cannot draw the signs of many logits from a generator: pass no rng,"
            " choose another path, or penalize without signs, such as outputs='mean'"
        )

    normal = uniform
