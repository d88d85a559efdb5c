"""Where the merged penalty is exact: a whitelist of operations on activations, seen twice.

``Merge`` sees each call of the critic's forward by name, routes what it knows through ``merged.py``
and keeps the chain of custody: a tensor is an activation if known operations made it from x.
Scripted functions and custom Functions are invisible to it; therefore ``unknown_node`` walks the
autograd graph as well, and whatever is not known there refuses the critic.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .merged import LAYER, MAP, Box, aten, convolved, mapped, pooled, projected, rectified

Out = TypeVar("Out")


class Refused(Exception):
    """Why an operation on activations cannot be merged."""


class Merge(TorchFunctionMode):
    """Routes a critic's forward from ``x`` and watches it.

    why: the first operation whose penalty cannot be merged; couples: the first that may let samples
    see each other; '' where there is none. What is refused is left as it is, so that the critic's
    forward ends as it would have.
    """

    def __init__(self, x: Tensor, box: Box) -> None:
        super().__init__()
        self._rows, self.box, self.why, self.couples = len(x), box, "", ""
        self._activations: dict[int, weakref.ref[Tensor]] = {}
        self._mark(x)

    def __torch_function__(
        self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.couples or f in _LOOKS:
            return f(*args, **kwargs)
        touched = [t for t in _tensors((*args, *kwargs.values())) if self.active(t)]
        if not touched:
            return f(*args, **kwargs)
        rule: Any = _RULES.get(f, _unknown)
        try:
            if self.why and rule not in _AS_THEY_ARE:
                raise Refused(self.why)
            out = rule(self, f, *args, **kwargs)
        except (Refused, TypeError) as refusal:
            self.why = self.why or str(refusal)
            out = f(*args, **kwargs)
            if not _keeps_apart(f, args, kwargs, touched, out, self._rows):
                self.couples = f"{_name(f)} may let the samples of a batch see each other"
                return out
        for tensor in _tensors((out,)):
            self._mark(tensor)
        return out

    def active(self, tensor: Tensor) -> bool:
        """Whether a tensor is an activation: it follows from x by known operations."""
        known = self._activations.get(id(tensor))
        return known is not None and known() is tensor

    def whole(self, out: Out) -> Out:
        """Return an output, or refuse it where sample i is no longer in row i."""
        if any(not t.ndim or len(t) != self._rows for t in _tensors((out,))):
            raise Refused("an operation moves samples out of the first dimension")
        return out

    def _mark(self, tensor: Tensor) -> None:
        self._activations[id(tensor)] = weakref.ref(tensor)


def _keeps_apart(
    f: Any, args: Any, kwargs: Any, touched: list[Tensor], out: Any, rows: int
) -> bool:
    """Whether row i of the output depends on row i of the activations only, of an operation that
    cannot be merged."""
    if f is F.batch_norm:
        names = "input", "running_mean", "running_var", "weight", "bias", "training"
        if {**dict(zip(names, args, strict=False)), **kwargs}.get("training", False):
            return False
    elif f not in _ROWWISE and f not in _KEPT:
        return False
    outputs = list(_tensors((out,)))
    same = {t.ndim for t in touched} | ({t.ndim for t in outputs} if f in _ELEMENTWISE else set())
    # An activation as a weight, as in a hypernetwork, meets every sample.
    alone = f in _ELEMENTWISE or (
        len(touched) == 1 and touched[0] is next(iter(_tensors(args)), None)
    )
    return alone and len(same) == 1 and all(t.ndim and len(t) == rows for t in outputs)


def _unknown(merge: Merge, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    raise Refused(f"{_name(f)} is not on the list of operations whose penalty can be merged")


def _cast(merge: Merge, *given: Tensor | None) -> Any:
    """Return the inputs of a layer as autocast would have them; it does not reach into a Function's
    backward."""
    x, *weights = given
    if x is None or any(w is not None and merge.active(w) for w in weights):
        raise Refused("a layer uses an activation as a weight")
    if not torch.is_autocast_enabled(x.device.type):
        return given
    low = torch.get_autocast_dtype(x.device.type)
    return tuple(None if t is None else t.to(low) for t in given)


def _convolution(dims: int) -> Callable[..., Tensor]:
    def rule(
        merge: Merge, f: Any, /, input: Tensor, weight: Tensor, bias: Tensor | None = None,
        stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    ) -> Tensor:  # fmt: skip
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
        merge: Merge, f: Any, /, input: Tensor, weight: Tensor, bias: Tensor | None = None,
        stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Tensor:  # fmt: skip
        geometry = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "output_padding": output_padding,
        }
        return _convolved(merge, dims, input, weight, bias, transposed=True, **geometry)

    return rule


def _convolved(
    merge: Merge, dims: int, x: Tensor, w: Tensor, b: Tensor | None, **geometry: Any
) -> Tensor:
    if x.ndim != dims + 2:
        raise Refused("a convolution gets a single sample instead of a batch")
    x, w, b = _cast(merge, x, w, b)
    return merge.whole(convolved(x, w, b, merge.box, dims, **geometry))


def _linear(
    merge: Merge, f: Any, /, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if input.ndim < 2:
        raise Refused("a linear layer gets a single sample instead of a batch")
    x, w, b = _cast(merge, input, weight, bias)
    return merge.whole(projected(x, w, b, merge.box))


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
    merge: Merge, f: Any, /, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:  # fmt: skip
    if len(pad) > 2 * (input.ndim - 1):
        raise Refused("padding adds samples to the batch")
    # Padding with a constant is affine, and autograd's own rule for it is clean.
    constant = mode == "constant"
    return (
        merge.whole(f(input, pad, mode, value))
        if constant
        else _linear_map(merge, f, input, pad, mode, value)
    )


def _native(merge: Merge, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    """What autograd's own rules do exactly: each row of the output is a linear function of the same
    row of the input."""
    return merge.whole(f(*args, **kwargs))


def _scaled(merge: Merge, f: Any, /, input: Tensor, other: Any, **kwargs: Any) -> Tensor:
    if (
        isinstance(other, Tensor)
        and isinstance(input, Tensor)
        and merge.active(other)
        and (merge.active(input) or "div" in _name(f))
    ):
        raise Refused(f"{_name(f)} joins two activations, which is not linear")
    return _together(merge, f, input, other, **kwargs)


def _together(merge: Merge, f: Any, /, input: Any, other: Any, **kwargs: Any) -> Tensor:
    tensors = [t for t in (input, other) if isinstance(t, Tensor)]
    if any(t.requires_grad and not merge.active(t) for t in tensors):
        raise Refused(f"{_name(f)} joins an activation with a learned tensor outside a layer")
    # (B, 1) + (B,) would be (B, B): every sample with every other.
    if (
        any(t.ndim > max(a.ndim for a in tensors if merge.active(a)) for t in tensors)
        or len({a.ndim for a in tensors if merge.active(a)}) > 1
    ):
        raise Refused(f"{_name(f)} broadcasts an activation over samples")
    return merge.whole(f(input, other, **kwargs))  # type: ignore[no-any-return]


def _reduced(
    merge: Merge, f: Any, /, input: Tensor, dim: Any = None, *args: Any, **kwargs: Any
) -> Tensor:
    dims = [dim] if isinstance(dim, int) else dim
    if not dims or any(d % input.ndim == 0 for d in dims):
        raise Refused(f"{_name(f)} runs over the batch")
    return merge.whole(f(input, dim, *args, **kwargs))  # type: ignore[no-any-return]


def _ordered(merge: Merge, f: Any, /, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    order = [d for a in (*args, *kwargs.values()) for d in (a if isinstance(a, Sequence) else [a])]
    if (
        (order[0] % input.ndim != 0)
        if "permute" in _name(f)
        else any(d % input.ndim == 0 for d in order)
    ):
        raise Refused(f"{_name(f)} moves the batch from the first dimension")
    return merge.whole(f(input, *args, **kwargs))  # type: ignore[no-any-return]


def _split(merge: Merge, f: Any, /, input: Tensor, size: Any, dim: int = 0) -> Any:
    if dim % input.ndim == 0:
        raise Refused(f"{_name(f)} splits the batch")
    return merge.whole(f(input, size, dim))


def _joined(merge: Merge, f: Any, /, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    if dim % tensors[0].ndim == 0:
        raise Refused(f"{_name(f)} joins samples")
    if any(t.requires_grad and not merge.active(t) for t in tensors):
        raise Refused(f"{_name(f)} joins an activation with a learned tensor outside a layer")
    return merge.whole(f(tensors, dim))  # type: ignore[no-any-return]


def _indexed(merge: Merge, f: Any, /, input: Tensor, index: Any) -> Tensor:
    first, *rest = index if isinstance(index, tuple) else (index,)
    if first != slice(None) or any(not isinstance(i, (slice, int)) for i in rest):
        raise Refused("indexing picks samples, or picks by a tensor")
    return merge.whole(f(input, index))  # type: ignore[no-any-return]


_T = torch.Tensor
_RULES: dict[Any, Callable[..., Any]] = {
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
    torch.cat: _joined,
    _T.__getitem__: _indexed,
    **dict.fromkeys([F.relu, torch.relu, _T.relu, _T.relu_], _relu),
    **{getattr(F, f"max_pool{d}d"): _max_pool(d, False) for d in (1, 2, 3)},
    **{getattr(F, f"adaptive_max_pool{d}d"): _max_pool(d, True) for d in (1, 2, 3)},
    **dict.fromkeys(
        [getattr(F, f"{a}avg_pool{d}d") for d in (1, 2, 3) for a in ("", "adaptive_")], _linear_map
    ),
    **dict.fromkeys([F.interpolate, torch.pixel_shuffle, torch.pixel_unshuffle], _linear_map),
    **dict.fromkeys(
        [
            _T.flatten,
            torch.flatten,
            _T.view,
            _T.reshape,
            torch.reshape,
            _T.unflatten,
            _T.contiguous,
            _T.clone,
        ],
        _native,
    ),
    **dict.fromkeys(
        [
            _T.squeeze,
            torch.squeeze,
            _T.unsqueeze,
            torch.unsqueeze,
            _T.neg,
            torch.neg,
            _T.float,
            _T.double,
            _T.to,
        ],
        _native,
    ),
    **dict.fromkeys([F.dropout, F.dropout1d, F.dropout2d, F.dropout3d], _native),
    **dict.fromkeys(
        [_T.add, _T.add_, torch.add, _T.sub, _T.sub_, torch.sub, _T.__rsub__, torch.rsub], _together
    ),
    **dict.fromkeys([_T.mul, _T.mul_, torch.mul, _T.div, _T.div_, torch.div], _scaled),
    **dict.fromkeys([_T.mean, torch.mean, _T.sum, torch.sum], _reduced),
    **dict.fromkeys([_T.permute, torch.permute, _T.transpose, torch.transpose], _ordered),
    **dict.fromkeys([_T.chunk, torch.chunk, _T.split, torch.split], _split),
}
_ELEMENTWISE: set[Any] = {
    *(
        getattr(F, name)
        for name in "silu gelu elu selu celu mish softplus sigmoid tanh tanhshrink softsign"
        " logsigmoid hardswish".split()
    ),
    *(
        getattr(F, name)
        for name in "hardsigmoid prelu relu relu6 leaky_relu hardtanh threshold".split()
    ),
    *(
        getattr(torch, name)
        for name in "tanh sigmoid sin cos exp abs square sqrt rsqrt add sub mul div neg where"
        " clamp pow".split()
    ),
    *(
        getattr(_T, name)
        for name in "tanh sigmoid sin cos exp abs square sqrt rsqrt add sub mul div neg clamp"
        " pow add_ sub_ mul_ div_".split()
    ),
    *(_T.__rsub__, torch.rsub, torch.prelu),
}
_ROWWISE: set[Any] = _ELEMENTWISE | {F.group_norm, F.layer_norm, F.rms_norm}
"""What cannot be merged, yet keeps samples apart as long as it keeps their row."""
_AS_THEY_ARE = {_native, _reduced, _ordered, _split, _joined, _indexed}
"""Rules that check and call the operation itself, merged or not."""
_KEPT = {f for f, rule in _RULES.items() if rule not in _AS_THEY_ARE}
_FIELDS = (
    "shape",
    "ndim",
    "dtype",
    "device",
    "layout",
    "is_cuda",
    "is_sparse",
    "is_nested",
    "requires_grad",
    "is_quantized",
    "is_mkldnn",
)
_LOOKS: set[Any] = {getattr(_T, name).__get__ for name in _FIELDS} | {
    *(
        _T.size,
        _T.dim,
        _T.numel,
        _T.stride,
        _T.is_contiguous,
        _T.__len__,
        _T.is_floating_point,
        torch.is_floating_point,
        _T.get_device,
    ),
    *(_T.nelement, _T.is_complex, torch.is_complex, torch.numel),
}
"""What looks at an activation without touching its values."""


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _name(f: Any) -> str:
    return str(getattr(f, "__name__", f)).strip("_")


# ------------------------------------------------------------ the graph, as a second witness

# Each is linear in its differentiable input, and none of them has a derivative of a derivative.
_NODES = frozenset(
    """View UnsafeView ReshapeAlias Transpose Permute Squeeze Unsqueeze Clone ToCopy Alias Slice Select Split SplitWithSizes Unbind Cat
    Add Sub Rsub Neg Mul Div Mean Sum Expand ConstantPadNd NativeDropout""".split()
)


def unknown_node(logits: Tensor, x: Tensor) -> str:
    """Return what stands between logits and x that no rule is known for, or ''."""
    source, found = x.view_as(x).grad_fn.next_functions[0][0], False  # type: ignore[union-attr]
    path, weights, seen = [logits.grad_fn], list[Node | None](), set[Node]()
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
                return "a product of two tensors that are not constant"
        else:
            return (
                "a learned tensor outside a layer"
                if _stem(node) == "AccumulateGrad"
                else node.name()
            )
    inner = set[Node]()
    while weights:
        node = weights.pop()
        if node is source or node in seen:
            return "a layer that uses an activation as a weight"
        if node is not None and node not in inner:
            inner.add(node)
            weights.extend(child for child, _ in node.next_functions)
    return "" if found else "a critic that does not depend on its input"


def _stem(node: Node) -> str:
    return node.name().rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")
