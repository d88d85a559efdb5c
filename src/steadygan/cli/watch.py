"""The command watch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..core.errors import SteadyganError
from .arguments import arg, flag, whole


@dataclass(frozen=True)
class Watch:
    """Show runs on a live page, in a browser on this machine, while they train and afterwards.

    Curves, the newest samples beside older and real ones, warnings with what to try, the time left
    and the settings, of one run or several side by side. A folder that is not there yet is waited
    for; one that holds runs, such as a sweep's, shows all of them. The page only reads, loads
    nothing from elsewhere, and is for who knows the token in its address.

    Examples:
      steadygan watch runs/photos
      steadygan watch runs/plain runs/js
      steadygan watch runs/sweep --port 9000 --no-browser

    On another machine, over ssh (then open the address that is printed):
      ssh -t -L 9000:127.0.0.1:9000 HOST steadygan watch runs/photos --port 9000
    """

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        arg("RUN", "run folders, or folders that hold some"),
    ]
    port: Annotated[
        int | None, whole("N", "of the page; 0 is a free one", "8817, or a free one")
    ] = None
    browser: Annotated[bool, flag("open the page, where there is a screen")] = True

    def run(self) -> int:
        """Return the exit status."""
        if not self.paths:
            raise SteadyganError("watch needs at least one run folder.")
        try:
            from ..watch.server import watch
        except ModuleNotFoundError as error:
            raise SteadyganError(
                f"The page needs {error.name}: pip install 'steadygan[watch]'."
            ) from error
        watch(self.paths, self.port, browser=self.browser)
        return 0
