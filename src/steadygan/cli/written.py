"""A configuration as a file: what ``train`` makes of one, and the command that checks it."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import tyro

from ..core.errors import SteadyganError, unknown
from .arguments import Modules, arg, whereabouts
from .show import say
from .train import Train

if typing.TYPE_CHECKING:
    from ..problems import Problem
    from ..runs.config import Config
    from ..runs.settings import Settings, Value
    from .sweep import Sweep


class Option(NamedTuple):
    """An option of a command: the attributes that lead to it, its type, whether it is repeated."""

    place: tuple[str, ...]
    kind: Any
    repeated: bool


def options(cls: type = Train, place: tuple[str, ...] = ()) -> dict[str, Option]:
    """Return the options of a command by name, those of its groups and ``problem`` included."""
    found: dict[str, Option] = {}
    hints = typing.get_type_hints(cls, include_extras=True)
    for each in dataclasses.fields(cls):
        kind, *marks = typing.get_args(hints[each.name]) or (hints[each.name],)
        if dataclasses.is_dataclass(kind):
            found |= options(typing.cast(type, kind), (*place, each.name))
        else:
            named = next(filter(None, (getattr(mark, "name", None) for mark in marks)), each.name)
            repeated = typing.get_origin(kind) is tuple
            found[named.replace("_", "-")] = Option((*place, each.name), kind, repeated)
    return found


WRITTEN = [name for name in options() if name not in ("config", "dry-run", "out", "import")]
"""What stands in a file: the options of ``train`` that shape the run."""


def trained(values: Mapping[str, Value], at: Settings, without: Collection[str] = ()) -> Train:
    """Return the command that values by option spell.

    Args:
        values: Texts.
        at: The file that they are from, for what is said of a value that cannot be.
        without: Options that are left out, also of a preset.

    Raises:
        SteadyganError: For a value that its option does not take.
    """
    found, known = Train(""), options()
    if "preset" in values:
        values = {**_bundle(str(values["preset"])), **values}
    values = {name: value for name, value in values.items() if name not in without}
    for name, value in values.items():
        option = known[name]
        try:
            taken = _taken(name, option, value)
        except SteadyganError as error:
            raise SteadyganError(f"{at.where(name)}: {error}") from error
        found = _with(found, option.place, taken)
    return found


def begun(command: Train, words: Sequence[str]) -> Train:
    """Return what a command line begins with: a preset, a file, what ``words`` do not replace."""
    from ..runs.settings import Settings

    given = {} if command.preset is None else _bundle(command.preset)
    if command.config_file is not None:
        return read(command.config_file, words, given)
    return trained(given, Settings(Path("--preset"), {}, {}), _named(words))


def read(path: Path, words: Sequence[str] = (), more: Mapping[str, Value] | None = None) -> Train:
    """Return the command that a file spells, without what ``words`` of a command line replace.

    Args:
        path: The file.
        words: Of the command line.
        more: What else replaces values of the file.

    Raises:
        SteadyganError: For a file that is none, an unknown option, a value that cannot be, and for
            code that only the file names.
    """
    from ..runs.settings import read_settings

    settings = read_settings(path)
    if "import" in settings.values:
        raise SteadyganError(
            f"{settings.where('import')}: a file does not name code that is run: give --import on"
            " the command line."
        )
    settings.check(WRITTEN)
    over = _named(words)
    kept = {name: value for name, value in settings.values.items() if name not in over}
    settings.check_code([kept.get("features", "")])
    return trained({**kept, **(more or {})}, settings, over)


def written(command: Train, problem: Problem, members: Sequence[Config]) -> str:
    """Return the YAML that spells the runs of a command, every choice made.

    Args:
        command: What was given.
        problem: What is played.
        members: The resolved configurations, of one GAN or of many.
    """
    from ..core.registry import spec
    from ..runs.config import VARIED
    from ..runs.settings import dump_settings, essential

    given: dict[str, Any] = {"problem": command.problem}
    if command.problem == "images":
        given |= {name.removesuffix("_from"): v for name, v in command.image.given().items()}
        given["data"] = whereabouts(command.image.data or "")
    else:
        given["problem"] = spec(problem)
    if command.seeds > 1:
        given["seeds"] = command.seeds
    for name, value in essential(members).items():
        spelled = getattr(command.config(), name)
        if name in VARIED and name != "seed" and "{" in str(spelled):
            value = list(spelled) if isinstance(spelled, tuple) else spelled
        given[name] = value
    if command.computation.compile:
        given["compile"] = True
    if command.init is not None:
        given["init"] = str(command.init)
    return dump_settings({name.replace("_", "-"): value for name, value in given.items()})


def blamed(error: SteadyganError, path: Path) -> SteadyganError:
    """Return an error with the line of a file whose option alone gives the same error."""
    from ..runs.settings import read_settings

    settings = read_settings(path)
    base = {"problem": settings.values["problem"]} if "problem" in settings.values else {}
    for name, value in settings.values.items():
        try:
            trained({**base, name: value}, settings).planned()
        except SteadyganError as alone:
            if str(alone) == str(error):
                return SteadyganError(f"{settings.where(name)}: {error}")
    return SteadyganError(f"{path}: {error}")


@dataclass(frozen=True)
class Validate:
    """Say whether a file of settings can be trained, without training: exit status 0, or 2 and why.

    The file is YAML whose keys are the options of 'steadygan train', of one run or of a sweep. What
    is wrong is told with the line it stands in, unknown names with those that look like them. Data
    are not read.

    Example:
      steadygan validate run.yaml
    """

    file: Annotated[Path, tyro.conf.Positional, arg("FILE", "of settings, or a run folder")]
    modules: Modules = ()

    def run(self) -> int:
        """Return the exit status."""
        from ..runs.settings import read_settings
        from .sweep import Sweep

        if Sweep.spans(read_settings(self.file)):
            return self._is_sweep(Sweep(self.file))
        command = read(self.file)
        try:
            _, members = command.planned()
        except SteadyganError as error:
            with suppress(SteadyganError):  # GANs that cannot be trained at once
                return self._is_sweep(Sweep(self.file))
            raise blamed(error, self.file) from error
        many = f"{len(members)} GANs of" if len(members) > 1 else "a GAN of"
        say(f"{self.file} is fine: {many} {members[0].steps:,} steps on {command.problem}.")
        return 0

    def _is_sweep(self, sweep: Sweep) -> int:
        count = len(sweep.wanted())
        say(f"{self.file} is fine: a sweep of {count} GANs, for 'steadygan sweep'.")
        return 0


def _bundle(preset: str) -> dict[str, Value]:
    """Return the settings of a preset as options."""
    from ..core.registry import lookup
    from ..runs.settings import as_text

    settings = lookup("preset", preset)().settings()
    return {name.replace("_", "-"): as_text(value) for name, value in settings.items()}


def _named(words: Sequence[str]) -> set[str]:
    """Return the options that words of a command line name."""
    names = (word[2:].partition("=")[0] for word in words if word.startswith("--"))
    return {name.replace("_", "-").removeprefix("no-") for name in names}


def _with(command: Any, place: Sequence[str], value: Any) -> Any:
    first, *rest = place
    inner = _with(getattr(command, first), rest, value) if rest else value
    return replace(command, **{first: inner})


def _taken(name: str, option: Option, value: Value) -> Any:
    if option.repeated:
        return (value,) if isinstance(value, str) else tuple(value)
    if not isinstance(value, str):
        raise SteadyganError(
            f"{name} takes one value, not a list of {len(value)}: a list is an axis of 'steadygan"
            " sweep'."
        )
    return typed(name, option.kind, value)


def typed(name: str, kind: Any, text: str) -> Any:
    """Return the value of a type that a text spells.

    Raises:
        SteadyganError: Where it spells none.

    >>> typed("steps", int | None, "2000"), typed("ema", float | None, "1e-3")
    (2000, 0.001)
    """
    union = typing.get_origin(kind) in (Union, types.UnionType)
    first = next(k for k in (typing.get_args(kind) if union else (kind,)) if k is not type(None))
    if typing.get_origin(first) is Literal:
        if text not in typing.get_args(first):
            raise unknown(f"value of {name}", text, typing.get_args(first))
        return text
    if first is bool:
        if text.lower() not in ("true", "false"):
            raise SteadyganError(f"{name} is true or false, not {text!r}.")
        return text.lower() == "true"
    try:
        return first(text).expanduser() if first is Path else first(text)
    except ValueError:
        kinds = {int: "a whole number", float: "a number"}
        raise SteadyganError(f"{name} takes {kinds[first]}, not {text!r}.") from None
