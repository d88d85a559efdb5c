"""What the arguments of several commands share."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..core.errors import SteadyganError
from ..core.registry import expand, names

Modules = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        name="import",
        metavar="MODULE",
        help="your own module, by name or by path, that registers more names",
        help_behavior_hint="",
    ),
    tyro.conf.UseAppendAction,
]
Folder = Annotated[
    Path,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUN", help="a run folder that 'steadygan train' made"),
]


Broken = Annotated[
    Literal["refuse", "skip"],
    tyro.conf.arg(help="images: what to do with one that cannot be read"),
]
ValueRange = Annotated[
    str,
    tyro.conf.arg(
        metavar="LOW..HIGH",
        help="images of more than 8 bits, or of floats: the values that are black and white",
    ),
]
Limit = Annotated[
    float,
    tyro.conf.arg(metavar="GIB", help="images: how much one file may unpack to in memory"),
]


OWN = "the problem's own"


def spec(kind: str, text: str, default: str | None = None) -> Any:
    """Describe an option that takes specs of a kind."""
    return tyro.conf.arg(
        metavar="SPEC",
        help=f"{text}; see 'steadygan list {kind}'",
        help_behavior_hint=default and f"(default: {default})",
    )


def arg(metavar: str, text: str, default: str = "") -> Any:
    """Describe an option; ``default`` says in words what happens without it."""
    return tyro.conf.arg(
        metavar=metavar, help=text, help_behavior_hint=f"(default: {default})" if default else ""
    )


def fresh(parent: Path, name: str) -> Path:
    """Return a folder under ``parent`` that does not exist, named after ``name``."""
    stem = re.sub(r"[^\w.=-]+", "-", name).strip("-")
    path = parent / stem
    number = 2
    while path.exists():
        path = parent / f"{stem}-{number}"
        number += 1
    return path


def grid(kind: str, text: str) -> list[str]:
    """Return the specs that an option with braces, or ``all``, stands for."""
    return [name for part in expand(text) for name in (names(kind) if part == "all" else [part])]


def import_module(module: str) -> None:
    """Import a user's module, by name or by path, so that it registers its names."""
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
