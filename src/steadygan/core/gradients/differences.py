r"""The penalty's gradient from first derivatives only, where torch cannot differentiate twice.

With g the gradient in x of the logits D under cotangents k, and v the derivative of the loss in g,
the penalty moves the parameters as :math:`\langle v, g \rangle` does, which is a derivative along
v:

.. math:: \langle v, g \rangle = \sum k \, \frac{D(x + hv) - D(x - hv)}{2h} + O(h^2)

v and k are numbers by then, and one backward through two more passes is its gradient. That of the
losses themselves is the mean over these two passes, which is right to the same order. One-sided,
:math:`(D(x + hv) - D(x)) / h + O(h)` takes one pass more instead of two.

Truncation falls with h squared and rounding rises with 1/h: about 1e-4 of the penalty's gradient at
the best h in single precision. The step is the one at which it agrees best with half of it.
Derivation: docs/derivations.md, section 8.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..context import Context
from ..game import Game
from ..scores import Critic, Scores, once, sharded
from ..slopes import Pull, Slopes, Tensors, pull_of
from .graph import named, toward
from .paths import (
    Found,
    NotExact,
    Points,
    cotangent_of,
    leaf_of,
    leaves_of,
    precise,
    rooted,
    value_of,
)

KINKS = frozenset(
    """Relu LeakyRelu PreluKernel RreluWithNoise Hardtanh Threshold Softshrink Hardshrink Hardswish
    Hardsigmoid Abs Clamp Maximum Minimum Max Min Amax Amin MaxPool2DWithIndices
    MaxPool3DWithIndices AdaptiveMaxPool2D AdaptiveMaxPool3D""".split()
)
"""Nodes of a graph whose derivative jumps."""
AGREED = 1e-2
"""Relative difference of the gradients by a step and its half, above which they do not agree."""
SLIPS = 1e-3
"""Relative error of the logits' own difference, above which another step is looked for."""
SEEN = 1e-3
"""The part of the whole gradient below which its error is not looked at, however small the
penalty's is."""
RUNGS = 6
"""How many steps are tried above and below the first, each a quarter of the last."""


class Step(NamedTuple):
    """A step that agrees with its half, relative to the norm of the samples.

    dtype: of the samples. slip: relative error of the logits' difference, whose limit is known.
    sides: of a difference, 2 for a central one.
    """

    size: float
    dtype: torch.dtype
    slip: float
    sides: int = 2


_steps: weakref.WeakKeyDictionary[Any, Step] = weakref.WeakKeyDictionary()


def differences(
    game: Game,
    critic: Critic,
    points: Points,
    at: Context,
    scale: Tensor | float = 1.0,
    *,
    sides: int = 2,
) -> Found:
    """Return what is found with each batch on its own, and again along what pulls at it.

    sides: 2 for central differences, 1 for those to where it has been.
    """
    x = next(iter(points.values())).x
    looking, plain = Differing(sides), list[tuple[Tensor, Tensor]]()
    with once(critic), precise(x.device):
        scores: dict[str, Scores] = {}
        for name, samples in points.items():
            here = {name: samples._replace(x=_single(critic, samples.x))}
            seen = critic if name in game.where else _cut(critic, plain)
            scores |= game.look(seen, here, at=at, slopes=looking)
        terms = value_of(game, scores, at)
        looks = looking.looks
        if critic not in _steps and (kink := next(filter(None, (look.kink for look in looks)), "")):
            raise NotExact(
                f"{kink} has kinks, and a difference across them is wrong by multiples of the"
                " penalty's gradient"
            )
        of_plain = _pull_back(terms.loss, looks, [leaf for _, leaf in plain], scale)
        pairs: list[tuple[Tensor | None, Tensor | None]] = [
            (out, pull) for (out, _), pull in zip(plain, of_plain, strict=True)
        ]
        with _unmoved(critic):
            for look, taken in zip(looks, _taken(critic, looks, x.dtype), strict=True):
                pairs += look.whole(taken)
    return Found(terms, *_rooted(pairs), precise=True)


class Difference(NamedTuple):
    """What one pull at the input gradient comes to: outputs at x + hv and at x - hv, or at x.

    cotangents: k. width: between them in units of v. slopes: v g for each sample, what the
    difference should be.
    """

    cotangents: Sequence[Tensor | None]
    plus: Tensors
    minus: Tensors
    width: Tensor
    slopes: Tensor

    def rates(self) -> list[Tensor]:
        """Return the derivative of every output along v, without a graph."""
        pairs = zip(self.plus, self.minus, strict=True)
        return [(p.detach() - m.detach()) / self.width for p, m in pairs]

    def pairs(self) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return roots and cotangents of the penalty's own gradient."""
        ks = [None if k is None else k.detach() / self.width for k in self.cotangents]
        ups = zip(self.plus, ks, strict=True)
        downs = zip(self.minus, (None if k is None else -k for k in ks), strict=True)
        return [pair for pair in (*ups, *downs) if pair[1] is not None]


@dataclass(eq=False)
class Look:
    """A batch as the critic saw it: leaves for its outputs and for every input gradient of them.

    seen: the outputs with their graph, where differences are to them. pulled: dL/d(output) for each
    leaf. along: dL/d(gradient) for each gradient.
    """

    function: Callable[[Tensor], Tensors]
    x: Tensor
    leaves: Tensors
    seen: Tensors | None
    kink: str
    draws: _Draws
    asked: list[tuple[Sequence[Tensor | None], Tensor]] = field(default_factory=list)
    pulled: Sequence[Tensor | None] = ()
    along: Sequence[Tensor] = ()

    def differ(self, size: float) -> list[Difference]:
        """Return the differences along all pulls, at one relative step."""
        found = []
        length = self.x.detach().norm()
        length = torch.where(length > 0, length, 1.0)
        for (cotangents, slope), v in zip(self.asked, self.along, strict=True):
            norm = v.norm()
            h = torch.where(norm > 0, size * length / norm, 1.0)
            plus, minus, width = self._again(self.x + h * v), self.seen, h
            if minus is None:
                minus, width = self._again(self.x - h * v), 2 * h
            slopes = (v * slope.detach()).reshape(len(v), -1).sum(1)
            found.append(Difference(cotangents, plus, minus, width, slopes))
        return found

    def whole(self, found: Sequence[Difference]) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return roots and cotangents of the loss with its penalty."""
        pulled = list(self.pulled)
        for one in found:
            # Cotangents may be functions of the logits, as roots of weights are.
            moving = [
                (k, rate)
                for k, rate in zip(one.cotangents, one.rates(), strict=True)
                if k is not None and k.requires_grad
            ]
            if moving:
                ks, rates = zip(*moving, strict=True)
                more = torch.autograd.grad(
                    ks, self.leaves, rates, retain_graph=True, allow_unused=True
                )
                pulled = [_sum(a, b) for a, b in zip(pulled, more, strict=True)]
        pairs = [pair for one in found for pair in one.pairs()]
        if self.seen is not None:
            return [*pairs, *zip(self.seen, pulled, strict=True)]
        share = [None if c is None else c / (2 * len(found)) for c in pulled]
        for one in found:
            pairs += [*zip(one.plus, share, strict=True), *zip(one.minus, share, strict=True)]
        return pairs

    def _again(self, x: Tensor) -> Tensors:
        with self.draws.again():
            return self.function(x.detach())


@dataclass(frozen=True)
class Differing(Slopes):
    """Input gradients as numbers, and a record of what was asked."""

    sides: int = 2
    looks: list[Look] = field(default_factory=list)

    def __call__(
        self, function: Callable[[Tensor], Tensors], x: Tensor
    ) -> tuple[Tensor, Tensors, Pull]:
        """Return the samples, leaves in place of function's outputs, and the pull."""
        x, draws = x.detach().requires_grad_(), _Draws(x.device)
        outputs = function(x)
        kink = next((name for name in map(named, toward(outputs, x)) if name in KINKS), "")
        seen = outputs if self.sides == 1 else None
        look = Look(function, x, tuple(map(leaf_of, outputs)), seen, kink, draws)
        self.looks.append(look)
        pull_numbers = pull_of(outputs, x, differentiable=False)

        def pull(cotangents: Sequence[Tensor | None]) -> Tensor:
            slope = leaf_of(pull_numbers([None if k is None else k.detach() for k in cotangents]))
            look.asked.append((cotangents, slope))
            return slope

        return x, look.leaves, pull


class _Draws:
    """The state of the random streams before a pass, so that others draw the same dropout."""

    def __init__(self, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []
        self.states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self.devices)]

    @contextmanager
    def again(self) -> Iterator[None]:
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.states[0])
            for device, state in zip(self.devices, self.states[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def _pull_back(
    loss: Tensor, looks: Sequence[Look], plain: Sequence[Tensor], scale: Tensor | float
) -> Sequence[Tensor | None]:
    """Return how the loss pulls at plain leaves, and tell the looks how at theirs."""
    leaves = [t for look in looks for t in (*look.leaves, *(slope for _, slope in look.asked))]
    pulls = iter(
        torch.autograd.grad(
            loss, [*leaves, *plain], cotangent_of(loss, scale), retain_graph=True, allow_unused=True
        )
    )
    for look in looks:
        look.pulled = [next(pulls) for _ in look.leaves]
        along = [(slope, next(pulls)) for _, slope in look.asked]
        look.along = [torch.zeros_like(slope) if v is None else v for slope, v in along]
    return list(pulls)


def _taken(
    critic: Critic, looks: Sequence[Look], dtype: torch.dtype
) -> Sequence[Sequence[Difference]]:
    """Return the differences of every look at the step that holds for the critic as it is now."""
    if not looks:
        return ()
    known, sides = _steps.get(critic), _sides(looks)
    if known is not None and (known.dtype, known.sides) == (dtype, sides):
        found = [look.differ(known.size) for look in looks]
        if not _common(critic, _slip(found)) > max(10 * known.slip, SLIPS):
            return found
    size = _chosen(critic, looks, dtype).size
    return [look.differ(size) for look in looks]


def _chosen(critic: Critic, looks: Sequence[Look], dtype: torch.dtype) -> Step:
    """Return the step whose gradient agrees best with that of its half, and remember it."""
    rounding, sides = torch.finfo(looks[0].x.dtype).eps, _sides(looks)
    first, enough = rounding ** (1 / (1 + sides)), 10 * rounding ** (sides / (1 + sides))
    tried: dict[int, tuple[float, float, float]] = {}

    def look_at(rung: int) -> float:
        """Return how far apart the gradients are, in units of the penalty's."""
        if rung not in tried:
            size = first * 4.0**-rung
            by = [[look.differ(part) for look in looks] for part in (size, size / 2)]
            coarse, fine = (
                _flat(
                    [p for look, one in zip(looks, part, strict=True) for p in look.whole(one)],
                    looks,
                )
                for part in by
            )
            alone = [
                _flat([p for one in part for d in one for p in d.pairs()], looks) for part in by
            ]
            size_of, tiny = alone[1].norm(), torch.finfo(fine.dtype).tiny
            apart = (coarse - fine).norm() / (size_of + SEEN * fine.norm()).clamp(min=tiny)
            of_penalty = (alone[0] - alone[1]).norm() / size_of.clamp(min=tiny)
            apart, of_penalty = _common(critic, apart), _common(critic, of_penalty)
            tried[rung] = apart, max(apart, of_penalty), _common(critic, _slip(by[1]))
        return tried[rung][0]

    best = 0
    for way in (1, -1):
        while abs(best) < RUNGS and look_at(best) > enough and look_at(best + way) < look_at(best):
            best += way
    _, apart, slip = tried[best]
    if apart > AGREED:
        raise NotExact(
            f"the penalty's gradient by differences over two steps differs by {apart:.0e} of it at"
            " the best step: the critic's derivatives jump, or rounding is as large as what is left"
        )
    if slip > AGREED:
        raise NotExact(
            f"its slopes are {slip:.0e} from what its values say, as where a function scales"
            " gradients or turns them round"
        )
    step = Step(first * 4.0**-best / 2, dtype, slip, sides)
    if math.isfinite(apart):
        _steps[critic] = step
    return step


def _sides(looks: Sequence[Look]) -> int:
    return 2 if looks[0].seen is None else 1


def _flat(pairs: Sequence[tuple[Tensor | None, Tensor | None]], looks: Sequence[Look]) -> Tensor:
    """Return the gradient of roots under cotangents in all that they depend on but samples."""
    (roots, cotangents), samples = _rooted(pairs), {id(look.x) for look in looks}
    leaves = [leaf for leaf in leaves_of(roots) if id(leaf) not in samples]
    found = torch.autograd.grad(roots, leaves, cotangents, retain_graph=True) if leaves else ()
    return torch.cat([torch.zeros(1, device=looks[0].x.device), *(g.flatten() for g in found)])


def _rooted(
    pairs: Sequence[tuple[Tensor | None, Tensor | None]],
) -> tuple[list[Tensor], list[Tensor | None]]:
    return rooted([pair for pair in pairs if pair[1] is not None])


def _common(critic: Critic, number: Tensor) -> float:
    """Return a number on which processes that share out a critic agree: they go one way."""
    if isinstance(critic, nn.Module) and sharded(critic.parameters()):
        number = number.clone()
        torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX)
    return number.item()


def _slip(found: Sequence[Sequence[Difference]]) -> Tensor:
    """Return the relative error of differences whose limit, the slope along v, is known."""
    off, size = [], []
    for one in (one for part in found for one in part):
        pairs = zip(one.cotangents, one.rates(), strict=True)
        parts = [(k.detach() * rate).sum() for k, rate in pairs if k is not None]
        off.append((torch.stack(parts).sum() - one.slopes.sum()).abs())
        size.append(one.slopes.abs().sum())
    total = torch.stack(size).sum()
    return torch.where(total > 0, torch.stack(off).sum() / total, 0.0)


def _cut(critic: Critic, pairs: list[tuple[Tensor, Tensor]]) -> Critic:
    """Return the critic with leaves for its outputs, and add outputs and leaves to the pairs."""

    def leafed(out: Any) -> Any:
        # Not by torch's pytree, which takes a dict of a kind that nobody registered for a leaf.
        if isinstance(out, Mapping):
            return {key: leafed(value) for key, value in out.items()}
        if isinstance(out, (list, tuple)):
            return [*map(leafed, out)]
        if not (isinstance(out, Tensor) and out.requires_grad):
            return out
        pairs.append((out, leaf_of(out)))
        return pairs[-1][1]

    return lambda *x: leafed(critic(*x))


def _single(critic: Critic, x: Tensor) -> Tensor:
    half = (torch.float16, torch.bfloat16)
    if isinstance(critic, nn.Module) and any(p.dtype in half for p in critic.parameters()):
        raise NotExact(
            "its parameters are in half precision, whose rounding is larger than the differences"
        )
    return x.float() if x.dtype in half else x


@contextmanager
def _unmoved(critic: Critic) -> Iterator[None]:
    """Statistics of a normalisation stay as the first pass left them."""
    kept = [(b, b.clone()) for b in critic.buffers()] if isinstance(critic, nn.Module) else []
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.data.copy_(value)  # .data: backward may have saved the buffer, and looks at it


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b
