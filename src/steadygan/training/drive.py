"""What is around a loop of training, of one GAN or of many: its status on disk, Ctrl-C, the
display, and a folder that fails."""

from __future__ import annotations

from typing import Protocol

from ..core.errors import SteadyganError
from ..runs.config import Config
from ..runs.folder import RunFolder
from .interrupt import Interrupt
from .progress import Display, Show


class Driven(Protocol):
    """A loop, the step that it has reached, and how it writes its status."""

    config: Config
    step: int
    interrupt: Interrupt

    def loop(self, folder: RunFolder, display: Display) -> tuple[str, str | None]:
        """Train until something ends it; return the state and the reason."""

    def write_status(self, folder: RunFolder, state: str, reason: str | None) -> None:
        """Write status.json."""


def drive(driven: Driven, folder: RunFolder, name: str, show: Show) -> tuple[str, str | None]:
    """Run a loop, with its status written before and, whatever ends it, afterwards; return its
    state and the reason.

    Raises SteadyganError where the folder can no longer be written; the newest checkpoint is then
    the one to resume from.
    """
    state, reason = "failed", "it ended without saying why"
    driven.write_status(folder, "running", None)
    try:
        with (
            driven.interrupt,
            Display(name, driven.config.steps or 0, driven.step, show) as display,
        ):
            state, reason = driven.loop(folder, display)  # type: ignore[assignment]
    except (Exception, KeyboardInterrupt) as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError):
            raise SteadyganError(
                f"The run folder {folder.path} can no longer be written: {error}."
            ) from error
        raise
    finally:
        driven.write_status(folder, state, reason)
    return state, reason
