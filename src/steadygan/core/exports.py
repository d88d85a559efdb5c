"""What a package offers, imported when it is first used: nobody waits for what is not used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package whose names live in other modules.

    Args:
        package: The package's ``__name__``.
        homes: For each name the module that defines it, relative to the package.

    Returns:
        A function that imports the module of a name and keeps what it finds in the package.
        It raises AttributeError for a name that is not in ``homes``.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
