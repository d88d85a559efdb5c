"""What shows the curves of a run elsewhere: the protocol of a tracker and of what it opens."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from ...core.errors import SteadyganError
from ...core.registry import base
from ...runs.files import make_folder


@dataclass(frozen=True)
class Place:
    """What a board is opened for: one GAN.

    Attributes:
        folder: Its run folder, or that of one's own loop.
        name: What it is called.
        member: Which one of many GANs it is that are trained at once; None for one alone.
        step: Where training goes on; whatever was told of later steps no longer holds.
        logged: The last step that was logged before, -1 where none was; what lies behind ``step``
            was rolled back, and will be told again.
        same: Whether the steps that were rolled back are made again with the same settings.
        again: Whether a board that lacks something is told it from a run folder.
        settings: The configuration, as plain data.
        kept: What the board gave as ``keep`` the last time, None the first time.
    """

    folder: Path
    name: str
    member: int | None = None
    step: int = 0
    logged: int = -1
    same: bool = True
    again: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept: str | None = None

    @property
    def title(self) -> str:
        """The name, with the member's number."""
        return self.name if self.member is None else f"{self.name}/member-{self.member}"

    def inside(self, name: str) -> Path:
        """Return a folder in the run folder, made where it is not there.

        Raises:
            SteadyganError: For a link, which may lead anywhere: the folder may be a stranger's.
        """
        path = self.folder / name
        if path.is_symlink():
            raise SteadyganError(f"{path} is a link, which nothing is written through: remove it")
        make_folder(path)
        return path


class Board(ABC):
    """Where one GAN's numbers, pictures and words go.

    Attributes:
        sent: Up to which step everything is there already; -1 for nothing.
        keep: What opens it again, to be kept in the run folder; None where nothing is needed.
    """

    sent: int = -1
    keep: str | None = None

    @abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers by name."""

    @abstractmethod
    def picture(self, step: int, name: str, image: Image.Image) -> None:
        """Show a picture."""

    @abstractmethod
    def words(self, step: int, name: str, text: str) -> None:
        """Show a text, plain, from anywhere."""

    def flush(self) -> None:  # noqa: B027 - most have nothing to see to
        """See to it that what was shown outlives the process."""

    @abstractmethod
    def close(self, well: bool) -> None:
        """End; ``well`` says whether training did."""


@base("tracker")
@dataclass(frozen=True)
class Tracker(ABC):
    """Base of what ``--track`` names; register one of your own and it is spelled there, too.

    Attributes:
        package: What must be importable, and the extra that installs it.
    """

    package: ClassVar[str]

    def check(self) -> None:
        """Raise SteadyganError where it cannot work here, before anything is trained."""
        if importlib.util.find_spec(self.package) is None:
            raise SteadyganError(
                f"Tracking by {self.package} needs a package that is not installed: pip install"
                f" 'steadygan[{self.package}]'"
            )

    @abstractmethod
    def open(self, place: Place) -> Board:
        """Return the board of a GAN, ready to go on behind ``place.step``."""
