r"""Chains of linear layers and elementwise activations: every gradient in closed form.

:math:`h_0 = x`, :math:`a_l = W_l h_{l-1} + b_l`, :math:`h_l = \varphi_l(a_l)`; the adjoint of the
logit at :math:`h_l` is :math:`p_l`, at :math:`a_l` it is :math:`\delta_l = \varphi'(a_l) p_l`, and
:math:`p_{l-1} = W_l^T \delta_l`, so that the input gradient is :math:`g = p_0`. With the cotangents
c of the logits and v of the input gradients the tangents are :math:`t_0 = v`, :math:`z_l = W_l
t_{l-1}`, :math:`t_l = \varphi'(a_l) z_l`, and the adjoint of the whole loss comes down as

.. math:: e_l = \varphi'(a_l) q_l + \varphi''(a_l) p_l z_l, \qquad q_{l-1} = W_l^T e_l, \qquad
    q_L = c, \qquad \partial L / \partial W_l = \sum_i e_l h_{l-1}^T + \delta_l t_{l-1}^T .

That is 6F as by double backward, without a graph; 4F where all activations are straight, because
then :math:`e_l = c \delta_l` and one contraction is enough. Everything works on (B, n), and for
many chains at once on (K, B, n) with weights (K, m, n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from .curves import CURVES, STRAIGHT, Curve

_FEW = 32
"""Below so many columns of a weight torch takes three times as long for e W as for its other
layout."""


class Link(NamedTuple):
    """A linear layer with weight (m, n) and bias (m,) or none, and the curve after it."""

    weight: Tensor
    bias: Tensor | None
    curve: Curve


class Layer(NamedTuple):
    """Where a link has its weight from: the module and its path."""

    module: nn.Linear
    path: str
    curve: Curve


class Chained(NamedTuple):
    """A module that is a chain, and the shape of one of its outputs."""

    layers: tuple[Layer, ...]
    shape: tuple[int, ...]

    def links(self, values: Mapping[str, Tensor] | None = None) -> list[Link]:
        """Return the links with the weights that the layers have now, or with values by name."""
        if values is None:
            return [Link(m.weight, m.bias, curve) for m, _, curve in self.layers]
        return [
            Link(values[f"{path}.weight"], values.get(f"{path}.bias"), curve)
            for _, path, curve in self.layers
        ]


class NoChain(Exception):
    """Why a module is no chain."""


def chained(module: nn.Module, ndim: int = 2) -> Chained:
    """Return the chain that a module is.

    Known are ``nn.Sequential`` and what declares ``in_order``, the modules that it applies to a
    batch one after the other. Only the module's structure is looked at.

    Args:
        module: called with (B, *event) only.
        ndim: dimensions of its input, the batch's included.

    Raises:
        NoChain: With the first part that is none.

    >>> [layer.path for layer in chained(nn.Sequential(nn.Linear(2, 3), nn.ELU())).layers]
    ['0']
    """
    if torch_module._has_any_global_hook():
        raise NoChain("torch has hooks on all modules")
    layers: list[Layer] = []
    shape: tuple[int, ...] | None = None
    for path, part in _parts(module, ""):
        kind = type(part)
        if kind is nn.Linear or parametrize.is_parametrized(part):
            if shape is not None or ndim != 2 or not isinstance(part, nn.Linear):
                raise NoChain(f"{kind.__name__} gets no vectors")
            if kind.forward is not nn.Linear.forward:  # a parametrized class inherits the user's
                raise NoChain(f"{kind.__name__} has a forward of its own")
            layers.append(Layer(part, path, STRAIGHT))
        elif kind in CURVES:
            curve = CURVES[kind](part)
            if curve is None or not layers or layers[-1].curve is not STRAIGHT:
                raise NoChain(f"{kind.__name__} is not behind a linear layer, or bends back")
            layers[-1] = layers[-1]._replace(curve=curve)
        elif kind is nn.Flatten and not layers and part.start_dim == 1 and part.end_dim == -1:
            ndim = 2
        elif kind is nn.Flatten and layers and part.start_dim == 1 and shape is None:
            continue
        elif kind is nn.Unflatten and layers and part.dim == 1 and shape is None:
            shape = tuple(part.unflattened_size)  # type: ignore[arg-type]
        elif kind is not nn.Identity and (kind is not nn.Dropout or part.training):
            raise NoChain(f"{kind.__name__} is neither a linear layer nor a known activation")
    if not layers:
        raise NoChain("it has no linear layer")
    return Chained(tuple(layers), (layers[-1].module.out_features,) if shape is None else shape)


def _parts(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers that a module applies one after the other, by path."""
    kind = type(module)
    if _hooked(module):
        raise NoChain(f"{kind.__name__} has hooks")
    order: Mapping[str, nn.Module | None] | None = None
    if getattr(kind, "forward", None) is nn.Sequential.forward:  # traced ones have none
        order = module._modules
    # Who inherits a declaration and writes a forward of its own has declared nothing.
    elif hasattr(kind, "in_order") and _origin(kind, "in_order") is _origin(kind, "forward"):
        order = module.in_order  # type: ignore[assignment]
    if order is None:
        yield path, module
        return
    for name, child in order.items():
        assert child is not None
        yield from _parts(child, f"{path}.{name}" if path else name)


def _origin(kind: type, name: str) -> type:
    return next(base for base in kind.__mro__ if name in vars(base))


def _hooked(module: nn.Module) -> bool:
    """Return whether calling a module does more than its class says."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
    )


class Pass:
    """One pass of a batch x (..., B, n) through links, which remembers what gradients need.

    out: (..., B, m).
    """

    def __init__(self, links: Sequence[Link], x: Tensor) -> None:
        self.links = links
        self._inputs: list[Tensor] = []
        self._at: list[Tensor] = []
        for weight, bias, curve in links:
            self._inputs.append(x)
            a = _affine(x, weight, bias, curve.gain)
            x = curve.value(a)
            self._at.append(x if curve.of_value else a)
        self.out = x

    def slope(self) -> Tensor:
        """Return the gradient of each row's sum of outputs in x, like x."""
        # One row stands for all of them until an activation tells them apart.
        p = torch.ones_like(self.out[..., :1, :])
        self._adjoints: list[tuple[Tensor, Tensor]] = []
        for link, at in zip(self.links[::-1], self._at[::-1], strict=True):
            delta, curve = p, link.curve
            if curve is not STRAIGHT:
                one, p = p.shape != at.shape, p.expand_as(at)
                delta = curve.first(p, at, keep=one or not curve.straight)
            self._adjoints.insert(0, (p, delta))
            p = _back(delta, link.weight)
        return p.expand_as(self._inputs[0])

    def pulled(self, c: Tensor, *, to_x: bool = False) -> list[Tensor | None]:
        """Return the gradients of <c, out> in x, in each weight and its bias; None where unasked.

        Those are asked for that require one.
        """
        found: list[Tensor | None] = []
        q = c
        for i in reversed(range(len(self.links))):
            link = self.links[i]
            e = link.curve.first(q, self._at[i], keep=q is c)
            found[:0] = _weight(link, e, self._inputs[i]), _bias(link, e)
            if i or to_x:
                q = _back(e, link.weight)
        return [q if to_x else None, *found]

    def penalized(self, c: Tensor, v: Tensor) -> list[Tensor | None]:
        """Return the gradients of <c, out> + <v, slope()>, v like x, in weights and biases.

        After ``slope``.
        """
        tangents, bends = self._tangents(v)
        straight = all(link.curve.straight for link in self.links)
        found: list[Tensor | None] = []
        q = c.clone()
        for i in reversed(range(len(self.links))):
            link, (_, delta), t, h = self.links[i], self._adjoints[i], tangents[i], self._inputs[i]
            delta = delta.expand_as(self._at[i])
            if straight:
                h = torch.addcmul(t, c, h)
                found[:0] = _weight(link, delta, h), _bias(link, c * delta)
                continue
            bend = bends[i]
            at = self._at[i]
            e = link.curve.first(q, at) if bend is None else link.curve.second(q, bend, at)
            found[:0] = _weight(link, e, h, _weight(link, delta, t)), _bias(link, e)
            if i:
                q = _back(e, link.weight)
        return found

    def _tangents(self, t: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return t before each link, and p z behind those that are not straight."""
        before: list[Tensor] = []
        behind: list[Tensor | None] = []
        for i, (link, at) in enumerate(zip(self.links, self._at, strict=True)):
            before.append(t)
            last = i == len(self.links) - 1
            if link.curve.straight and last:
                behind.append(None)
                break
            z = _times(t, link.weight.mT)
            behind.append(None if link.curve.straight else self._adjoints[i][0] * z)
            t = link.curve.first(z, at)
        return before, behind


class Looks:
    """A chain's look at several batches by name, (..., B, *event) each, some with their slopes.

    logits: (..., B), and slopes, like the batches, by name.
    """

    def __init__(
        self,
        links: Sequence[Link],
        batches: Mapping[str, Tensor],
        groups: Sequence[tuple[Sequence[str], bool]],
    ) -> None:
        """Look.

        Args:
            links: whose last one has one output.
            batches: by name.
            groups: what passes through together, and whether its slopes are asked for.
        """
        self._links, self._rows = links, links[0].weight.ndim - 2
        self._passes: list[tuple[Sequence[str], Pass]] = []
        self.logits: dict[str, Tensor] = {}
        self.slopes: dict[str, Tensor] = {}
        for names, sloped in groups:
            parts = [batches[name] for name in names]
            sizes = [t.shape[self._rows] for t in parts]
            x = torch.cat(parts, self._rows) if len(parts) > 1 else parts[0]
            run = Pass(links, x.flatten(self._rows + 1))
            self._passes.append((names, run))
            self.logits |= zip(names, run.out.squeeze(-1).split(sizes, self._rows), strict=True)
            if sloped:
                slopes = run.slope().view_as(x).split(sizes, self._rows)
                self.slopes |= zip(names, slopes, strict=True)

    def gradients(
        self, c: Mapping[str, Tensor], v: Mapping[str, Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return each weight and bias that is learned with its gradient, once for each group.

        Args:
            c: cotangents of the logits.
            v: cotangents of the slopes.
        """
        found: list[tuple[Tensor, Tensor]] = []
        roots = [t for weight, bias, _ in self._links for t in (weight, bias)]
        for names, run in self._passes:
            of_logits = torch.cat([c[name] for name in names], self._rows).unsqueeze(-1)
            if names[0] in self.slopes:
                of_slopes = torch.cat([v[name] for name in names], self._rows)
                pulled = run.penalized(of_logits, of_slopes.flatten(self._rows + 1))
            else:
                pulled = run.pulled(of_logits)[1:]
            pairs = zip(roots, pulled, strict=True)
            found += [(t, g) for t, g in pairs if t is not None and g is not None]
        return found


class _Applied(torch.autograd.Function):
    """A chain as one function of its input and its weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, curves: Sequence[Curve], *weights: Tensor | None) -> Tensor:
        ctx.run = _pass(x, curves, weights)
        return ctx.run.out.detach()  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, c: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.run.pulled(c, to_x=ctx.needs_input_grad[0])
        return x, None, *weights


class _Mapped(torch.autograd.Function):
    """The same under vmap, for many chains at once.

    A function of its own, because torch binds the arguments of what can be mapped by inspection,
    which costs small chains half as much again.
    """

    @staticmethod
    def forward(x: Tensor, curves: Sequence[Curve], *weights: Tensor | None) -> Tensor:
        raise NotImplementedError("vmap takes the place of it")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, curves: Sequence[Curve], *weights: Tensor | None
    ) -> Any:
        dims = in_dims[0], *in_dims[2:]
        given = [
            t if t is None or dim == 0 else t.expand(info.batch_size, *t.shape)
            for t, dim in zip((x, *weights), dims, strict=True)
        ]
        return _Applied.apply(given[0], curves, *given[1:]), 0  # type: ignore[no-untyped-call]


def _pass(x: Tensor, curves: Sequence[Curve], weights: Sequence[Tensor | None]) -> Pass:
    links = zip(weights[::2], weights[1::2], curves, strict=True)
    return Pass([Link(*link) for link in links], x)  # type: ignore[arg-type]


def applied(links: Sequence[Link], x: Tensor) -> Tensor:
    """Return what links make of x, (..., B, n) -> (..., B, m), differentiable once."""
    return _applied(_Applied, links, x)


def mapped(links: Sequence[Link], x: Tensor) -> Tensor:
    """Return the same under vmap, (B, n) -> (B, m)."""
    return _applied(_Mapped, links, x)


def _applied(function: type[torch.autograd.Function], links: Sequence[Link], x: Tensor) -> Tensor:
    weights = [t for weight, bias, _ in links for t in (weight, bias)]
    return function.apply(x, [curve for *_, curve in links], *weights)  # type: ignore[no-any-return]


def quick(module: nn.Module, *, learns: bool) -> Callable[[Tensor], Tensor]:
    """Return a module's function in closed form, differentiable once; itself where it is no chain.

    learns: whether its own parameters are to get gradients.
    """

    def call(x: Tensor) -> Tensor:
        try:
            whole = chained(module, x.ndim)
        except NoChain:
            return module(x)  # type: ignore[no-any-return]
        links = whole.links()
        if not learns:
            links = [Link(w.detach(), None if b is None else b.detach(), c) for w, b, c in links]
        return applied(links, x.flatten(1)).view(len(x), *whole.shape)

    return call


def _times(a: Tensor, b: Tensor) -> Tensor:
    """Return a b, of each chain; what ``@`` looks at first costs small ones as much again."""
    return torch.mm(a, b) if a.ndim == 2 else torch.bmm(a, b)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, gain: float) -> Tensor:
    if bias is None:
        a = _times(x, weight.mT)
        return a if gain == 1 else a.mul_(gain)
    if x.ndim == 2:
        return torch.addmm(bias, x, weight.mT, alpha=gain, beta=gain)
    return torch.baddbmm(bias.unsqueeze(-2), x, weight.mT, alpha=gain, beta=gain)


def _back(e: Tensor, weight: Tensor) -> Tensor:
    rows, columns = weight.shape[-2:]
    if rows == 1:
        return e * weight
    return _times(e, weight.mT.contiguous().mT if columns < _FEW < rows else weight)


def _weight(link: Link, e: Tensor, h: Tensor, more: Tensor | None = None) -> Tensor | None:
    """Return the sum over rows of e times h, and ``more``, where a weight's gradient is needed.

    In the memory of ``more``.
    """
    if not link.weight.requires_grad:
        return None
    if h.shape[-1] < e.shape[-1]:  # the wide one last, which is five times as fast
        return _product(h, e, None if more is None else more.mT).mT
    return _product(e, h, more)


def _product(a: Tensor, b: Tensor, more: Tensor | None) -> Tensor:
    if more is None:
        return _times(a.mT, b)
    return (more.addmm_ if a.ndim == 2 else more.baddbmm_)(a.mT, b)


def _bias(link: Link, e: Tensor) -> Tensor | None:
    return e.sum(-2) if link.bias is not None and link.bias.requires_grad else None
