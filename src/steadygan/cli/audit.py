"""The command that looks for silent bugs in a training loop: audit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..core.errors import SteadyganError
from .arguments import Json, arg
from .show import say

if TYPE_CHECKING:
    from ..analysis.audit import Finding


@dataclass(frozen=True)
class Audit:
    """Watch a few iterations of a training script and name its silent bugs, with their mend.

    FILE is run as "python FILE ARGUMENTS" would, and ended after some
    iterations; give only one that you trust. Where it offers make_loop(), that is called instead:
    a dict with generator, critic, optimizer_generator, optimizer_critic and step (one iteration).
    Nothing that it computes is changed. Exit status: 0 where nothing was found, 1
    where something was, 2 where the script fails, after what was seen until then.

    Examples:
      steadygan audit train.py
      steadygan audit train.py --arguments="--data photos --epochs 1" --iterations 10
    """

    file: Annotated[Path, tyro.conf.Positional, arg("FILE.py", "a script")]
    iterations: Annotated[int, arg("N", "how many to watch")] = 12
    arguments: Annotated[
        str,
        arg("ARGS", "what the script is given, in one string: --arguments='--epochs 1'", "none"),
    ] = ""
    json: Json = False

    def run(self) -> int:
        """Return the exit status."""
        import shlex

        from ..analysis.audit.script import Failed, audit_file

        if self.iterations < 1:
            raise SteadyganError(f"--iterations must be at least 1, not {self.iterations}.")
        try:
            words = shlex.split(self.arguments)
        except ValueError as error:
            raise SteadyganError(
                f"--arguments {self.arguments!r} are no words of a command line ({error}): quote it"
                " as a shell does, --arguments='--name \"two words\"'."
            ) from error
        try:
            found = audit_file(self.file, words, self.iterations)
        except Failed as error:
            if error.seen is not None:
                self._show(error.seen, "no silent bug was seen until it failed")
            raise
        self._show(found, "no silent bug was seen")
        return 1 if found else 0

    def _show(self, found: Iterable[Finding], none: str) -> None:
        found = list(found)
        if self.json:
            print(json.dumps([asdict(f) for f in found], indent=2))
        elif not found:
            say(none)
        for each in [] if self.json else found:
            say(each.name, f"  {each.evidence}", f"  mend: {each.mend}")
