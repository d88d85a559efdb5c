"""The gradient of the critic's whole loss, by the cheapest path that is exact for this critic.

separate   each batch through D on its own, one backward of loss and penalty; right for every module
joined     one pass for all batches, where no layer lets samples see each other
merged     the exact penalty at 4/3 of the price of none, for critics of layers and piecewise-linear
activations (merged.py) compiled   the path that auto takes, as one compiled function; on request
only, because compiling takes the best part of a minute auto       the last but one of these that
holds for the critic, decided by its structure and checked once in double precision
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from ..context import Context, Samples
from ..errors import SteadyganError, unknown
from ..game import CriticTerms, Game, Labels
from ..scores import Critic, heads_of, squared_norm
from .compiled import compiled
from .merged import Box
from .paths import PATHS, NotExact, Points, parts_of, separate
from .whitelist import Merge, unknown_node

Path = Literal["auto", "separate", "joined", "merged", "compiled"]
ROWS = 8
"""How many samples of each batch the one-time check looks at."""
TOLERANCE = 1e-8
"""Relative difference from ``separate`` in double precision that the check takes for rounding."""


class Decision(NamedTuple):
    """The path that ``auto`` takes for a critic, and why not a faster one ('' for the fastest)."""

    path: Path
    why: str = ""


class CriticGradient(NamedTuple):
    """What ``critic_backward`` found, 0-d and without a graph.

    loss: the whole loss; penalty: its regularizers' part; gradient_norm_real, gradient_norm_fake:
    mean norm of the input gradient, None where no penalty computes it; path: which ran; why: why
    not a faster one; terms: the loss in its parts, with the scores.
    """

    loss: Tensor
    penalty: Tensor
    gradient_norm_real: Tensor | None
    gradient_norm_fake: Tensor | None
    path: Path
    why: str
    terms: CriticTerms


def critic_backward(
    game: Game,
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    *,
    labels: Labels = None,
    at: Context = Context(),
    path: Path = "auto",
) -> CriticGradient:
    r"""Add the gradient of the critic's whole loss, penalties included, to its parameters' ``.grad``.

    real, fake: (B, *event); they are detached, so that only the critic learns. Call it where
    ``game.critic_loss(...).backward()`` would stand, then step the optimizer. Counted in forwards F
    of the critic, a loss with a penalty costs 6F; ``merged`` does it in 4F.

    Raises SteadyganError as ``Game.critic_loss``, where a path is asked for by name that is not
    exact for this critic, and for DistributedDataParallel.

    >>> D = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.LeakyReLU(0.2), torch.nn.Linear(16, 1))
    >>> found = critic_backward(Game("nonsaturating", "js:gamma=0.1"), D, torch.randn(8, 2), torch.randn(8, 2))
    >>> found.path, D[0].weight.grad.shape
    ('merged', torch.Size([16, 2]))

    Reference: docs/fast-penalties.md; Roth et al. 2017, section 5.3, on the cost of the penalty.
    """
    parameters = (
        [p for p in critic.parameters() if p.requires_grad]
        if isinstance(critic, nn.Module)
        else None
    )
    found, leaves, gradients = critic_gradient(
        game, critic, real.detach(), fake.detach(), parameters, labels=labels, at=at, path=path
    )
    for leaf, gradient in zip(leaves, gradients, strict=True):
        if gradient is not None:
            leaf.grad = gradient if leaf.grad is None else leaf.grad + gradient
    return found


def critic_gradient(
    game: Game,
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    parameters: Sequence[Tensor] | None,
    *,
    labels: Labels = None,
    at: Context = Context(),
    path: Path = "auto",
    share: float = 1.0,
) -> tuple[CriticGradient, Sequence[Tensor], Sequence[Tensor | None]]:
    """Return the record of ``critic_backward``, the parameters and their gradients.

    parameters: found from the graph where None is given.

    share: of each batch, the part that gradient penalties look at. Rows are drawn independently, so
    that any of them are an unbiased sample; refused for critics whose samples see each other.
    """
    if isinstance(critic, DistributedDataParallel):
        raise SteadyganError(
            "gradients taken here would not be averaged over processes: use"
            " game.critic_loss(critic, ...).backward(), or pass critic.module"
            " and average the .grad yourself."
        )
    # PyTorch refuses double backward through a compiled module; the module inside it has the same
    # parameters.
    critic = getattr(critic, "_orig_mod", critic)
    if path not in get_args(Path):
        raise unknown("gradient path", path, get_args(Path))
    points = game.points(real, fake, labels=labels, at=at)
    decision = (
        decide(game, critic, points, at)
        if path in ("auto", "joined", "compiled")
        else Decision(path)
    )
    if path == "joined" and decision.path == "separate":
        raise SteadyganError(
            f"the joined path is not exact for this critic: {decision.why}. Use path='auto' or"
            " 'separate'."
        )
    decision = Decision(path) if path == "joined" else decision
    if share < 1 and decision.path == "separate":
        raise SteadyganError(
            "a penalty on a part of the batch needs a critic that keeps samples apart:"
            f" {decision.why or 'path=separate'}."
        )
    try:
        parts = parts_of(game, points, share)
        if path == "compiled":
            if not isinstance(critic, nn.Module) or parameters is None:
                raise SteadyganError(
                    "the compiled path needs the critic as a module: pass the module itself, not"
                    " a function."
                )
            found = compiled(
                game, critic, parts, at, parameters, decision.path, _key(game, critic, points)
            )
            decision = Decision(
                "compiled",
                f"of the {decision.path} path" + (f"; {decision.why}" if decision.why else ""),
            )
        else:
            found = PATHS[decision.path](game, critic, parts, at, parameters)
        terms, leaves, gradients = found
    except NotExact as refusal:
        if path != "auto":
            raise SteadyganError(
                f"the {path} path is not exact for this critic: {refusal}. Use path='auto' or"
                " 'separate'."
            ) from None
        # What was decided held for the critic as it was; it has taken another way since, and is not
        # asked again.
        decision = Decision("separate", str(refusal))
        assert isinstance(critic, nn.Module)
        remember(game, critic, points, decision)
        terms, leaves, gradients = separate(game, critic, points, at, parameters)
    slopes = (terms.scores[name].gradient for name in ("real", "fake"))
    real_norm, fake_norm = (
        None if slope is None else squared_norm(slope).sqrt().mean() for slope in slopes
    )
    return (
        CriticGradient(
            terms.loss, terms.penalty, real_norm, fake_norm, decision.path, decision.why, terms
        ),
        leaves,
        gradients,
    )


# ------------------------------------------------------------ auto

_decisions: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, Decision]] = (
    weakref.WeakKeyDictionary()
)


def decide(game: Game, critic: Critic, points: Points, at: Context = Context()) -> Decision:
    """Return the path that ``auto`` takes: by structure, checked once on a copy in float64.

    It is remembered as long as critic and game both live.

    Neither the critic nor any random stream is touched. A critic that changes (its mode, its
    parameters) is looked at again.
    """
    if not isinstance(critic, nn.Module):
        return Decision(
            "separate",
            "the critic is a function, whose structure cannot be known; pass the module itself",
        )
    known = _decisions.setdefault(critic, {})
    key = _key(game, critic, points)
    if key not in known:
        known[key] = _decide(game, critic, points, at)
    return known[key]


def remember(game: Game, critic: nn.Module, points: Points, decision: Decision) -> None:
    """Take up a decision that was made before, as on resume."""
    _decisions.setdefault(critic, {})[_key(game, critic, points)] = decision


def _key(game: Game, critic: nn.Module, points: Points) -> Hashable:
    modules = tuple((id(module), type(module), module.training) for module in critic.modules())
    parameters = tuple((id(p), p.requires_grad) for p in critic.parameters())
    first = next(iter(points.values()))
    low = torch.is_autocast_enabled(first.x.device.type)
    return game.where, modules, parameters, first.x.shape[1:], first.labels is None, low


def _decide(game: Game, critic: nn.Module, points: Points, at: Context) -> Decision:
    few = {
        name: Samples(s.x[:ROWS].detach().double(), None if s.labels is None else s.labels[:ROWS])
        for name, s in points.items()
    }
    candidates, why = _candidates(game, critic, few)
    for path in candidates:
        try:
            difference = _difference(game, critic, few, at, path)
        except Exception as error:
            why = (
                why
                or f"its copy cannot be checked in double precision: {str(error).splitlines()[0]}"
            )
            continue
        if difference <= TOLERANCE:
            return Decision(path, why)
        why = (
            f"the {path} path differs from the separate one by {difference:.0e} in double precision"
        )
    return Decision("separate", why)


def _candidates(game: Game, critic: nn.Module, few: Points) -> tuple[list[Path], str]:
    """The paths that the critic's structure admits, fastest first, and why the fastest of all is
    not among them."""
    x = few["real"].x.detach().requires_grad_()
    if hasattr(critic, "_forward_pre_hooks") and any(
        _legacy(module) for module in critic.modules()
    ):
        return (
            [],
            "torch.nn.utils.spectral_norm iterates at every pass; the one in"
            " torch.nn.utils.parametrizations does not",
        )
    try:
        with _held(critic) as held, Merge(x, Box()) as merge, torch.enable_grad():
            heads = heads_of(held, x, few["real"].labels, game.outputs.reading)
    except Exception as error:
        return [], f"its copy does not run in double precision: {str(error).splitlines()[0]}"
    lost = not all(merge.active(logits) for logits in heads.logits)
    if merge.couples or lost:
        return (
            [],
            merge.couples or merge.why or "its logits come from something that cannot be followed",
        )
    if not game.where:
        return ["joined"], ""
    if not heads.single:
        return ["joined"], "the losses of several logits a sample do not merge with their penalties"
    unseen = merge.why or unknown_node(heads.logits[0], x)
    if unseen:
        return (
            ["joined"],
            unseen
            if merge.why
            else f"{unseen} is not on the list of operations whose penalty can be merged",
        )
    return ["merged", "joined"], ""


def _difference(game: Game, critic: nn.Module, few: Points, at: Context, path: Path) -> float:
    """Relative difference of the loss and its gradient from the separate path, the worse of the
    two."""
    at = Context(at.progress, None, {key: value.double() for key, value in at.memory.items()})
    found = []
    for way in (path, "separate"):
        with _held(critic) as held, _WithoutDropout():
            parameters = [p for p in held.parameters() if p.requires_grad]
            terms, _, gradients = PATHS[way](game, held, few, at, parameters)
            filled = [
                torch.zeros_like(p) if g is None else g
                for p, g in zip(parameters, gradients, strict=True)
            ]
            found.append(
                (
                    terms.loss,
                    torch.cat([g.flatten() for g in filled]) if filled else terms.loss.new_zeros(1),
                )
            )
    (loss, gradient), (true_loss, true_gradient) = found
    far = torch.stack(
        [
            (loss - true_loss).abs() / (1 + true_loss.abs()),
            (gradient - true_gradient).norm() / (1e-12 + true_gradient.norm()),
        ]
    )
    return torch.nan_to_num(far, nan=torch.inf).max().item()


@contextmanager
def _held(critic: nn.Module) -> Iterator[nn.Module]:
    """A copy of the critic in double precision, outside of autocast, with every random stream
    returned afterwards."""
    held = copy.deepcopy(critic).double()
    device = next((p.device for p in critic.parameters()), torch.device("cpu"))
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.autocast(device.type, enabled=False),
    ):
        yield held


class _WithoutDropout(TorchFunctionMode):
    """Dropout keeps everything: two paths draw their masks in different order, and are compared
    without any."""

    def __torch_function__(
        self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if f in (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d):
            return args[0]
        return f(*args, **(kwargs or {}))


def _legacy(module: nn.Module) -> bool:
    return any(type(hook).__name__ == "SpectralNorm" for hook in module._forward_pre_hooks.values())
