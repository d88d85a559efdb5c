"""What a network's last operation leaves of its outputs: a sigmoid at the end bounds them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.context import Samples
from ..core.scores import score

# What an operation can return; autograd knows each by this name.
RANGES = {
    "Sigmoid": "between 0 and 1",
    "Softmax": "between 0 and 1",
    "Hardsigmoid": "between 0 and 1",
    "Tanh": "between -1 and 1",
    "Hardtanh": "between two bounds",
    "Clamp": "between two bounds",
    "ClampMin": "above a bound",
    "ClampMax": "below a bound",
    "Relu": "never below 0",
    "Softplus": "never below 0",
    "Exp": "never below 0",
    "Abs": "never below 0",
    "LogSigmoid": "never above 0",
    "LogSoftmax": "never above 0",
}
# What moves numbers about, or averages them.
_PASSES = """View UnsafeView Reshape ReshapeAlias Squeeze Unsqueeze Select Slice Alias Clone ToCopy
Permute Transpose T Expand Mean AsStrided Flatten Split Unbind""".split()
_STRETCHES = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg")


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
        name = type(node).__name__.partition("Backward")[0]
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


__all__ = ["bounded", "last_range"]
