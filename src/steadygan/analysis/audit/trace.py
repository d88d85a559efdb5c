"""What a training loop does to two networks, event by event, watched without changing a bit of it.

Modules are watched by forward hooks, parameters by hooks after accumulation, optimizers by hooks
around their steps, and operations on tensors by a torch function mode.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...core.players import Name
from .events import Backward, Call, Slope, Step, same
from .marks import NOTHING, Mark, Marks, tensors, union
from .operations import (
    CAT,
    GRAD,
    NORM,
    ON_LOGITS,
    POWER,
    PRODUCT,
    QUOTIENT,
    RANDOM,
    READS,
    ROOT,
    SIGMOID,
    ends_in_sigmoid,
    indexes,
    joined_rows,
    logits_of,
    number,
    shares,
    squares,
    writes,
)
from .scalers import watch_scalers


class Trace(TorchFunctionMode):
    """The events of a loop, while it is entered."""

    def __init__(
        self,
        networks: Mapping[Name, nn.Module],
        optimizers: Mapping[Name, torch.optim.Optimizer],
    ) -> None:
        super().__init__()
        self.networks, self.optimizers, self.marks = networks, optimizers, Marks()
        self.calls: list[Call] = []
        self.slopes: list[Slope] = []
        self.backwards: list[Backward] = []
        self.steps: list[Step] = []
        self.differentiated: list[Mark] = []
        # After how many backwards a player's parameters were written into outside of a step.
        self.moves: dict[Name, set[int]] = {name: set() for name in networks}
        self.owner = {
            id(p): name for name, network in networks.items() for p in network.parameters()
        }
        self._latents: list[weakref.ref[Tensor]] = []
        self._inside = 0
        self._stepping = 0
        self._now: Backward | None = None
        # Which backwards a parameter's gradient holds, since it was last cleared.
        self._holds: dict[int, set[int]] = {}
        self._before: dict[Name, int] = dict.fromkeys(networks, 0)
        self._unscaled: set[int] = set()
        self._unhook: list[Callable[[], None]] = []

    # ------------------------------------------------------------ hooks

    def __enter__(self) -> Trace:
        for name, network in self.networks.items():
            keep = self._unhook.append
            keep(network.register_forward_pre_hook(self._into).remove)
            out = self._generated if name == "generator" else self._judged
            hook = network.register_forward_hook(out, with_kwargs=True, always_call=True)
            keep(hook.remove)
            for p in network.parameters():
                if p.is_floating_point() and p.is_leaf:
                    frozen = not p.requires_grad
                    p.requires_grad_()  # torch takes no hook while it is frozen; it may thaw
                    keep(p.register_post_accumulate_grad_hook(self._wrote).remove)
                    p.requires_grad_(not frozen)
        for name, optimizer in self.optimizers.items():
            keep(optimizer.register_step_pre_hook(self._stepper(name, before=True)).remove)
            keep(optimizer.register_step_post_hook(self._stepper(name, before=False)).remove)
        self._unhook.append(watch_scalers(self))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *given: Any) -> None:
        super().__exit__(*given)  # type: ignore[no-untyped-call]
        while self._unhook:
            self._unhook.pop()()

    def __deepcopy__(self, memo: Any) -> Trace:
        """Return a trace of nothing: the hooks of a copied network have nobody to tell."""
        return Trace({}, {})

    def _into(self, module: nn.Module, args: Any) -> None:
        self._inside += 1

    def _generated(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        self._inside -= 1
        self._latents += [weakref.ref(t) for t in tensors((args, kwargs))]
        for t in tensors(out):
            self.marks.set(t, Mark(generated=True))

    def _judged(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        self._inside -= 1
        if out is None:  # it raised
            return
        given = [t for t in tensors((args, kwargs)) if t.is_floating_point()]
        if not given:
            return
        index, mark = len(self.calls), self.marks.get(given[0]) or Mark()
        rows = mark.rows or ((mark.kind, len(given[0]) if given[0].ndim else 1),)
        for t in given:
            if (known := self.marks.get(t)) and known.random:
                self.marks.set(t, replace(known, random=False))  # data that the loop draws itself
        seen = self.marks.of(given) or Mark()
        logits = logits_of(out)
        squashed = any(ends_in_sigmoid(t) for t in logits)
        self.calls.append(Call(rows, [weakref.ref(t) for t in given], seen.mixed))
        for t in tensors(out):
            one = frozenset({index})
            self.marks.set(
                t,
                replace(seen, rows=(), calls=one, squeezed=one if squashed else NOTHING),
            )
        for t in logits:
            if t.requires_grad:
                # Unseen by those that follow the critic's operations: this hook changes nothing.
                with torch._C.DisableTorchFunction():
                    t.register_hook(self._puller(rows))

    def _puller(self, rows: tuple[tuple[str, int], ...]) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            if self._now is None:  # of a penalty's input gradient
                return
            at = 0
            with torch.no_grad():
                for kind, n in rows:
                    part = gradient[at : at + n] if len(rows) > 1 else gradient
                    self._now.pulls.setdefault(kind, []).append(float(part.sum()))
                    at += n

        return hook

    def _wrote(self, p: Tensor) -> None:
        if self._now is None:
            return
        self._now.wrote.add(self.owner[id(p)])
        self._holds.setdefault(id(p), set()).add(len(self.backwards) - 1)

    def _stepper(self, name: Name, *, before: bool) -> Callable[..., None]:
        def hook(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            closure = bool(args) or kwargs.get("closure") is not None
            if closure != before:  # a closure makes its gradients inside of the step
                self._step(name, optimizer)
            if not closure:
                self._stepping += 1 if before else -1

        return hook

    def _step(self, name: Name, optimizer: torch.optim.Optimizer, skipped: bool = False) -> None:
        mine = [
            id(p)
            for group in optimizer.param_groups
            for p in group["params"]
            if self.owner.get(id(p)) == name
        ]
        used = frozenset().union(*(self._holds.get(p, set()) for p in mine))
        scaled = (
            id(optimizer) in self._unscaled or getattr(optimizer, "grad_scale", None) is not None
        )
        self._unscaled.discard(id(optimizer))
        until = len(self.backwards)
        self.steps.append(Step(name, used, self._before[name], until, scaled, len(mine), skipped))
        self._before[name] = until

    def kept(self, name: Name) -> frozenset[int]:
        """Return the backwards whose gradients a player's parameters still hold."""
        mine = self.networks[name].parameters()
        return frozenset().union(*(self._holds.get(id(p), ()) for p in mine))

    def scaled(self, before: Tensor, after: Tensor, factor: float) -> None:
        """Note that a gradient scaler multiplied a loss."""
        mark = self.marks.get(before) or Mark()
        self.marks.set(after, replace(mark, scale=mark.scale * factor))

    def unscaled(self, optimizer: torch.optim.Optimizer) -> None:
        """Note that a gradient scaler took its factor out of an optimizer's gradients."""
        self._unscaled.add(id(optimizer))

    def tried(self, optimizer: torch.optim.Optimizer, steps: int, failed: bool) -> None:
        """Note a step through a scaler where, since there were ``steps`` of them, none was made."""
        for name, own in self.optimizers.items():
            if own is optimizer and len(self.steps) == steps:
                self._step(name, optimizer, skipped=not failed)

    # ------------------------------------------------------------ operations

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return what comes out of an operation, marked."""
        kwargs = kwargs or {}
        if func is Tensor.backward or func is torch.autograd.backward:
            return self._backward(func, args, kwargs)
        if func is torch.autograd.grad and not self._inside:
            return self._slope(args, kwargs)
        out = func(*args, **kwargs)
        if self._stepping or self._inside or func in READS:
            return out
        if func == GRAD.__set__:
            self._assigned(args[0], args[1])
        else:
            if writes(func):
                self._written(args[0] if args else kwargs.get("input"))
            self._mark(func, args, kwargs, out)
        return out

    def _assigned(self, p: Tensor, gradient: Tensor | None) -> None:
        if id(p) not in self.owner:
            return
        self._holds[id(p)] = set()
        if gradient is not None:
            # Gradients made elsewhere: they count as a backward that began here.
            name = self.owner[id(p)]
            last = self.backwards[-1] if self.backwards else None
            used = self._before[name] == len(self.backwards)
            if last is None or last.purpose != name or used:
                self.backwards.append(Backward(Mark(), purpose=name))
            self.backwards[-1].wrote.add(name)
            self._holds[id(p)].add(len(self.backwards) - 1)

    def _written(self, target: Any) -> None:
        """Forget gradients that zeros replaced, and note who was moved without a step."""
        changed = list(tensors(target))
        for name, network in self.networks.items():
            for p in network.parameters():
                if any(shares(t, p) for t in changed):
                    self.moves[name].add(len(self.backwards))
                grad = p.grad
                if grad is not None and any(shares(t, grad) for t in changed) and not grad.any():
                    self._holds[id(p)] = set()

    def _backward(self, func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        mark = self.marks.of(args[0] if args else kwargs.get("tensors", ())) or Mark()
        named = (kwargs.get(name) for name in ("gradient", "grad_tensors"))
        cotangents = [*tensors(args[1:2]), *tensors(tuple(named))]
        outer, self._now = self._now, Backward(mark, weighed=bool(cotangents))
        self.backwards.append(self._now)
        try:
            return func(*args, **kwargs)
        finally:
            self._now = outer

    def _slope(self, args: Any, kwargs: Mapping[str, Any]) -> Any:
        names = ("outputs", "inputs", "grad_outputs", "retain_graph", "create_graph")
        bound = dict(zip(names, args, strict=False)) | dict(kwargs)
        outer, self._now = self._now, None
        try:
            found = torch.autograd.grad(*args, **kwargs)
        finally:
            self._now = outer
        mark = self.marks.of(bound["outputs"]) or Mark()
        variables = list(tensors(bound["inputs"]))
        owners = {self.owner.get(id(v)) for v in variables} - {None}
        if owners:
            self.differentiated.append(mark)
        kinds = {kind for i in mark.calls for kind, _ in self.calls[i].rows}
        # Derivatives in parameters of what both kinds of samples went into, or in the generator's,
        # are those of a loss.
        both = len(kinds) > 1 or "unknown" in kinds
        if not mark.calls or "generator" in owners or (owners and both):
            return found
        variable = self._variable(mark, variables, bound, found)
        index, graph = len(self.slopes), bool(bound.get("create_graph"))
        batch = len(variables[0]) if variables[0].ndim else 1
        self.slopes.append(Slope(mark.calls, variable, graph, batch))
        live = frozenset({index}) if graph else NOTHING
        dead = NOTHING if graph else frozenset({(index, "create_graph=False")})
        for t in tensors(found):
            self.marks.set(t, Mark(live=live, dead=dead, scale=mark.scale))
        return found

    def _variable(
        self, mark: Mark, variables: list[Tensor], bound: Mapping[str, Any], found: Any
    ) -> Literal["input", "parameters", "other"]:
        if any(self.owner.get(id(v)) == "critic" for v in variables):
            return "parameters"
        lenient = bound.get("allow_unused") or bound.get("materialize_grads")
        if any(each is None or (lenient and not each.any()) for each in found):
            return "other"
        calls = [self.calls[i] for i in mark.calls]
        for v in variables:
            if any(call.saw(v) for call in calls):
                return "input"
            known = self.marks.get(v) or Mark()
            # Of mixed samples the derivative in one part alone is a share of the one that counts;
            # of samples that were only augmented or cast, the derivative before that is as good.
            if not (known.mixed or known.rows or not any(call.mixed for call in calls)):
                return "other"
            if any((z := r()) is not None and same(v, z) for r in self._latents):
                return "other"
        return "input"

    def _mark(self, func: Any, args: Any, kwargs: Mapping[str, Any], out: Any) -> None:
        given = [*tensors(args), *tensors(kwargs)]
        # What writes into its first argument and returns nothing, such as x[i] = y, made that one.
        made = [*tensors(args[:1] if out is None else out)]
        if func in RANDOM:
            for t in made:
                self.marks.set(t, Mark(random=True))
            return
        marks = [mark for t in given if (mark := self.marks.get(t))]
        if not marks or not made:
            return
        mark = union(marks)
        foreign = [t for t in given if _is_sample(t, self.marks.get(t))]
        mark = replace(mark, random=mark.random and not foreign)
        if func not in CAT and any(m.generated for m in marks):
            mixes = any(t.ndim > 1 and t.shape == made[0].shape for t in foreign)
            mark = replace(mark, mixed=mark.mixed or mixes)
        if func in SIGMOID:
            mark = replace(mark, squeezed=mark.squeezed | mark.calls)
        if func in ON_LOGITS:
            # Not those of its weights, which a focal loss takes from a sigmoid.
            logits = self.marks.of(args[0] if args else kwargs.get("input")) or Mark()
            mark = replace(mark, doubled=mark.doubled | logits.squeezed)
        if mark.slopes:
            mark = self._sloped(func, args, kwargs, marks, mark, made[0])
        rows = self._rows(func, args, kwargs, marks, made[0]) if len(made) == 1 else ()
        parts = [self.marks.get(t) or Mark() for t in given]
        lost = any(len({kind for kind, _ in m.rows}) > 1 for m in marks) or (
            func is torch.stack and mark.generated and not all(m.generated for m in parts)
        )
        mark = replace(mark, rows=rows, joined=mark.joined or (lost and not rows))
        for t in made:
            cut = NOTHING if t.requires_grad else mark.live
            why = "detached" if torch.is_grad_enabled() else "under no_grad"
            dead = mark.dead | {(index, why) for index in cut}
            self.marks.set(t, replace(mark, live=mark.live - cut, dead=dead))

    def _rows(
        self, func: Any, args: Any, kwargs: Mapping[str, Any], marks: list[Mark], out: Tensor
    ) -> tuple[tuple[str, int], ...]:
        """Return which samples lie in which rows, where generated ones and others were joined."""
        # What chance and constants do to a batch changes no row's kind, unless they are an index.
        known = {m.rows for m in marks if m.generated}
        if known and (parts := joined_rows(func, args, kwargs)):
            held = [(self.marks.get(t) or Mark(), len(t)) for t in parts]
            rows = tuple(row for m, n in held for row in (m.rows or ((m.kind, n),)))
        else:
            rows = known.pop() if len(known) == 1 and not indexes(args, kwargs) else ()
        return rows if out.ndim and len(out) == sum(n for _, n in rows) else ()

    def _sloped(
        self,
        func: Any,
        args: Any,
        kwargs: Mapping[str, Any],
        marks: list[Mark],
        mark: Mark,
        out: Tensor,
    ) -> Mark:
        open_ = mark.slopes - mark.normed
        if func in NORM or func in ROOT:
            for index in open_:
                batch = self.slopes[index].batch
                if out.numel() == 1 and batch > 1:
                    mark = replace(mark, whole=mark.whole | {index}, bare=mark.bare | {index})
                elif func in NORM and batch > 1 and out.numel() > batch:
                    mark = replace(mark, ragged=mark.ragged | {index}, bare=mark.bare | {index})
            mark = replace(mark, normed=mark.normed | open_)
        elif squares(func, args, kwargs):
            # A norm's square is a sum of squares, and needs no sample of its own.
            whole, ragged = mark.whole - mark.bare, mark.ragged - mark.bare
            mark = replace(mark, whole=whole, ragged=ragged, bare=NOTHING)
        elif func not in PRODUCT | QUOTIENT or len(marks) > 1:
            mark = replace(mark, bare=NOTHING)
        if mark.scale != 1.0:
            product, quotient = func in PRODUCT, func in QUOTIENT
            if func in POWER or func in NORM or (product and len(marks) > 1):
                mark = replace(mark, swollen=mark.swollen | mark.slopes)
            elif product or quotient:
                factor = next((number(a) for a in args[1:] if number(a) is not None), None)
                if factor:
                    scale = mark.scale * factor if product else mark.scale / factor
                    mark = replace(mark, scale=1.0 if abs(scale - 1) < 1e-3 else scale)
        return mark


def _is_sample(t: Tensor, mark: Mark | None) -> bool:
    """Return whether a tensor's numbers came neither from the generator nor from chance."""
    made = mark is not None and (mark.generated or mark.random)
    return t.is_floating_point() and t.numel() > 1 and not made
