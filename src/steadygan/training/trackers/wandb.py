"""Weights & Biases: on its server, or offline in the run folder."""

from __future__ import annotations

import html
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from PIL import Image

from ...core.errors import SteadyganError
from ...core.registry import register
from .base import Board, Place, Tracker


@register("tracker", "wandb")
@dataclass(frozen=True)
class WandB(Tracker):
    """Weights & Biases; many GANs are a group of runs. Log in once: ``wandb login``.

    With WANDB_MODE=offline in the run folder's ``wandb``, for ``wandb sync``. Reference:
    docs.wandb.ai.
    """

    project: str = "steadygan"
    package: ClassVar[str] = "wandb"

    def check(self) -> None:
        """Raise SteadyganError without the package, and where nobody is logged in."""
        super().check()
        import wandb

        if wandb.setup().settings.mode in ("offline", "disabled"):
            return
        if not wandb.login(prompt=False):
            raise SteadyganError(
                "wandb does not know who you are: log in by 'wandb login', or set"
                " WANDB_MODE=offline to keep what is tracked in the run folder."
            )

    def open(self, place: Place) -> Board:
        """Return the run of before, or a new one."""
        return _Run(self.project, place)


class _Run(Board):
    def __init__(self, project: str, place: Place) -> None:
        import wandb

        self._wandb = wandb
        # Nothing that was sent can be taken back. What is the same is not sent twice; what is not
        # begins a run of its own, with all that came before.
        goes_on = place.kept is not None and (place.same or place.logged <= place.step)
        self.keep = place.kept if goes_on else secrets.token_hex(4)
        self.sent = max(place.logged, place.step) if goes_on else -1
        place.inside("wandb")
        self._run = wandb.init(
            project=project,
            id=self.keep,
            name=place.title,
            group=None if place.member is None else place.name,
            config=dict(place.settings),
            dir=str(place.folder),
            resume="allow",
            reinit="create_new",  # many beside each other
            settings=wandb.Settings(console="off"),
        )

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def words(self, step: int, name: str, text: str) -> None:
        self._run.log({name: self._wandb.Html(f"<p>{html.escape(text)}</p>")}, step=step)

    def close(self, well: bool) -> None:
        self._run.finish(exit_code=0 if well else 1)
