"""What the trainer asks of whatever measures samples while it trains;
``steadygan.evaluation.metrics.Evaluator`` is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Judge(Protocol):
    """Measures ``size`` samples (size, *event) on the CPU, and says whether what it found is better
    than the best so far."""

    @property
    def size(self) -> int:
        """How many samples it wants."""

    def __call__(self, samples: Tensor) -> dict[str, float]:
        """Return numbers by name."""

    def improves(self, found: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
        """Return whether these numbers are better than the best so far; anything is better than
        None."""
