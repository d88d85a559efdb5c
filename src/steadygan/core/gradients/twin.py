"""A critic's twin, of operations that torch can differentiate twice, to check differences by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@contextmanager
def twin(functions: Iterable[Any]) -> Iterator[None]:
    """Let attention run from its definition, and custom Functions by what their forward does.

    functions: the classes of those that a critic calls.
    """
    replaced = [f for f in functions if "apply" not in vars(f)]
    for function in replaced:
        function.apply = staticmethod(_forward(function))
    try:
        with _Attention():
            yield
    finally:
        for function in replaced:
            del function.apply


class _Attention(TorchFunctionMode):
    def __torch_function__(
        self, f: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if f is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return f(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    if dropout_p:
        raise NotImplementedError("dropout inside attention draws its own masks")
    weights = query @ key.mT * (query.size(-1) ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones_like(weights, dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        weights = weights.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        weights = weights + attn_mask
    return weights.softmax(-1) @ value


def _forward(function: Any) -> Callable[..., Any]:
    own_context = "setup_context" in vars(function)
    if own_context:
        return lambda *args: function.forward(*args)
    return lambda *args: function.forward(_Context(), *args)


class _Context:
    """What a forward may ask of its context; its backward never comes."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep nothing."""

    mark_non_differentiable = set_materialize_grads = save_for_backward


__all__ = ["twin"]
