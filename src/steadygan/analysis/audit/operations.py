"""Which operations the auditor tells apart, and what it reads from numbers and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .marks import tensors

SIGMOID = {torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit}
ON_LOGITS = {
    F.binary_cross_entropy_with_logits,
    torch.binary_cross_entropy_with_logits,
    F.softplus,
    F.logsigmoid,
    *SIGMOID,
}
NORM = {
    Tensor.norm,
    torch.norm,
    torch.linalg.vector_norm,
    torch.linalg.norm,
    torch.linalg.matrix_norm,
}
ROOT = {torch.sqrt, Tensor.sqrt}
PRODUCT = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.mul_, torch.multiply}
QUOTIENT = {torch.div, Tensor.div, Tensor.__truediv__, Tensor.div_, torch.true_divide}
SQUARE = {torch.square, Tensor.square}
POWER = {torch.pow, Tensor.pow, Tensor.__pow__, *SQUARE}
CAT = {torch.cat, torch.concat, torch.concatenate, torch.vstack, torch.row_stack}
RANDOM = {
    torch.randn,
    torch.rand,
    torch.randn_like,
    torch.rand_like,
    torch.normal,
    Tensor.normal_,
    Tensor.uniform_,
    torch.bernoulli,
}
GRAD: Any = Tensor.grad
DATA: Any = Tensor.data
WRITES = {
    DATA.__set__,
    Tensor.__setitem__,
    Tensor.__iadd__,
    Tensor.__isub__,
    Tensor.__imul__,
    Tensor.__itruediv__,
}
READS = {
    GRAD.__get__,
    Tensor.item,
    Tensor.size,
    Tensor.dim,
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device")),
}


def number(value: Any) -> float | None:
    """Return a number, or a tensor of one that asks for no gradient; None for anything else."""
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1 and not value.requires_grad:
        return float(value)
    return None


def joined_rows(func: Any, args: Any, kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return what an operation puts one below the other, nothing where it does not."""
    if func not in CAT:
        return []
    given = dict(zip(("tensors", "dim"), args, strict=False)) | dict(kwargs)
    parts = list(tensors(given["tensors"]))
    below = given.get("dim", given.get("axis", 0)) in (0, -parts[0].ndim)
    return parts if below and all(t.ndim for t in parts) else []


def indexes(args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Return whether an operation was given whole numbers, that may choose and order rows."""
    kinds = (torch.int64, torch.int32)
    return any(t.dtype in kinds and t.ndim for t in (*tensors(args), *tensors(kwargs)))


def writes(func: Any) -> bool:
    """Return whether an operation changes its first argument in place, by torch's names."""
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.startswith("__") and func != Tensor.requires_grad_
    return in_place or func in WRITES


def squares(func: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Return whether an operation is a square: by name, a power of 2 or itself times itself."""
    if func in PRODUCT:
        return len(args) == 2 and args[0] is args[1]
    return func in SQUARE or (func in POWER and number([*args, *kwargs.values()][-1]) == 2)


def shares(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors, also those of other kinds, lie in one memory."""
    return a is b or bool(torch._C._is_alias_of(a, b))  # type: ignore[attr-defined]


def logits_of(out: Any) -> list[Tensor]:
    """Return the outputs whose pulls can be told from features': of a tensor or a flat list."""
    if isinstance(out, Tensor):
        return [out]
    if isinstance(out, (list, tuple)) and all(isinstance(t, Tensor) for t in out):
        return list(out)
    return []


def ends_in_sigmoid(t: Tensor) -> bool:
    """Return whether a sigmoid made a tensor, but for its shape."""
    node = t.grad_fn
    while node is not None and type(node).__name__.startswith(
        ("View", "Squeeze", "Unsqueeze", "Reshape", "ToCopy", "UnsafeView", "Alias")
    ):
        node = node.next_functions[0][0] if node.next_functions else None
    return node is not None and type(node).__name__.startswith("SigmoidBackward")
