"""The one exception of steadygan: input that is refused before any work is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import SequenceMatcher
from typing import Any


class SteadyganError(ValueError):
    """Input that cannot be right; the message says what is wrong and how to mend it.

    The command line prints it without a traceback. Names from outside stand in it escaped, as
    ``printable`` shows them.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by __init__: a kind that words its own message takes other arguments than that.
        return ValueError.__new__, (type(self), *self.args), self.__dict__


def printable(text: str) -> str:
    r"""Return a text that a terminal shows and does not obey: what cannot be printed is escaped.

    >>> print(printable("\x1b[31mred\u202e.png"))
    \x1b[31mred\u202e.png
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


@contextmanager
def foreign(trouble: str, mend: str) -> Iterator[None]:
    """Answer whatever comes of something from outside, wrong in any way, by a sentence.

    Args:
        trouble: What then cannot be.
        mend: What to do.

    >>> with foreign("a.json cannot be read", "copy it"):
    ...     [][3]
    Traceback (most recent call last):
    steadygan.core.errors.SteadyganError: a.json cannot be read (list index out of range): copy it.
    """
    try:
        yield
    except SteadyganError:
        raise
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise SteadyganError(f"{trouble} ({reason}): {mend}.") from error


def unknown(what: str, given: str, choices: Iterable[str]) -> SteadyganError:
    """Return the error for an unknown name: the choices, those that look most like it first.

    >>> print(unknown("colour", "gren", ["blue", "green"]))
    Unknown colour 'gren'. Available, nearest first: green, blue.
    """
    ranked = ", ".join(nearest(given, choices)) or "none"
    return SteadyganError(f"Unknown {what} {given!r}. Available, nearest first: {ranked}.")


def nearest(given: str, choices: Iterable[str]) -> list[str]:
    """Return the choices, those that look most like what was given first."""

    def unlike(name: str) -> tuple[float, str]:
        return -SequenceMatcher(None, given.lower(), name.lower()).ratio(), name

    return sorted(choices, key=unlike)


def some(names: Sequence[str], count: int = 2) -> str:
    """Return the first few names, and how many more there are.

    >>> some(["a", "b", "c", "d"])
    'a, b and 2 more'
    """
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
