"""A user's own modules, imported so that they register their names."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from .errors import SteadyganError


def import_module(module: str) -> None:
    """Import a user's module, by name or by path, so that it registers its names.

    Args:
        module: A module's name, looked for in the present folder too, or the path of a .py file.

    Raises:
        SteadyganError: Where there is no such module, or where it cannot be imported.
    """
    path = Path(module)
    try:
        if path.suffix == ".py":
            origin = importlib.util.spec_from_file_location(path.stem, path)
            if origin is None or origin.loader is None or not path.is_file():
                raise SteadyganError(f"--import {module}: there is no such file.")
            found = importlib.util.module_from_spec(origin)
            sys.modules[path.stem] = found
            origin.loader.exec_module(found)
        else:
            # As with python -m: what lies in the present folder can be imported.
            sys.path.insert(0, "")
            importlib.import_module(module)
    except ImportError as error:
        raise SteadyganError(
            f"--import {module}: {error}. Give a module's name or the path of a .py file."
        ) from error
