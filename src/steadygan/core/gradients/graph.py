"""The autograd graph as second witness of what can be merged: calls that no mode sees are in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.autograd.graph import Node

from ..slopes import nodes
from .merged import LAYER, MAP

# Each is linear in its differentiable input, and none of them has a derivative of a derivative.
_NODES = frozenset(
    """View UnsafeView ReshapeAlias Transpose Permute Squeeze Unsqueeze Clone ToCopy Alias Slice
    Select Split SplitWithSizes Unbind Cat Stack Add Sub Rsub Neg Mul Div Mean Sum Expand Repeat
    Flip Index Gather Narrow ConstantPadNd NativeDropout""".split()
)


def unknown_node(outputs: Sequence[Tensor], x: Tensor) -> str:
    """Return what stands between outputs and x that no rule is known for, or ''."""
    source, found = x.view_as(x).grad_fn.next_functions[0][0], False  # type: ignore[union-attr]
    path, weights, seen = [out.grad_fn for out in outputs], list[Node | None](), set[Node]()
    while path:
        node = path.pop()
        if node is source:
            found = True
        if node is None or node is source or node in seen:
            continue
        seen.add(node)
        children = [child for child, _ in node.next_functions]
        if isinstance(node, LAYER):
            path.append(children[0])
            weights.extend(children[1:])
        elif isinstance(node, MAP) or named(node) in _NODES:
            path.extend(children)
            if named(node) in ("Mul", "Div") and None not in children:
                return "it multiplies two tensors that are not constant"
        else:
            return f"{_told(node)} is not on the list of operations whose penalty can be merged"
    inner = set[Node]()
    while weights:
        node = weights.pop()
        if node is source or node in seen:
            return "a layer uses an activation as a weight"
        if node is not None and node not in inner:
            inner.add(node)
            weights.extend(child for child, _ in node.next_functions)
    return "" if found else "it does not depend on its samples"


def toward(outputs: Sequence[Tensor], x: Tensor) -> Iterator[Node]:
    """Yield the nodes between outputs and a leaf x, without those that make weights."""
    parents: dict[Node, list[Node]] = {}
    for node in nodes(*outputs):
        for child, _ in node.next_functions:
            if child is not None:
                parents.setdefault(child, []).append(node)
    path, seen = [x.view_as(x).grad_fn.next_functions[0][0]], set[Node]()  # type: ignore[union-attr]
    while path:
        for node in parents.get(path.pop(), ()):  # type: ignore[arg-type]
            if node not in seen:
                seen.add(node)
                path.append(node)
                yield node


def _told(node: Node) -> str:
    return "a learned tensor outside a layer" if named(node) == "AccumulateGrad" else node.name()


def named(node: Node) -> str:
    """Return what torch calls a node, without what all of them have in common."""
    return node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
