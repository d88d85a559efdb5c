"""Everything that has a name: ``register`` it once, and it is spelled alike everywhere.

Python, the command line, run folders and reports use one spelling.

A spec is ``name`` or ``name:setting=value,setting=value``; ``build`` turns it into an object and
``spec`` turns the object back.

>>> build("regularizer", "r1:gamma=10")
R1(gamma=10.0)
>>> spec(build("regularizer", "js:gamma=2,anneal=0.01"))
'js:gamma=2,anneal=0.01'
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, Union

import torch

from .auto import Auto
from .errors import SteadyganError, unknown
from .schedules import Annealing, Ramp, Schedule

T = TypeVar("T", bound=type)

KINDS: dict[str, tuple[str, ...]] = {
    "objective": ("core.objectives",),
    "divergence": ("core.divergences",),
    "regularizer": ("core.regularizers", "core.isotropic"),
    "smoothing": ("core.smoothing",),
    "augment": ("core.augment",),
    "outputs": ("core.outputs",),
    "constraint": ("core.constraints",),
    "dynamics": ("core.dynamics",),
    "problem": ("problems.toys", "problems.images"),
    "network": ("problems.networks",),
    "optimizer": ("runs.optimizers",),
    "ema": ("runs.averages",),
    "ramp": ("runs.ramps",),
    "features": ("evaluation.features", "evaluation.extractors"),
    "metric": ("evaluation.metrics",),
    "preset": ("runs.presets",),
    "tracker": ("training.trackers",),
}
"""Every kind, and the modules of this package that register its names.

They are text, and imported when a name of that kind is first asked for: the core knows no other
room, and nobody waits for what is not used.
"""

_PACKAGE = __name__.partition(".")[0]
_entries: dict[str, dict[str, type]] = {kind: {} for kind in KINDS}
_where: dict[type, tuple[str, str]] = {}
_bases: dict[str, type] = {}
_unread: dict[str, tuple[str, ...]] = dict(KINDS)


@dataclass(frozen=True)
class Entry:
    """One registered name as ``steadygan list`` shows it: summary line, and settings' defaults."""

    name: str
    summary: str
    settings: dict[str, str]


def base(kind: str) -> Callable[[T], T]:
    """Make a class the base of a kind (class decorator): ``register`` takes its subclasses only.

    Args:
        kind: one of ``KINDS``.

    Returns:
        the decorator, which gives the class back.
    """

    def add(cls: T) -> T:
        _bases[kind] = cls
        return cls

    return add


def register(kind: str, name: str) -> Callable[[T], T]:
    """Make a frozen dataclass available under ``name`` (class decorator).

    Args:
        kind: one of ``KINDS``.
        name: how specs spell it.

    Returns:
        the decorator, which gives the class back.

    Raises:
        SteadyganError: where the name is taken, the class is not of the kind's base, or the
            docstring has no Reference.

    >>> from dataclasses import dataclass
    >>> from steadygan.core.constraints import Constraint
    >>> @register("constraint", "nothing-at-all")
    ... @dataclass(frozen=True)
    ... class Nothing(Constraint):
    ...     '''No constraint. Reference: none needed.'''
    >>> build("constraint", "nothing-at-all")
    Nothing()
    >>> unregister(Nothing)
    """
    if kind not in _entries:
        raise unknown("kind", kind, KINDS)

    def add(cls: T) -> T:
        # A class from outside comes after those of this package, or it would take their names.
        ours = cls.__module__.startswith(f"{_PACKAGE}.")
        taken = (_entries[kind] if ours else _known(kind)).get(name)
        # A module that is imported again under another name (a user's file, by path) defines the
        # same class again.
        if taken is not None and _origin(taken) != _origin(cls):
            raise SteadyganError(
                f"The {kind} {name!r} is already registered by"
                f" {taken.__module__}.{taken.__qualname__}."
            )
        if any(c in name for c in ":,={} "):
            raise SteadyganError(
                f"{name!r} cannot name a {kind}: the characters ':,={{}}' and blanks belong to"
                " the spelling of specs."
            )
        if not dataclasses.is_dataclass(cls) or not getattr(cls, "__dataclass_params__").frozen:  # noqa: B009
            raise SteadyganError(
                f"The {kind} {name!r} must be a frozen dataclass: put @dataclass(frozen=True)"
                " under @register."
            )
        if kind in _bases and not issubclass(cls, _bases[kind]):
            wanted = _bases[kind]
            raise SteadyganError(
                f"The {kind} {name!r} must be a {wanted.__name__}: derive {cls.__name__} from"
                f" {wanted.__module__}.{wanted.__name__}, which says what a {kind} has to do."
            )
        # Under python -OO there are no docstrings.
        if sys.flags.optimize < 2 and "Reference" not in (cls.__doc__ or ""):
            raise SteadyganError(
                f"The {kind} {name!r} needs a docstring with its formula and a line 'Reference:"
                " ...'."
            )
        _entries[kind][name] = cls
        _where[cls] = kind, name
        return cls

    return add


def unregister(cls: type) -> None:
    """Take a class out of the registry again (tests and notebooks that redefine one)."""
    kind, name = _where.pop(cls)
    del _entries[kind][name]


def names(kind: str) -> list[str]:
    """Return every registered name of a kind, in alphabetical order."""
    return sorted(_known(kind))


def lookup(kind: str, name: str) -> type:
    """Return the class registered under ``name``.

    Raises:
        SteadyganError: for an unknown name, with the choices.
    """
    entries = _known(kind)
    if name not in entries:
        raise unknown(kind, name, sorted(entries))
    return entries[name]


def build(kind: str, given: Any) -> Any:
    """Return the object that a spec spells, ``'r1:gamma=10'``; an object of the kind stays itself.

    Raises:
        SteadyganError: for an unknown name or setting (with the choices) and for a value that the
            setting does not take.
    """
    if not isinstance(given, str):
        if _where.get(type(given), ("",))[0] == kind:
            return given
        raise SteadyganError(
            f"{given!r} is no {kind}: give one of {', '.join(names(kind))}, or an object of a"
            f" class registered as {kind}."
        )
    name, _, rest = given.strip().partition(":")
    cls = lookup(kind, name)
    known = _settings(cls)
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, text = item.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise SteadyganError(
                f"{given!r}: expected setting=value after ':', found {item!r}. Settings:"
                f" {', '.join(known) or 'none'}."
            )
        if key not in known:
            raise SteadyganError(
                f"The {kind} {name!r} has no setting {key!r}; it takes:"
                f" {', '.join(known) or 'none'}."
            )
        if key in values:
            raise SteadyganError(f"{given!r} sets {key!r} twice.")
        try:
            values[key] = _parse(known[key], text.strip())
        except ValueError as error:
            reason = (
                str(error).removesuffix(".")
                if isinstance(error, SteadyganError)
                else f"{text.strip()!r} is not {_say(known[key])}"
            )
            raise SteadyganError(f"{given!r}: setting {key!r}: {reason}.") from None
    try:
        return cls(**values)
    except SteadyganError as error:
        raise SteadyganError(f"{given!r}: {error}") from None


def spec(item: Any) -> str:
    """Return how an object is spelled: the inverse of ``build``.

    With the settings that differ from their defaults and, always, the first one. Tensor settings
    (a fleet's members differ in them) are written as numbers.

    Raises:
        SteadyganError: for an object whose class is not registered.
    """
    if type(item) not in _where:
        raise SteadyganError(
            f"{item!r} is not registered, so it has no spelling; decorate its class with"
            " @register(kind, name)."
        )
    parts: list[str] = []
    for index, field in enumerate(f for f in dataclasses.fields(item) if f.init):
        value = getattr(item, field.name)
        if isinstance(value, Annealing):
            parts += [f"{field.name}={_format(value.start)}", f"anneal={_format(value.factor)}"]
            if value.name != "exponential":
                parts.append(f"schedule={value.name}")
        elif isinstance(value, Auto):
            parts.append(f"{field.name}=auto")
            if value != Auto():
                parts.append(f"start={_format(value.start)}")
        elif index == 0 or value != field.default:
            parts.append(f"{field.name}={_format(value)}")
    name = _where[type(item)][1]
    return f"{name}:{','.join(parts)}" if parts else name


def expand(text: str) -> list[str]:
    """Return the grid that braces spell, as a shell expands them; without braces the text itself.

    Raises:
        SteadyganError: where a brace does not open or close.

    >>> expand("js:gamma={0.1,1}")
    ['js:gamma=0.1', 'js:gamma=1']
    >>> expand("{r1:gamma={1,10},js}")
    ['r1:gamma=1', 'r1:gamma=10', 'js']
    """
    start = text.find("{")
    if start < 0:
        if "}" in text:
            raise SteadyganError(f"{text!r} closes a brace that it does not open.")
        return [text]
    depth, cuts = 0, [start]
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 1 and text[i] == ",":
            cuts.append(i)
        if depth == 0:
            cuts.append(i)
            break
    else:
        raise SteadyganError(f"{text!r} opens a brace that it does not close.")
    choices = [text[a + 1 : b] for a, b in itertools.pairwise(cuts)]
    head, tail = text[:start], text[cuts[-1] + 1 :]
    return [
        head + middle + rest
        for choice in choices
        for middle in expand(choice)
        for rest in expand(tail)
    ]


def describe(kind: str) -> list[Entry]:
    """Return every registered name of a kind with its one-line summary and its settings."""
    found = []
    for name in names(kind):
        cls = lookup(kind, name)
        summary = (inspect.getdoc(cls) or "").strip().splitlines()[0].replace("``", "")
        defaults = {
            key: "" if p.default is p.empty else _format(p.default)
            for key, p in inspect.signature(cls).parameters.items()
            if not (key == "schedule" and p.default == "exponential")
        }
        found.append(Entry(name, summary, defaults))
    return found


def _known(kind: str) -> dict[str, type]:
    """Return every class of a kind by name, those of this package imported."""
    if kind not in _entries:
        raise unknown("kind", kind, KINDS)
    for module in _unread.pop(kind, ()):
        importlib.import_module(f"{_PACKAGE}.{module}")
    return _entries[kind]


def _origin(cls: type) -> tuple[str, str]:
    """Return a class's name and where it was written: its file, or its module in a notebook."""
    try:
        file = inspect.getsourcefile(cls)
    except (TypeError, OSError):
        file = None
    return cls.__qualname__, file or cls.__module__


def _settings(cls: type) -> dict[str, Any]:
    """Return the type of each constructor argument of a registered class."""
    hints = typing.get_type_hints(cls)
    plain = {
        key: hint.type if isinstance(hint, dataclasses.InitVar) else hint
        for key, hint in hints.items()
    }
    return {key: plain[key] for key in inspect.signature(cls).parameters}


def _parse(hint: Any, text: str) -> Any:
    options = (
        typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    )
    if type(None) in options and text.lower() == "none":
        return None
    if Auto in options and text.lower() == "auto":
        return Auto()
    if Schedule in options and ".." in text:
        start, _, end = text.partition("..")
        return Ramp(float(start), float(end))
    for option in options:
        if typing.get_origin(option) is tuple:
            return tuple(_parse(typing.get_args(option)[0], part) for part in text.split("/"))
        if typing.get_origin(option) is typing.Literal:
            if text not in typing.get_args(option):
                raise unknown("value", text, typing.get_args(option))
            return text
        if option is bool:
            if text.lower() not in _BOOLEANS:
                raise ValueError(text)
            return _BOOLEANS[text.lower()]
        if option in (int, float, str):
            return option(text)
        for kind, entries in _entries.items():
            if any(issubclass(cls, option) for cls in entries.values()):
                return build(kind, text)
    raise SteadyganError("this setting can only be given from Python")


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _say(hint: Any) -> str:
    words = {float: "a number", int: "a whole number", bool: "true or false"}
    options = (
        typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    )
    said = next((words[o] for o in options if o in words), "a value of that setting")
    return f"{said}, or START..END of one that changes" if Schedule in options else said


def _format(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, Ramp):
        return f"{_format(value.start)}..{_format(value.end)}"
    if type(value) in _where:
        return spec(value)
    if isinstance(value, tuple):
        return "/".join(map(_format, value))
    return "none" if value is None else str(value)


__all__ = [
    "KINDS",
    "Entry",
    "base",
    "build",
    "describe",
    "expand",
    "lookup",
    "names",
    "register",
    "spec",
    "unregister",
]
