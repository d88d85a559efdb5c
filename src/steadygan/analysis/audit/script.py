"""Audit a file: a training script as it stands, or one that offers its loop by ``make_loop``."""

from __future__ import annotations

import gc
import runpy
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ...core.errors import SteadyganError
from . import audit
from .marks import tensors

_MUST = ("generator", "critic", "optimizer_generator", "optimizer_critic", "step")
_LOOK = 4
"""How many steps of optimizers are waited for before one knows who is who."""

_GIVE_UP = 48
"""After so many steps without two players a script is ended: its end may be hours away."""


class Failed(SteadyganError):
    """A script that raised; ``seen`` is the audit until then, None where it had not begun."""

    seen: audit | None = None


class _Enough(BaseException):
    """Ends a script that has been seen long enough; no ``except Exception`` of its own stops it."""


def audit_file(path: Path | str, argv: Sequence[str] = (), iterations: int = 12) -> audit:
    """Run a file's training loop for a few iterations under the auditor.

    A file with ``make_loop()`` is imported, and its ``step`` is called ``iterations`` times:
    ``make_loop`` returns a mapping with generator, critic, optimizer_generator, optimizer_critic,
    step (a function of nothing that makes one iteration) and, optionally, ema. Any other file is
    run as ``python FILE ARGUMENTS`` would, and ended when its optimizers have stepped so often;
    who is generator and who critic is seen from whose output goes into whom.

    The file is run: audit only files that you trust.

    Args:
        path: a .py file.
        argv: the arguments of a script.
        iterations: how many to watch.

    Returns:
        The audit, whose items are the findings.

    Raises:
        Failed: for a file that raises, or exits with an error, with what was seen until then.
        SteadyganError: for a file that is not there, or that trains no two networks.
    """
    path = Path(path)
    if not path.is_file():
        raise SteadyganError(f"There is no file {path}.")
    offers = "def make_loop(" in path.read_text(encoding="utf-8", errors="replace")
    if offers:
        with _running(path, argv):
            made = runpy.run_path(str(path), run_name="steadygan_loop")["make_loop"]()
        return _offered(path, argv, made, iterations)
    watching = _Watching(iterations)
    try:
        with _running(path, argv), watching:
            runpy.run_path(str(path), run_name="__main__")
    except Failed as error:
        error.seen = watching.audit
        raise
    if watching.audit is None:
        raise SteadyganError(
            f"{path}: in {watching.steps.total()} steps of its optimizers no two networks were seen"
            " of which one feeds the other and each has an optimizer. Let it train both for some"
            " iterations from its beginning on, or offer make_loop() (a dict with"
            f" {', '.join(_MUST)})."
        )
    return watching.audit


@contextmanager
def _running(path: Path, argv: Sequence[str]) -> Iterator[None]:
    """Give a script what it would have alone, and say in a sentence how it failed."""
    before, sys.argv = sys.argv, [str(path), *argv]
    sys.path.insert(0, str(path.parent))
    try:
        yield
    except _Enough:
        pass
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and not error.code:
            return
        raise Failed(f"{path} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.argv = before
        sys.path.remove(str(path.parent))


def _offered(path: Path, argv: Sequence[str], made: Any, iterations: int) -> audit:
    given = dict(made) if isinstance(made, Mapping) else {}
    missing = [key for key in _MUST if given.get(key) is None]
    if missing:
        raise SteadyganError(
            f"{path}: what make_loop() returns lacks {', '.join(missing)}; it is a dict with"
            f" {', '.join(_MUST)} and, optionally, ema."
        )
    step, ema = given.pop("step"), given.pop("ema", None)
    found = audit(*(given[key] for key in _MUST[:-1]), ema=ema)
    try:
        with found, _running(path, argv):
            for _ in range(iterations):
                step()
    except Failed as error:
        error.seen = found
        raise
    return found


class _Watching(TorchFunctionMode):
    """Looks at a running script until it knows the players, then audits some iterations."""

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self.audit: audit | None = None
        self.steps: Counter[torch.optim.Optimizer] = Counter()
        self._optimizers: list[torch.optim.Optimizer] = []
        self._depth, self._feeds = 0, Counter[tuple[int, int]]()
        self._modules: weakref.WeakValueDictionary[int, nn.Module] = weakref.WeakValueDictionary()
        self._makers = WeakTensorKeyDictionary()
        self._single: dict[int, bool] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> _Watching:
        self._handles = [
            hooks.register_module_forward_pre_hook(self._into),
            hooks.register_module_forward_hook(self._out, always_call=True),
            register_optimizer_step_post_hook(self._stepped),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        for handle in self._handles:
            handle.remove()
        if self.audit is not None:
            own = None if isinstance(error, (_Enough, SystemExit)) else error
            self.audit.__exit__(type(own) if own else None, own, traceback)
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Return what comes out of an operation, made by whoever made what went in."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if self.audit is None and not self._depth and (makers := self._of((args, kwargs))):
            for y in tensors(out):
                self._makers[y] = makers
        return out

    def _of(self, tree: Any) -> frozenset[int]:
        return frozenset().union(*(self._makers.get(x, ()) for x in tensors(tree)))

    def _into(self, module: nn.Module, args: Any) -> None:
        self._depth += 1

    def _out(self, module: nn.Module, args: Any, out: Any) -> None:
        self._depth -= 1
        if self._depth or self.audit is not None:
            return  # a layer of a network, or all is known
        self._modules[id(module)] = module
        self._feeds.update((maker, id(module)) for maker in self._of(args))
        for y in tensors(out):
            self._makers[y] = frozenset({id(module)})
            self._single[id(module)] = bool(y.ndim) and y.numel() == len(y)

    def _stepped(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.steps[optimizer] += 1
        total = self.steps.total()
        if self.audit is None:
            if total == _LOOK:
                self._optimizers = list(_optimizers())
            if total >= _LOOK and (players := self._players()) is not None:
                self.steps.clear()
                self.audit = audit(*players).__enter__()
            elif total >= _GIVE_UP:
                raise _Enough
        elif total >= 2 * self.iterations * max(1, len(self.steps)) or (
            len(self.steps) > 1 and min(self.steps.values()) >= self.iterations
        ):
            raise _Enough

    def _players(
        self,
    ) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer, torch.optim.Optimizer] | None:
        pairs = [
            (self._modules[a], self._modules[b])
            for a, b in sorted(self._feeds, key=lambda p: (not self._single[p[1]], -self._feeds[p]))
            if a in self._modules and b in self._modules and a != b
        ]
        pairs = [pair for pair in pairs if all(any(True for _ in n.parameters()) for n in pair)]
        optimizers = list(dict.fromkeys([*self._optimizers, *self.steps]))
        held = {id(n): {o for o in optimizers if _holds(o, n)} for pair in pairs for n in pair}
        # Networks that the same optimizers train are on one side, as both of CycleGAN's generators.
        pairs = [(a, b) for a, b in pairs if held[id(a)] != held[id(b)]]
        if not pairs or len(optimizers) < 2:
            return None
        generator, critic = min(pairs, key=lambda pair: not all(held[id(n)] for n in pair))
        first = min(optimizers, key=lambda o: (not _holds(o, generator), _holds(o, critic)))
        others = [o for o in optimizers if o is not first]
        second = min(others, key=lambda o: (not _holds(o, critic), _holds(o, generator)))
        return generator, critic, first, second


def _optimizers() -> Iterator[torch.optim.Optimizer]:
    for each in gc.get_objects():
        if issubclass(type(each), torch.optim.Optimizer):
            yield each


def _holds(optimizer: torch.optim.Optimizer, network: nn.Module) -> bool:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return any(id(p) in held for p in network.parameters())
