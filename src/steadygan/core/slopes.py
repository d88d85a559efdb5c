"""How a critic's input gradient is taken.

A function's value at x, and the way to pull cotangents of it back to x, such that the result is
differentiable again.
"""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.backends import cuda as kernels

from .errors import SteadyganError

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
        if torch.is_inference_mode_enabled():
            raise SteadyganError(
                "torch.inference_mode leaves nothing to differentiate, and a penalty needs the"
                " critic's slope: use torch.no_grad()"
            )
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            # An alias, so that the caller's tensor keeps its flags and the derivative is with
            # respect to this use of it only.
            x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
            with twice():
                outputs = function(x)
        pull = pull_of(outputs, x, differentiable=differentiable)
        if differentiable:
            return x, outputs, pull
        return x.detach(), tuple(out.detach() for out in outputs), pull


@dataclass(frozen=True)
class Func(Slopes):
    """By ``torch.func.vjp``: inside torch.func's transforms and torch.compile.

    It does not work for batch normalisation in training mode.
    """

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


def pull_of(outputs: Tensors, x: Tensor, *, differentiable: bool) -> Pull:
    """Return the pull of outputs back to x through their graph."""

    def pull(cotangents: Sequence[Tensor | None]) -> Tensor:
        pairs = zip(outputs, cotangents, strict=True)
        asked = [(out, c) for out, c in pairs if c is not None]
        reached = [(out, c) for out, c in asked if out.requires_grad]
        slope: Tensor | None = None
        if reached:
            with explained():
                (slope,) = torch.autograd.grad(
                    [out for out, _ in reached],
                    x,
                    [cotangent for _, cotangent in reached],
                    retain_graph=True,
                    create_graph=differentiable,
                    allow_unused=True,
                )
        if slope is None and asked:
            warnings.warn(
                "the critic's output does not depend on its samples, so that a penalty on its"
                " slope does nothing: does it detach them, or run under torch.no_grad()?",
                stacklevel=2,
            )
        return torch.zeros_like(x) if slope is None else slope

    return pull


_FUSED: tuple[tuple[Any, Any], ...] = (
    (kernels.flash_sdp_enabled, kernels.enable_flash_sdp),
    (kernels.mem_efficient_sdp_enabled, kernels.enable_mem_efficient_sdp),
    (kernels.cudnn_sdp_enabled, kernels.enable_cudnn_sdp),
)


@contextmanager
def twice() -> Iterator[None]:
    """Let what torch has in several forms take the one that has a second derivative.

    Attention takes its math kernel, which has the values of the fused ones; what was compiled runs
    as it was written.
    """
    # Where it is not imported nothing is compiled, and importing it takes seconds.
    compiler: Any = torch.compiler if "torch._dynamo" in sys.modules else None
    stance = compiler and compiler.set_stance("force_eager")
    fused, math = [enable for enabled, enable in _FUSED if enabled()], kernels.math_sdp_enabled()
    for enable in fused:
        enable(False)
    kernels.enable_math_sdp(True)
    try:
        yield
    finally:
        kernels.enable_math_sdp(math)
        for enable in fused:
            enable(True)
        if stance:
            stance.__exit__(None, None, None)


class DifferentiableOnce(SteadyganError):
    """A penalty meets what torch cannot differentiate twice. what: by name."""

    def __init__(self, what: str, said: object = "") -> None:
        self.what = what
        super().__init__(
            "a gradient penalty differentiates the critic twice, and torch differentiates"
            f" {what} once only: write it in operations that torch can differentiate twice, or call"
            " steadygan.critic_backward, which takes path='differences' for it, from first"
            " derivatives" + (f" ({said})" if said else "")
        )


@contextmanager
def explained() -> Iterator[None]:
    """Say what to do where torch cannot differentiate a critic as a penalty needs it."""
    try:
        yield
    except RuntimeError as error:
        for said, what in _ONCE.items():
            if said in str(error):
                raise DifferentiableOnce(what, error) from error
        if "use_reentrant=True" in str(error):
            raise SteadyganError(
                "the critic recomputes its activations by reentrant checkpointing, which"
                " torch.autograd.grad refuses: pass use_reentrant=False to"
                f" torch.utils.checkpoint.checkpoint ({error})"
            ) from error
        if any(said in str(error) for said in _RECOMPUTED):
            raise SteadyganError(
                "a part of the critic that is checkpointed computes other tensors when it runs"
                " again. Weights that are computed (spectral and weight normalisation) are so once"
                " an update: leave their layers out of torch.utils.checkpoint"
                f" ({str(error).strip().splitlines()[0]})"
            ) from error
        raise


_RECOMPUTED = (
    "during the original forward and recomputation",
    "different metadata than during the forward pass",
)
_ONCE = {
    "support double backward": "a compiled part of it",
    "marked with @once_differentiable": "a custom Function in it",
    "is not implemented": "an operation in it",
}
_NATIVE = {
    "CdistBackwardBackward0": "torch.cdist",
    "PdistBackwardBackward0": "torch.pdist",
    "CudnnRnnBackwardBackward0": (
        "recurrent layers of cuDNN (those under torch.backends.cudnn.flags(enabled=False) it does"
        " twice)"
    ),
}
"""Torch's own backward functions whose derivative is missing, by node; none is told apart by more
than its name before it is run."""


def differentiable_once(outputs: Sequence[Tensor], slope: Tensor) -> str:
    """Return what stands in a critic's graph and has no second derivative, by name, or ''."""
    for node in nodes(*outputs):
        function = getattr(type(node), "_forward_cls", None)
        if function is not None and hasattr(function.backward, "__wrapped__"):
            return str(function.__name__)
        if function is not None and function.__name__ == "CompiledFunction":
            return "a compiled part of it"
    for node in nodes(slope):
        if node.name() in _NATIVE:
            return _NATIVE[node.name()]
        if node.name().endswith("NotImplemented"):
            return "an operation without a second derivative"
    return ""


def nodes(*tensors: Tensor) -> Iterator[Node]:
    """Yield the nodes of the graph of tensors, each once."""
    path, seen = [tensor.grad_fn for tensor in tensors], set[Node]()
    while path:
        node = path.pop()
        if node is not None and node not in seen:
            seen.add(node)
            path.extend(child for child, _ in node.next_functions)
            yield node
