"""The autograd graph as second witness of what can be merged: calls that no mode sees are in it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import Node

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
        elif isinstance(node, MAP) or _stem(node) in _NODES:
            path.extend(children)
            if _stem(node) in ("Mul", "Div") and None not in children:
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


def _told(node: Node) -> str:
    return "a learned tensor outside a layer" if _stem(node) == "AccumulateGrad" else node.name()


def _stem(node: Node) -> str:
    return node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
