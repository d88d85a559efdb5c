"""How a critic's input gradient is taken: a function's value at x, and the way to pull cotangents
of it back to x, such that the result is differentiable again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
"""What is differentiated in x: one logit a sample, or several tensors of a sample's outputs."""
Pull = Callable[[Sequence[Tensor | None]], Tensor]
"""Cotangents, one for each output or None for 0, -> the gradient in x of their inner product with
the outputs. It may be called again; cotangents are constants for it, and keep their own graph."""


class Slopes(ABC):
    """Base of the ways; a stateless value, which the losses of a game are told."""

    @abstractmethod
    def __call__(
        self, function: Callable[[Tensor], Tensors], x: Tensor
    ) -> tuple[Tensor, Tensors, Pull]:
        """Return the samples that were looked at (x or an alias of it), function(x), and the pull.

        Args:
            function: of the samples (B, *event).
            x: the samples, with or without a graph; they are left as they were.
        """


@dataclass(frozen=True)
class Autograd(Slopes):
    """By ``torch.autograd``: for everyday and analysis. It does not work inside torch.func.

    Where gradients are off nothing of what it returns has a graph.

    >>> x, (y,), pull = Autograd()(lambda x: (x**2,), torch.tensor([1.0, 3.0]))
    >>> pull((torch.ones(2),))
    tensor([2., 6.], grad_fn=<MulBackward0>)
    """

    def __call__(
        self, function: Callable[[Tensor], Tensors], x: Tensor
    ) -> tuple[Tensor, Tensors, Pull]:
        """Return an alias of x, function at it, and the pull by autograd."""
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            # An alias, so that the caller's tensor keeps its flags and the derivative is with
            # respect to this use of it only.
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            outputs = function(x)

        def pull(cotangents: Sequence[Tensor | None]) -> Tensor:
            pairs = zip(outputs, cotangents, strict=True)
            reached = [(out, c) for out, c in pairs if c is not None and out.requires_grad]
            if not reached:
                return torch.zeros_like(x)
            (slope,) = torch.autograd.grad(
                [out for out, _ in reached],
                x,
                [cotangent for _, cotangent in reached],
                retain_graph=True,
                create_graph=differentiable,
                allow_unused=True,
                materialize_grads=True,
            )
            return slope

        if differentiable:
            return x, outputs, pull
        return x.detach(), tuple(out.detach() for out in outputs), pull


@dataclass(frozen=True)
class Func(Slopes):
    """By ``torch.func.vjp``: inside torch.func's transforms and torch.compile. It does not work for
    batch normalisation in training mode."""

    def __call__(
        self, function: Callable[[Tensor], Tensors], x: Tensor
    ) -> tuple[Tensor, Tensors, Pull]:
        """Return x, function(x) and the pull by torch.func."""
        outputs, pull = torch.func.vjp(function, x)  # type: ignore[misc]  # without has_aux it returns two

        def filled(cotangents: Sequence[Tensor | None]) -> Tensor:
            pairs = zip(cotangents, outputs, strict=True)
            slope: Tensor = pull(
                tuple(torch.zeros_like(out) if c is None else c for c, out in pairs)
            )[0]
            return slope

        return x, outputs, filled


AUTOGRAD, FUNC = Autograd(), Func()
