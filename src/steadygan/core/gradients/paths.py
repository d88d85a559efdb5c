"""The ways to the gradient of the critic's whole loss: one function each, of one signature."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.utils import parametrize

from ..context import Context, Samples
from ..game import CriticTerms, Game
from ..reading import Reading
from ..scores import Critic, Scores, heads_of, join, score, split
from .merged import Box
from .whitelist import Merge, unknown_node

Points = Mapping[str, Samples]


class NotExact(Exception):
    """Why a path does not hold for a critic."""


Found = tuple[CriticTerms, Sequence[Tensor], Sequence[Tensor | None]]


REST = "/rest"
"""What is added to the name of a point for those of its rows that no penalty looks at."""


def parts_of(game: Game, points: Points, share: float) -> Points:
    """Return the points, those of penalties cut in two where a share of the rows is enough."""
    if share == 1:
        return points
    parts: dict[str, Samples] = {}
    for name, (x, y) in points.items():
        n = math.ceil(share * len(x)) if name in game.where else len(x)
        parts[name] = Samples(x[:n], None if y is None else y[:n])
        # Points at which nothing but the penalty looks are not needed where it does not.
        if n < len(x) and name in ("real", "fake"):
            parts[name + REST] = Samples(x[n:], None if y is None else y[n:])
    return parts


def _value(game: Game, scores: Mapping[str, Scores], at: Context) -> CriticTerms:
    """Return the loss of the scores of ``parts_of``."""
    heads = {name: s for name, s in scores.items() if not name.endswith(REST)}
    whole = dict(heads)
    for name in ("real", "fake"):
        if name + REST in scores:
            head, rest = scores[name], scores[name + REST]
            labels = (
                None
                if head.labels is None or rest.labels is None
                else torch.cat([head.labels, rest.labels])
            )
            outputs = zip(head.outputs, rest.outputs, strict=True)
            whole[name] = Scores(
                torch.cat([head.x, rest.x]),
                torch.cat([head.logits, rest.logits]),
                None,
                labels,
                tuple(torch.cat(pair) for pair in outputs),
            )
    terms = game.value(whole, at=at, penalized=heads)
    return terms._replace(
        scores={name: s._replace(gradient=heads[name].gradient) for name, s in whole.items()}
    )


def separate(
    game: Game, critic: Critic, points: Points, at: Context, parameters: Sequence[Tensor] | None
) -> Found:
    """Each batch through the critic on its own, one backward."""
    scores: dict[str, Scores] = {}
    with parametrize.cached():
        for name, samples in points.items():
            scores |= game.look(critic, {name: samples}, at=at)
    return _backward(game, scores, at, parameters)


def joined(
    game: Game, critic: Critic, points: Points, at: Context, parameters: Sequence[Tensor] | None
) -> Found:
    """All batches through the critic in one pass, or in two where some need no input gradient."""
    scores: dict[str, Scores] = {}
    with parametrize.cached():
        for names, _ in _groups(game, points):
            scores |= game.look(critic, _together(points, names), at=at)
    return _backward(game, {name: scores[name] for name in points}, at, parameters)


def merged(
    game: Game, critic: Critic, points: Points, at: Context, parameters: Sequence[Tensor] | None
) -> Found:
    """One pass, and one weight gradient a layer, for the loss and its penalty together."""
    assert parameters is not None
    scores: dict[str, Scores] = {}
    passes: list[tuple[tuple[str, ...], Tensor, Tensor | None, Box | None]] = []
    with parametrize.cached():
        for names, sloped in _groups(game, points):
            parts = _together(points, names)
            together = join(parts)
            if not sloped:
                logits, slope, box = score(critic, together).logits, None, None
            else:
                logits, slope, box = _forward(critic, together, game.outputs.reading)
            passes.append((names, logits, slope, box))
            whole = Scores(
                together.x, _leaf(logits), None if slope is None else _leaf(slope), together.labels
            )
            sizes = [len(part.x) for part in parts.values()]
            scores |= dict(zip(names, split(whole, sizes), strict=True))
        with torch.autocast(together.x.device.type, enabled=False):
            terms = _value(game, {name: scores[name] for name in points}, at)
        totals: list[Tensor | None] = [None] * len(parameters)
        for names, logits, slope, box in passes:
            inputs = [
                t
                for name in names
                for t in (scores[name].logits, scores[name].gradient)
                if t is not None
            ]
            pulls = torch.autograd.grad(
                terms.loss, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            # Passes share the graph of weights that are computed, as under spectral normalisation:
            # the last one frees it.
            keep = names is not passes[-1][0]
            if box is None:
                gradients = _pull(logits, torch.cat(pulls), parameters, keep)
            else:
                box.c = torch.cat(pulls[::2])
                gradients = _pull(slope, torch.cat(pulls[1::2]), parameters, keep)
            totals = [
                b if a is None else a if b is None else a + b
                for a, b in zip(totals, gradients, strict=True)
            ]
    return terms.detach(), parameters, totals


PATHS: dict[str, Callable[[Game, Critic, Points, Context, Sequence[Tensor] | None], Found]] = {
    "separate": separate,
    "joined": joined,
    "merged": merged,
}


def _forward(critic: Critic, together: Samples, reading: Reading) -> tuple[Tensor, Tensor, Box]:
    """Return logits (B,), the input gradient, and the box in which its backward looks for
    dL/dlogits."""
    x, box = together.x.detach(), Box()
    if x.ndim == 4:
        # Convolutions are faster so, and whatever follows them inherits it.
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    with Merge(x, box) as merge:
        heads = heads_of(critic, x, together.labels, reading)
    if not heads.single:
        raise NotExact("it has several logits a sample, whose losses would not be merged")
    (logits,) = heads.logits
    why = merge.why or (
        "" if merge.active(logits) else "its logits come from something that cannot be followed"
    )
    unseen = unknown_node(logits, x) if not why else ""
    if why or unseen:
        raise NotExact(
            why or f"{unseen} is not on the list of operations whose penalty can be merged"
        )
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return logits, slope, box


def _pull(
    output: Tensor | None, cotangent: Tensor, parameters: Sequence[Tensor], keep: bool
) -> Sequence[Tensor | None]:
    assert output is not None
    if not output.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(output, parameters, cotangent, allow_unused=True, retain_graph=keep)


def _backward(
    game: Game, scores: dict[str, Scores], at: Context, parameters: Sequence[Tensor] | None
) -> Found:
    terms = _value(game, scores, at)
    leaves = list(_parameters_of(terms.loss, scores)) if parameters is None else parameters
    if not terms.loss.requires_grad or not leaves:
        return terms.detach(), leaves, [None] * len(leaves)
    return terms.detach(), leaves, torch.autograd.grad(terms.loss, leaves, allow_unused=True)


def _parameters_of(loss: Tensor, scores: Mapping[str, Scores]) -> Iterator[Tensor]:
    """The leaves that a loss depends on, without the samples."""
    samples = {id(s.x) for s in scores.values()}
    path, seen = [loss.grad_fn], set[Node]()
    while path:
        node = path.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        path.extend(child for child, _ in node.next_functions)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in samples:
            yield leaf


def _groups(game: Game, points: Points) -> list[tuple[tuple[str, ...], bool]]:
    """The points that need the input gradient, and those that do not: a penalty is paid for where
    it looks only."""
    sloped = tuple(name for name in points if name in game.where)
    plain = tuple(name for name in points if name not in game.where)
    return [(names, flag) for names, flag in ((sloped, True), (plain, False)) if names]


def _together(points: Points, names: Sequence[str]) -> dict[str, Samples]:
    """Points that can make up one batch."""
    parts = {name: points[name] for name in names}
    if len({(p.x.shape[1:], p.x.dtype, p.labels is None) for p in parts.values()}) > 1:
        raise NotExact("its batches are of different shape or type")
    return parts


def _leaf(t: Tensor) -> Tensor:
    return t.detach().requires_grad_()
