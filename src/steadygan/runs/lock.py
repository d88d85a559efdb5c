"""One run, one writer: a lock in a folder that goes with its process, however that ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ..core.errors import SteadyganError
from .files import Unwritable, make_folder, plain
from .format import LOCK

try:
    import fcntl
except ImportError:  # Windows has none of these locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held(folder: Path, name: str = LOCK, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder's lock, making the folder where it is not there.

    Args:
        folder: What only one process at a time may write to.
        name: Of the lock; what may be written beside each other has different ones.
        wait: Until another process is through, instead of refusing.

    Raises:
        SteadyganError: Where another process holds it, by its name; where nothing can be written.
    """
    make_folder(folder)
    with ExitStack() as stack:
        try:
            # Unbuffered: on a full disk what is left in a buffer fails again where it is closed.
            file = stack.enter_context(open(folder / name, "ab+", buffering=0, opener=plain))
        except OSError as error:
            raise Unwritable(folder / name, error) from error
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise SteadyganError(
                    f"{folder} is being written to by {_holder(folder / name)}. Wait until it is"
                    " through, or stop it (kill PID: it saves what it has), then try again."
                ) from None
            except OSError:
                pass  # a file system without locks: as before there were any
        try:
            file.truncate(0)
            told = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            file.write(json.dumps(told).encode())
        except OSError as error:
            raise Unwritable(folder / name, error) from error
        yield


def left(folder: Path) -> bool:
    """Return whether the process that wrote to a folder last, on this machine, is no more.

    False too where nobody knows: without a lock, or with one from another machine.
    """
    if fcntl is None:  # where there are no such locks, to ask a process would end it
        return False
    try:
        with open(folder / LOCK, encoding="utf-8", opener=plain) as file:
            told = json.loads(file.read(4096))
        if told["host"] != socket.gethostname():
            return False
        os.kill(int(told["pid"]), 0)  # asks, and sends nothing
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return False
    return False


def _holder(path: Path) -> str:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return f"process {told['pid']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
