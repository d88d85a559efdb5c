"""A disk that fails: the N-th operation on files under a folder kills the process or has no room.

In one process, so that every N of a small run takes seconds. A kill is an exception that nobody
catches, after which no operation does anything: what a dead process would have tidied up stays.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

KINDS = ("kill", "ENOSPC", "EIO")


class Killed(BaseException):
    """The process is dead."""


class Faults:
    """Counts operations that change files under ``root`` and makes one of them fail.

    at: which, counted from 1; 0 for none. kind: 'kill', or the error that the system gives.
    lasting: whether all that follow fail too, as on a disk that stays full; a kill always lasts.
    """

    def __init__(self, root: Path, at: int = 0, kind: str = "kill", lasting: bool = False) -> None:
        self.root, self.at, self.kind = str(root.resolve()), at, kind
        self.lasting = lasting or kind == "kill"
        self.seen: list[str] = []
        self._patches: list[Any] = []

    def __enter__(self) -> Faults:
        self._open = builtins.open
        for name in ("replace", "rename", "mkdir", "unlink", "remove", "rmdir", "link", "symlink"):
            self._patch(os, name, self._on_path(name, getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            self._patch(os, name, self._on_descriptor(name, getattr(os, name)))
        self._patch(os, "truncate", self._on_path("truncate", os.truncate))
        for module in (builtins, io):
            self._patch(module, "open", self._opening)
        return self

    def __exit__(self, *given: Any) -> None:
        while self._patches:
            self._patches.pop().stop()

    @property
    def count(self) -> int:
        """How many operations there were."""
        return len(self.seen)

    def distinct(self) -> list[int]:
        """Return which operations to fail, counted from 1: of the writes to one file that follow
        each other only the first and the last."""
        same = [a == b for a, b in zip(self.seen, self.seen[1:], strict=False)]
        return [
            i + 1
            for i in range(self.count)
            if not (0 < i < self.count - 1 and same[i - 1] and same[i])
        ]

    def operation(self, what: str, path: object, torn: Callable[[], None] | None = None) -> None:
        """Count an operation, and fail where it is the one; ``torn`` is the half of it that is
        done all the same."""
        try:
            place = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        except TypeError:
            return  # a descriptor
        if not place.startswith(self.root + os.sep) and place != self.root:
            return
        self.seen.append(f"{what} {os.path.relpath(place, self.root)}")
        due = self.count == self.at or (self.lasting and 0 < self.at <= self.count)
        if not due:
            return
        if torn is not None and self.count == self.at:
            torn()
        if self.kind == "kill":
            raise Killed(self.seen[self.at - 1])
        if self.kind == "ENOSPC" and what in ("unlink", "remove", "rmdir", "replace", "rename"):
            return  # a full disk lets go
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code), place)

    def _patch(self, module: Any, name: str, replacement: Any) -> None:
        patch = mock.patch.object(module, name, replacement)
        patch.start()
        self._patches.append(patch)

    def _on_path(self, name: str, real: Any) -> Any:
        def call(path: Any, *args: Any, **kwargs: Any) -> Any:
            self.operation(name, path)
            return real(path, *args, **kwargs)

        return call

    def _on_descriptor(self, name: str, real: Any) -> Any:
        def call(descriptor: int) -> None:
            place = os.readlink(f"/proc/self/fd/{descriptor}")
            self.operation(name, place)
            if not place.startswith(self.root):  # the disk itself is not waited for here
                real(descriptor)

        return call

    def _opening(self, path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if not set(mode) & set("wax+"):
            return self._open(path, mode, *args, **kwargs)
        self.operation("open", path)
        file = self._open(path, mode, *args, **kwargs)
        return file if isinstance(path, int) else _File(self, path, file)


class _File:
    """A file that is written to, each write an operation of which half may be done."""

    def __init__(self, faults: Faults, path: object, file: Any) -> None:
        self._faults, self._path, self._file = faults, path, file

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._faults.operation("write", self._path, half)
        return self._file.write(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *given: Any) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
