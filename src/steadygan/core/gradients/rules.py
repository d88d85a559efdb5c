"""Where the merged penalty is exact: a whitelist of operations on activations.

``Merge`` routes what it knows of a critic's forward through ``merged.py``. What it cannot see, such
as scripted functions, ``graph.py`` does: whatever is not known there refuses the critic as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .apart import STRUCTURE, Refused, Watch, named, tensors, together
from .merged import (
    Box,
    aten,
    convolved,
    leaked,
    mapped,
    masked,
    pooled,
    projected,
    rectified,
    scaled,
    shifted,
    slope_of,
)


class Merge(Watch):
    """Routes a critic's forward from ``x`` and watches it.

    why: the first operation whose penalty cannot be merged, '' where there is none. What is refused
    is left as it is, so that the critic's forward ends as it would have. work: multiplications of
    its layers, so far; convolves: whether some are convolutions.
    """

    def __init__(self, x: Tensor, box: Box) -> None:
        super().__init__(x)
        self.box, self.why = box, ""
        self.work, self.convolves = 0, False

    def follow(self, f: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Return what a call on activations returns, merged where its rule is known."""
        if not self.why:
            rule: Any = RULES.get(f) or STRUCTURE.get(f)
            try:
                if rule is None:
                    raise Refused(
                        f"{named(f)} is not on the list of operations whose penalty can be merged"
                    )
                read = [t for t in tensors(args) if slope_of(t)]
                before = [t._version for t in read]
                out = rule(self, f, *args, **kwargs)
                if before != [t._version for t in read]:
                    self.why = f"{named(f)} changes in place what a slope is read from"
                return out
            except Refused as refusal:
                self.why = str(refusal)
            except TypeError:
                self.why = f"{named(f)} is called in a way that is not known"
        return super().follow(f, args, kwargs)

    def learned(self, tensor: Any) -> bool:
        """Return whether something is a tensor that training moves, and no activation."""
        return isinstance(tensor, Tensor) and tensor.requires_grad and not self.active(tensor)


# ------------------------------------------------------------ layers with weights


def _cast(merge: Merge, *given: Tensor | None) -> Any:
    """Return the inputs of a layer as autocast would have them.

    Autocast does not reach into a Function's backward.
    """
    x, *weights = given
    if x is None or any(w is not None and merge.active(w) for w in weights):
        raise Refused("a layer uses an activation as a weight")
    if not torch.is_autocast_enabled(x.device.type):
        return given
    low = torch.get_autocast_dtype(x.device.type)
    return tuple(None if t is None else t.to(low) for t in given)


def _convolution(dims: int) -> Callable[..., Tensor]:
    def rule(
        merge: Merge,
        f: Any,
        /,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if isinstance(padding, str):
            dilations = list(dilation) if isinstance(dilation, Sequence) else [dilation] * dims
            totals = [
                0 if padding == "valid" else d * (k - 1)
                for d, k in zip(dilations, weight.shape[2:], strict=True)
            ]
            if any(total % 2 for total in totals):
                raise Refused("padding='same' of an even kernel pads one side more than the other")
            padding = [total // 2 for total in totals]
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return _convolved(merge, dims, input, weight, bias, **geometry)

    return rule


def _transposed(dims: int) -> Callable[..., Tensor]:
    def rule(
        merge: Merge,
        f: Any,
        /,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return _convolved(
            merge,
            dims,
            input,
            weight,
            bias,
            transposed=True,
            output_padding=output_padding,
            **geometry,
        )

    return rule


def _convolved(
    merge: Merge, dims: int, x: Tensor, w: Tensor, b: Tensor | None, **geometry: Any
) -> Tensor:
    if x.ndim != dims + 2:
        raise Refused("a convolution gets a single sample instead of a batch")
    x, w, b = _cast(merge, x, w, b)
    y = convolved(x, w, b, merge.box, dims, **geometry)
    merge.convolves = True
    merge.work += (x if geometry.get("transposed") else y).numel() * w[0].numel()
    return merge.whole(y)


def _linear(
    merge: Merge, f: Any, /, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if input.ndim < 2:
        raise Refused("a linear layer gets a single sample instead of a batch")
    x, w, b = _cast(merge, input, weight, bias)
    merge.work += x.numel() * len(w)
    return merge.whole(projected(x, w, b, merge.box))


def _multiplied(merge: Merge, f: Any, /, input: Tensor, other: Tensor) -> Tensor:
    if not merge.active(input) or other.ndim != 2:
        raise Refused(f"{named(f)} is no layer: it multiplies with more than one matrix")
    return _linear(merge, f, input, other.T)


def _prelu(merge: Merge, f: Any, /, input: Tensor, weight: Tensor) -> Tensor:
    if merge.active(weight) or input.ndim < 2:
        raise Refused("prelu gets a single sample, or an activation as its slope")
    slope = weight.view(-1, *[1] * (input.ndim - 2)) if weight.numel() > 1 else weight
    return merge.whole(leaked(input, slope, merge.box))


def _summed(merge: Merge, f: Any, /, input: Any, other: Any, *, alpha: float = 1) -> Tensor:
    name = named(f)
    first, second = (other, input) if "rsub" in name else (input, other)
    if not merge.learned(first) and not merge.learned(second):
        weight = {} if alpha == 1 else {"alpha": alpha}
        return together(merge, f, input, other, **weight)  # type: ignore[no-any-return]
    x, b = (second, first) if merge.learned(first) else (first, second)
    if f in _IN_PLACE:
        raise Refused(f"{name} adds a learned tensor in place")
    # first + factor * second
    factor = -alpha if "sub" in name else alpha
    if factor != 1:
        x, b = (factor * x, b) if x is second else (x, factor * b)
    return merge.whole(shifted(x, _no_wider(b, x), merge.box))


def _scaled(merge: Merge, f: Any, /, input: Any, other: Any, **kwargs: Any) -> Tensor:
    name, divides = named(f), "div" in named(f)
    if isinstance(other, Tensor) and merge.active(other) and (divides or merge.active(input)):
        raise Refused(f"{name} joins two activations, which is not linear")
    if not merge.learned(input) and not merge.learned(other):
        return together(merge, f, input, other, **kwargs)  # type: ignore[no-any-return]
    if f in _IN_PLACE or kwargs:
        raise Refused(f"{name} changes an activation by a learned tensor in place")
    x, gain = (other, input) if merge.learned(input) else (input, other)
    return merge.whole(scaled(x, _no_wider(1 / gain if divides else gain, x), merge.box))


def _no_wider(learned: Tensor, x: Tensor) -> Tensor:
    if torch.broadcast_shapes(learned.shape, x.shape) != x.shape:
        raise Refused("an activation is broadcast to the shape of a learned tensor")
    return learned


# ------------------------------------------------------------ activations, and maps without weights


def _relu(merge: Merge, f: Any, /, input: Tensor, inplace: bool = False) -> Tensor:
    return rectified(
        input,
        F.relu,
        lambda delta, y: aten.threshold_backward(delta, y, 0),
        inplace or f is torch.Tensor.relu_,
    )


def _leaky_relu(
    merge: Merge, f: Any, /, input: Tensor, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor:
    if negative_slope < 0:
        raise Refused("leaky_relu with a negative slope hides the sign of its input")
    leaky = lambda x, inplace: F.leaky_relu(x, negative_slope, inplace)  # noqa: E731
    return rectified(
        input,
        leaky,
        lambda delta, y: aten.leaky_relu_backward(delta, y, negative_slope, True),
        inplace,
    )


def _hardtanh(
    merge: Merge,
    f: Any,
    /,
    input: Tensor,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Tensor:
    hard = lambda x, inplace: F.hardtanh(x, min_val, max_val, inplace)  # noqa: E731
    return rectified(
        input, hard, lambda delta, y: aten.hardtanh_backward(delta, y, min_val, max_val), inplace
    )


def _relu6(merge: Merge, f: Any, /, input: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(merge, f, input, 0.0, 6.0, inplace)


def _clamped(merge: Merge, f: Any, /, input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise Refused("clamp is given its bounds as tensors")

    def slope(x: Tensor) -> Tensor:
        inside = torch.ones_like(x, dtype=torch.bool) if min is None else x >= min
        return inside if max is None else inside & (x <= max)

    return masked(input, lambda x: f(x, min, max), slope)


def _absolute(merge: Merge, f: Any, /, input: Tensor) -> Tensor:
    return masked(input, f, torch.sign)


def _max_pool(dims: int, adaptive: bool) -> Callable[..., Tensor]:
    pool = getattr(F, f"adaptive_max_pool{dims}d" if adaptive else f"max_pool{dims}d")

    def rule(
        merge: Merge,
        f: Any,
        /,
        input: Tensor,
        *args: Any,
        return_indices: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        if return_indices or input.ndim != dims + 2:
            raise Refused("max pooling is asked for its indices, or gets a single sample")
        return merge.whole(pooled(input, lambda x: pool(x, *args, return_indices=True, **kwargs)))

    return rule


def _linear_map(merge: Merge, f: Any, /, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return merge.whole(mapped(input, lambda x: f(x, *args, **kwargs)))


def _pad(
    merge: Merge,
    f: Any,
    /,
    input: Tensor,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Tensor:
    if len(pad) > 2 * (input.ndim - 1):
        raise Refused("padding adds samples to the batch")
    # Padding with a constant is affine, and autograd's own rule for it is clean.
    if mode == "constant":
        return merge.whole(f(input, pad, mode, value))  # type: ignore[no-any-return]
    return _linear_map(merge, f, input, pad, mode, value)


def _joined(merge: Merge, f: Any, /, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    if any(map(merge.learned, tensors)):
        raise Refused(f"{named(f)} joins an activation with a learned tensor")
    return STRUCTURE[f](merge, f, tensors, dim)  # type: ignore[no-any-return]


_T = torch.Tensor
_IN_PLACE = {_T.add_, _T.sub_, _T.mul_, _T.div_}
RULES: dict[Any, Callable[..., Any]] = {
    torch.conv1d: _convolution(1),
    torch.conv2d: _convolution(2),
    torch.conv3d: _convolution(3),
    torch.conv_transpose1d: _transposed(1),
    torch.conv_transpose2d: _transposed(2),
    torch.conv_transpose3d: _transposed(3),
    F.linear: _linear,
    F.leaky_relu: _leaky_relu,
    F.hardtanh: _hardtanh,
    F.relu6: _relu6,
    F.pad: _pad,
    **dict.fromkeys([F.relu, torch.relu, _T.relu, _T.relu_], _relu),
    **dict.fromkeys([torch.clamp, _T.clamp, torch.clip, _T.clip], _clamped),
    **dict.fromkeys([torch.abs, _T.abs, _T.__abs__], _absolute),
    **dict.fromkeys([F.prelu, torch.prelu], _prelu),
    **{getattr(F, f"max_pool{d}d"): _max_pool(d, False) for d in (1, 2, 3)},
    **{getattr(F, f"adaptive_max_pool{d}d"): _max_pool(d, True) for d in (1, 2, 3)},
    **dict.fromkeys(
        [getattr(F, f"{a}avg_pool{d}d") for d in (1, 2, 3) for a in ("", "adaptive_")], _linear_map
    ),
    **dict.fromkeys(
        [F.interpolate, torch.pixel_shuffle, torch.pixel_unshuffle, F.unfold], _linear_map
    ),
    **dict.fromkeys([torch.cat, torch.stack], _joined),
    **dict.fromkeys([torch.matmul, _T.matmul, _T.__matmul__, torch.mm, _T.mm], _multiplied),
    **dict.fromkeys(
        [_T.add, _T.add_, torch.add, _T.sub, _T.sub_, torch.sub, _T.__rsub__, torch.rsub], _summed
    ),
    **dict.fromkeys([_T.mul, _T.mul_, torch.mul, _T.div, _T.div_, torch.div], _scaled),
}
