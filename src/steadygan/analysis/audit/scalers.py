"""Watch torch's gradient scalers: what they scale, and whose gradients they scale back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .marks import tensors

if TYPE_CHECKING:
    from .trace import Trace


def watch_scalers(trace: Trace) -> Callable[[], None]:
    """Tell a trace what every gradient scaler does.

    Returns:
        a function that ends it.
    """
    kind: Any = torch.amp.GradScaler
    scale, unscale, step = kind.scale, kind.unscale_, kind.step

    def scaling(scaler: Any, outputs: Any) -> Any:
        scaled = scale(scaler, outputs)
        factor = float(scaler.get_scale()) if scaler.is_enabled() else 1.0
        for before, after in zip(tensors(outputs), tensors(scaled), strict=False):
            trace.scaled(before, after, factor)
        return scaled

    def unscaling(scaler: Any, optimizer: torch.optim.Optimizer) -> None:
        unscale(scaler, optimizer)
        if scaler.is_enabled():
            trace.unscaled(optimizer)

    def stepping(scaler: Any, optimizer: torch.optim.Optimizer, *args: Any, **more: Any) -> Any:
        steps, failed = len(trace.steps), True
        try:
            found = step(scaler, optimizer, *args, **more)
            failed = False
            return found
        finally:
            trace.tried(optimizer, steps, failed)

    kind.scale, kind.unscale_, kind.step = scaling, unscaling, stepping

    def undo() -> None:
        kind.scale, kind.unscale_, kind.step = scale, unscale, step

    return undo
