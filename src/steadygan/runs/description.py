"""What config.json says of a run: everything that builds a run again asks here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import SteadyganError
from ..problems.problem import Problem
from .config import VARIED, Config, problem_from_json, problem_to_json
from .environment import commit, environment
from .format import CONFIG


@dataclass(frozen=True)
class Description:
    """The content of a folder's config.json, ``raw``, and what it means.

    Each part is looked at when it is asked for, so that a report can show what is there; one that
    is missing or makes no sense then raises SteadyganError.
    """

    folder: Path
    raw: Mapping[str, Any]

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
        try:
            return [Config.from_json({**self._part("config"), **each}) for each in differing]
        except TypeError as error:
            raise self._damaged(f"its configuration makes no sense: {error}") from error

    @property
    def compiled(self) -> bool:
        """Whether the gradients of many GANs are compiled."""
        return bool(self._part("fleet", "compiled"))

    @property
    def event(self) -> tuple[int, ...]:
        """The shape of a sample."""
        return tuple(self._part("event"))

    @property
    def classes(self) -> int:
        """The number of classes, 0 without."""
        return int(self._part("classes"))

    @property
    def data(self) -> dict[str, Any] | None:
        """What the problem said of its data; None in runs of before it was asked."""
        return self.raw.get("data")

    @property
    def setting(self) -> dict[str, Any]:
        """The problem's name and its settings, as plain data."""
        found: dict[str, Any] = self._part("problem")
        return found

    def problem(self) -> Problem:
        """Return the problem, built anew."""
        return problem_from_json(self.setting)

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

    def _part(self, *names: str) -> Any:
        found: Any = self.raw
        for name in names:
            if not isinstance(found, Mapping) or name not in found:
                raise self._damaged(f"it does not say its {' '.join(names)}")
            found = found[name]
        return found

    def _damaged(self, why: str) -> SteadyganError:
        return SteadyganError(
            f"{self.folder / CONFIG} is damaged: {why}. Restore it, or train the run again."
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
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
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
