"""TensorBoard: event files in the run folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from ...core.registry import register
from .base import Board, Place, Tracker

FOLDER = "tensorboard"


@register("tracker", "tensorboard")
@dataclass(frozen=True)
class TensorBoard(Tracker):
    """Event files in the run folder, for ``tensorboard --logdir runs``.

    They lie in its folder ``tensorboard``, of many GANs in ``tensorboard-member-K``. Reference:
    tensorboard.dev, torch.utils.tensorboard.
    """

    package: ClassVar[str] = "tensorboard"

    def open(self, place: Place) -> Board:
        """Return a writer that takes back what was told of later steps."""
        return _Events(place)


class _Events(Board):
    def __init__(self, place: Place) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        end = "" if place.member is None else f"-member-{place.member}"
        folder = place.inside(f"{FOLDER}{end}")
        # Readers take event files by their names, which begin with the second they were made in.
        while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.05)
        known = place.kept is not None and place.step > 0
        self.sent, self.keep = place.step if known else -1, folder.name
        # Readers drop what older files hold from this step on.
        self._writer = SummaryWriter(str(folder), purge_step=self.sent + 1)
        told = {k: _setting(v) for k, v in place.settings.items() if v not in (None, [], "")}
        # Of three parts; without the first one, the page finds out itself what was measured.
        _, begins, self._ends = hparams(told, {})
        self._spans: dict[str, list[object]] = {}
        if not known:
            rows = [f"| {name} | {_cell(value)} |" for name, value in told.items()]
            table = "\n".join(["| setting | value |", "|---|---|", *rows])
            self._writer.add_text("configuration", table, 0)
            self._add(begins)

    def _add(self, what: object) -> None:
        self._writer._get_file_writer().add_summary(what)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        spans = [name for name in values if f"{name}/low" in values and name not in self._spans]
        if spans:  # a page of its own draws them as a band
            self._spans |= {n: ["Margin", [n, f"{n}/low", f"{n}/high"]] for n in spans}
            self._writer.add_custom_scalars({"intervals": self._spans})
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: Image.Image) -> None:
        pixels = np.atleast_3d(np.asarray(image))
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def words(self, step: int, name: str, text: str) -> None:
        self._writer.add_text(name, _cell(text), step)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, well: bool) -> None:
        if well:
            self._add(self._ends)
        self._writer.close()


def _setting(value: object) -> str | float | bool:
    if isinstance(value, list | tuple):
        return " + ".join(map(str, value))
    return value if isinstance(value, bool | int | float) else str(value)


def _cell(value: object) -> str:
    """Return a text as Markdown that shows it as it is."""
    marks = {c: f"\\{c}" for c in "\\`*_{}[]<>#|~"}
    return "".join(marks.get(c, c) for c in str(value)).replace("\n", " ")
