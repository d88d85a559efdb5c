"""The gradient of the critic's whole loss, by the cheapest path that is exact for this critic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.parallel import DistributedDataParallel

from ..auto import finds_gamma
from ..context import Context, batches
from ..couples import coupled, couples_in
from ..errors import SteadyganError, unknown
from ..game import Game, Labels
from ..ranks import average, group_of
from ..scores import Critic, modules_of, sharded, squared_norm
from ..slopes import DifferentiableOnce, explained
from ..terms import CriticTerms
from .choice import (
    ONCE,
    SHARDED,
    WAYS,
    Decision,
    GradientPath,
    decide,
    key_of,
    nothing_left,
    remember,
)
from .compiled import compiled
from .paths import Found, NotExact, Points, leaves_of, parts_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

SLOWER: dict[str, GradientPath] = {
    "chain": "merged",
    "merged": "joined",
    "joined": "separate",
}
"""Where to go when a critic takes another way through its code than it did when it was decided."""
_FIRST: tuple[GradientPath, ...] = ("differences", "one-sided")
"""What needs first derivatives only."""


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
    path: GradientPath
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
    path: GradientPath = "auto",
    scale: float | Tensor | GradScaler = 1.0,
    reduce: ProcessGroup | bool | None = None,
) -> CriticGradient:
    r"""Add the gradient of the critic's whole loss to the ``.grad`` of its parameters.

    Call it where ``game.critic_loss(...).backward()`` would stand, then step the optimizer: it
    accumulates as that does, in the parameters' memory layout and with their hooks. Counted in
    forwards F of the critic, a loss with a penalty costs 6F; ``merged`` does it in 4F.

    Args:
        game: whose critic loss is differentiated, penalties included.
        critic: the module itself, so that its structure can be known; a function works, too.
        real: samples (B, *event); detached, as fake, so that only the critic learns.
        fake: generated samples (B, *event).
        labels: of the real and of the generated samples; what they were made of learns, too.
        at: progress, noise and memory of this step.
        path: how; by default the cheapest that is exact for this critic. "differences" needs first
            derivatives only, and smooth critics; so does "one-sided", for less and less exactly.
        scale: what the loss is multiplied by before it is pulled back, such as a
            ``torch.amp.GradScaler``; the record's figures are without it.
        reduce: processes that share the batch out, a process group or True for all: ``.grad`` is
            then averaged over them, by their rows where these differ, along with what was
            accumulated there before. By default none, and for a critic in DistributedDataParallel
            its own group, unless under its ``no_sync()``.

    Returns:
        The loss, its penalty and the norms of the slopes, and which path was taken; of this
        process's samples.

    Raises:
        SteadyganError: as ``Game.critic_loss``; where a path is asked for by name that is not exact
            for this critic; for ``reduce`` where there is no process group, where the game or the
            sizes of its batches do not average, and for ``fully_shard``, which averages itself.

    >>> D = torch.nn.Sequential(
    ...     torch.nn.Conv2d(1, 4, 3), torch.nn.LeakyReLU(0.2), torch.nn.Conv2d(4, 1, 6)
    ... )
    >>> game = Game("nonsaturating", "js:gamma=0.1")
    >>> found = critic_backward(game, D, torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8))
    >>> found.path, D[0].weight.grad.shape
    ('merged', torch.Size([4, 1, 3, 3]))

    Reference: docs/fast-penalties.md; Roth et al. 2017, section 5.3, on the cost of the penalty.
    """
    wrapper = critic if isinstance(critic, DistributedDataParallel) else None
    if wrapper is not None:
        critic = wrapper.module
        if reduce is None and wrapper.require_backward_grad_sync:
            reduce = wrapper.process_group
    batches(labels, real=real, fake=fake)  # refuses what is no batch
    parameters = _trainable(critic) if isinstance(critic, nn.Module) else None
    _learns(critic, parameters)
    group = group_of(reduce or False)
    if group is not None:
        _averages(game, critic, real, fake)
        at = replace(at, ranks=group)
    if isinstance(scale, GradScaler):
        scale = scale.scale(torch.ones((), device=real.device))
    found, decision = _found(
        game, critic, real.detach(), fake.detach(), parameters, labels, at, path, 1.0, scale
    )
    with explained():
        if wrapper is not None and parameters is not None:
            # The wrapper's own hooks stand where gradients are accumulated, and stay out.
            _add(parameters, found.gradients(parameters))
        else:
            found.accumulate(
                _leaves(found)
                if parameters is None or not isinstance(critic, nn.Module)
                else [*dict.fromkeys([*parameters, *_unlisted(critic), *_behind(labels)])]
            )
    if group is not None and parameters is not None:
        averaged = average([p.grad for p in parameters], parameters, group, len(real))
        for p, gradient in zip(parameters, averaged, strict=True):
            p.grad = gradient
    return _record(found, decision)


def critic_gradient(
    game: Game,
    critic: nn.Module,
    real: Tensor,
    fake: Tensor,
    parameters: Sequence[Tensor],
    *,
    labels: Labels = None,
    at: Context = Context(),
    path: GradientPath = "auto",
    share: float = 1.0,
    scale: float = 1.0,
) -> tuple[CriticGradient, Sequence[Tensor | None]]:
    """Return the record of ``critic_backward`` and the gradients of the parameters.

    Args:
        game: as of ``critic_backward``, like the rest.
        critic: the module.
        real: samples (B, *event).
        fake: generated samples (B, *event).
        parameters: those whose gradients are wanted.
        labels: of the real and of the generated samples.
        at: progress, noise and memory of this step.
        path: how.
        share: of each batch, the part that gradient penalties look at. Rows are drawn
            independently, so that any of them are an unbiased sample.
        scale: as of ``critic_backward``.

    Raises:
        SteadyganError: for a share below 1 and a critic whose samples see each other.
    """
    found, decision = _found(game, critic, real, fake, parameters, labels, at, path, share, scale)
    with explained():
        gradients = found.gradients(parameters)
    return _record(found, decision), gradients


def _found(
    game: Game,
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    parameters: Sequence[Tensor] | None,
    labels: Labels,
    at: Context,
    path: GradientPath,
    share: float,
    scale: float | Tensor,
) -> tuple[Found, Decision]:
    # PyTorch refuses double backward through a compiled module; the module inside it has the same
    # parameters.
    if path not in _FIRST:
        critic = getattr(critic, "_orig_mod", critic)
    if path not in get_args(GradientPath):
        raise unknown("gradient path", str(path), get_args(GradientPath))
    exact = game.where and path not in ("auto", *_FIRST)
    if exact and isinstance(critic, nn.Module) and sharded(critic.parameters()):
        raise _not_exact(path, SHARDED)
    points = game.points(real, fake, labels=labels, at=at)
    asks = path in ("auto", "joined", "compiled")
    # Each process decides when it must, and asks no other.
    decision = decide(game, critic, points, replace(at, ranks=False)) if asks else Decision(path)
    if path == "joined":
        if decision.path in ("separate", "differences"):
            raise _not_exact(path, decision.why)
        decision = Decision(path)
    if path == "merged" and isinstance(critic, nn.Module) and (why := coupled(critic)):
        raise _not_exact(path, why)
    if share < 1 and decision.path in ("separate", *_FIRST):
        raise SteadyganError(
            "a penalty on a part of the batch needs a critic that keeps samples apart:"
            f" {decision.why or f'path={decision.path}'}."
        )
    parts = parts_of(game, points, share)
    if path == "compiled":
        if at.ranks is not False and (couples_in(game) or finds_gamma(game.strengths().values())):
            part = next(iter(couples_in(game)), "gamma=auto")
            raise SteadyganError(
                f"{part} looks at what processes exchange, and compiled code cannot:"
                " leave path out."
            )
        if decision.path == "differences":
            raise _not_exact(path, decision.why)
        if not isinstance(critic, nn.Module) or parameters is None:
            raise SteadyganError(
                "the compiled path needs the critic as a module: pass the module itself, not a"
                " function."
            )
        key = key_of(game, critic, points)
        try:
            found = compiled(game, critic, parts, at, parameters, decision.path, key, scale)
        except NotExact as refusal:
            raise _not_exact(path, str(refusal)) from None
        why = f"of the {decision.path} path" + (f"; {decision.why}" if decision.why else "")
        return found, Decision("compiled", why)
    return _followed(game, critic, points, parts, at, scale, decision, path == "auto")


def _followed(
    game: Game,
    critic: Critic,
    points: Points,
    parts: Points,
    at: Context,
    scale: float | Tensor,
    decision: Decision,
    free: bool,
) -> tuple[Found, Decision]:
    """Return what the path that was decided finds; a slower one where the critic has changed."""
    once: DifferentiableOnce | None = None
    while True:
        try:
            return WAYS[decision.path](game, critic, parts, at, scale), decision
        except DifferentiableOnce as error:
            if not free:
                raise
            once, decision = error, Decision("differences", ONCE.format(error.what))
            parts = points
        except NotExact as refusal:
            if once is not None:
                raise nothing_left(ONCE.format(once.what), str(refusal)) from None
            if not free:
                raise _not_exact(decision.path, str(refusal)) from None
            if decision.path == "differences":
                raise nothing_left(decision.why, str(refusal)) from None
            decision = Decision(SLOWER[decision.path], str(refusal))
            if decision.path == "separate":
                parts = points
            assert isinstance(critic, nn.Module)
            remember(game, critic, points, decision)


def _learns(critic: Critic, parameters: Sequence[Tensor] | None) -> None:
    """Raise where no gradient would come of it: ``backward()`` would pass over that in silence."""
    if not torch.is_grad_enabled():
        raise SteadyganError(
            "gradients are switched off here, by torch.no_grad or torch.inference_mode, and"
            " critic_backward takes some: call it outside; for the loss alone there is"
            " game.critic_terms"
        )
    if (
        parameters == []
        and isinstance(critic, nn.Module)
        and any(True for _ in critic.parameters())
    ):
        raise SteadyganError(
            "all parameters of the critic are frozen, so that it cannot learn: call"
            " critic.requires_grad_(True) before its step"
        )


def _averages(game: Game, critic: Critic, real: Tensor, fake: Tensor) -> None:
    """Raise where the mean of the processes' gradients is not that of the whole batch."""
    if not isinstance(critic, nn.Module):
        raise SteadyganError(
            "reduce averages the gradients of a module's parameters: pass the critic itself, not a"
            " function."
        )
    if any(isinstance(module, DistributedDataParallel) for module in critic.modules()):
        raise SteadyganError(
            "a part of this critic is in DistributedDataParallel, whose hooks would average as"
            " well: pass the module inside (critic.module of Lightning Fabric) with reduce=True."
        )
    if sharded(critic.parameters()):
        raise SteadyganError(
            "fully_shard averages the gradients of what it spreads itself: leave reduce out."
        )
    if len(real) != len(fake):
        raise SteadyganError(
            f"with reduce a process has one weight, its number of rows: give as many generated"
            f" samples as real ones, not {len(fake)} and {len(real)}."
        )
    if finds_gamma(game.strengths().values()):
        raise SteadyganError(
            "gamma=auto looks at a batch, and each process would find another gamma: give it a"
            " number, such as what a run of one process found."
        )
    for part, couples in couples_in(game).items():
        if couples.by != "means":
            raise SteadyganError(
                f"{part} looks at the {couples.what}, and each process has a part of it only: the"
                " mean of their gradients is that of another game."
            )


def _add(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add gradients to ``.grad``, in the parameters' layout, without hooks of accumulation."""
    for p, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        p.grad.add_(gradient)


def _not_exact(path: str, why: str) -> SteadyganError:
    return SteadyganError(
        f"the {path} path is not exact for this critic: {why}. Use path='auto' or 'separate'."
    )


def _leaves(found: Found) -> list[Tensor]:
    """Return what the loss depends on besides samples: a function has no list of parameters."""
    samples = {id(s.x) for s in found.terms.scores.values()}
    return [leaf for leaf in leaves_of(found.roots) if id(leaf) not in samples]


_OWN = frozenset(vars(nn.Module()))
"""What every module has."""


def _unlisted(critic: nn.Module) -> list[Tensor]:
    """Return what a module learns with and does not list, such as layers in a plain list.

    ``backward()`` reaches it; what is not used is passed over.
    """
    found: dict[Tensor, None] = {}
    own = [m for m in modules_of(critic) if not type(m).__module__.startswith("torch.nn.")]
    left = [value for m in own for key, value in vars(m).items() if key not in _OWN]
    while left:
        match left.pop():
            case Tensor() as t if t.is_leaf and t.requires_grad:
                found[t] = None
            case nn.Module() as module:
                found |= dict.fromkeys(_trainable(module))
            case list() | tuple() as several:
                left += several
            case dict() as named:
                left += named.values()
    listed = set(critic.parameters()) if found else ()
    return [t for t in found if t not in listed]


def _behind(labels: Labels) -> list[Tensor]:
    """Return what labels were made of that learns, such as an embedding outside of the critic."""
    graphs = [y for y in labels or () if isinstance(y, Tensor) and y.requires_grad]
    return [*(y for y in graphs if y.is_leaf), *leaves_of(graphs)]


def _trainable(critic: nn.Module) -> list[Tensor]:
    own = (p for module in modules_of(critic) for p in module._parameters.values())
    return list(dict.fromkeys(p for p in own if p is not None and p.requires_grad))


def _record(found: Found, decision: Decision) -> CriticGradient:
    terms = found.terms.detach()
    slopes = (terms.scores[name].gradient for name in ("real", "fake"))
    real, fake = (None if s is None else squared_norm(s).sqrt().mean() for s in slopes)
    return CriticGradient(terms.loss, terms.penalty, real, fake, decision.path, decision.why, terms)
