"""What the arguments of several commands share."""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..core.errors import SteadyganError

OWN = "the problem's own"


def arg(metavar: str, text: str, default: str = "", **more: Any) -> Any:
    """Describe an option, or an argument that has no name.

    Args:
        metavar: What stands for its value in the help.
        text: What it is.
        default: What happens without it, in words, where its default value does not say so.
        more: Passed on to ``tyro.conf.arg``.

    Returns:
        What ``Annotated`` takes.
    """

    def hint(value: str) -> str:
        value = value.strip("[']")
        said = f"{int(value):,}" if value.isdigit() else value
        if value in ("None", ""):
            said = default
        return f"(default: {said})" if said else ""

    more = {"metavar": metavar, "help": text, "prefix_name": False, **more}
    return tyro.conf.arg(**{"help_behavior_hint": hint, **more})


def flag(text: str) -> Any:
    """Return the description of an option that is on or off."""
    return tyro.conf.arg(help=text, prefix_name=False)


def whole(metavar: str, text: str, default: str = "") -> Any:
    """Return the description of an option that takes a whole number or is left out."""
    return arg(metavar, text, default, constructor=int)


def spec(kind: str, text: str, default: str = "") -> Any:
    """Return the description of an option that takes specs of a kind."""
    return arg("SPEC", f"{text}; see 'steadygan list {kind}'", default)


Modules = Annotated[
    tuple[str, ...],
    arg(
        "MODULE",
        "your own module, by name or by path, that registers more names",
        name="import",
    ),
    tyro.conf.UseAppendAction,
]
Folder = Annotated[
    Path, tyro.conf.Positional, arg("RUN", "a run folder that 'steadygan train' made")
]
Trained = Annotated[
    Path,
    tyro.conf.Positional,
    arg("RUN", "a run folder, an exported one, or hub:USER/NAME"),
]
Ema = Annotated[
    str,
    arg(
        "kept|none|sigma=S",
        "which average of the generator; sigma=S: one that is made now, of a run of train --ema"
        " power",
    ),
]
Json = Annotated[bool, flag("for programs")]
Broken = Annotated[
    Literal["refuse", "skip"],
    arg("refuse|skip", "what to do with an image that cannot be read"),
]
ValueRange = Annotated[
    str,
    arg(
        "LOW..HIGH",
        "of images of more than 8 bits, or of floats: the values that are black and white",
    ),
]
Limit = Annotated[float, arg("GIB", "how much one file may unpack to in memory")]


def options(cls: type) -> list[str]:
    """Return every option of a command as it is spelled, groups of options included."""
    found = []
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        kind, *marks = typing.get_args(hints[field.name]) or (hints[field.name],)
        if dataclasses.is_dataclass(kind):
            found += options(typing.cast(type, kind))
        elif not {tyro.conf.Positional, tyro.conf.Suppress} & set(marks):
            names = (getattr(mark, "name", None) for mark in marks)
            name = next(filter(None, names), field.name)
            found.append("--" + name.replace("_", "-"))
    return found


def fresh(parent: Path, name: str) -> Path:
    """Make a folder under ``parent`` that nobody else has, named after ``name``.

    Args:
        parent: Made where it is not there.
        name: What it is called, but for characters that a shell would mind, and a number.

    Returns:
        The folder.

    Raises:
        SteadyganError: Where no folder can be made there.
    """
    from ..runs.files import Unwritable

    stem = re.sub(r"[^\w.=-]+", "-", name).strip("-")
    path, number = parent / stem, 2
    while True:
        try:
            path.mkdir(parents=True)  # at once: whoever starts beside it takes the next name
            return path
        except FileExistsError:
            path, number = parent / f"{stem}-{number}", number + 1
        except OSError as error:
            raise Unwritable(path, error) from error


def number_list(option: str, text: str) -> list[int]:
    """Return the whole numbers that a list such as ``0-3,7`` spells, in its order.

    Raises:
        SteadyganError: For anything else, and for more than a million.

    >>> number_list("--seeds", "0-3,7")
    [0, 1, 2, 3, 7]
    """
    found: list[int] = []
    for part in text.split(","):
        spelled = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part, re.ASCII)
        if not spelled:
            raise SteadyganError(
                f"{option} takes whole numbers and ranges of them, such as 0-99 or 3,7,20-29, not"
                f" {text!r}."
            )
        first, last = int(spelled[1]), int(spelled[2] or spelled[1])
        if last < first or len(found) + last - first >= 1_000_000:
            why = "runs backwards" if last < first else "is more than a million numbers"
            raise SteadyganError(f"{option} {text}: {part.strip()} {why}.")
        found += range(first, last + 1)
    return found


def house(out: Path) -> Path:
    """Return a folder that several runs are to lie in.

    Raises:
        SteadyganError: For a file, and for a run, whose own files would lie among theirs.
    """
    from ..runs.format import is_run

    if is_run(out) or (out.exists() and not out.is_dir()):
        what = "a run itself" if is_run(out) else "no folder"
        raise SteadyganError(
            f"{out} is {what}, and a folder is needed that several runs lie in: choose another with"
            " --out."
        )
    return out


def whereabouts(data: str) -> str:
    """Return where data lie, as a run can find them again from another folder."""
    path = Path(os.path.expanduser(data))
    return str(path.resolve()) if data not in ("", "digits") and path.exists() else data


def grid(kind: str, text: str) -> list[str]:
    """Return the specs that an option with braces, or ``all``, stands for; empty is ``none``."""
    from ..core.registry import expand, names

    parts = ("" if part == "none" else part for part in expand(text))
    return [name for part in parts for name in (names(kind) if part == "all" else [part])]
