"""The watcher that a notebook shows: curves and the newest samples, drawn anew in their place."""

from __future__ import annotations

import importlib
import math
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import SteadyganError
from ...runs.reading import Run
from . import Ending, Record, Watcher

if TYPE_CHECKING:
    from ..loop import Training

SHARE = 5.0
"""How many times as long as drawing takes training goes on before the next picture."""


def check() -> None:
    """Raise SteadyganError outside a notebook, before anything is trained."""
    try:
        from IPython import get_ipython
    except ImportError as error:
        raise SteadyganError(
            "show='notebook' needs IPython: pip install 'steadygan[notebook]'. Elsewhere take"
            " show=True."
        ) from error
    if get_ipython() is None:
        raise SteadyganError(
            "show='notebook' draws in a notebook, and this is none: take show=True, or run it in"
            " Jupyter."
        )


class NotebookWatcher(Watcher):
    """Shows the run as ``report.notebook`` does, from its folder, and so all of a resumed one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._next = folder, 0.0
        self._handle: Any = None

    def began(self, training: Training) -> None:
        """Take a place in the notebook."""
        self._show()

    def logged(self, training: Training, record: Record) -> None:
        """Draw anew, if it is time."""
        self._show(wait=True)

    def ended(self, training: Training, ending: Ending) -> None:
        """Draw what it has come to."""
        self._show()

    def _show(self, *, wait: bool = False) -> None:
        started = time.perf_counter()
        if wait and started < self._next:
            return
        try:
            self._draw()
        except Exception as error:  # a picture is no reason to end a run
            self._next = math.inf
            warnings.warn(f"the notebook shows no more of the run: {error}", stacklevel=2)
        else:
            self._next = time.perf_counter() + SHARE * (time.perf_counter() - started)

    def _draw(self) -> None:
        from IPython.display import HTML, display

        # The room of pages is further on: it is known as text.
        pages = importlib.import_module(f"{__package__.partition('.')[0]}.report.notebook")
        html = HTML(pages.run(Run.read(self._folder)))  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(html, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(html)
