"""Trackio: a local store, or a Space of the Hugging Face hub."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from ...core.registry import register
from .base import Board, Place, Tracker

if TYPE_CHECKING:
    from trackio.api import Run


@register("tracker", "trackio")
@dataclass(frozen=True)
class Trackio(Tracker):
    """Trackio's local store, for ``trackio show``; many GANs are a group of runs.

    With TRACKIO_SPACE_ID in the environment, that Space. Reference:
    huggingface.co/docs/trackio.
    """

    project: str = "steadygan"
    package: ClassVar[str] = "trackio"

    def open(self, place: Place) -> Board:
        """Return the run of before, told anew where it is stored here, or a new one."""
        return _Run(self.project, place)


class _Run(Board):
    def __init__(self, project: str, place: Place) -> None:
        import trackio

        self._trackio = trackio
        there = _stored(project)
        if place.kept in there and place.again:
            # Some of its rows may be of steps that were rolled back, and its last ones were lost if
            # the process was killed: it is told again as a whole.
            there.pop(place.kept).delete()
            self.keep, self.sent = place.kept, -1
        elif place.kept is not None and (place.same or place.logged <= place.step):
            self.keep, self.sent = place.kept, max(place.logged, place.step)
        else:
            self.keep, self.sent = _free(place.title, there), -1
        with redirect_stdout(sys.stderr):
            # In a context of its own, where no other run has to end for it.
            self._run: Any = contextvars.Context().run(
                trackio.init,
                project=project,
                name=self.keep,
                group=None if place.member is None else place.name,
                config=dict(place.settings),
                resume="allow",
                embed=False,
            )

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        self._run.log({name: self._trackio.Image(image)}, step=step)

    def words(self, step: int, name: str, text: str) -> None:
        self._run.log({name: self._trackio.Markdown(text)}, step=step)

    def close(self, well: bool) -> None:
        with redirect_stdout(sys.stderr):
            self._run.finish()


def _stored(project: str) -> dict[str | None, Run]:
    """Return the runs of a project that are stored on this machine, by name."""
    import trackio

    try:
        return {run.name: run for run in trackio.Api().runs(project)}
    except ValueError:  # there is no such project yet
        return {}


def _free(name: str, taken: Mapping[str | None, Run]) -> str:
    """Return a name that no other run has."""
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name}-{number}"
    return free
