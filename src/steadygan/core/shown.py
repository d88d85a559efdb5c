"""What a notebook shows of an object: HTML that a room further on makes, known here as text."""

from __future__ import annotations

import importlib
from typing import ClassVar


class Shown:
    """Base of what a notebook shows as a page would.

    ``_page`` names the function that returns the HTML, as ``module:function`` of this package. It
    is imported when something is shown: whoever computes does not wait for what draws.
    """

    _page: ClassVar[str]

    def _repr_html_(self) -> str:
        module, _, function = self._page.partition(":")
        package = __name__.partition(".")[0]
        html: str = getattr(importlib.import_module(f"{package}.{module}"), function)(self)
        return html


__all__ = ["Shown"]
