"""The command line: ``steadygan COMMAND``. Thin: it reads arguments, calls the library and
prints."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Union

import tyro

from .. import __version__
from ..core.errors import SteadyganError
from ..problems.readers import DataWarning
from ..training.allocator import keep_memory
from .arguments import import_module
from .audit import Audit
from .crosstest import Crosstest
from .evaluate import Evaluate
from .reproduce import Reproduce
from .runs import Demo, Report, Resume, Sample, Train
from .theory import Analyze, ConvertGamma, Diagnose, List

COMMANDS: dict[str, type] = {
    "train": Train,
    "resume": Resume,
    "sample": Sample,
    "report": Report,
    "evaluate": Evaluate,
    "crosstest": Crosstest,
    "analyze": Analyze,
    "diagnose": Diagnose,
    "audit": Audit,
    "list": List,
    "convert-gamma": ConvertGamma,
    "reproduce": Reproduce,
    "demo": Demo,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 for input that is refused (the reason on
    standard error), 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        about = f"steadygan {__version__}: trains GANs that do not fall over, and says why."
        command: Any = tyro.cli(_commands(argv), args=argv, prog="steadygan", description=about)
        for module in getattr(command, "modules", ()):
            import_module(module)
        with words():
            return int(command.run())
    except SteadyganError as error:
        print(f"steadygan: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 2


@contextmanager
def words() -> Iterator[None]:
    """Print words about data as a line each, not as Python prints warnings."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, kind: type[Warning], *where: Any) -> None:
            if issubclass(kind, DataWarning):
                print(f"steadygan: {message}", file=sys.stderr)
            else:
                usual(message, kind, *where)

        warnings.showwarning = show
        yield


def entry() -> None:
    """Start the command line as a program."""
    keep_memory()
    sys.exit(main())


def _commands(argv: Sequence[str]) -> Any:
    """Return the union of all commands; only the one that is called shows its examples, so that the
    list of all stays short."""
    members = []
    for name, cls in COMMANDS.items():
        text = inspect.getdoc(cls) or ""
        members.append(
            Annotated[
                cls,
                tyro.conf.subcommand(
                    name, description=text if name in argv[:1] else text.splitlines()[0]
                ),
            ]
        )
    return Union[tuple(members)]  # noqa: UP007 - the members are known at run time only
