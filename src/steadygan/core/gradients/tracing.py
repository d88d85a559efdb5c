"""A function of nested tensors as the list of its tensor operations, as it is or compiled.

Gradients and gradients of gradients are in the list, so that nothing is left to differentiate when
it is compiled: PyTorch refuses double backward through a compiled module. As it is, it spares what
vmap, autograd and Python do between operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    pure: Callable[[Tree], Tree], given: Tree, *, compiled: bool, recorded: bool = False
) -> Callable[[Tree], Tree]:
    """Return a function of trees, traced for shapes as of ``given``, which runs it once.

    compiled: whether the compiler is to fuse the operations. recorded: whether a GPU is to replay
    them from one recording, as ``record`` says.
    """
    leaves, shape = pytree.tree_flatten(given)
    after: list[Any] = []

    def flat(*leaves: Tensor) -> list[Tensor]:
        found, structure = pytree.tree_flatten(pure(pytree.tree_unflatten(leaves, shape)))
        after.append(structure)
        return found

    traced = make_fx(flat)(*leaves)
    run = torch.compile(traced, dynamic=False) if compiled else traced
    if recorded:
        run = record(run, leaves)

    def call(given: Tree) -> Tree:
        with torch.no_grad():
            found: Tree = pytree.tree_unflatten(run(*pytree.tree_leaves(given)), after[-1])
            return found

    return call


def record(
    run: Callable[..., Sequence[Tensor]], given: Sequence[Tensor]
) -> Callable[..., Sequence[Tensor]]:
    """Return a function on a GPU that replays its kernels from one recording (a CUDA graph).

    Launching kernels one by one costs small networks more than the kernels take. What is given is
    copied to where the recording reads, and what is found is copied from where it writes: the same
    numbers as unrecorded, and nothing of them changes at the next call.

    Args:
        run: Changes nothing that it is given, draws nothing, and waits for nothing.
        given: Tensors on one GPU, of the shapes that it will be given.
    """
    with torch.no_grad(), torch.cuda.device(given[0].device):
        reads = [t.detach().clone() for t in given]
        warm_up(lambda: run(*reads))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            writes = run(*reads)

    def replay(*given: Tensor) -> Sequence[Tensor]:
        copy_all(reads, given)
        graph.replay()
        return copies(writes)

    return replay


def warm_up(look: Callable[[], object]) -> None:
    """Look until libraries have chosen their kernels and code is compiled, as a recording needs."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            look()
    torch.cuda.current_stream().wait_stream(aside)


def copies(those: Sequence[Tensor]) -> list[Tensor]:
    """Return copies of tensors, made as by ``copy_all``."""
    found = [torch.empty_like(t) for t in those]
    copy_all(found, those)
    return found


def copy_all(to: Sequence[Tensor], those: Sequence[Tensor]) -> None:
    """Copy those tensors to these, by one kernel for all of a type."""
    for dtype in {t.dtype for t in to}:
        pairs = [(a, b) for a, b in zip(to, those, strict=True) if a.dtype == dtype]
        torch._foreach_copy_([a for a, _ in pairs], [b for _, b in pairs])


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
