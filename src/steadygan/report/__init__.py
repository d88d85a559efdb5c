"""Reports of run folders: a self-contained HTML page, and the picture that compares runs."""

from ..runs.reading import Run
from .figures import comparison_picture, curves
from .page import write_report

__all__ = ["Run", "comparison_picture", "curves", "write_report"]
