"""A function of nested tensors as the list of its tensor operations, as it is or compiled.

Gradients and gradients of gradients are in the list, so that nothing is left to differentiate when
it is compiled: PyTorch refuses double backward through a compiled module. As it is, it spares what
vmap, autograd and Python do between operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from ..scores import Scores
from ..terms import CriticTerms

Tree = dict[str, Any]
"""Nested dictionaries and sequences whose leaves are tensors."""


def trace_tree(
    pure: Callable[[Tree], Tree], given: Tree, *, compiled: bool
) -> Callable[[Tree], Tree]:
    """Return a function of trees, traced for shapes as of ``given``, which runs it once.

    compiled: whether the compiler is to fuse the operations.
    """
    leaves, shape = pytree.tree_flatten(given)
    after: list[Any] = []

    def flat(*leaves: Tensor) -> list[Tensor]:
        found, structure = pytree.tree_flatten(pure(pytree.tree_unflatten(leaves, shape)))
        after.append(structure)
        return found

    traced = make_fx(flat)(*leaves)
    run = torch.compile(traced, dynamic=False) if compiled else traced

    def call(given: Tree) -> Tree:
        with torch.no_grad():
            found: Tree = pytree.tree_unflatten(run(*pytree.tree_leaves(given)), after[-1])
            return found

    return call


def in_parts(function: Callable[[Tree], Tree], given: Tree, rows: int) -> Tree:
    """Return what a function of trees finds for so many rows of all tensors at a time.

    It always sees as many: where they do not come out even, the last part begins with some that
    have been seen. Where there are fewer, it sees them all.
    """
    leaves, shape = pytree.tree_flatten(given)
    count = len(leaves[0])
    if count <= rows:
        return function(given)
    starts = [*range(0, count - rows, rows), count - rows]
    parts = [
        function(pytree.tree_unflatten([t.detach()[i : i + rows] for t in leaves], shape))
        for i in starts
    ]
    again = len(starts) * rows - count
    parts[-1] = pytree.tree_map(lambda t: t[again:], parts[-1])
    found: Tree = pytree.tree_map(lambda *ts: torch.cat(ts), *parts)
    return found


def to_tree(terms: CriticTerms) -> Tree:
    """Return terms as a tree, without what is None, features and views."""
    kept = ("x", "logits", "gradient", "labels", "outputs")
    scores = {
        name: {key: getattr(s, key) for key in kept if getattr(s, key) is not None}
        for name, s in terms.scores.items()
    }
    return {
        "loss": terms.loss,
        "objective": terms.objective,
        "penalty": terms.penalty,
        "scores": scores,
    }


def to_terms(tree: Tree) -> CriticTerms:
    """Return the terms of a tree."""
    return CriticTerms(
        **{**tree, "scores": {name: Scores(**score) for name, score in tree["scores"].items()}}
    )
