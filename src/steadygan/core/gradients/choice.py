"""Which path is exact for a critic: by its structure, checked once on a copy, and remembered."""

from __future__ import annotations

import copy
import inspect
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..batchnorm import WholeBatchNorm
from ..context import Context, Samples
from ..couples import coupled
from ..errors import SteadyganError
from ..game import Game
from ..scores import Critic, heads_of, modules_of, sharded
from ..slopes import DifferentiableOnce, twice
from .differences import differences
from .graph import toward, unknown_node
from .merged import Box
from .paths import PATHS, Found, NotExact, Points, alike, chain_of
from .rules import Merge
from .twin import twin

GradientPath = Literal[
    "auto", "separate", "joined", "merged", "chain", "compiled", "differences", "one-sided"
]
"""separate: each batch through D on its own, one backward; right for every module. joined: one pass
for all batches, where no layer lets samples see each other. merged: the exact penalty at 4/3 of the
price of none, for critics of layers and piecewise-linear activations. chain: closed forms without a
graph, for linear layers and elementwise activations one after the other. auto: the last of these
that holds for the critic. compiled: what auto takes, as one compiled function; on request only,
because compiling takes the best part of a minute. differences: from first derivatives only, right
to about 1e-4 of the penalty's gradient on smooth critics; on request only, one-sided ones, for less
and to about 1e-3."""
WAYS: dict[str, Callable[..., Found]] = {
    **PATHS,
    "differences": differences,
    "one-sided": partial(differences, sides=1),
}
"""The paths that need no compiler, by name."""
WORTH = 15e6
"""Multiplications of a critic's layers, over all rows that penalties look at, from which on merging
spares more on a CPU than it costs (docs/fast-penalties.md). Convolutions that penalties at several
points look at are worth it at any size."""
SHARDED = "its parameters are sharded, and gathered for one backward only"
ONCE = "torch differentiates {} once only"
MATH = "; its attention takes torch's math kernel, the only one with a second derivative"
ROWS = 8
"""How many samples of each batch the one-time check looks at."""
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-4}
"""Relative difference from ``separate`` that the check takes for rounding; it is made in the first
of these precisions in which the critic runs at all."""
APART = {torch.float64: 1e-4, torch.float32: 1e-2}
"""The same of differences, which are not exact."""


class Decision(NamedTuple):
    """The path that ``auto`` takes for a critic, and why not a faster one ('' for the fastest)."""

    path: GradientPath
    why: str = ""


_decisions: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Decision]] = (
    weakref.WeakKeyDictionary()
)


def decide(game: Game, critic: Critic, points: Points, at: Context = Context()) -> Decision:
    """Return the path that ``auto`` takes, remembered as long as the critic lives.

    Neither the critic nor any random stream is touched. A critic that changes (its mode, its
    parameters) is looked at again.
    """
    if not isinstance(critic, nn.Module):
        return Decision(
            "separate",
            "the critic is a function, whose structure cannot be known; pass the module itself",
        )
    known = _decisions.setdefault(critic, {})
    key = key_of(game, critic, points)
    if key not in known:
        with warnings.catch_warnings(), twice():
            warnings.simplefilter("ignore")
            known[key] = _decide(game, critic, points, at)
    return known[key]


def remember(game: Game, critic: nn.Module, points: Points, decision: Decision) -> None:
    """Take up a decision that was made before, as on resume."""
    _decisions.setdefault(critic, {})[key_of(game, critic, points)] = decision


def key_of(game: Game, critic: nn.Module, points: Points) -> Hashable:
    """Return what a decision hangs on."""
    # All in one walk: this is looked at in every step, and small critics feel it.
    structure = tuple(
        (
            *(id(module), type(module), module.training),
            *((id(p), p.requires_grad) for p in module._parameters.values() if p is not None),
            sum(map(len, (module._forward_hooks, module._forward_pre_hooks))),
            sum(map(len, (module._backward_hooks, module._backward_pre_hooks))),
        )
        for module in modules_of(critic)
    )
    first = next(iter(points.values()))
    low = torch.is_autocast_enabled(first.x.device.type)
    asked = game.where, game.outputs
    # What is a little smaller, as a last batch or a shorter sequence, is no reason to look again.
    sizes = tuple(map(int.bit_length, first.x.shape))
    return asked, structure, sizes, first.labels is None, alike(points), low


def _decide(game: Game, critic: nn.Module, points: Points, at: Context) -> Decision:
    if sharded(critic.parameters()):
        return Decision("differences" if game.where else "separate", SHARDED)
    if any(isinstance(module, WholeBatchNorm) for module in critic.modules()):
        # What a process would try on its own, others would have to try with it.
        return Decision("separate", coupled(critic))
    if why := _uncopied(critic, points):
        return Decision("separate", why)
    for dtype, tolerance in TOLERANCES.items():
        few = {
            name: Samples(
                s.x[:ROWS].detach().to(dtype), None if s.labels is None else s.labels[:ROWS]
            )
            for name, s in points.items()
        }
        try:
            rows = sum(len(points[name].x) for name in game.where)
            candidates, why = _candidates(game, critic, few, rows)
            if not candidates and not _functions(game, critic, few):
                break
            true = _gradient(game, critic, few, at, "separate")
        except DifferentiableOnce as error:
            return _by_differences(game, critic, few, at, error)
        except Exception as error:
            why = f"its copy cannot be checked: {_said(error)}"
            continue
        if wrong := _wrongly_twice(game, critic, few, at, true):
            return Decision("differences", wrong)
        for path in candidates:
            try:
                found = _gradient(game, critic, few, at, path)
            except Exception as error:
                why = f"the {path} path fails on its copy: {_said(error)}"
                continue
            if (difference := _difference(found, true)) <= tolerance:
                return Decision(path, why)
            why = f"the {path} path differs from the separate one by {difference:.0e}"
        break
    return Decision("separate", why)


def _uncopied(critic: nn.Module, points: Points) -> str:
    """Return why a copy would not be the critic on a few samples, or not leave all else alone."""
    for samples in points.values():
        if not isinstance(samples.labels, (Tensor, type(None))):
            kind = type(samples.labels).__name__
            return f"its labels are a {kind}, and only tensors are known to be one a sample"
    for path, module in critic.named_modules():
        kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
        for hook in (hook for kind in kinds for hook in getattr(module, kind).values()):
            if not _stateless(hook):
                of = f"its layer {path}" if path else "it"
                return f"{of} has a hook, which may fill what a copy shares with the critic"
    return ""


def _stateless(hook: Any) -> bool:
    """Return whether a hook on a copy changes nothing but the copy."""
    # Those of normalisation and pruning are copied with their module, the auditor's not at all.
    if getattr(hook, "__module__", "").startswith(("torch.nn.utils.", "steadygan.")):
        return True
    if not isinstance(hook, FunctionType) or hook.__defaults__ or hook.__kwdefaults__:
        return False
    free = inspect.getclosurevars(hook)
    return not free.nonlocals and all(isinstance(v, ModuleType) for v in free.globals.values())


def _by_differences(
    game: Game, critic: nn.Module, few: Points, at: Context, error: DifferentiableOnce
) -> Decision:
    """Return that differences hold where no exact path does, checked by a twin if one is made.

    The twin computes the same in operations that torch can differentiate twice.
    """
    why = ONCE.format(error.what)
    try:
        found = _gradient(game, critic, few, at, "differences")
    except NotExact as refusal:
        raise nothing_left(why, str(refusal)) from None
    except Exception as other:
        return Decision("differences", f"{why}; its copy cannot be checked: {_said(other)}")
    try:
        with twin(_functions(game, critic, few)):
            true = _gradient(game, critic, few, at, "separate")
    except Exception:
        return Decision("differences", f"{why}; there is no twin of it to check against")
    if (difference := _difference(found, true)) > APART[few["real"].x.dtype]:
        said = f"they are {difference:.0e} from what its forward says, differentiated by torch"
        raise nothing_left(why, said)
    return Decision("differences", f"{why}; checked by a twin, to {difference:.0e}")


def nothing_left(once: str, why: str) -> SteadyganError:
    """Return the error for a critic that neither an exact path nor differences can serve."""
    return SteadyganError(
        f"a gradient penalty differentiates the critic twice, and {once}. Nor do differences stand"
        f" in for that: {why}. What needs no second derivative: isotropic-r1 and isotropic-r2,"
        " which are other penalties"
    )


def _wrongly_twice(
    game: Game, critic: nn.Module, few: Points, at: Context, true: tuple[Tensor, Tensor]
) -> str:
    """Return which custom Functions hide from torch that it cannot differentiate their backward.

    What it leaves out then shows beside differences, where these hold.
    """
    functions = _functions(game, critic, few) if game.where else ()
    if not functions:
        return ""
    try:
        found = _gradient(game, critic, few, at, "differences")
    except Exception:
        return ""
    if (difference := _difference(found, true)) <= APART[few["real"].x.dtype]:
        return ""
    names = ", ".join(sorted(function.__name__ for function in functions))
    return f"torch's second derivative of {names} is wrong: it is {difference:.0e} from differences"


def _functions(game: Game, critic: nn.Module, few: Points) -> set[type]:
    """Return the custom Functions between a critic's samples and its logits."""
    x = few["real"].x.detach().requires_grad_()
    with _held(critic, x.dtype) as held, torch.enable_grad():
        logits = heads_of(held, x, few["real"].labels, game.outputs.reading).logits
    found = (getattr(type(node), "_forward_cls", None) for node in toward(logits, x))
    return {function for function in found if function is not None}


def _candidates(
    game: Game, critic: nn.Module, few: Points, rows: int
) -> tuple[list[GradientPath], str]:
    """Return the paths that a structure admits, fastest first, and why not the fastest of all."""
    if why := coupled(critic):
        return [], why
    x = few["real"].x.detach().requires_grad_()
    chain: list[GradientPath] = []
    with suppress(NotExact):
        chain_of(critic, few["real"])
        chain = ["chain"]
    with _held(critic, x.dtype) as held, Merge(x, Box()) as merge, torch.enable_grad():
        heads = heads_of(held, x, few["real"].labels, game.outputs.reading)
    attention = MATH if game.where and merge.attends else ""
    if why := merge.lost(*heads.logits):
        return [], why + attention
    if not game.where:
        return [*chain, "joined"], ""
    several = len(game.where) > 1 and merge.convolves
    # One map under penalties at several points ties where it is large; all else loses by merging.
    tie = several and len(heads.logits) == 1
    if not heads.single and {"real", "fake"} & set(game.where) and not tie:
        how = game.outputs.how([t.shape[1] for t in heads.logits])
        why = f"penalties of {how}: losses of several logits do not merge with them"
        return ["joined"], why + attention
    small = "" if several else _too_small(merge, x, rows)
    if why := merge.why or unknown_node(heads.logits, x) or small:
        return [*chain, "joined"], "" if chain else why + attention
    return [*chain, "merged", "joined"], ""


def _too_small(merge: Merge, x: Tensor, rows: int) -> str:
    """Return why merging spares less than its bookkeeping costs, or ''."""
    work = merge.work / len(x) * rows
    if work >= WORTH or x.device.type != "cpu":
        return ""
    return (
        f"its penalties cost {work / 1e6:.3g} million multiplications, and merging pays from"
        f" {WORTH / 1e6:.0f} million on"
    )


def _gradient(
    game: Game, critic: nn.Module, few: Points, at: Context, path: str
) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient, flat, by a path."""
    memory = {key: value.to(few["real"].x.dtype) for key, value in at.memory.items()}
    with _held(critic, few["real"].x.dtype) as held, _WithoutDropout():
        parameters = [p for p in held.parameters() if p.requires_grad]
        found = WAYS[path](game, held, few, Context(at.progress, None, memory))
        gradients = found.gradients(parameters)
    filled = [
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)
    ]
    loss = found.terms.loss.detach()
    return loss, torch.cat([loss.new_zeros(0), *(g.flatten() for g in filled)])


def _difference(found: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor]) -> float:
    """Return the relative difference of the loss or its gradient, the worse of the two."""
    (loss, gradient), (true_loss, true_gradient) = found, true
    of_loss = (loss - true_loss).abs() / (1 + true_loss.abs())
    of_gradient = (gradient - true_gradient).norm() / (1e-12 + true_gradient.norm())
    return torch.nan_to_num(torch.maximum(of_loss, of_gradient), nan=torch.inf).item()


@contextmanager
def _held(critic: nn.Module, dtype: torch.dtype) -> Iterator[nn.Module]:
    """Yield a copy of the critic in a precision, outside autocast; random streams are restored."""
    # Weights that older forms of normalisation compute hang on others, and are computed anew.
    computed = {
        id(t): t.detach()
        for module in critic.modules()
        for t in vars(module).values()
        if isinstance(t, Tensor) and not t.is_leaf
    }
    held = copy.deepcopy(critic, computed)
    own = {id(t) for t in (*critic.parameters(), *critic.buffers())}
    for path, t in (*held.named_parameters(), *held.named_buffers()):
        if id(t) in own:
            raise SteadyganError(f"its copy shares {path} with it: let __deepcopy__ copy its layer")
    held.to(dtype)
    device = next((p.device for p in critic.parameters()), torch.device("cpu"))
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.autocast(device.type, enabled=False),
    ):
        yield held


class _WithoutDropout(TorchFunctionMode):
    """Dropout keeps everything: two paths draw their masks in another order."""

    def __torch_function__(
        self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if f in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d):
            return args[0]
        return f(*args, **(kwargs or {}))


def _said(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or f"{type(error).__name__} without a message"
