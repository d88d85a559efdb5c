"""What a loop keeps beside its gradients: a moving average, files, and other ranks' copies."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...core.players import Name
from .findings import FOLLOWS, Finding
from .marks import checksum, tensors


class Averages:
    """The moving averages of a generator: the one that was given, or those that are found."""

    def __init__(
        self, generator: nn.Module, given: nn.Module | Mapping[str, Tensor] | None
    ) -> None:
        self.generator, self.given = generator, given
        self.kept: list[nn.Module | Mapping[str, Tensor]] = []

    def look(self) -> None:
        """Find them, and remember what they hold."""
        if self.given is None:
            self.kept = list(_twins(self.generator))
        else:
            self.kept = [self.given] if self._state(self.given)[0] else []
        self._before = [self._state(each) for each in self.kept]
        self._own = self._state(self.generator)

    def findings(self, steps: int) -> Iterator[Finding]:
        """Yield those that did not follow a generator that moved in so many steps."""
        own = self._state(self.generator)
        for each, (parameters, buffers) in zip(self.kept, self._before, strict=True):
            now = self._state(each)
            if now[0] == parameters:
                if steps < FOLLOWS:
                    continue
                yield Finding(
                    "ema-never-updated",
                    f"the generator moved in {steps} steps and its moving average did not.",
                    "update it after each of the generator's steps: p_ema.lerp_(p, 1 - decay);"
                    " where it is meant to start later, watch those iterations.",
                )
            elif own[1] != self._own[1] and buffers and now[1] == buffers:
                yield Finding(
                    "ema-buffers-not-updated",
                    "the moving average's parameters follow, its buffers (BatchNorm's statistics)"
                    " do not: it makes samples with those of the start.",
                    "copy the generator's buffers into it at each update.",
                )

    @staticmethod
    def _state(of: nn.Module | Mapping[str, Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if isinstance(of, nn.Module):
            inner = of.module if isinstance(of, torch.optim.swa_utils.AveragedModel) else of
            return checksum(inner.parameters()), checksum(inner.buffers())
        return checksum(of.values()), ()


def _twins(generator: nn.Module) -> Iterator[nn.Module]:
    """Yield modules of the generator's structure that no gradient trains."""
    shapes = [(name, p.shape) for name, p in generator.named_parameters()]
    if not shapes:
        return
    gc.collect()  # what is only waiting to be collected belongs to nobody
    for each in gc.get_objects():
        # No isinstance: it asks lazy proxies of other libraries for their class.
        if not issubclass(type(each), type(generator)) or each is generator:
            continue
        if [(name, p.shape) for name, p in each.named_parameters()] == shapes and not any(
            p.requires_grad for p in each.parameters()
        ):
            yield each


class Saved:
    """What the loop saved with torch.save or safetensors while it was watched."""

    def __init__(
        self,
        networks: Mapping[Name, nn.Module],
        optimizers: Mapping[Name, torch.optim.Optimizer],
        averages: Averages,
    ) -> None:
        self.networks, self.optimizers, self.averages = networks, optimizers, averages
        # By part, whether its very tensors or equal ones were saved; and whether a count was.
        self.shared: dict[str, bool] = {}
        self.equal: dict[str, bool] = {}
        self.counts = False
        self._undo: list[Callable[[], None]] = []

    def watch(self) -> None:
        """Look at what is given to torch.save and safetensors from now on."""
        places = [(torch, "save"), (sys.modules.get("safetensors.torch"), "save_file")]
        for module, name in places:
            if module is None:
                continue
            real = getattr(module, name)

            def looking(obj: Any, *args: Any, _real: Any = real, **kwargs: Any) -> Any:
                with torch._C.DisableTorchFunction():
                    self._look(obj)
                return _real(obj, *args, **kwargs)

            setattr(module, name, looking)
            self._undo.append(partial(setattr, module, name, real))

    def leave(self) -> None:
        """Look no more."""
        while self._undo:
            self._undo.pop()()

    def _look(self, obj: Any) -> None:
        """Compare now: later the parts may have other numbers, in other places."""
        self.counts |= _counts(obj)
        if not (saved := list(_deep(obj))):
            return
        for part, wanted in self._parts().items():
            if wanted:
                self.shared[part] = self.shared.get(part, False) or _shared(saved, wanted)
                self.equal[part] = self.equal.get(part, False) or _equal(saved, wanted)

    def _parts(self) -> dict[str, list[Tensor]]:
        parts: dict[str, list[Tensor]] = {}
        for name, network in self.networks.items():
            parts[f"the {name}'s parameters"] = list(network.parameters())
            parts[f"the {name}'s buffers"] = [b for b in network.buffers() if b.numel()]
        for name, optimizer in self.optimizers.items():
            parts[f"the {name}'s optimizer"] = [
                t for state in optimizer.state.values() for t in tensors(state) if t.ndim
            ]
        for average in self.averages.kept:
            held = average.parameters() if isinstance(average, nn.Module) else average.values()
            parts["the moving average"] = list(held)
            buffers = average.buffers() if isinstance(average, nn.Module) else ()
            parts["the moving average's buffers"] = list(buffers)
        return parts

    def findings(self) -> Iterator[Finding]:
        """Yield what is missing from files that are there to continue from."""
        there: dict[str, bool] = {}
        for part, shared in self.shared.items():
            # Where the parameters themselves were saved, equal numbers elsewhere are no copy of
            # the buffers: an average's are those of its generator.
            own = part.endswith("buffers") and self.shared.get(_parameters_of(part), False)
            there[part] = shared or (not own and self.equal[part])
        state = [name for name in there if "optimizer" in name and there[name]]
        continues = there.get("the critic's parameters") or state or self.counts
        if not there.get("the generator's parameters") or not continues:
            return  # samples, or a generator to be used elsewhere
        missing = [name for name, yes in there.items() if not yes]
        if not state:
            missing = [name for name in missing if "optimizer" not in name]
        if not there.get("the moving average"):
            missing = [name for name in missing if name != "the moving average's buffers"]
        if missing:
            yield Finding(
                "checkpoint-lacks-state",
                "what was saved to continue from holds the generator but not"
                f" {', '.join(missing)}.",
                "save the state_dict() of both networks, both optimizers and the moving average"
                " (state_dict() has the buffers, named_parameters() has not).",
            )


def _deep(obj: Any) -> Iterator[Tensor]:
    if isinstance(obj, nn.Module):
        yield from (t for t in (*obj.parameters(), *obj.buffers()))
    elif isinstance(obj, torch.optim.Optimizer):
        yield from _deep(obj.state_dict())
    elif isinstance(obj, Mapping):
        for each in obj.values():
            yield from _deep(each)
    elif isinstance(obj, (list, tuple)):
        for each in obj:
            yield from _deep(each)
    elif isinstance(obj, Tensor):
        yield obj


def _counts(obj: Any) -> bool:
    """Return whether it says how far a training was, as a checkpoint to continue from does."""
    return isinstance(obj, Mapping) and any(
        type(v) is int and any(word in str(k).lower() for word in ("step", "iter", "epoch"))
        for k, v in obj.items()
    )


def _parameters_of(buffers: str) -> str:
    whose = buffers.removesuffix("'s buffers")
    return whose if whose == "the moving average" else f"{whose}'s parameters"


def _shared(saved: list[Tensor], wanted: list[Tensor]) -> bool:
    storages = {t.untyped_storage().data_ptr() for t in saved}
    return all(w.untyped_storage().data_ptr() in storages for w in wanted)


def _equal(saved: list[Tensor], wanted: list[Tensor]) -> bool:
    return all(any(t.shape == w.shape and torch.equal(t.to(w), w) for t in saved) for w in wanted)


def ranks(networks: Mapping[Name, nn.Module]) -> Iterator[Finding]:
    """Yield networks whose copies differ between the processes of a distributed training."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if distributed.get_world_size() < 2:
        return
    for name, network in networks.items():
        device = next(network.parameters()).device
        mine = torch.tensor(checksum(network.parameters()), dtype=torch.float64, device=device)
        low, high = mine.clone(), mine.clone()
        distributed.all_reduce(low, op=distributed.ReduceOp.MIN)
        distributed.all_reduce(high, op=distributed.ReduceOp.MAX)
        if not torch.equal(low, high):
            yield Finding(
                "ranks-out-of-step",
                f"the {name}'s parameters differ between processes by up to"
                f" {float((high - low).max()):.2g} in their sums.",
                "average gradients over processes before every step (DistributedDataParallel does"
                " so in backward only), and start from the same parameters.",
            )
