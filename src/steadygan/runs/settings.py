"""Settings as a file: the options of ``train``, spelled in YAML, or in a run's config.json.

Every value is kept as the text that stands there, as the words of a command line are: ``1e-4``,
``none`` and ``on`` mean in a file what they mean there. Nothing in a file is run: no tags, no
anchors, nothing nested.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import SteadyganError, nearest
from ..core.registry import spec
from .config import Config, names_code
from .description import Description
from .files import read_json
from .format import CONFIG

Value = str | tuple[str, ...]
"""What one option is given: a text, or several."""

LARGEST = 1 << 20
"""Bytes of a file of settings at most."""

_NULL = ("", "~", "null")


@dataclass(frozen=True)
class Settings:
    """What a file gives: values by the names of options, and the lines they stand in.

    ``given`` are those that a command line gives instead.
    """

    path: Path
    values: Mapping[str, Value]
    lines: Mapping[str, int]
    given: Collection[str] = ()

    def where(self, name: str) -> str:
        """Return where an option stands, as one says it."""
        if name in self.given:
            return f"--{name}"
        return f"{self.path}, line {self.lines[name]}" if name in self.lines else str(self.path)

    def check(self, known: Iterable[str]) -> None:
        """Raise SteadyganError for a name that no option has."""
        known = list(known)
        for name in self.values:
            if name not in known:
                near = ", ".join(nearest(name, known)[:3])
                raise SteadyganError(
                    f"{self.where(name)}: there is no option {name!r}; nearest: {near}."
                )

    def check_code(self, features: Iterable[Value]) -> None:
        """Raise SteadyganError where the file, and no command line, has features that are code."""
        for each in () if "features" in self.given else features:
            if isinstance(each, str) and names_code(each):
                raise SteadyganError(
                    f"{self.where('features')}: a file does not name code that is run: give"
                    f" --features {each} on the command line."
                )


def read_settings(path: Path | str) -> Settings:
    """Return what a YAML file gives, or a run folder, or its config.json.

    Args:
        path: The file or the folder.

    Raises:
        SteadyganError: For what is not there, too large, or no flat mapping of options to values.
    """
    path = Path(path)
    if path.is_dir() or path.name == CONFIG:
        return _of_run(path if path.is_dir() else path.parent)
    try:
        if not path.is_file():
            raise SteadyganError(
                f"{path} is no file of settings: there is no such file. A file holds options of"
                " 'steadygan train', such as 'problem: ring2d'."
            )
        with open(path, "rb") as file:
            held = file.read(LARGEST + 1)
    except OSError as error:
        raise SteadyganError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(held) > LARGEST:
        raise SteadyganError(f"{path} is no file of settings: it has more than {LARGEST} bytes.")
    return parse_settings(held.decode("utf-8", errors="replace"), path)


def parse_settings(text: str, path: Path) -> Settings:
    """Return what a text of YAML gives; ``path`` is where it is from.

    >>> found = parse_settings("problem: ring2d\\nsteps: 2_000\\nseed: [0, 1]", Path("a.yaml"))
    >>> dict(found.values), found.lines["seed"]
    ({'problem': 'ring2d', 'steps': '2_000', 'seed': ('0', '1')}, 3)
    """
    try:
        _plain(text, path)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        # What stands in its way is called a problem by the grammar and a reason by the reader.
        why = getattr(error, "problem", None) or getattr(error, "reason", "it is nested too deeply")
        raise SteadyganError(f"{where}: this is no YAML ({why}).") from error
    if not isinstance(root, yaml.MappingNode):
        raise SteadyganError(
            f"{path} gives no options: write them as 'problem: ring2d', one a line."
        )
    values: dict[str, Value] = {}
    lines: dict[str, int] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        where = f"{path}, line {line}"
        if not isinstance(key, yaml.ScalarNode):
            raise SteadyganError(f"{where}: an option has a name, such as 'steps: 2000'.")
        name = str(key.value).replace("_", "-")
        if name in lines:
            raise SteadyganError(f"{where}: {name} stands in line {lines[name]} already.")
        lines[name] = line
        if isinstance(value, yaml.ScalarNode):
            if value.style is not None or value.value.lower() not in _NULL:
                values[name] = value.value
        elif isinstance(value, yaml.SequenceNode):
            if not all(isinstance(each, yaml.ScalarNode) for each in value.value):
                raise SteadyganError(f"{where}: {name} takes a list of plain values.")
            values[name] = tuple(each.value for each in value.value)
        else:
            raise SteadyganError(
                f"{where}: {name} takes a value or a list of values. One that begins with a brace"
                f" must be quoted: {name}: '{{a,b}}'."
            )
    return Settings(path, values, lines)


def dump_settings(values: Mapping[str, Any]) -> str:
    """Return settings as YAML that ``parse_settings`` reads as the same.

    >>> print(dump_settings({"problem": "ring2d", "regularizer": ["r1:gamma=1"]}), end="")
    problem: ring2d
    regularizer:
    - r1:gamma=1
    """
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)


def essential(members: Sequence[Config]) -> dict[str, Any]:
    """Return the settings of resolved configurations, the first one's, as plain data.

    Without what is empty, and without what follows from the others, so that it still follows where
    those are overridden: the critic's optimizer where it is everyone's own, the tenths of the
    steps.
    """
    config = members[0]
    steps = config.steps or 0
    shared = all(each.critic_optimizer == each.optimizer for each in members)
    follows = {
        "critic_optimizer": config.critic_optimizer if shared else None,
        "evaluate_every": max(1, steps // 10),
        "checkpoint_every": max(1, steps // 10),
    }
    found = {
        name: value
        for name, value in config.to_json().items()
        if value not in (None, [], "") and follows.get(name) != value
    }
    # Of a preset that has penalties, none are left out by name.
    return found | ({"regularizer": ["none"]} if config.preset and not config.regularizer else {})


def as_text(value: Any) -> Value:
    """Return a value of a configuration as an option is given it."""
    if isinstance(value, list | tuple):
        return tuple(str(as_text(each)) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(text: str, path: Path) -> None:
    """Refuse what a flat file of settings has no use for, before anything is made of it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = event.start_mark
        where = str(path) if mark is None else f"{path}, line {mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SteadyganError(f"{where}: anchors and aliases are not taken; write it out.")
        if (tag := getattr(event, "tag", None)) is not None:
            raise SteadyganError(f"{where}: the tag {tag!r} is not taken; leave it out.")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > 3:
            raise SteadyganError(f"{where}: options take values and lists of values, no more.")


def _of_run(folder: Path) -> Settings:
    about = Description(folder, read_json(folder / CONFIG))
    if about.is_fleet:
        raise SteadyganError(
            f"{folder} holds many GANs, whose settings are no single configuration: give the"
            " command that stands in its config.json again."
        )
    problem, given = about.problem(), dict[str, Value]()
    setting = about.setting
    if setting["name"] == "images":
        given["problem"] = "images"
        settings = {key: value for key, value in setting.items() if key != "name"}
        given |= {_option(key): as_text(value) for key, value in settings.items()}
    else:
        given["problem"] = spec(problem)
    given |= {_option(key): as_text(value) for key, value in essential([about.config]).items()}
    return Settings(folder / CONFIG, given, {})


def _option(name: str) -> str:
    return name.removesuffix("_from").replace("_", "-")
