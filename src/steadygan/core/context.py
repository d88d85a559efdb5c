"""What a loss may depend on besides samples and critic: progress, random draws, memory.

Nothing comes from hidden globals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from .errors import SteadyganError
from .ranks import gathered

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Samples(NamedTuple):
    """Samples x (B, *event) and the labels (B, ...) that travel with them, or None."""

    x: Tensor
    labels: Tensor | None = None


def batches(labels: Sequence[Tensor | None] | None, **samples: Tensor) -> dict[str, Samples]:
    """Return batches of samples by name with the labels of each, or refuse what is no batch.

    Args:
        labels: of real and of generated samples, (B, ...) each.
        samples: (B, *event), by the names ``real`` and ``fake``.
    """
    if labels is not None and not (isinstance(labels, (tuple, list)) and len(labels) in (0, 2)):
        raise SteadyganError(
            "labels are a pair, those of the real and those of the generated samples: pass"
            f" labels=(y_real, y_fake), not {_kind(labels)}"
        )
    of = dict(zip(("real", "fake"), labels or (None, None), strict=True))
    found = {}
    for name, x in samples.items():
        y = of[name]
        if not isinstance(x, Tensor) or not x.ndim:
            raise SteadyganError(
                f"{name} samples are a batch, a tensor of shape (B, *event), not {_kind(x)}: make"
                " one with torch.as_tensor(...), and of a lone sample one with x[None]"
            )
        if isinstance(y, Tensor) and y.shape[:1] != x.shape[:1]:
            raise SteadyganError(
                f"each sample has its label: the labels of {name} samples have shape"
                f" {tuple(y.shape)}, and there are {len(x)} samples; expected ({len(x)}, ...)"
            )
        found[name] = Samples(_plain(x), _plain(y) if isinstance(y, Tensor) else y)
    return found


def _plain(given: Tensor) -> Tensor:
    """Return a tensor that torch may keep for a backward, which those of inference mode are not."""
    return (
        given.clone() if given.is_inference() and not torch.is_inference_mode_enabled() else given
    )


def _kind(given: object) -> str:
    if isinstance(given, Tensor):
        return f"a tensor of shape {tuple(given.shape)}"
    size = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
    return f"{type(given).__name__}{size}"


class Draws(Protocol):
    """A source of draws that stands in for a random generator, such as exact quadrature nodes."""

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal draws of the shape, dtype and device of ``like``."""

    def uniform(self, like: Tensor) -> Tensor:
        """Return draws from U[0, 1] of the shape, dtype and device of ``like``."""


@dataclass(frozen=True)
class Context:
    """Where in the training a loss is evaluated.

    progress: t/T in [0, 1], read by schedules; an annealed strength without it raises.
    rng: a ``torch.Generator``, or ``Draws``; None draws from torch's global generator, as
    ``torch.manual_seed`` users expect.
    memory: what regularizers remember (LeCam's moving averages); ``Game.observe`` returns the next
    one. ranks: processes that share the batch out, a process group or True for all, so that what
    looks at means over the batch sees all of it.

    >>> Context(progress=0.5, rng=torch.Generator().manual_seed(0)).normal(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """

    progress: float | None = None
    rng: torch.Generator | Draws | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    ranks: ProcessGroup | bool = False

    def __post_init__(self) -> None:
        if isinstance(self.rng, int):
            raise SteadyganError(
                "rng is a source of draws that goes on from step to step, not a seed: pass"
                f" rng=torch.Generator().manual_seed({self.rng}), made once before the loop"
            )

    def normal(self, like: Tensor) -> Tensor:
        """Return standard normal draws shaped like ``like``."""
        if isinstance(self.rng, torch.Generator) or self.rng is None:
            return torch.randn(
                like.shape, dtype=like.dtype, device=self._device(like), generator=self.rng
            ).to(like.device)
        return self.rng.normal(like)

    def uniform(self, like: Tensor) -> Tensor:
        """Return draws from U[0, 1] shaped like ``like``."""
        if isinstance(self.rng, torch.Generator) or self.rng is None:
            return torch.rand(
                like.shape, dtype=like.dtype, device=self._device(like), generator=self.rng
            ).to(like.device)
        return self.rng.uniform(like)

    def signs(self, like: Tensor) -> Tensor:
        """Return signs, 1 or -1 with the same chance, shaped like ``like``."""
        return (self.uniform(like) < 0.5).to(like.dtype) * 2 - 1

    def whole(self, rows: Tensor) -> Tensor:
        """Return the rows of all processes that share the batch out, as ``ranks.gathered`` does."""
        return rows if self.ranks is False else gathered(rows, self.ranks)

    def _device(self, like: Tensor) -> torch.device:
        # A generator draws on its own device only; the draws then move to the samples.
        return self.rng.device if isinstance(self.rng, torch.Generator) else like.device
