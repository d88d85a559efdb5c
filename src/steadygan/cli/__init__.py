"""The command line: ``steadygan COMMAND``.

Thin: it reads arguments, calls the library and prints. A command imports what it needs when it
runs, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import errno
import gc
import importlib
import inspect
import io
import os
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os.path import expanduser
from pathlib import Path
from typing import Any, Protocol

import tyro

from .. import __version__
from ..core.errors import SteadyganError, nearest, unknown
from ..core.modules import import_module
from ..runs.format import trained
from .arguments import options
from .audit import Audit
from .crosstest import Crosstest
from .evaluate import Evaluate
from .export import Export, Push
from .reproduce import Reproduce
from .resume import Resume
from .runs import Demo, Report
from .sample import Sample, Walk
from .show import say
from .sweep import Sweep
from .table import Table
from .theory import Analyze, ConvertGamma, Diagnose, List
from .train import Train
from .watch import Watch
from .written import Validate, begun

COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "validate": Validate,
    "sweep": Sweep,
    "resume": Resume,
    "sample": Sample,
    "walk": Walk,
    "watch": Watch,
    "export": Export,
    "push": Push,
    "report": Report,
    "table": Table,
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

REFUSED, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # as shells count: 128 and the signal

_UNWRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a file cannot take what is printed into it; such errors name none."""


class Command(Protocol):
    """A frozen dataclass whose fields are the arguments."""

    def run(self) -> int:
        """Do it.

        Returns:
            The exit status.
        """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``steadygan``; by default those of this process.

    Returns:
        The exit status: 2 for input that is refused (the reason on standard error), 130 after
        Ctrl-C, 141 where the reader of a pipe has gone.
    """
    argv = [_at_home(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        status = _run(argv)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read has seen enough.
        _drop_output()
        return BROKEN_PIPE
    except SteadyganError as error:
        return _refuse(_spelled(str(error), argv))
    except OSError as error:
        if error.filename is None:
            if error.errno not in _UNWRITTEN:
                raise
            _drop_output()
            return _refuse(f"What this prints cannot be written: {error.strerror}.")
        return _refuse(f"{error.filename} cannot be read or written: {error.strerror}.")
    except (MemoryError, RuntimeError) as error:
        if not _no_memory(error):
            raise
        reason = str(error).partition("\n")[0] or "none is left"
        return _refuse(
            f"There is not enough memory for this ({reason}): lower the width of the network, the"
            " resolution, the batch or the number of samples."
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as done:  # how tyro ends help, and what it cannot parse
        return done.code if isinstance(done.code, int) else 0 if done.code is None else REFUSED


def entry() -> None:
    """Start the command line as a program."""
    # A program that is started with >&- has none.
    sys.stdout, sys.stderr = (
        stream if stream is not None else open(os.devnull, "w")  # noqa: SIM115 - for good
        for stream in (sys.stdout, sys.stderr)
    )
    # Where standard output is not Unicode, an arrow is spelled, as on standard error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())


def parse(argv: Sequence[str], default: Command | None = None) -> Command:
    """Read a command line without running it.

    Args:
        argv: The words after ``steadygan``, the first of which names a command.
        default: What the words override.

    Returns:
        The command with its arguments.

    Raises:
        SteadyganError: For an unknown command or option, and for words that belong to nothing.
        SystemExit: After help, and for values that an option does not take; tyro has said why.
    """
    name, words = argv[0], list(argv[1:])
    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    cls = COMMANDS[name]
    more: dict[str, Any] = {} if default is None else {"default": default}
    if {"-h", "--help"} & {*words}:
        # Not tyro's description, which would be filled without regard to the terminal.
        print(_wrapped(inspect.getdoc(cls) or ""), end="\n\n")
        if cls is Train:
            _import_torch()
            usual = Train.usual(words)
            more = {} if usual is None else {"default": usual}
    given: Any = ()
    if cls is Sweep:
        words, given = Sweep.taken(words)
    command: Command
    command, stray = tyro.cli(
        cls,
        args=words,
        prog=f"steadygan {name}",
        description="",
        return_unknown_args=True,
        **more,
    )
    if stray:
        raise _stray(name, stray)
    return replace(command, given=given) if isinstance(command, Sweep) else command


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"steadygan {__version__}")
        return 0
    command = parse(argv)
    _import_torch()
    for module in getattr(command, "modules", ()):
        import_module(module)
    if isinstance(command, Train) and (command.config_file or command.preset):
        command = parse(argv, begun(command, argv[1:]))
    for option in ("out", "picture", "plot"):
        path: Path | None = getattr(command, option, None)
        if path is not None and trained(path):
            raise SteadyganError(
                f"--{option} {path} is a file of a run, made by its training: choose another."
            )
    with _plain_warnings():
        return command.run()


def _import_torch() -> None:
    """Import torch without looking for garbage, which takes a third of the time and finds none."""
    if "torch" not in sys.modules:
        gc.disable()
        importlib.import_module("torch")
        gc.freeze()
        gc.enable()


def _at_home(word: str) -> str:
    """Return a word whose path begins at home; shells leave the ``~`` of ``--out=~/runs`` alone."""
    return re.sub(r"^(--[\w-]+=)?(~)(?=/|$)", lambda m: (m[1] or "") + expanduser(m[2]), word)


def _drop_output() -> None:
    """Let what is still buffered not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(reason: str) -> int:
    say(f"steadygan: {reason}", stderr=True)
    return REFUSED


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print words about data as a line each, not as Python prints warnings."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, kind: type[Warning], *where: Any) -> None:
            from PIL.Image import DecompressionBombWarning

            from ..problems.readers import DataWarning

            if issubclass(kind, DataWarning):
                say(f"steadygan: {message}", stderr=True)
            # A large picture is no attack: what one may take in memory is --limit's to say.
            elif not issubclass(kind, DecompressionBombWarning):
                usual(message, kind, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _no_memory(error: Exception) -> bool:
    """Return whether memory could not be had; torch says so in several ways."""
    words = ("allocate memory", "out of memory", "Storage size calculation overflowed")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _spelled(reason: str, argv: Sequence[str]) -> str:
    """Return a reason in which settings are spelled as options, ``--keep-checkpoints``."""
    cls = COMMANDS.get(argv[0]) if argv else None
    for option in options(cls) if cls else ():
        name = option[2:].replace("-", "_")
        # One word may mean anything inside a sentence, but not at its start.
        where = rf"(?<![\w-]){name}(?![\w=])" if "_" in name else rf"^{name}(?= (?:must|is) )"
        reason = re.sub(where, option, reason)
    return reason


def _stray(name: str, words: Sequence[str]) -> SteadyganError:
    """Return what to do about words that no option takes."""
    option = next((word for word in words if word.startswith("-") and len(word) > 1), None)
    if option is not None:
        given = option.partition("=")[0]
        near = ", ".join(nearest(given, options(COMMANDS[name]))[:3])
        return SteadyganError(
            f"{name} has no option {given!r}; nearest: {near}. See 'steadygan {name} --help'."
        )
    return SteadyganError(
        f"{name} has no use for {', '.join(map(repr, words))}. A grid in braces must be quoted,"
        " as in --regularizer '{r1,js}': the shell takes braces apart before steadygan sees them."
    )


def _overview() -> str:
    """Return the help of all commands, a line or two for each."""
    width = _width()
    indent = max(map(len, COMMANDS)) + 4
    lines = [
        textwrap.fill(
            (inspect.getdoc(cls) or "").splitlines()[0],
            width,
            initial_indent=f"  {name}".ljust(indent),
            subsequent_indent=" " * indent,
        )
        for name, cls in COMMANDS.items()
    ]
    return "\n".join(
        [
            "usage: steadygan COMMAND ...",
            "",
            f"steadygan {__version__} trains GANs that do not fall over, and says why.",
            "",
            *lines,
            "",
            "'steadygan COMMAND --help' shows the options and examples of one,",
            "'steadygan list' every name that they take.",
        ]
    )


def _wrapped(text: str) -> str:
    """Return a docstring filled to the terminal; what is indented stays as it is."""
    parts = text.split("\n\n")
    return "\n\n".join(part if "\n  " in part else textwrap.fill(part, _width()) for part in parts)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, 100)
