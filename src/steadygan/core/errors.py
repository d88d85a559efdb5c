"""The one exception of steadygan: input that is refused before any work is lost."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher


class SteadyganError(ValueError):
    """Input that cannot be right; the message says what is wrong and how to mend it.

    The command line prints it without a traceback.
    """


def unknown(what: str, given: str, choices: Iterable[str]) -> SteadyganError:
    """Build the error for an unknown name: the choices, those that look most like it first.

    >>> print(unknown("colour", "gren", ["blue", "green"]))
    Unknown colour 'gren'. Available, nearest first: green, blue.
    """
    ranked = sorted(
        choices,
        key=lambda name: (-SequenceMatcher(None, given.lower(), name.lower()).ratio(), name),
    )
    return SteadyganError(
        f"Unknown {what} {given!r}. Available, nearest first: {', '.join(ranked) or 'none'}."
    )
