"""The ways to the gradient of the critic's whole loss: one function each, of one signature."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..context import Context, Samples
from ..game import Game
from ..reading import Reading, read
from ..scores import Critic, Scores, once, sharded
from ..slopes import AUTOGRAD, Pull, Slopes, Tensors, nodes, pull_of, twice
from ..terms import CriticTerms
from .apart import Watch
from .chain import Chained, Looks, NoChain, chained
from .graph import unknown_node
from .merged import Box
from .rules import Merge

Points = Mapping[str, Samples]


class NotExact(Exception):
    """Why a path does not hold for a critic."""


class Found(NamedTuple):
    """What a path finds: the loss in its parts, without a graph, and what is left to pull back.

    The gradient of the whole loss is that of the roots' inner product with their cotangents.
    precise: whether nothing on the way may be less than in single precision.
    """

    terms: CriticTerms
    roots: Sequence[Tensor]
    cotangents: Sequence[Tensor | None]
    precise: bool = False

    def gradients(self, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """Return the gradients of the parameters, None where the loss does not depend on one."""
        if not self.roots or not parameters:
            return [None] * len(parameters)
        if all(root.is_leaf and not root._backward_hooks for root in self.roots):
            return self._at_leaves(parameters)
        with precise(self.roots[0].device) if self.precise else nullcontext():
            return torch.autograd.grad(self.roots, parameters, self.cotangents, allow_unused=True)

    def _at_leaves(self, parameters: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """Return the cotangents themselves where roots are parameters, as closed forms give."""
        found: dict[int, Tensor] = {}
        for root, pull in zip(self.roots, self.cotangents, strict=True):
            assert pull is not None
            found[id(root)] = found[id(root)] + pull if id(root) in found else pull
        return [found.get(id(p)) for p in parameters]

    def accumulate(self, parameters: Sequence[Tensor]) -> None:
        """Add the gradients to the ``.grad`` of the parameters, as ``loss.backward()`` does.

        In the parameters' memory layout, into buffers that are there, and with every hook.
        """
        if self.roots and parameters:
            with precise(self.roots[0].device) if self.precise else nullcontext():
                # Sharded parameters are not those of the graph: hooks hand their gradients on.
                inputs = None if sharded(parameters) else parameters
                torch.autograd.backward(self.roots, self.cotangents, inputs=inputs)


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


def value_of(game: Game, scores: Mapping[str, Scores], at: Context) -> CriticTerms:
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


def terms_of(
    game: Game,
    critic: Critic,
    points: Points,
    at: Context,
    *,
    share: float = 1.0,
    slopes: Slopes = AUTOGRAD,
) -> CriticTerms:
    """Return the critic's loss in its parts, with penalties on a share of each batch."""
    return value_of(game, _looked(game, critic, parts_of(game, points, share), at, slopes), at)


def _looked(
    game: Game, critic: Critic, points: Points, at: Context, slopes: Slopes = AUTOGRAD
) -> dict[str, Scores]:
    scores: dict[str, Scores] = {}
    with once(critic):
        for name, samples in points.items():
            scores |= game.look(critic, {name: samples}, at=at, slopes=slopes)
    return scores


def separate(
    game: Game, critic: Critic, points: Points, at: Context, scale: Tensor | float = 1.0
) -> Found:
    """Return what is found with each batch through the critic on its own, by one backward."""
    return _whole(value_of(game, _looked(game, critic, points, at), at), scale)


def joined(
    game: Game, critic: Critic, points: Points, at: Context, scale: Tensor | float = 1.0
) -> Found:
    """Return what is found with all batches in one pass; two where some need no input gradient."""
    scores: dict[str, Scores] = {}
    with once(critic):
        for names, _ in groups_of(game, points):
            # One batch alone needs no watch.
            seen = _watched(critic, game.outputs.reading) if len(names) > 1 else critic
            scores |= game.look(seen, _together(points, names), at=at)
    return _whole(value_of(game, {name: scores[name] for name in points}, at), scale)


def merged(
    game: Game, critic: Critic, points: Points, at: Context, scale: Tensor | float = 1.0
) -> Found:
    """Return what is found in one pass, with one weight gradient a layer for loss and penalty."""
    scores: dict[str, Scores] = {}
    boxes: list[tuple[tuple[str, ...], Box | None]] = []
    with once(critic):
        for names, sloped in groups_of(game, points):
            box = Box() if sloped else None
            slopes = AUTOGRAD if box is None else Merging(box)
            # Merging sees for itself whether samples see each other.
            unseen = box is None and len(names) > 1
            seen = _watched(critic, game.outputs.reading) if unseen else critic
            scores |= game.look(seen, _together(points, names), at=at, slopes=slopes)
            boxes.append((names, box))
    scores = {name: scores[name] for name in points}
    if any(s.outputs for s in scores.values()):
        # Losses of several logits do not merge with a penalty, and come down as they are.
        return _whole(value_of(game, scores, at), scale)
    terms, c, v = _outer(game, scores, at, scale)
    pairs: list[tuple[Tensor | None, Tensor | None]] = []
    for names, box in boxes:
        of_logits = [c[name] for name in names]
        if box is None:
            pairs += zip((scores[name].logits for name in names), of_logits, strict=True)
        else:
            box.c = torch.cat(of_logits)
            pairs += [(scores[name].gradient, v[name]) for name in names]
    return Found(terms, *rooted(pairs))


def chain(
    game: Game, critic: Critic, points: Points, at: Context, scale: Tensor | float = 1.0
) -> Found:
    """Return all gradients of a chain of linear layers and activations, in closed form."""
    known = chain_of(critic, next(iter(points.values())))
    batches = {name: samples.x for name, samples in _together(points, tuple(points)).items()}
    with once(critic):
        links = known.links()
    with torch.no_grad():
        looks = Looks(links, batches, groups_of(game, points))
    scores = {
        name: Scores(x, looks.logits[name], looks.slopes.get(name)) for name, x in batches.items()
    }
    terms, c, v = _outer(game, scores, at, scale)
    with torch.no_grad():
        return Found(terms, *rooted(looks.gradients(c, v)))


def chain_of(critic: Critic, first: Samples) -> Chained:
    """Return the chain that a critic is for such samples, or raise NotExact."""
    if not isinstance(critic, nn.Module) or first.labels is not None:
        raise NotExact("it is no module of samples alone")
    if torch.is_autocast_enabled(first.x.device.type) or first.x.element_size() < 4:
        raise NotExact("it runs in half precision")
    try:
        found = chained(critic, first.x.ndim)
    except NoChain as refusal:
        raise NotExact(f"it is no chain of linear layers: {refusal}") from None
    if found.layers[-1].module.out_features != 1:
        raise NotExact("it has several logits a sample")
    return found


def _outer(
    game: Game, scores: Mapping[str, Scores], at: Context, scale: Tensor | float
) -> tuple[CriticTerms, dict[str, Tensor], dict[str, Tensor]]:
    """Return the loss of scores, and by point its derivatives in logits and input gradients."""
    logits = {name: leaf_of(s.logits) for name, s in scores.items()}
    slopes = {n: leaf_of(s.gradient) for n, s in scores.items() if s.gradient is not None}
    ends = {
        name: s._replace(logits=logits[name], gradient=slopes.get(name))
        for name, s in scores.items()
    }
    with torch.autocast(next(iter(scores.values())).x.device.type, enabled=False):
        terms = value_of(game, ends, at)
    pulls = iter(
        torch.autograd.grad(
            terms.loss,
            [*logits.values(), *slopes.values()],
            cotangent_of(terms.loss, scale),
            allow_unused=True,
            materialize_grads=True,
        )
    )
    return terms, {name: next(pulls) for name in logits}, {name: next(pulls) for name in slopes}


PATHS: dict[str, Callable[..., Found]] = {
    "chain": chain,
    "separate": separate,
    "joined": joined,
    "merged": merged,
}


@dataclass(frozen=True)
class Merging(Slopes):
    """By autograd through what ``rules.py`` makes of the critic, whose backward reads the box."""

    box: Box

    def __call__(
        self, function: Callable[[Tensor], Tensors], x: Tensor
    ) -> tuple[Tensor, Tensors, Pull]:
        """Return the samples as they were seen, function at them, and the pull."""
        x = x.detach().requires_grad_()
        with twice(), Merge(x, self.box) as merge:
            outputs = function(x)
        why = merge.why or merge.lost(*outputs) or unknown_node(outputs, x)
        if why:
            raise NotExact(why)
        return x, outputs, pull_of(outputs, x, differentiable=True)


def _watched(critic: Critic, reading: Reading) -> Critic:
    """Return a critic that raises NotExact in the very pass in which samples may see each other."""

    def watched(x: Tensor, *labels: Tensor) -> Any:
        with Watch(x) as watch:
            out = critic(x, *labels)
            heads = read(out, len(x), reading)
        if why := watch.lost(*heads.logits):
            raise NotExact(why)
        return out

    watched.__wrapped__ = critic  # type: ignore[attr-defined]
    return watched


def _whole(terms: CriticTerms, scale: Tensor | float) -> Found:
    return Found(terms, *rooted([(terms.loss, cotangent_of(terms.loss, scale))]))


def cotangent_of(loss: Tensor, scale: Tensor | float) -> Tensor | None:
    """Return what a loss is pulled back with."""
    if isinstance(scale, float) and scale == 1.0:
        return None  # which torch takes for 1, without looking
    return torch.as_tensor(scale, dtype=loss.dtype, device=loss.device).reshape(loss.shape)


def rooted(
    pairs: Sequence[tuple[Tensor | None, Tensor | None]],
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Return roots and cotangents, without what no parameter stands behind."""
    alive = [(root, pull) for root, pull in pairs if root is not None and root.requires_grad]
    return [root for root, _ in alive], [pull for _, pull in alive]


def leaves_of(roots: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the leaves that roots depend on."""
    for node in nodes(*roots):
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            yield leaf


@contextmanager
def precise(device: torch.device) -> Iterator[None]:
    """Let products be as exact as single precision is: no autocast, nor what GPUs shorten."""
    no_autocast = torch.autocast(device.type, enabled=False)
    with _unshortened(), _unshortened_by_operation(), no_autocast:
        yield


@contextmanager
def _unshortened() -> Iterator[None]:
    """Let no product be shortened by torch's settings of old, which return as they were."""
    products, convolutions = "highest", False
    # Where somebody has used torch's newer settings, the older ones refuse to be read.
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    # Setting what came from a more general one would cut it off from that; so would setting what is
    # whole already.
    if getattr(torch.backends.cudnn, "fp32_precision", "none") == "none":
        with suppress(RuntimeError):
            convolutions = torch.backends.cudnn.allow_tf32
    if products != "highest":
        torch.set_float32_matmul_precision("highest")
    if convolutions:
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        if products != "highest":
            torch.set_float32_matmul_precision(products)
        if convolutions:
            torch.backends.cudnn.allow_tf32 = True


@contextmanager
def _unshortened_by_operation() -> Iterator[None]:
    """Let no product be shortened by ``fp32_precision``, which torch has from 2.9 on."""
    backends: Any = torch.backends
    short: list[tuple[Any, str]] = []
    if hasattr(backends, "fp32_precision"):
        cuda = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn
        cpu = backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn
        found = [(operation, operation.fp32_precision) for operation in (*cuda, *cpu)]
        short = [(op, precision) for op, precision in found if precision not in ("ieee", "none")]
    for operation, _ in short:
        operation.fp32_precision = "ieee"
    try:
        yield
    finally:
        for operation, precision in short:
            operation.fp32_precision = "none"
            # Else it had come from a more general setting, and does again.
            if operation.fp32_precision != precision:
                operation.fp32_precision = precision


def groups_of(game: Game, points: Iterable[str]) -> list[tuple[tuple[str, ...], bool]]:
    """Return the points that need the input gradient, and those that do not.

    A penalty is paid for where it looks only.
    """
    sloped = tuple(name for name in points if name in game.where)
    plain = tuple(name for name in points if name not in game.where)
    return [(names, flag) for names, flag in ((sloped, True), (plain, False)) if names]


def _together(points: Points, names: Sequence[str]) -> dict[str, Samples]:
    """Return points that can make up one batch."""
    parts = {name: points[name] for name in names}
    if not alike(parts):
        raise NotExact("its batches are of different shape or type")
    return parts


def alike(points: Points) -> bool:
    """Return whether points and their labels can make up one batch."""
    return len({(_kind(p.x), _kind(p.labels)) for p in points.values()}) < 2


def _kind(given: Any) -> Hashable:
    """Return what batches or labels share that can be joined; what is no tensor is like nothing."""
    if isinstance(given, Tensor):
        return given.shape[1:], given.dtype
    return None if given is None else object()


def leaf_of(t: Tensor) -> Tensor:
    """Return a tensor's values as a leaf that can be differentiated in."""
    return t.detach().requires_grad_()
