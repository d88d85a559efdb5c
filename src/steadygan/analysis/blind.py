"""Critics that do not see where a batch lies, nor how large it is: their first layer normalises."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.context import Samples
from ..core.errors import SteadyganError
from ..core.reading import Reading
from ..core.scores import score

BLIND = 0.05
"""A critic is blind whose logits change by less than this share of their spread where the whole
batch is stretched and moved."""


@torch.no_grad()
def sight(critic: nn.Module, samples: Samples, reading: Reading = "auto") -> float | None:
    """Return how much logits change where the whole batch x becomes 2 x + b, as b is of features.

    In standard deviations of the logits, at the worst; None where they are all alike. Batch
    normalisation right behind the samples, or behind one linear layer, takes a and b out of
    a x + b again, and what passes through it apart from the real samples has no place.

    Args:
        critic: In the mode in which it is.
        samples: (B, *event), two at least.
        reading: How nested lists of logits are read.

    >>> hides = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))
    >>> x = Samples(torch.randn(64, 2))
    >>> sight(hides, x) < BLIND < sight(hides[2:], Samples(torch.randn(64, 3)))
    True
    """
    x = samples.x
    rng = torch.Generator().manual_seed(0)
    place = torch.randn(x.shape[1:], generator=rng).to(x) * 3 * x.std()
    logits: list[Tensor] = [
        score(critic, samples._replace(x=each), reading=reading).logits.double()
        for each in (x, 2 * x + place)
    ]
    spread = float(logits[0].std())
    if not spread > 1e-12:
        return None
    return float((logits[1] - logits[0]).abs().max()) / spread


def seeing(critic: nn.Module, samples: Samples, reading: Reading = "auto") -> nn.Module:
    """Return the critic without its batch normalisation.

    Without all of it: behind a first layer of ReLUs it still takes out how large samples are.

    Raises:
        SteadyganError: Where something else hides where samples lie.
    """
    for module in critic.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_hook(lambda module, given, out: given[0])
    if (sight(critic, samples, reading) or 0.0) < BLIND:
        raise SteadyganError("What hides from the critic where samples lie is no module.")
    return critic


__all__ = ["BLIND", "seeing", "sight"]
