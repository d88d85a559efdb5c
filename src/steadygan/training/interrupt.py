"""Ctrl-C without loss."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

_HANGUP = getattr(signal, "SIGHUP", None)  # a terminal that is closed; not every system has it
_SIGNALS = [n for n in (signal.SIGINT, signal.SIGTERM, _HANGUP) if n is not None]


class Interrupt:
    """Notes the first Ctrl-C, polite kill or closed terminal; the second one ends at once.

    So a step can finish and be saved whole. For some seconds of ``grace`` more of them count as the
    first one: of several processes each hears a Ctrl-C itself, and again from what started them.
    """

    def __init__(self, grace: float = 0.0) -> None:
        self.seen, self.reason = False, "interrupted by a signal"
        self._grace, self._since = grace, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        # Ignored by nohup, and Ctrl-C by a shell's script for what it starts with &.
        self._before = _handled(self._note, lambda before: before is not signal.SIG_IGN)
        return self

    def __exit__(self, *error: object) -> None:
        _restore(self._before)

    def ask(self, reason: str) -> None:
        """Have the run end at this step, saved whole, as a signal does."""
        self.seen, self.reason = True, reason

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        self._since, self.seen = self._since if self.seen else now, True
        if now - self._since >= self._grace:
            signal.signal(number, self._before[number])


@contextmanager
def raised() -> Iterator[None]:
    """Have a polite kill or a closed terminal raise, as Ctrl-C does, so that clean-up is done."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    deadly = _handled(end, lambda before: before is signal.SIG_DFL)
    try:
        yield
    finally:
        _restore(deadly)


def _handled(
    handler: Callable[[int, FrameType | None], None], replaces: Callable[[Any], bool]
) -> dict[int, Any]:
    """Return the handlers that another one replaces from here on, by their signals."""
    if threading.current_thread() is not threading.main_thread():  # only there can they be set
        return {}
    return {n: signal.signal(n, handler) for n in _SIGNALS if replaces(signal.getsignal(n))}


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
