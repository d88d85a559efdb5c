"""What a network's last operation leaves of its outputs: a sigmoid at the end bounds them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.context import Samples
from ..core.scores import score

# What an operation can return; autograd knows each by this name, but for those of _composed.
RANGES = {
    "Sigmoid": "between 0 and 1",
    "Softmax": "between 0 and 1",
    "Hardsigmoid": "between 0 and 1",
    **dict.fromkeys(("Tanh", "Sin", "Cos", "Erf", "Softsign", "Normalize"), "between -1 and 1"),
    "Atan": "between -pi/2 and pi/2",
    "Hardtanh": "between two bounds",
    "Clamp": "between two bounds",
    **dict.fromkeys(("ClampMin", "Threshold"), "above a bound"),
    **dict.fromkeys(("Elu", "Celu", "Gelu", "Silu", "Mish", "Hardswish"), "above a bound"),
    "ClampMax": "below a bound",
    **dict.fromkeys(("Relu", "Softplus", "Exp", "Abs", "Square"), "never below 0"),
    **dict.fromkeys(("Sqrt", "Norm", "LinalgVectorNorm"), "never below 0"),
    "LogSigmoid": "never above 0",
    "LogSoftmax": "never above 0",
}
# What moves numbers about, or averages them.
_PASSES = """View UnsafeView Reshape ReshapeAlias Squeeze Unsqueeze Select Slice Alias Clone ToCopy
Permute Transpose T Expand Mean AsStrided Flatten Split Unbind""".split()
_STRETCHES = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Sum")
_SIZES = {"Abs": "Softsign", "Norm": "Normalize", "LinalgVectorNorm": "Normalize"}
"""What a number is divided by its own size with, by what the size is."""


def bounded(critic: nn.Module, samples: Samples) -> str | None:
    """Return what bounds a critic's logits, in words, such as 'Sigmoid: between 0 and 1', or None.

    It follows autograd's record from the logits back to the first operation that changes numbers,
    whether a module or a function did it.

    >>> D = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    >>> bounded(D, Samples(torch.zeros(3, 2)))
    'Sigmoid: between 0 and 1'
    """
    with torch.enable_grad():
        return last_range(score(critic, samples).logits)


def last_range(out: Tensor) -> str | None:
    """Return what an output's last operation can return; None where that is everything."""
    node: Any = out.grad_fn
    stretched = ""
    while node is not None:
        name = _composed(node) or _name(node)
        if name in RANGES:
            return f"{name}: {RANGES[name]}{stretched}"
        # Adding or multiplying constants moves and stretches a range.
        follow = [before for before, _ in node.next_functions if before is not None]
        if not follow or not (name in _PASSES or (name in _STRETCHES and len(follow) == 1)):
            return None
        if name in _STRETCHES:
            stretched = ", stretched"
        node = follow[0]
    return None


def _name(node: Any) -> str:
    return type(node).__name__.partition("Backward")[0]


def _composed(node: Any) -> str | None:
    """Return what an operation is that autograd records by its parts; None for none of them."""
    name, inputs = _name(node), node.next_functions
    if name == "Pow":
        exponent = getattr(node, "_saved_exponent", None)
        return "Square" if isinstance(exponent, int | float) and exponent % 2 == 0 else None
    if len(inputs) != 2 or None in (inputs[0][0], inputs[1][0]):
        return None
    if name == "Mul":
        return "Square" if inputs[0] == inputs[1] else None
    below = inputs[1][0] if name == "Div" else None
    while below is not None:
        follow = [before for before in below.next_functions if before[0] is not None]
        if (found := _SIZES.get(_name(below))) is not None:
            return found if follow == [inputs[0]] else None
        passes = len(follow) == 1 and _name(below) in (*_PASSES, "Add", "ClampMin")
        below = follow[0][0] if passes else None
    return None


__all__ = ["bounded", "last_range"]
