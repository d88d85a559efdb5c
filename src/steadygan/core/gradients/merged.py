r"""The exact gradient penalty at 4/3 of the price of none, where activations are piecewise linear.

Let :math:`L(l_1, \dots, l_n, g_1, \dots, g_n)` be any loss of the logits :math:`l_i = D(x_i)` and
the input gradients :math:`g_i = \nabla_x D(x_i)`, with :math:`c_i = \partial L / \partial l_i` and
:math:`v_i = \partial L / \partial g_i`. Write :math:`\delta_i` for the adjoint of :math:`l_i` at a
layer's output (computing :math:`g_i` computes it anyway) and :math:`t_i` for the tangent of
:math:`v_i` at the layer's input: v pushed forward through the same masks, without biases. Second
derivatives of the activations vanish, so the logit and its gradient need one weight-gradient
contraction a layer,

.. math:: \partial L / \partial W = \sum_i \delta_i \otimes (c_i h_i + t_i), \qquad \partial L /
\partial b = \sum_i c_i \delta_i .

Forward, adjoint, tangent, weight gradient: 4F against 3F without a penalty and 6F by double
backward. How: the critic's own forward runs under a mode that swaps each layer for a Function whose
backward computes delta and is itself a Function; ITS backward receives t and returns the merged
weight gradient. c is known after the forward only, so it waits in a box.

It is exact only where every operation on activations is known: ``whitelist.py``. Derivation in
words: docs/fast-penalties.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

aten = torch.ops.aten


class Box:
    """Holds c = dL/dlogit, (batch,), once it is known.

    It stays empty where a sample has several logits: each has an adjoint of its own then, and the
    loss comes down the layers beside its penalty.
    """

    c: Tensor | None = None

    def input(self, t: Tensor, h: Tensor) -> Tensor:
        """Return what the adjoint meets in a weight's gradient, t + c h."""
        return t if self.c is None else torch.addcmul(t, h, self._like(h))

    def output(self, delta: Tensor) -> Tensor | None:
        """Return what a bias gets of the adjoint, c delta."""
        return None if self.c is None else delta * self._like(delta)

    def _like(self, h: Tensor) -> Tensor:
        """Return c in the precision of h, broadcast over its events."""
        assert self.c is not None
        return self.c.to(h.dtype).view(-1, *[1] * (h.ndim - 1))


# ------------------------------------------------------------ layers with weights


class _Layer(Function):
    """y = layer(x, w, b); its backward is ``_LayerAdjoint`` while input gradients are taken.

    Afterwards it is the loss itself that comes down, where it does not wait in the box.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor | None, b: Tensor | None, kind: Any, box: Box
    ) -> Tensor:
        ctx.save_for_backward(x, w, b)
        ctx.rest = kind, box
        return kind.forward(x, w, b)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
        x, w, b = ctx.saved_tensors
        kind, box = ctx.rest
        if torch.is_grad_enabled():
            return _LayerAdjoint.apply(delta, w, b, x.detach(), kind, box), None, None, None, None  # type: ignore[no-untyped-call]
        return *kind.plain(delta, x, w, b, ctx.needs_input_grad[:3]), None, None


class _LayerAdjoint(Function):
    """delta -> gradient in the layer's input; its backward gets the tangent t of that gradient."""

    @staticmethod
    def forward(
        ctx: Any, delta: Tensor, w: Tensor | None, b: Tensor | None, x: Tensor, kind: Any, box: Box
    ) -> Tensor:
        ctx.save_for_backward(delta, w, x)
        ctx.rest = None if b is None else b.shape, kind, box
        return kind.adjoint(delta, x, w)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, t: Tensor) -> tuple[Tensor | None, ...]:
        delta, w, x = ctx.saved_tensors
        shape, kind, box = ctx.rest
        onward = kind.tangent(t, x, w) if ctx.needs_input_grad[0] else None
        weight = kind.weight(delta, box.input(t, x), x, w) if ctx.needs_input_grad[1] else None
        down = box.output(delta) if ctx.needs_input_grad[2] else None
        bias = None if down is None else kind.bias(down, shape)
        return onward, weight, bias, None, None, None


class _Kind:
    """What a layer does: forward, adjoint, tangent, and the gradients of weight and bias."""

    adjoint: Callable[..., Tensor]
    weight: Callable[..., Tensor]
    bias: Callable[..., Tensor]

    def plain(
        self,
        delta: Tensor,
        x: Tensor,
        w: Any,
        b: Tensor | None,
        needs: Sequence[bool],
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, w and b, those that are needed."""
        return (
            self.adjoint(delta, x, w) if needs[0] else None,
            self.weight(delta, x, x, w) if needs[1] else None,
            self.bias(delta, b.shape) if b is not None and needs[2] else None,
        )


class _Convolution(_Kind):
    """A convolution of any dimension, transposed or not."""

    def __init__(
        self,
        *,
        dims: int,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        transposed: bool = False,
        output_padding: Any = 0,
    ) -> None:
        spread = [
            list(v) if isinstance(v, Sequence) else [v] * dims
            for v in (stride, padding, dilation, output_padding)
        ]
        self._geometry = *spread[:3], transposed, spread[3], groups

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return aten.convolution(x, w, b, *self._geometry)  # type: ignore[no-any-return]

    def adjoint(self, delta: Tensor, x: Tensor, w: Tensor) -> Tensor:
        found: Tensor = aten.convolution_backward(
            delta, x, w, None, *self._geometry, [True, False, False]
        )[0]
        return found

    def tangent(self, t: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return self.forward(t, w, None)

    def weight(self, delta: Tensor, h: Tensor, x: Tensor, w: Tensor) -> Tensor:
        found: Tensor = aten.convolution_backward(
            delta, h, w, None, *self._geometry, [False, True, False]
        )[1]
        return found

    def bias(self, delta: Tensor, shape: torch.Size) -> Tensor:
        return delta.sum([0, *range(2, delta.ndim)])

    def plain(
        self, delta: Tensor, x: Tensor, w: Tensor, b: Tensor | None, needs: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        shape = None if b is None else list(b.shape)
        found: tuple[Tensor | None, ...] = aten.convolution_backward(
            delta, x, w, shape, *self._geometry, list(needs)
        )
        return found


class _Linear(_Kind):
    def forward(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return F.linear(x, w, b)

    def adjoint(self, delta: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return delta @ w

    def tangent(self, t: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return F.linear(t, w)

    def weight(self, delta: Tensor, h: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return delta.flatten(0, -2).T @ h.flatten(0, -2)

    def bias(self, delta: Tensor, shape: torch.Size) -> Tensor:
        return delta.flatten(0, -2).sum(0)


class _Shift(_Kind):
    """x + b, of a b that is learned outside a layer and is broadcast to x."""

    def forward(self, x: Tensor, w: None, b: Tensor) -> Tensor:
        return x + b

    def adjoint(self, delta: Tensor, x: Tensor, w: None) -> Tensor:
        return delta.view_as(delta)

    def tangent(self, t: Tensor, x: Tensor, w: None) -> Tensor:
        return t

    def bias(self, delta: Tensor, shape: torch.Size) -> Tensor:
        return delta.sum_to_size(shape)


class _Scale(_Kind):
    """x * w, of a w that is learned and is broadcast to x: a layer with a diagonal matrix."""

    def forward(self, x: Tensor, w: Tensor, b: None) -> Tensor:
        return x * w

    def adjoint(self, delta: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return delta * w

    def tangent(self, t: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return t * w

    def weight(self, delta: Tensor, h: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return (delta * h).sum_to_size(w.shape)


class _Leak(_Kind):
    """x where it is positive, else w * x, of a learned w: a diagonal matrix that x chooses."""

    def forward(self, x: Tensor, w: Tensor, b: None) -> Tensor:
        return torch.where(x > 0, x, x * w)

    def adjoint(self, delta: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return torch.where(x > 0, delta, delta * w)

    def tangent(self, t: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return torch.where(x > 0, t, t * w)

    def weight(self, delta: Tensor, h: Tensor, x: Tensor, w: Tensor) -> Tensor:
        return torch.where(x > 0, 0.0, delta * h).sum_to_size(w.shape)


# ------------------------------------------------------------ maps without weights


class _Map(Function):
    """y = map(x), linear at fixed masks: its adjoint does not hang on x.

    Autograd's own rules for most of these return zeros for x in the second backward, and send them
    through the whole network.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: Any) -> Tensor:
        y, saved = kind.forward(x)
        # Saved the official way, so that a later in-place change is an error and not a wrong mask.
        ctx.save_for_backward(*saved)
        ctx.kind = kind
        if kind.in_place:
            ctx.mark_dirty(x)
        return y  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor | None, ...]:
        return _MapAdjoint.apply(
            delta, ctx.kind, *(tensor.detach() for tensor in ctx.saved_tensors)
        ), None  # type: ignore[no-untyped-call]


class _MapAdjoint(Function):
    @staticmethod
    def forward(ctx: Any, delta: Tensor, kind: Any, *saved: Tensor) -> Tensor:
        ctx.save_for_backward(*saved)
        ctx.kind = kind
        return kind.adjoint(delta, *saved)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, t: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.kind.tangent(t, *ctx.saved_tensors), None, *(None for _ in ctx.saved_tensors)


class _Rectifier:
    """A piecewise-linear activation whose slope can be read from its output."""

    def __init__(
        self, f: Callable[..., Tensor], slope: Callable[[Tensor, Tensor], Tensor], in_place: bool
    ) -> None:
        self._f, self.adjoint, self.tangent, self.in_place = f, slope, slope, in_place

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        y = self._f(x, inplace=self.in_place)
        return y, (y,)


class _Masked:
    """A piecewise-linear function whose slope must be read from its input."""

    in_place = False

    def __init__(self, f: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> None:
        self._f, self._slope = f, slope

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        return self._f(x), (self._slope(x),)

    def adjoint(self, delta: Tensor, slope: Tensor) -> Tensor:
        return delta * slope

    tangent = adjoint


class _LinearMap:
    """A linear map without weights, such as average pooling.

    Autograd knows its adjoint, and its tangent is itself.
    """

    in_place = False

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self.tangent = f

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[()]]:
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            self._y = self.tangent(self._x)
        return self._y.detach(), ()

    def adjoint(self, delta: Tensor) -> Tensor:
        return torch.autograd.grad(self._y, self._x, delta, retain_graph=True)[0]


class _MaxPool:
    """Maximum pooling of any dimension.

    It selects, so that its adjoint scatters and its tangent gathers.
    """

    in_place = False

    def __init__(self, f: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self._f = f

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        self._shape = x.shape
        y, chosen = self._f(x)
        return y, (chosen,)

    def adjoint(self, delta: Tensor, chosen: Tensor) -> Tensor:
        flat = delta.new_zeros(self._shape).flatten(2)
        return flat.scatter_add_(2, chosen.flatten(2), delta.flatten(2)).view(self._shape)

    def tangent(self, t: Tensor, chosen: Tensor) -> Tensor:
        return t.flatten(2).gather(2, chosen.flatten(2)).view_as(chosen)


# ------------------------------------------------------------ what the whitelist routes to

LAYER, MAP = _Layer._backward_cls, _Map._backward_cls
"""The autograd nodes of this file."""


def slope_of(tensor: Tensor) -> bool:
    """Return whether the slope of an activation is read from a tensor, or from what it views."""
    made = (t.grad_fn for t in (tensor, tensor._base) if t is not None)
    return any(isinstance(n, MAP) and isinstance(n.kind, _Rectifier) for n in made)  # type: ignore[union-attr]


def convolved(
    x: Tensor, w: Tensor, b: Tensor | None, box: Box, dims: int, **geometry: Any
) -> Tensor:
    """Return a convolution of x, with every setting as torch has it."""
    return _Layer.apply(x, w, b, _Convolution(dims=dims, **geometry), box)  # type: ignore[no-any-return, no-untyped-call]


def projected(x: Tensor, w: Tensor, b: Tensor | None, box: Box) -> Tensor:
    """Return x W^T + b."""
    return _Layer.apply(x, w, b, _Linear(), box)  # type: ignore[no-any-return, no-untyped-call]


def shifted(x: Tensor, b: Tensor, box: Box) -> Tensor:
    """Return x + b of a learned b that is not wider than x."""
    return _Layer.apply(x, None, b, _Shift(), box)  # type: ignore[no-any-return, no-untyped-call]


def scaled(x: Tensor, w: Tensor, box: Box) -> Tensor:
    """Return x * w of a learned w that is not wider than x."""
    return _Layer.apply(x, w, None, _Scale(), box)  # type: ignore[no-any-return, no-untyped-call]


def leaked(x: Tensor, w: Tensor, box: Box) -> Tensor:
    """Return x where it is positive, else w * x, of a learned w that is not wider than x."""
    return _Layer.apply(x, w, None, _Leak(), box)  # type: ignore[no-any-return, no-untyped-call]


def masked(x: Tensor, f: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> Tensor:
    """Return f(x), piecewise linear with the slope slope(x)."""
    return _Map.apply(x, _Masked(f, slope))  # type: ignore[no-any-return, no-untyped-call]


def rectified(
    x: Tensor, f: Callable[..., Tensor], slope: Callable[[Tensor, Tensor], Tensor], in_place: bool
) -> Tensor:
    """Return f(x, inplace=in_place), of which slope(t, y) is t times the output y's slope."""
    return _Map.apply(x, _Rectifier(f, slope, in_place))  # type: ignore[no-any-return, no-untyped-call]


def mapped(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """Return f(x) of a linear f without weights."""
    return _Map.apply(x, _LinearMap(f))  # type: ignore[no-any-return, no-untyped-call]


def pooled(x: Tensor, f: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Return the maxima of x, of f(x) = (maxima, their places in the flattened event)."""
    return _Map.apply(x, _MaxPool(f))  # type: ignore[no-any-return, no-untyped-call]
