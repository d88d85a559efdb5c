"""Which operations keep samples apart: sample i of what they return hangs on sample i of what.

``Watch`` sees each call of a critic's forward by name and keeps the chain of custody: a tensor is
an activation if known operations made it from x, row by row. Everything else may let samples see
each other. Scripted functions and custom Functions are invisible to it: what they return is an
activation only where known operations returned it. What else autograd's graph leads back to
activations may not be joined with them, and a critic whose logits are none is not followed at all.
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

from ..slopes import nodes
from .looks import LOOKS, called

Out = TypeVar("Out")


class Refused(Exception):
    """Why an operation on activations is not followed."""


class Watch(TorchFunctionMode):
    """Watches a critic's forward from ``x``, and leaves it as it is.

    couples: the first operation that may let samples see each other, '' where there is none.
    attends: whether there is attention.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.couples, self.attends, self._rows = "", False, len(x)
        self._activations: dict[int, weakref.ref[Tensor]] = {}
        self._nodes = set[Node | None]()
        self._mark(x)

    def __exit__(self, *error: Any) -> None:
        self._nodes.clear()  # which keep what backward would have freed
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if f in LOOKS:
            return f(*args, **kwargs)
        self.attends |= f in ATTENTION
        if self.couples or not self._touched(args, kwargs):
            return f(*args, **kwargs)
        if any(map(self._unseen, tensors((*args, *kwargs.values())))):
            self.couples = f"{named(f)} joins activations with what something unseen made of them"
            return f(*args, **kwargs)
        out = self.follow(f, args, kwargs)
        for tensor in (out,) if isinstance(out, Tensor) else tensors((out,)):
            self._mark(tensor)
        return out

    def follow(self, f: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        """Return what a call on activations returns, and note where it may couple samples."""
        rule: Any = STRUCTURE.get(f) or ROWWISE.get(f)
        try:
            if rule is None:
                raise Refused(f"{named(f)} may let the samples of a batch see each other")
            return rule(self, f, *args, **kwargs)
        except Refused as refusal:
            self.couples = str(refusal)
        except TypeError:
            self.couples = f"{named(f)} is called in a way that is not known"
        return f(*args, **kwargs)

    def active(self, tensor: Tensor | None) -> bool:
        """Return whether a tensor is an activation: it follows from x by known operations."""
        known = self._activations.get(id(tensor))
        return known is not None and known() is tensor

    def whole(self, out: Out) -> Out:
        """Return an output, or refuse it where sample i is no longer in row i."""
        for t in (out,) if isinstance(out, Tensor) else tensors((out,)):
            if not t.ndim or t.size(0) != self._rows:
                raise Refused("an operation moves samples out of the first dimension")
        return out

    def lost(self, *logits: Tensor) -> str:
        """Return why the samples may see each other on the way to the logits, or ''."""
        if self.couples or all(map(self.active, logits)):
            return self.couples
        return "its logits come from something that cannot be followed"

    def _touched(self, args: Any, kwargs: Mapping[str, Any]) -> bool:
        # Most calls have an activation as their first argument.
        first = args[0] if args else None
        if isinstance(first, Tensor) and self.active(first):
            return True
        return any(map(self.active, tensors((*args, *kwargs.values()))))

    def _unseen(self, tensor: Tensor) -> bool:
        """Return whether a tensor follows from activations by what no mode sees."""
        if tensor.grad_fn is None or self.active(tensor):
            return False
        met = ((node, getattr(node, "variable", None)) for node in nodes(tensor))
        return any(node in self._nodes or self.active(leaf) for node, leaf in met)

    def _mark(self, tensor: Tensor) -> None:
        self._activations[id(tensor)] = weakref.ref(tensor)
        self._nodes.add(tensor.grad_fn)


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Yield the tensors among values, and in lists and tuples of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)


def named(f: Any) -> str:
    """Return how a person calls an operation."""
    name = getattr(f, "__name__", f)
    return str(f.__self__.__name__ if name == "__get__" else name).strip("_")


# ------------------------------------------------------------ linear, and clean in autograd's own
# rules: each row of the output is a linear function of the same row of the input


def native(watch: Watch, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Return what keeps the rows whatever its settings are, as long as it keeps their number."""
    return watch.whole(f(*args, **kwargs))


def _viewed(watch: Watch, f: Any, /, input: Tensor, *shape: Any, **kwargs: Any) -> Tensor:
    if kwargs or isinstance(shape[0], torch.dtype):
        raise Refused("view is asked for another type")
    # Reshaped where the layout forbids a view: layouts are chosen here, not by the critic.
    return watch.whole(input.reshape(*shape))


def _typed(watch: Watch, f: Any, /, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    out = f(input, *args, **kwargs)
    return watch.whole(out) if isinstance(out, Tensor) else out  # x.type() is a string


def _ordered(watch: Watch, f: Any, /, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    order = [d for a in (*args, *kwargs.values()) for d in (a if isinstance(a, Sequence) else [a])]
    first = [d % input.ndim == 0 for d in order]
    if not first[0] if "permute" in named(f) else any(first):
        raise Refused(f"{named(f)} moves the batch from the first dimension")
    return watch.whole(f(input, *args, **kwargs))  # type: ignore[no-any-return]


def _split(watch: Watch, f: Any, /, input: Tensor, size: Any, dim: int = 0) -> Any:
    if dim % input.ndim == 0:
        raise Refused(f"{named(f)} splits the batch")
    return watch.whole(f(input, size, dim))


def _along(default: int | None) -> Callable[..., Any]:
    """Return a rule for what works along one dimension: the first argument, or else this one."""

    def rule(
        watch: Watch, f: Any, /, input: Tensor, dim: Any = default, *args: Any, **kwargs: Any
    ) -> Any:
        dims = [dim] if isinstance(dim, int) else dim
        if not dims or any(d % input.ndim == 0 for d in dims):
            raise Refused(f"{named(f)} runs over the batch")
        return watch.whole(f(input, dim, *args, **kwargs))

    return rule


def _joined(watch: Watch, f: Any, /, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    ndim = tensors[0].ndim + (f is torch.stack)
    if dim % ndim == 0:
        raise Refused(f"{named(f)} joins samples")
    return watch.whole(f(tensors, dim))  # type: ignore[no-any-return]


def _indexed(watch: Watch, f: Any, /, input: Tensor, index: Any) -> Tensor:
    first, *rest = index if isinstance(index, tuple) else (index,)
    if first is Ellipsis and len([i for i in rest if i is not None]) < input.ndim:
        first = slice(None)
    picks = [i for i in rest if not isinstance(i, (slice, int, type(None), type(Ellipsis)))]
    if any(isinstance(i, Tensor) and (watch.active(i) or i.dtype == torch.bool) for i in rest):
        raise Refused("indexing picks by an activation or a mask")
    if isinstance(first, Tensor) and len(rest) == 1:
        # out[index, y]: from each sample what its label says, where the index counts the samples.
        counts = torch.arange(len(input), device=first.device)
        stays = first.shape == counts.shape and torch.equal(first.to(counts.dtype), counts)
    else:
        stays = isinstance(first, slice) and first == slice(None) and len(picks) < 2
    if not stays:
        raise Refused("indexing picks samples")
    return watch.whole(f(input, index))  # type: ignore[no-any-return]


def _gathered(watch: Watch, f: Any, /, input: Tensor, dim: int, index: Tensor) -> Tensor:
    if dim % input.ndim == 0 or watch.active(index):
        raise Refused("gather picks samples, or picks by an activation")
    return watch.whole(f(input, dim, index))  # type: ignore[no-any-return]


def _repeated(watch: Watch, f: Any, /, input: Tensor, *sizes: Any) -> Tensor:
    flat = sizes[0] if isinstance(sizes[0], Sequence) else sizes
    if len(flat) != input.ndim:
        raise Refused(f"{named(f)} adds a dimension before the samples")
    return watch.whole(f(input, *sizes))  # type: ignore[no-any-return]


def together(watch: Watch, f: Any, /, input: Any, other: Any, **kwargs: Any) -> Any:
    """Return sums and the like of two, where none is spread over the samples of another."""
    pair = [t for t in (input, other) if isinstance(t, Tensor)]
    active = [t.ndim for t in pair if watch.active(t)]
    # (B, 1) + (B,) would be (B, B): every sample with every other.
    if len(set(active)) > 1 or any(t.ndim > active[0] for t in pair):
        raise Refused(f"{named(f)} broadcasts an activation over samples")
    return watch.whole(f(input, other, **kwargs))


_T = torch.Tensor
_NATIVE = [
    *called(
        [_T, torch],
        """flatten reshape unflatten contiguous clone squeeze unsqueeze view_as reshape_as type_as
        neg __neg__ float double half bfloat16 to""",
    ),
    *called([F], "dropout dropout1d dropout2d dropout3d"),
]
STRUCTURE: dict[Any, Callable[..., Any]] = {
    _T.__getitem__: _indexed,
    _T.view: _viewed,
    _T.type: _typed,
    **dict.fromkeys([_T.gather, torch.gather], _gathered),
    **dict.fromkeys([torch.cat, torch.stack], _joined),
    **dict.fromkeys([_T.expand, _T.repeat], _repeated),
    **dict.fromkeys(_NATIVE, native),
    **dict.fromkeys(
        [_T.add, _T.add_, torch.add, _T.sub, _T.sub_, torch.sub, _T.__rsub__, torch.rsub], together
    ),
    **dict.fromkeys([_T.mul, _T.mul_, torch.mul, _T.div, _T.div_, torch.div], together),
    **dict.fromkeys([_T.mean, torch.mean, _T.sum, torch.sum], _along(None)),
    **dict.fromkeys([_T.permute, torch.permute, _T.transpose, torch.transpose], _ordered),
    **dict.fromkeys([_T.swapaxes, torch.swapaxes, _T.swapdims, torch.swapdims], _ordered),
    **dict.fromkeys([_T.chunk, torch.chunk, _T.split, torch.split], _split),
    **dict.fromkeys([_T.unbind, torch.unbind], _along(0)),
    **dict.fromkeys([_T.select, torch.select, _T.narrow, torch.narrow], _along(None)),
    **dict.fromkeys([_T.flip, torch.flip], _along(None)),
}


# ------------------------------------------------------------ what is not linear, or a layer


def _padded(
    watch: Watch, f: Any, /, input: Tensor, pad: Sequence[int], *args: Any, **kwargs: Any
) -> Any:
    if len(pad) > 2 * (input.ndim - 1):
        raise Refused("padding adds samples to the batch")
    return watch.whole(f(input, pad, *args, **kwargs))


def _norm(
    watch: Watch, f: Any, /, input: Tensor, p: Any = "fro", dim: Any = None, **kwargs: Any
) -> Any:
    return _along(None)(watch, lambda x, d, **rest: f(x, p, d, **rest), input, dim, **kwargs)


def _elementwise(watch: Watch, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    out = f(*args, **kwargs)
    if len(args) > 1 or kwargs:
        given = tensors((*args, *kwargs.values()))
        ndims = {t.ndim for t in given if watch.active(t)} | {t.ndim for t in tensors((out,))}
        if len(ndims) > 1:
            raise Refused(f"{named(f)} broadcasts an activation over samples")
    return watch.whole(out)


def _layer(ndim: Callable[[int], bool]) -> Callable[..., Any]:
    """Return a rule for what has one activation, its first argument, of so many dimensions."""

    def rule(watch: Watch, f: Any, /, *args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs.get("input")
        for t in (*args, *kwargs.values()):
            if isinstance(t, Tensor) and t is not x and watch.active(t):
                raise Refused(f"{named(f)} uses an activation as a weight, which all samples meet")
        if x is None or not ndim(x.ndim):
            raise Refused(f"{named(f)} gets a single sample instead of a batch")
        return watch.whole(f(*args, **kwargs))

    return rule


def _batch_norm(watch: Watch, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    names = "input", "running_mean", "running_var", "weight", "bias", "training"
    if {**dict(zip(names, args, strict=False)), **kwargs}.get("training", False):
        raise Refused("batch_norm lets the samples of a batch see each other")
    return _layer(lambda n: n > 1)(watch, f, *args, **kwargs)


def _instance_norm(
    watch: Watch, f: Any, /, input: Tensor, running_mean: Any = None, *args: Any, **kwargs: Any
) -> Any:
    if running_mean is not None and kwargs.get("use_input_stats", True):
        raise Refused("instance_norm keeps statistics of the whole batch")
    return _layer(lambda n: n > 2)(watch, f, input, running_mean, *args, **kwargs)


def _extreme(watch: Watch, f: Any, /, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    if any(isinstance(t, Tensor) for t in (*args, *kwargs.values())):
        return _elementwise(watch, f, input, *args, **kwargs)
    return _along(None)(watch, f, input, *args, **kwargs)


def _hooked(watch: Watch, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    raise Refused(f"{named(f)} hands out, or changes, the gradient of each batch on its own")


def _transformed(watch: Watch, f: Any, /, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    if input.ndim < 2:
        raise Refused(f"{named(f)} runs over the batch")
    return watch.whole(f(input, *args, **kwargs))


def _normalized(
    watch: Watch, f: Any, /, input: Tensor, p: float = 2.0, dim: int = 1, *args: Any, **kwargs: Any
) -> Any:
    return _along(1)(watch, lambda x, d: f(x, p, d, *args, **kwargs), input, dim)


def _multiplied(watch: Watch, f: Any, /, input: Tensor, other: Tensor) -> Any:
    """Return a matrix product: each sample's matrices with its own, or with one for all."""
    one_for_all = watch.active(input) and not watch.active(other) and other.ndim <= 2
    if not (one_for_all and input.ndim > 1) and not (
        max(input.ndim, other.ndim) > 2
        and all(t.ndim == max(input.ndim, other.ndim) for t in (input, other) if watch.active(t))
    ):
        raise Refused(f"{named(f)} multiplies samples with each other")
    return watch.whole(f(input, other))


def _attention(watch: Watch, f: Any, /, *args: Any, **kwargs: Any) -> Any:
    if any(t.ndim < 3 for t in tensors(args) if watch.active(t)):
        raise Refused(f"{named(f)} attends from sample to sample")
    return watch.whole(f(*args, **kwargs))


_CURVES = """tanh sigmoid sin cos exp expm1 log log1p abs square sqrt rsqrt reciprocal pow clamp
    clip maximum minimum where erf neg detach add sub mul div gt lt ge le eq ne sign
    relu relu_ tanh_ sigmoid_ float_power hypot atan __rsub__ __rdiv__ __pow__ prelu
    logical_and logical_not true_divide"""
_ACTIVATIONS = """silu gelu elu selu celu mish softplus sigmoid tanh tanhshrink softsign logsigmoid
    hardswish hardsigmoid prelu relu relu6 leaky_relu hardtanh threshold softshrink hardshrink
    rrelu"""
ROWWISE: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(called([torch, _T], _CURVES) + called([F], _ACTIVATIONS), _elementwise),
    **dict.fromkeys(
        called([torch, _T], "var std amax amin logsumexp softmax log_softmax cumsum argmax")
        + called([F], "softmax log_softmax"),
        _along(None),
    ),
    **{
        getattr(module, f"conv{transposed}{d}d"): _layer(lambda n, d=d: n == d + 2)  # type: ignore[misc]
        for module in (torch,)
        for d in (1, 2, 3)
        for transposed in ("", "_transpose")
    },
    **{
        getattr(F, f"{adaptive}{kind}_pool{d}d"): _layer(lambda n, d=d: n == d + 2)  # type: ignore[misc]
        for d in (1, 2, 3)
        for kind in ("avg", "max")
        for adaptive in ("", "adaptive_")
    },
    **dict.fromkeys([F.interpolate, F.pixel_shuffle, F.pixel_unshuffle], _layer(lambda n: n > 2)),
    **dict.fromkeys([F.linear, F.layer_norm, F.rms_norm, F.unfold], _layer(lambda n: n > 1)),
    F.pad: _padded,
    **dict.fromkeys([_T.norm, torch.norm], _norm),
    F.group_norm: _layer(lambda n: n > 1),
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    F.normalize: _normalized,
    **dict.fromkeys(called([torch, _T], "max min"), _extreme),
    **dict.fromkeys(called([torch, _T], "stft"), _transformed),
    **dict.fromkeys([_T.register_hook, _T.retain_grad], _hooked),
    torch.view_as_real: _layer(lambda n: n > 1),
    **dict.fromkeys([_T.real.__get__, _T.imag.__get__], _elementwise),  # type: ignore[attr-defined]
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys(
        [torch.matmul, _T.matmul, _T.__matmul__, torch.mm, torch.bmm, _T.bmm], _multiplied
    ),
}
"""What cannot be followed by autograd's own rules alone, yet keeps samples apart."""
ATTENTION = {F.scaled_dot_product_attention, F.multi_head_attention_forward}
