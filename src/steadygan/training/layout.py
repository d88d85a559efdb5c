"""In which memory layout the networks of images are trained."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@cache
def pools_rightly(device: str) -> bool:
    """Return whether torch differentiates padded average pooling in ``channels_last`` there.

    On GPUs it did not before mid-2026: gradients in the input are silently wrong, and a residual
    critic with R1 blows up instead of standing (seen with torch 2.11 on an H100).

    >>> pools_rightly("cpu")
    True

    Reference: https://github.com/pytorch/pytorch/issues/188344
    """
    x = torch.arange(32.0, device=device).view(1, 2, 4, 4)

    def slope(layout: torch.memory_format) -> Tensor:
        own = x.contiguous(memory_format=layout).requires_grad_()
        return torch.autograd.grad(F.avg_pool2d(own, 3, 2, 1).square().sum(), own)[0]

    return torch.allclose(slope(torch.contiguous_format), slope(torch.channels_last), rtol=1e-3)


def to_channels_last(device: str, *networks: nn.Module) -> None:
    """Lay networks out as convolutions are fastest, where that changes no value.

    Values and files are the same. Any network may pool, and not all say so.
    """
    if pools_rightly(device):
        for network in networks:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


__all__ = ["pools_rightly", "to_channels_last"]
