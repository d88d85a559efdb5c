"""The critic's logits and its input gradient, taken the way that the caller needs."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from .batchnorm import enough
from .context import Context, Samples
from .errors import SteadyganError
from .outputs import Probe
from .reading import Heads, Reading, lifted, read
from .slopes import AUTOGRAD, Autograd, DifferentiableOnce, Slopes, differentiable_once

Critic = Callable[..., Any]
"""Any module or function D(x), or D(x, y) with labels, that returns logits, large on real samples:
one a sample, or outputs as core/reading.py reads them."""


class View(NamedTuple):
    """What penalties see of many outputs at one point: the values and input gradients of a probe.

    Args:
        logits: (B,).
        gradient: (B, *event).
        share: what the penalty counts.
        of: the regularizer that it is for, whose weight is in the gradient; None for all.
    """

    logits: Tensor
    gradient: Tensor
    share: float
    of: int | None = None


class Scores(NamedTuple):
    """Samples x (B, *event), the critic's logits (B,), the input gradient (B, *event), labels.

    The gradient is there where a penalty asks for it. A critic of many outputs has their logits
    (B, K) each in ``outputs``, their mean in ``logits``, and what penalties look at in ``views``.

    Attributes:
        x: samples (B, *event).
        logits: (B,), one for each sample.
        gradient: of ``logits``, (B, *event).
        labels: (B, ...), of a conditional GAN.
        outputs: logits of each output (B, K); empty where there is one logit a sample.
        features: feature maps, in groups, as the critic returned them.
        views: of a critic of many outputs.
        weighted: whether the gradient has the root of a penalty's weight in it.
    """

    x: Tensor
    logits: Tensor
    gradient: Tensor | None = None
    labels: Tensor | None = None
    outputs: tuple[Tensor, ...] = ()
    features: tuple[tuple[Tensor, ...], ...] = ()
    views: tuple[View, ...] = ()
    weighted: bool = False

    def whole(self, at: Context, *, samples: bool = False) -> Scores:
        """Return the same with the logits of all processes that share the batch out.

        samples: whether their samples and input gradients as well, without a graph.
        """
        outputs = tuple(at.whole(t) for t in self.outputs)
        found = self._replace(logits=at.whole(self.logits), outputs=outputs)
        if not samples:
            return found
        gradient = None if self.gradient is None else at.whole(self.gradient.detach())
        return found._replace(x=at.whole(self.x.detach()), gradient=gradient)

    def detach(self) -> Scores:
        """Return the same figures without their graph, and without features and views."""
        return Scores(
            self.x.detach(),
            self.logits.detach(),
            None if self.gradient is None else self.gradient.detach(),
            self.labels,
            tuple(t.detach() for t in self.outputs),
        )


def score(
    critic: Critic,
    samples: Samples,
    *,
    gradient: bool = False,
    slopes: Slopes = AUTOGRAD,
    reading: Reading = "auto",
) -> Scores:
    r"""Return a critic's scores: logits D(x), and with ``gradient`` also :math:`\nabla_x D(x)`.

    The samples may be plain tensors or carry a graph; they are left as they were. A critic that
    ignores its input has gradient zero; of a critic of many outputs it is that of their mean.

    Raises:
        SteadyganError: where the critic returns what cannot be read as logits.

    >>> score(lambda x: (x**2).sum(1), Samples(torch.tensor([[1.0, 2.0]])), gradient=True).gradient
    tensor([[2., 4.]], grad_fn=<...>)
    """
    x, labels = samples.x, samples.labels
    if not gradient:
        heads = heads_of(critic, x, labels, reading)
        return _scores(x, heads, labels)
    _differentiable(x)
    _is_whole(critic, slopes)
    x, (logits,), pull = slopes(lambda point: (logits_of(critic, point, labels, reading),), x)
    slope = lifted(pull((torch.ones_like(logits),)))
    _once_is_not_enough(critic, (logits,), slope, slopes)
    return Scores(x, logits, slope, labels)


def look(
    critic: Critic,
    points: Mapping[str, Samples],
    probes: Callable[[str, Sequence[Tensor]], Sequence[Probe]],
    *,
    slopes: Slopes = AUTOGRAD,
    reading: Reading = "auto",
) -> dict[str, Scores]:
    """Evaluate a critic at points in one pass, with the input gradients that penalties look at.

    Args:
        critic: of one logit a sample, whose gradient it is then, or of many outputs.
        points: samples by name.
        probes: what is looked at at a point, from its name and the logits (B, K) of its outputs.
        slopes: how gradients are taken.
        reading: how nested lists are read.

    Returns:
        Scores by name; feature maps are in none of them where there are several points.
    """
    together, sizes = join(points), [len(samples.x) for samples in points.values()]
    _differentiable(together.x)
    _is_whole(critic, slopes)
    seen: list[Heads] = []

    def function(x: Tensor) -> tuple[Tensor, ...]:
        seen.append(heads_of(critic, x, together.labels, reading))
        return seen[-1].flat()

    x, tensors, pull = slopes(function, together.x)
    heads = seen[-1].like(tensors)
    rest = [None] * (len(tensors) - len(heads.logits))
    whole = _scores(x, heads, together.labels)
    if heads.single:
        gradient = lifted(pull((torch.ones_like(whole.logits), *rest)))
        _once_is_not_enough(critic, tensors, gradient, slopes)
        return dict(zip(points, split(whole._replace(gradient=gradient), sizes), strict=True))
    parts = dict(zip(points, split(whole, sizes), strict=True))
    asked = {name: probes(name, part.outputs) for name, part in parts.items()}
    for turn in itertools.zip_longest(*asked.values()):
        cotangents = [
            _rows([p and p.cotangents[o] for p in turn], [s.outputs[o] for s in parts.values()])
            for o in range(len(heads.logits))
        ]
        gradient = lifted(pull((*cotangents, *rest)))
        _once_is_not_enough(critic, tensors, gradient, slopes)
        gradients = gradient.split(sizes)
        for name, probe, gradient in zip(points, turn, gradients, strict=True):
            if probe:
                part = parts[name]
                view = View(probe.value(part.outputs), gradient, probe.share, probe.of)
                parts[name] = part._replace(views=(*part.views, view))
    return parts


def join(points: Mapping[str, Samples]) -> Samples:
    """Return the samples of all points as one batch."""
    x, labels = zip(*points.values(), strict=True)
    if len(x) == 1:
        return Samples(x[0], labels[0])
    return Samples(torch.cat(x), None if labels[0] is None else torch.cat(labels))


def split(whole: Scores, sizes: Sequence[int]) -> list[Scores]:
    """Return the scores of the points that ``join`` made one batch of."""
    if len(sizes) == 1:
        return [whole]
    none = [None] * len(sizes)
    x, logits, gradient, labels = (t.split(sizes) if t is not None else none for t in whole[:4])
    outputs = zip(*(t.split(sizes) for t in whole.outputs), strict=True) if whole.outputs else none
    parts = zip(x, logits, gradient, labels, outputs, strict=True)
    return [Scores(*part[:4], part[4] or ()) for part in parts]


def by_output(scores: Mapping[str, Scores]) -> list[dict[str, Scores]]:
    """Return the scores of each output of a critic, its positions as a batch of logits."""
    sizes = {name: len(s.outputs) for name, s in scores.items()}
    count = max(sizes.values())
    if not count:
        return [dict(scores)]
    if min(sizes.values()) < count:
        told = ", ".join(
            f"{n} outputs of several logits at {name} samples" if n else f"a logit at {name} ones"
            for name, n in sizes.items()
        )
        raise SteadyganError(
            f"the critic returned {told}, so that they do not compare: give samples of one size"
        )
    return [
        {name: s._replace(logits=s.outputs[o].flatten(), outputs=()) for name, s in scores.items()}
        for o in range(count)
    ]


def of_output(memory: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    """Return what is remembered about the output at a place, by the names of a single one."""
    found = {key.partition("@"): value for key, value in memory.items()}
    return {
        key: value for (key, _, of), value in found.items() if of == (str(place) if place else "")
    }


def by_view(
    scores: Mapping[str, Scores], where: Sequence[str], of: int
) -> Iterator[tuple[float, dict[str, Scores]]]:
    """Yield what a regularizer that looks at points sees of many outputs, and what it counts."""
    views = [[v for v in scores[point].views if v.of in (None, of)] for point in where]
    if len({len(seen) for seen in views}) > 1:
        raise SteadyganError(
            f"the critic returned different numbers of logits at {', '.join(where)} points, so that"
            " their penalties do not add up: give samples of one size"
        )
    for turn in zip(*views, strict=True):
        seen = {
            point: scores[point]._replace(
                logits=v.logits, gradient=v.gradient, weighted=v.of is not None
            )
            for point, v in zip(where, turn, strict=True)
        }
        yield turn[0].share, {**scores, **seen}


def squared_norm(gradient: Tensor) -> Tensor:
    """Return the squared Euclidean norm per sample, (B, *event) -> (B,)."""
    return gradient.reshape(len(gradient), -1).square().sum(1)


def safe_norm(gradient: Tensor) -> Tensor:
    """Return each sample's norm, (B, *event) -> (B,), with derivative 0 where it is 0."""
    squared = squared_norm(gradient)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)


def heads_of(critic: Critic, x: Tensor, labels: Tensor | None, reading: Reading) -> Heads:
    """Return a critic's outputs at samples."""
    try:
        with enough():
            out = critic(x) if labels is None else critic(x, labels)
    except RuntimeError as error:
        if "leaf Variable that requires grad is being used in an in-place" not in str(error):
            raise
        raise SteadyganError(
            "the critic changes its samples in place, and a penalty differentiates in them: leave"
            f" inplace=True out of what comes first in it, or begin with x.clone() ({error})"
        ) from error
    return read(out, len(x), reading)


def logits_of(
    critic: Critic, x: Tensor, labels: Tensor | None, reading: Reading = "auto"
) -> Tensor:
    """Return one logit a sample, (B,), at least in single precision; of many outputs their mean."""
    return _scores(x, heads_of(critic, x, labels, reading), labels).logits


def _scores(x: Tensor, heads: Heads, labels: Tensor | None) -> Scores:
    if heads.single:
        return Scores(x, heads.logits[0], None, labels, (), heads.features)
    mean = torch.stack([t.mean(1) for t in heads.logits]).mean(0)
    return Scores(x, mean, None, labels, *heads)


def _rows(given: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor | None:
    """Return cotangents of one output at all points as one batch, 0 where there is none."""
    if all(c is None for c in given):
        return None
    filled = [torch.zeros_like(t) if c is None else c for c, t in zip(given, like, strict=True)]
    return torch.cat(filled) if len(filled) > 1 else filled[0]


def _differentiable(x: Tensor) -> None:
    if not x.is_floating_point():
        raise SteadyganError(
            f"the critic's input gradient needs floating-point samples, these are {x.dtype}: "
            + (
                "pass torch.view_as_real(x), and let the critic put them together"
                if x.is_complex()
                else "convert them with .float()"
            )
        )


_asked: weakref.WeakSet[Any] = weakref.WeakSet()


def _known(critic: Critic, slopes: Slopes) -> bool:
    """Return whether a critic was seen before, or is differentiated in another way."""
    return not isinstance(slopes, Autograd) or getattr(critic, "__wrapped__", critic) in _asked


def _is_whole(critic: Critic, slopes: Slopes) -> None:
    """Refuse a critic, when it is seen first, whose parameters are gathered for one backward."""
    if not isinstance(critic, nn.Module) or _known(critic, slopes):
        return
    if sharded(critic.parameters()):
        raise SteadyganError(
            "a gradient penalty differentiates the critic twice, and its sharded parameters are"
            " gathered for one backward only: call steadygan.critic_backward, which takes"
            " path='differences' for it, from first derivatives"
        )


def _once_is_not_enough(
    critic: Critic, outputs: Sequence[Tensor], slope: Tensor, slopes: Slopes
) -> None:
    """Refuse a critic, when it is seen first, whose input gradient has no right derivative."""
    if slope.requires_grad and not _known(critic, slopes):
        if culprit := differentiable_once(outputs, slope):
            raise DifferentiableOnce(culprit)
        with suppress(TypeError):  # what cannot be remembered is looked at again
            _asked.add(getattr(critic, "__wrapped__", critic))


def sharded(parameters: Iterable[Tensor]) -> bool:
    """Return whether parameters are spread over processes, as by ``fully_shard``."""
    return any(hasattr(p, "device_mesh") for p in parameters)


def modules_of(
    module: nn.Module, found: dict[nn.Module, None] | None = None
) -> Iterable[nn.Module]:
    """Return a module and all within, in torch's order and a third of its time."""
    found = {} if found is None else found
    found[module] = None
    for child in module._modules.values():
        if child is not None and child not in found:
            modules_of(child, found)
    return found


@contextmanager
def once(critic: Critic) -> Iterator[None]:
    """Let all passes of one update see the same weights, where they are computed.

    One update is one power iteration of spectral normalisation, in its older form as well.
    """
    modules = modules_of(critic) if isinstance(critic, nn.Module) else ()
    hooks = [
        hook
        for module in modules
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, (SpectralNorm, WeightNorm))
    ]
    # torch's own cache goes by the module that was parametrized, whose copies by deepcopy then have
    # the weights of the first that is asked.
    computed, caching = ParametrizationList.forward, parametrize._cache_enabled
    seen: dict[nn.Module, Tensor] = {}

    def forward(self: ParametrizationList) -> Tensor:
        if self not in seen:
            # A first pass under no_grad must not keep the graph from those after it.
            with torch.enable_grad():
                seen[self] = computed(self)
        return seen[self]

    ParametrizationList.forward, parametrize._cache_enabled = forward, 0  # type: ignore[method-assign]
    for hook in hooks:
        hook.compute_weight = functools.cache(  # type: ignore[method-assign]
            torch.enable_grad()(hook.compute_weight)
        )
    try:
        yield
    finally:
        ParametrizationList.forward, parametrize._cache_enabled = computed, caching  # type: ignore[method-assign]
        for hook in hooks:
            del hook.compute_weight
