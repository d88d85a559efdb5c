"""How many GANs look at a batch: traced once it pays, in parts that fit a cache; or recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.utils import _pytree as pytree

from ..gradients.chain import Chained
from ..gradients.tracing import Tree, in_parts, trace_tree
from .base import PLAYERS, Name
from .members import Asked

OFTEN = 16
"""Looks of a kind from which on it pays to trace them."""
_CACHED = 1 << 19
"""Numbers that a layer leaves of one batch of all members that look at once."""


class Plan:
    """How one kind of look is taken: its draws, in their order, and the function of all given.

    rows: of how many members at a time; None for networks that are not all chains. Those are looked
    at all at once, and traced only to be compiled: the next look may take another way through them.
    """

    def __init__(self, asked: list[Asked], pure: Callable[[Tree], Tree], rows: int | None) -> None:
        self.asked, self._pure, self._rows, self._left = asked, pure, rows, OFTEN

    def run(self, given: Tree) -> Tree:
        """Return what a look finds, the same bits before and after it is traced."""
        if self._rows is None:
            return self._pure(given)
        self._left -= 1
        if self._left == 0:
            self.trace(given)
        return in_parts(self._pure, given, self._rows)

    def trace(self, given: Tree, *, compiled: bool = False) -> None:
        """Keep the operations only."""
        few = pytree.tree_map(lambda t: t.detach()[: self._rows], given)
        recorded = all(t.is_cuda for t in pytree.tree_leaves(few))
        self._pure = trace_tree(self._pure, few, compiled=compiled, recorded=recorded)
        self._left = 0


def at_once(real: Tensor, chains: Mapping[Name, Chained]) -> int | None:
    """Return how many members look at once, so that what one layer leaves is cached for the next.

    All of them on a GPU, which has the room. None where their networks are not chains.
    """
    if len(chains) < len(PLAYERS):
        return None
    if real.is_cuda:
        return len(real)
    widest = max(layer.module.out_features for chain in chains.values() for layer in chain.layers)
    return max(1, _CACHED // (real.shape[1] * widest))
