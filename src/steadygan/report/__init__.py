"""Reports of run folders: a self-contained HTML page, and the picture that compares runs."""

import os
from importlib import import_module

from ..core.errors import foreign
from ..runs.reading import Run

with foreign(
    "Nothing can be drawn: matplotlib does not start",
    "unset MPLBACKEND" if "MPLBACKEND" in os.environ else "mend its matplotlibrc",
):
    import_module("matplotlib")  # which reads both

from .figures import comparison_picture, curves
from .page import write_report

__all__ = ["Run", "comparison_picture", "curves", "write_report"]
