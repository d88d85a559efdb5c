"""What config.json says of a run: everything that builds a run again asks here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .. import __version__
from ..core.errors import SteadyganError, foreign
from ..core.gradients import Decision
from ..core.registry import lookup
from ..problems.problem import Problem
from ..problems.readers import Reading
from .config import VARIED, Config, problem_from_json, problem_to_json
from .environment import commit, environment
from .format import CONFIG


@dataclass(frozen=True)
class Description:
    """The content of a folder's config.json (or another ``file``), ``raw``, and what it means.

    Each part is looked at when it is asked for, so that a report can show what is there; one that
    is missing or makes no sense then raises SteadyganError.
    """

    folder: Path
    raw: Mapping[str, Any]
    file: str = CONFIG

    @property
    def is_fleet(self) -> bool:
        """Whether the folder holds many GANs that are trained at once."""
        return "fleet" in self.raw

    @property
    def config(self) -> Config:
        """The configuration, of many GANs the first one's."""
        return self.members[0]

    @property
    def members(self) -> list[Config]:
        """The configuration of every GAN; of one GAN its own alone."""
        differing = self._part("fleet", "members") if self.is_fleet else [{}]
        own = self._part("config")
        if not isinstance(differing, list) or not all(
            isinstance(each, dict) for each in (own, *differing)
        ):
            raise self._damaged("its configuration is no list of settings")
        found = [{**own, **each} for each in differing]
        for settings in found:
            self._check(settings, get_type_hints(Config))
        return [Config.from_json(settings) for settings in found]

    @property
    def compiled(self) -> bool:
        """Whether the gradients of many GANs are compiled."""
        return bool(self._part("fleet", "compiled"))

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of a sample."""
        found = self._part("event")
        if not isinstance(found, list) or not all(_suits(n, int) and 0 < n < 2**31 for n in found):
            raise self._damaged(f"its event, the shape of a sample, is {found!r}")
        return tuple(found)

    @property
    def classes(self) -> int:
        """The number of classes, 0 without."""
        found = self._part("classes")
        if not _suits(found, int) or not 0 <= found < 2**31:
            raise self._damaged(f"its number of classes is {found!r}")
        return int(found)

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, in the order of their labels; by number where unnamed."""
        named = (self.data or {}).get("classes") if self.classes else None
        fits = isinstance(named, dict) and len(named) == self.classes
        return tuple(named) if fits and named else tuple(map(str, range(self.classes)))

    @property
    def step(self) -> int:
        """The step of what was exported."""
        found = self._part("step")
        if not _suits(found, int) or found < 0:
            raise self._damaged(f"its step is {found!r}")
        return int(found)

    @property
    def data(self) -> dict[str, Any] | None:
        """What the problem said of its data; None in runs of before it was asked."""
        found = self.raw.get("data")
        if not _suits(found, dict | None):
            raise self._damaged(f"what it says of its data is {found!r}")
        return found

    @property
    def setting(self) -> dict[str, Any]:
        """The problem's name and its settings, as plain data."""
        found: dict[str, Any] = self._part("problem")
        if not isinstance(found, dict) or not isinstance(found.get("name"), str):
            raise self._damaged("its problem has no name")
        return found

    @property
    def decision(self) -> Decision | None:
        """How the critic's gradient was decided to be computed; None where that is not said."""
        found = self.raw.get("critic_gradient")
        if found is None:
            return None
        self._check(found, get_type_hints(Decision))
        if "path" not in found:
            raise self._damaged("its critic_gradient has no path")
        return Decision(**found)

    @property
    def history(self) -> list[Any]:
        """What has changed on its way."""
        found = self.raw.get("history", [])
        return found if isinstance(found, list) else []

    def problem(self) -> Problem:
        """Return the problem, built anew."""
        setting = self.setting
        hints = get_type_hints(lookup("problem", setting["name"]))
        self._check({key: v for key, v in setting.items() if key != "name"}, hints)
        # How much may be unpacked is its reader's to say, and not a folder's.
        capped = {"limit": min(setting["limit"], Reading.limit)} if "limit" in setting else {}
        return problem_from_json({**setting, **capped})

    def config_of(self, member: int) -> Config:
        """Return the configuration of one of many GANs.

        Raises:
            SteadyganError: Where there is no such member.
        """
        if not self.is_fleet:
            raise SteadyganError(f"{self.folder} holds one GAN, which has no members.")
        if not 0 <= member < len(self.members):
            raise SteadyganError(
                f"{self.folder} holds the members 0 to {len(self.members) - 1}, not {member}."
            )
        return self.members[member]

    def check_alone(self) -> None:
        """Refuse many GANs where one is meant and no member can be named."""
        if self.is_fleet:
            raise SteadyganError(
                f"{self.folder} holds many GANs, whose numbers 'steadygan table {self.folder}'"
                f" shows: take one by itself, by 'steadygan export {self.folder} --to DIR --member"
                " K', K counted from 0."
            )

    def _part(self, *names: str) -> Any:
        found: Any = self.raw
        for name in names:
            if not isinstance(found, Mapping) or name not in found:
                raise self._damaged(f"it does not say its {' '.join(names)}")
            found = found[name]
        return found

    def _check(self, settings: Any, hints: Mapping[str, Any]) -> None:
        """Raise SteadyganError for settings that nobody has, or of another type."""
        if not isinstance(settings, dict):
            raise self._damaged(f"{settings!r} are no settings")
        for name, value in settings.items():
            if name not in hints:
                raise self._damaged(f"there is no setting {name!r}")
            if not _suits(value, hints[name]):
                raise self._damaged(f"its {name} is {value!r}")
        if "steps" in settings and settings["steps"] is None:
            raise self._damaged("it does not say its steps")

    def sound(self, what: str) -> AbstractContextManager[None]:
        """Return a context in which what stands there, and makes no sense, is refused."""
        return foreign(f"{self.folder / self.file}: {what} cannot be read", "restore it")

    def _damaged(self, why: str) -> SteadyganError:
        return SteadyganError(
            f"{self.folder / self.file} is damaged: {why}. Restore it, or train the run again."
        )


def describe(
    problem: Problem,
    members: Sequence[Config],
    parameters: Mapping[str, int],
    *,
    fleet: bool,
    compiled: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Return the content of config.json for a new run.

    Args:
        problem: What is played.
        members: The resolved configurations; of one GAN its own alone.
        parameters: How many numbers each player of a GAN learns.
        fleet: Whether they are many that are trained at once, be it one.
        compiled: Whether the gradients of many are compiled.
        more: What else is to stand there.
    """
    base = members[0]
    found = {
        "steadygan": __version__,
        "problem": problem_to_json(problem),
        "config": base.to_json(),
        "parameters": dict(parameters),
        "environment": environment(base.device),
        "git": commit(),
        "command": [_program(Path(sys.argv[0])), *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "event": list(problem.event),
        "classes": problem.classes,
        "data": problem.describe(),
        **more,
    }
    if not fleet:
        return found
    differing = [
        name
        for name in VARIED
        if name == "seed" or any(getattr(m, name) != getattr(base, name) for m in members)
    ]
    return {
        **found,
        "fleet": {
            "compiled": compiled,
            "members": [{name: m.to_json()[name] for name in differing} for m in members],
        },
    }


def _suits(value: Any, hint: Any) -> bool:
    """Return whether a JSON value is of a type; of one that JSON does not know, whatever it is."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_suits(value, each) for each in inside)
    if origin is Literal:
        return value in inside
    if origin is tuple:
        return isinstance(value, list) and all(_suits(each, inside[0]) for each in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return not isinstance(hint, type) or hint not in _PLAIN or isinstance(value, hint)


_PLAIN = (str, bool, dict, NoneType)


def _program(path: Path) -> str:
    """Return what a program is called by; ``python -m NAME`` runs a file of the package."""
    return path.parent.name if path.name == "__main__.py" else path.name
