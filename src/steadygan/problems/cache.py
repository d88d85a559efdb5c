"""Decoded images on disk, so that a second start maps them: named by content and settings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

_PIXELS, _ABOUT = "pixels", "about.json"
_UNUSED = 90 * 24 * 3600.0  # seconds after which an entry goes, when another one is made
_ABANDONED = 24 * 3600.0  # the same for one that was never finished


def cache_folder() -> Path:
    """Return where decoded images, downloaded weights and features that were taken once are kept.

    It is ``STEADYGAN_CACHE``, else ``steadygan`` in the user's cache folder, and may be removed at
    any time. Where there is neither it is no folder, and nothing is kept.
    """
    given = os.environ.get("STEADYGAN_CACHE")
    if given:
        return Path(os.path.expanduser(given))
    found = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    # Who has no home, as in some containers, has no cache: nothing can be kept under a device.
    return Path(os.devnull if found.startswith("~") else found) / "steadygan"


class Entry:
    """One set of decoded images in the cache: pixels, and what is known about them as JSON.

    A cache that cannot be written costs time only: then nothing is kept, and nothing is said.
    """

    def __init__(self, *key: object) -> None:
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        self._path = cache_folder() / "images" / name
        self._aside = self._path.with_name(f"{name}.{uuid4().hex[:8]}.partial")

    def read(self) -> tuple[np.ndarray, dict[str, Any]] | None:
        """Return the pixels, mapped, and what is known; None where nothing is kept."""
        try:
            about = _opened((self._path / _ABOUT).read_text())
            # Arrays were once not kept, and have none.
            shape = tuple(about["shape"])
            pixels = np.memmap(self._path / _PIXELS, np.uint8, "r").reshape(shape)
            with suppress(OSError):
                os.utime(self._path)
            return pixels, about
        except OSError:
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            # Damaged: it goes, so that it can be made again.
            shutil.rmtree(self._path, ignore_errors=True)
            return None

    def allocate(self, shape: tuple[int, ...]) -> np.ndarray | None:
        """Return writable pixels that ``keep`` will keep; None where there is no room for them.

        They never take more than half of what is free.
        """
        size = int(np.prod(shape, dtype=object))
        try:
            self._begin()
            if size > shutil.disk_usage(self._aside).free // 2:
                raise OSError
            with open(self._aside / _PIXELS, "wb+") as file:
                reserve(file.fileno(), size)
            return np.memmap(self._aside / _PIXELS, np.uint8, "r+", shape=shape)
        except OSError:
            self.drop()
            return None

    def keep(self, pixels: np.ndarray, about: dict[str, Any]) -> None:
        """Keep what is known, and allocated pixels, of which some at the end may be left out."""
        try:
            os.truncate(self._aside / _PIXELS, pixels.size)
            _sync(self._aside / _PIXELS)
            (self._aside / _ABOUT).write_text(_sealed(about | {"shape": pixels.shape}))
            _sync(self._aside / _ABOUT)
            os.rename(self._aside, self._path)
        except OSError:
            # The disk is full, or another process was faster: mapped pixels stay as they are.
            self.drop()

    def revise(self, about: dict[str, Any]) -> None:
        """Replace what is known about pixels that are kept."""
        aside = self._path / f"{self._aside.name}.json"
        try:
            aside.write_text(_sealed(about))
            os.replace(aside, self._path / _ABOUT)
        except OSError:
            with suppress(OSError):
                aside.unlink()

    def drop(self) -> None:
        """Remove what was allocated; pixels that are mapped stay readable."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def _begin(self) -> None:
        self._aside.parent.mkdir(parents=True, exist_ok=True)
        _tidy(self._aside.parent)
        self._aside.mkdir()


def _sealed(about: dict[str, Any]) -> str:
    """Return what is known as text, with a sum by which damage shows."""
    return json.dumps({"sum": _sum(about), "about": about})


def _opened(text: str) -> dict[str, Any]:
    """Return what a text of ``_sealed`` holds.

    Raises:
        ValueError: For one that is damaged, as do KeyError and TypeError.
    """
    held = json.loads(text)
    about: dict[str, Any] = held["about"]
    if held["sum"] != _sum(about):
        raise ValueError("the sum is another one")
    return about


def _sum(about: Any) -> str:
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Bring a file to the disk, before a rename says that it is there."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def reserve(file: int, size: int) -> None:
    """Make sure that a file's blocks exist.

    Writing to a mapped file on a full disk kills the process, with no exception to catch.

    Raises:
        OSError: where there is no room.
    """
    if hasattr(os, "posix_fallocate") and size:
        os.posix_fallocate(file, 0, size)
    else:
        for start in range(0, size, 2**24):
            os.pwrite(file, bytes(min(2**24, size - start)), start)


def _tidy(folder: Path) -> None:
    """Remove entries that nobody has used for long."""
    now = time.time()
    for entry in folder.iterdir():
        with suppress(OSError):
            longest = _ABANDONED if entry.suffix == ".partial" else _UNUSED
            if now - entry.stat().st_mtime > longest:
                shutil.rmtree(entry, ignore_errors=True)
