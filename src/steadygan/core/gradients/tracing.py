"""A function of nested tensors as one compiled function.

It is traced to tensor operations first, gradients and gradients of gradients included, so that
nothing is left to differentiate when it is compiled: PyTorch refuses double backward through a
compiled module.
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


def compile_tree(pure: Callable[[Tree], Tree], given: Tree) -> Callable[[Tree], Tree]:
    """Return a function of trees, compiled for shapes as of ``given``; tracing runs it once."""
    leaves, shape = pytree.tree_flatten(given)
    after: list[Any] = []

    def flat(*leaves: Tensor) -> list[Tensor]:
        found, structure = pytree.tree_flatten(pure(pytree.tree_unflatten(leaves, shape)))
        after.append(structure)
        return found

    run = torch.compile(make_fx(flat)(*leaves), dynamic=False)

    def call(given: Tree) -> Tree:
        with torch.no_grad():
            found: Tree = pytree.tree_unflatten(run(*pytree.tree_leaves(given)), after[-1])
            return found

    return call


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
