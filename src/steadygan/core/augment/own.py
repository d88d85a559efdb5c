"""Augmentation in one's own loop, without a game."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..context import Context, Samples
from ..registry import build
from .policies import Augment


class Augmenter:
    """Changes images before a critic sees them, and remembers how strongly.

    Attributes:
        kind: What is done.
        memory: What ADA remembers, 0-d tensors by name; its p is 'augment.p'.
    """

    def __init__(self, kind: Augment, rng: torch.Generator | None = None) -> None:
        self.kind, self.memory, self._rng = kind, dict[str, Tensor](), rng

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1], changed by fresh draws; gradients pass through."""
        return self.kind(Samples(images), Context(rng=self._rng, memory=self.memory)).x

    def observe(self, logits: Tensor) -> None:
        """Look at the logits (B,) of the real images that the critic was just trained on."""
        self.memory |= self.kind.observe([logits], self.memory)

    @property
    def p(self) -> float | None:
        """ADA's probability now; None before the first look, and where there is none."""
        return float(self.memory["augment.p"]) if "augment.p" in self.memory else None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resume needs, the draws' generator included where one was given."""
        rng = {} if self._rng is None else {"rng": self._rng.get_state()}
        return {"memory": dict(self.memory), **rng}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state.

        Args:
            state: What ``state_dict`` returned.
        """
        self.memory = dict(state["memory"])
        if self._rng is not None and "rng" in state:
            self._rng.set_state(state["rng"])


def augment(kind: Augment | str, rng: torch.Generator | None = None) -> Augmenter:
    """Return what changes images before a critic sees them, in one's own loop.

    Call it on real and on generated images, in both players' steps. With a ``Game`` give it the
    spec instead, ``Game(..., augment="ada")``, which does all of this.

    Args:
        kind: A spec, ``diffaugment`` or ``ada:target=0.6``; see ``steadygan list augment``.
        rng: Where draws come from, by default torch's global generator.

    >>> change = augment("ada:start=0.5", torch.Generator().manual_seed(0))
    >>> change(torch.rand(4, 3, 8, 8)).shape
    torch.Size([4, 3, 8, 8])
    """
    return Augmenter(build("augment", kind), rng)


__all__ = ["Augmenter", "augment"]
