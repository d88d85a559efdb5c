"""The critic's logits and its input gradient, taken the way that the caller needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .context import Samples
from .errors import SteadyganError
from .slopes import AUTOGRAD, Slopes

Critic = Callable[..., Tensor]
"""Any module or function D(x), or D(x, y) with labels, that returns one logit a sample, large on
real samples."""


class Scores(NamedTuple):
    """Samples x (B, *event), the critic's logits (B,), the input gradient (B, *event), labels.

    The gradient is there where a penalty asks for it.
    """

    x: Tensor
    logits: Tensor
    gradient: Tensor | None = None
    labels: Tensor | None = None

    def detach(self) -> Scores:
        """Return the same figures without their graph."""
        return Scores(
            self.x.detach(),
            self.logits.detach(),
            None if self.gradient is None else self.gradient.detach(),
            self.labels,
        )


def score(
    critic: Critic, samples: Samples, *, gradient: bool = False, slopes: Slopes = AUTOGRAD
) -> Scores:
    r"""Evaluate a critic: logits D(x), and with ``gradient`` also :math:`\nabla_x D(x)`.

    The samples may be plain tensors or carry a graph; they are left as they were. A critic that
    ignores its input has gradient zero. Raises SteadyganError where the critic returns anything but
    one logit a sample.

    >>> score(lambda x: (x**2).sum(1), Samples(torch.tensor([[1.0, 2.0]])), gradient=True).gradient
    tensor([[2., 4.]], grad_fn=<...>)
    """
    x, labels = samples.x, samples.labels
    if not gradient:
        return Scores(x, logits_of(critic, x, labels), None, labels)
    if not x.is_floating_point():
        raise SteadyganError(
            f"the critic's input gradient needs floating-point samples, these are {x.dtype}:"
            " convert them with .float()"
        )
    x, (logits,), pull = slopes(lambda point: (logits_of(critic, point, labels),), x)
    return Scores(x, logits, pull((torch.ones_like(logits),)), labels)


def squared_norm(gradient: Tensor) -> Tensor:
    """Return the squared Euclidean norm per sample, (B, *event) -> (B,)."""
    return gradient.flatten(1).square().sum(1)


def safe_norm(gradient: Tensor) -> Tensor:
    """Return each sample's norm, (B, *event) -> (B,), with derivative 0 where it is 0."""
    squared = squared_norm(gradient)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)


def logits_of(critic: Critic, x: Tensor, labels: Tensor | None) -> Tensor:
    """Return one logit a sample, (B,), at least in single precision; anything else raises."""
    out = critic(x) if labels is None else critic(x, labels)
    n = len(x)
    if not isinstance(out, Tensor):
        raise SteadyganError(
            "the critic must return a tensor of one logit a sample, it returned"
            f" {type(out).__name__}"
        )
    if tuple(out.shape) not in ((n,), (n, 1), (n, 1, 1, 1)):
        raise SteadyganError(
            f"the critic returned shape {tuple(out.shape)} for {n} samples; expected one logit a"
            f" sample: ({n},), ({n}, 1) or ({n}, 1, 1, 1)"
        )
    return (
        out.reshape(n).float() if out.dtype in (torch.float16, torch.bfloat16) else out.reshape(n)
    )
