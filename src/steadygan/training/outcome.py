"""How a training ended, of one GAN or of many."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..core.shown import Shown
from ..runs.config import Config
from ..runs.monitor import DEAD
from .watchers import State


@dataclass(frozen=True)
class MemberOutcome:
    """How one of many GANs ended.

    Its configuration, its last step, why it stopped where it did early, and its numbers at the
    latest evaluation.
    """

    config: Config
    state: State
    step: int
    reason: str | None
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Outcome(Shown):
    """How a run ended: its folder, its state, the last step and, where it did not finish, why.

    ``members`` say of many GANs how each of them ended; the whole has 'stopped' where none was
    left.
    """

    _page: ClassVar[str] = "report.notebook:outcome"

    path: Path
    state: State
    step: int
    reason: str | None
    members: tuple[MemberOutcome, ...] = ()

    @property
    def resumable(self) -> bool:
        """Whether to resume it leads anywhere but to the same end."""
        lost = self.members or (self.reason or "").startswith(DEAD)
        return self.state == "interrupted" or (self.state == "stopped" and not lost)
