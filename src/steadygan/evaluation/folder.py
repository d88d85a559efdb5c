"""Where downloaded weights and features that were taken once are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of the cache: ``STEADYGAN_CACHE``, else ``steadygan`` in the user's cache
    folder. It may be removed at any time."""
    given = os.environ.get("STEADYGAN_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "steadygan"
