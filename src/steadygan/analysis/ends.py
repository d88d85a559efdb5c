"""What a network's last operations leave of its outputs: a sigmoid at the end bounds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.context import Samples
from ..core.reading import Reading
from ..core.scores import score

Ends = tuple[bool, bool]
"""Whether there is a lower end, and an upper one."""

BOTH: Ends = (True, True)
OPEN: Ends = (False, False)
SOME = math.nan
"""An end whose number autograd does not keep."""

# From where to where an operation's results lie; autograd knows each by this name, but for those
# of _composed.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("Sigmoid", "Softmax", "Hardsigmoid"), (0.0, 1.0)),
    **dict.fromkeys(("Tanh", "Sin", "Cos", "Erf", "Softsign", "Normalize"), (-1.0, 1.0)),
    "Atan": (-math.pi / 2, math.pi / 2),
    **dict.fromkeys(("Hardtanh", "Clamp"), (SOME, SOME)),
    **dict.fromkeys(("ClampMin", "Threshold", "Elu", "Celu"), (SOME, math.inf)),
    "ClampMax": (-math.inf, SOME),
    "Silu": (-0.278465, math.inf),
    "Gelu": (-0.169971, math.inf),
    "Mish": (-0.308843, math.inf),
    "Hardswish": (-0.375, math.inf),
    "Expm1": (-1.0, math.inf),
    **dict.fromkeys(("Relu", "Softplus", "Exp", "Abs", "Square"), (0.0, math.inf)),
    **dict.fromkeys(("Sqrt", "Norm", "LinalgVectorNorm", "Var", "Std"), (0.0, math.inf)),
    **dict.fromkeys(("LogSigmoid", "LogSoftmax"), (-math.inf, 0.0)),
}
# What moves numbers about, chooses or averages; what brings several together.
_PASSES = """View UnsafeView Reshape ReshapeAlias Squeeze Unsqueeze Select Slice Alias Clone ToCopy
Permute Transpose T Expand Mean AsStrided Flatten Split Unbind Index IndexSelect Gather
Flip Roll Repeat Amax Amin Max Min AvgPool2D AvgPool3D AdaptiveAvgPool2D MaxPool2DWithIndices
UpsampleNearest2D PixelShuffle""".split()
_JOINS = ("Cat", "Stack", "Where")
_STRETCHES = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Sum", "NativeDropout")
_SIZES = {"Abs": "Softsign", "Norm": "Normalize", "LinalgVectorNorm": "Normalize"}
"""What a number is divided by its own size with, by what the size is."""
_DEEP = 24
"""So many operations are followed back."""


@dataclass(frozen=True)
class Range:
    """What an operation leaves of its results.

    Attributes:
        name: As autograd knows the operation.
        low, high: From where to where they lie, by itself.
        ends: Which ends there still are after what came later.
        stretched: Whether they were moved or stretched later.
        node: Autograd's record of the operation.
    """

    name: str
    low: float
    high: float
    ends: Ends = BOTH
    stretched: bool = False
    node: Any = None

    @property
    def words(self) -> str:
        """Return from where to where, such as 'between 0 and 1'."""
        if math.isinf(self.low):
            return "below a bound" if math.isnan(self.high) else f"never above {self.high:g}"
        if math.isinf(self.high):
            return "above a bound" if math.isnan(self.low) else f"never below {self.low:g}"
        if math.isnan(self.low + self.high):
            return "between two bounds"
        return f"between {self.low:.3g} and {self.high:.3g}"

    def __str__(self) -> str:
        return f"{self.name}: {self.words}{', stretched' if self.stretched else ''}"


def bounded(critic: nn.Module, samples: Samples, reading: Reading = "auto") -> str | None:
    """Return what bounds a critic's logits, in words, such as 'Sigmoid: between 0 and 1', or None.

    It follows autograd's record from the logits back to the operations that bound numbers, whether
    a module or a function did it.

    >>> D = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    >>> bounded(D, Samples(torch.zeros(3, 2)))
    'Sigmoid: between 0 and 1'
    """
    with torch.enable_grad():
        return last_range(score(critic, samples, reading=reading).logits)


def last_range(out: Tensor) -> str | None:
    """Return what an output's last operations can return; None where that is everything."""
    found = _range(out.grad_fn, {}, _DEEP)
    return None if found is None else str(found)


def reach(out: Tensor) -> tuple[float, float]:
    """Return the least and the most that an output's last operations can return, ±inf if unknown.

    Where constants stretched a range, they are told from the numbers before and after.

    >>> x = torch.linspace(-1, 1, 9, requires_grad=True)
    >>> reach(2 * torch.sigmoid(x) + 3)
    (3.0, 5.0)
    """
    return _reach(_range(out.grad_fn, {}, _DEEP), out)


def _reach(found: Range | None, out: Tensor) -> tuple[float, float]:
    unknown = (-math.inf, math.inf)
    if found is None:
        return unknown
    if not found.stretched:
        low, high = found.low, found.high
        return -math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high
    before = _saved(found.node, "result")
    if not isinstance(before, Tensor) or before.numel() != out.numel():
        return unknown
    x, y = before.detach().double().flatten(), out.detach().double().flatten()
    gap, size = x - x.mean(), (y - y.mean()).abs().max()
    factor = float((gap * y).sum() / gap.square().sum().clamp(min=1e-300))
    shift = float(y.mean() - factor * x.mean())
    exact = (factor * x + shift - y).abs().max() < 1e-4 * size
    if not (exact and factor) or math.isnan(found.low + found.high):
        return unknown
    # Without a zero of its own sign.
    ends = [round(factor * end + shift, 4) + 0.0 for end in (found.low, found.high)]
    return min(ends), max(ends)


def _range(node: Any, known: dict[Any, Range | None], deep: int) -> Range | None:
    """Return what an operation can return, by autograd's record; None where that is everything."""
    if node is None or not deep:
        return None
    if node not in known:
        known[node] = _worked_out(node, known, deep)
    return known[node]


def _worked_out(node: Any, known: dict[Any, Range | None], deep: int) -> Range | None:
    name = _composed(node) or _name(node)
    if name in RANGES:
        low, high = _numbers(name, node)
        return Range(name, low, high, (not math.isinf(low), not math.isinf(high)), node=node)
    before = [edge for edge, _ in node.next_functions]
    if name in ("Maximum", "Minimum"):
        return _larger_or_smaller(name, [_ends(b, known, deep) for b in before], node)
    if name in ("Log", "Log1P", "Reciprocal") or (name == "Div" and before[0] is None):
        return _bent(name, _range(before[-1], known, deep - 1), node)
    if name not in (*_PASSES, *_JOINS, *_STRETCHES):
        return None
    if name in _PASSES:
        return _range(before[0], known, deep - 1)
    parts = [_range(edge, known, deep - 1) for edge in before if edge is not None]
    first = parts[0] if parts else None
    if first is None:
        return None
    each = [_ends(edge, known, deep) for edge in before]
    ends = _all(each) if name in _JOINS else _of_stretched(name, each, node)
    if ends == OPEN:
        return None
    if name in _STRETCHES:
        return replace(first, ends=ends, stretched=True)
    own = [part for part in parts if part is not None and not part.stretched]
    low, high = SOME, SOME
    if len(own) == len(before):
        low, high = min(part.low for part in own), max(part.high for part in own)
    numbers = low if ends[0] else -math.inf, high if ends[1] else math.inf
    return Range(first.name, *numbers, ends)


def _ends(node: Any, known: dict[Any, Range | None], deep: int) -> Ends:
    """Return which ends an input has; a constant, of which there is no record, has both."""
    if node is None:
        return BOTH
    found = _range(node, known, deep - 1)
    return OPEN if found is None else found.ends


def _all(each: Sequence[Ends]) -> Ends:
    return all(low for low, _ in each), all(high for _, high in each)


def _of_stretched(name: str, each: Sequence[Ends], node: Any) -> Ends:
    """Return which ends sums, differences, multiples and quotients of such inputs have."""
    turned = [(high, low) for low, high in each]
    if name == "Neg":
        return turned[0]
    if name == "Sub":
        return _all([each[0], *turned[1:]])
    if name == "Rsub":
        return _all([turned[0], *each[1:]])
    if name not in ("Mul", "Div"):
        return _all(each)
    if all(edge is not None for edge, _ in node.next_functions):
        return BOTH if name == "Mul" and _all(each) == BOTH else OPEN
    if _all(each) == BOTH:
        return BOTH
    factor = _saved(node, "other" if node.next_functions[0][0] is not None else "self")
    if isinstance(factor, Tensor) and bool((factor > 0).all()):
        return _all(each)
    return _all(turned) if isinstance(factor, Tensor) and bool((factor < 0).all()) else OPEN


def _larger_or_smaller(name: str, each: Sequence[Ends], node: Any) -> Range | None:
    """Return the range of the larger or smaller of two."""
    (low, high), some = _all(each), [any(e[i] for e in each) for i in (0, 1)]
    ends = (some[0], high) if name == "Maximum" else (low, some[1])
    numbers = SOME if ends[0] else -math.inf, SOME if ends[1] else math.inf
    return None if ends == OPEN else Range(name, *numbers, ends, node=node)


def _bent(name: str, inner: Range | None, node: Any) -> Range | None:
    """Return the range of a logarithm or a reciprocal."""
    if inner is None:
        return None
    if name == "Log1P" and inner.low == 0 and not inner.stretched:
        return Range(name, 0.0, math.inf, (True, False), node=node)
    if name.startswith("Log"):
        ends = (False, True)
        return Range(name, -math.inf, SOME, ends, node=node) if inner.ends[1] else None
    below = _saved(node, "result" if name == "Reciprocal" else "other")
    if not isinstance(below, Tensor):
        return None
    low, high = _reach(inner, 1 / below if name == "Reciprocal" else below)
    if low < 0:
        return None
    # 1/(1 + exp(-x)) lies between 0 and 1.
    numbers = (1 / high if high else math.inf, 1 / low if low else math.inf)
    if name == "Div":
        numbers = (SOME, SOME if low else math.inf)
    return Range(name, *numbers, (True, low > 0), node=node)


def _numbers(name: str, node: Any) -> tuple[float, float]:
    """Return from where to where an operation's results lie, by the bounds that it was given."""
    low, high = RANGES[name]
    if name in ("Elu", "Celu"):
        given = [_saved(node, what) for what in ("alpha", "scale")]
        return -math.prod(float(number) for number in given if number is not None), high
    least, most = (_saved(node, end + "_val" * (name == "Hardtanh")) for end in ("min", "max"))
    if name == "Clamp":  # of one bound and of two
        low, high = -math.inf if least is None else SOME, math.inf if most is None else SOME
    if math.isnan(low) and isinstance(least, int | float):
        low = float(least)
    if math.isnan(high) and isinstance(most, int | float):
        high = float(most)
    return low, high


def _name(node: Any) -> str:
    return type(node).__name__.partition("Backward")[0]


def _saved(node: Any, what: str) -> Any:
    """Return what autograd keeps of an operation, None where it keeps no such thing."""
    with suppress(AttributeError, RuntimeError):  # the latter after a backward
        return getattr(node, f"_saved_{what}")
    return None


def _composed(node: Any) -> str | None:
    """Return what an operation is that autograd records by its parts; None for none of them."""
    name, inputs = _name(node), node.next_functions
    if name == "Pow":
        exponent = _saved(node, "exponent")
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


__all__ = ["Range", "bounded", "last_range", "reach"]
