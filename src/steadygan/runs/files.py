"""Every file that is written is written here: whole or not at all, and so that it survives a crash.

What cannot be written raises ``Unwritable``, with the reason that the system gives. Permissions
follow the umask.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..core.errors import SteadyganError

try:
    import fcntl
except ImportError:  # Windows has none of these locks
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".partial"
"""How the name of a file ends that is not whole yet."""

_BEGUN = re.compile(r"(.+)\.(\d{1,9})" + re.escape(PARTIAL), re.DOTALL)

_DIGITS = 300  # of a whole number, so that it can be a float too

Row = dict[str, Any]


_CONTROLS = {n: "?" for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t"}
_NO_FILE = "it is no plain file"


def plain(path: str, flags: int) -> int:
    """Return a descriptor of a file, for ``open(..., opener=plain)``, and of nothing else.

    A stranger's folder can hold, in its place, a link to a file that is dear to its reader, or a
    pipe, which has no end.
    """
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | careful, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise OSError(error.errno, _NO_FILE, path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NO_FILE, path)
    return descriptor


class Unwritable(SteadyganError):
    """A file that cannot be written: a full disk, a missing permission, a folder that is gone."""

    def __init__(self, path: Path, error: OSError) -> None:
        kept = "; what stood there is untouched" if path.is_file() else ""
        super().__init__(f"{path} cannot be written: {error.strerror or error}{kept}.")


def _aside(path: Path) -> Path:
    """Return where a file or a folder is made before it takes its place.

    What killed processes left there is removed.
    """
    path = path.absolute()  # the folder that one is in has a name, and "." has none
    if not path.name:
        raise Unwritable(path, OSError(errno.EINVAL, _NO_FILE))
    for each in _begun_before(path.parent):
        _drop(each, path.name)
    # Of this process only, so that two that write the same do not write into each other.
    return path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")


def clear(folder: Path) -> None:
    """Remove what killed processes had not finished writing in a folder that others write to too.

    Args:
        folder: May be missing.
    """
    for path in _begun(folder):
        _drop(path)


def _begun(folder: Path) -> list[Path]:
    """Return what is called in a folder as if somebody were writing it."""
    with suppress(OSError):
        return [path for path in folder.iterdir() if _BEGUN.fullmatch(path.name)]
    return []


# As it was when this process first wrote there: to list a folder of many files for each of them
# would take longer than to write them.
_begun_before = lru_cache(maxsize=256)(_begun)


def _drop(path: Path, name: str | None = None) -> None:
    """Remove what a killed process had begun to write, if it is of a name, or of any."""
    found = _BEGUN.fullmatch(path.name)
    # Where there are no such locks, to ask a process would end it.
    if fcntl is None or found is None or name not in (None, found[1]):
        return
    if _left(path, int(found[2])):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _left(path: Path, writer: int) -> bool:
    """Return whether nobody writes any more, here or on another machine that has such a process."""
    try:
        # In a container the one that was killed had the number that this one has.
        if writer != os.getpid():
            os.kill(writer, 0)  # asks, and sends nothing
            return False
    except ProcessLookupError:
        pass
    except (OSError, OverflowError):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """Return whether an open file or folder could be locked, until it is closed."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write; it takes its place at the end, whole and on the disk, or never.

    Yields:
        The open file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with whole(path) as file:
    ...     _ = file.write(b"all of it")
    >>> path.read_bytes(), [each.name for each in path.parent.iterdir()]
    (b'all of it', ['a.txt'])
    """
    aside = _aside(path)
    try:
        # A rename would put a file where a device or the like is.
        if (path.exists() and not path.is_file()) or path.parent.resolve() == Path("/dev"):
            raise OSError(errno.EINVAL, _NO_FILE, str(path))
        with open(aside, "wb", opener=plain) as file:
            _locked(file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Unwritable(path, error) from error
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a folder; it takes its place at the end, with all that is in it, or never.

    Yields:
        The folder to fill. ``path`` must not be there, or be empty.
    """
    if path.absolute() == Path.cwd():
        raise SteadyganError(f"{path} is the folder that you are in: give the name of a new one.")
    aside = _aside(path)
    try:
        aside.mkdir(parents=True, exist_ok=True)
        with _held(aside):
            yield aside
        os.replace(aside, path)
        _sync_folder(path.parent)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        if isinstance(error, OSError):
            raise Unwritable(path, error) from error
        raise


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Have a folder known as one that somebody writes to."""
    if fcntl is None:  # which opens no folders either
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _locked(descriptor)
        yield
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text that no terminal obeys.

    A control character becomes a ``?``, and so does half a character, which JSON can spell and
    UTF-8 cannot.
    """
    with whole(path) as file:
        file.write(text.translate(_CONTROLS).encode("utf-8", errors="replace"))


def write_json(path: Path, data: Any) -> None:
    """Write a JSON file that a person can read."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def append(path: Path, row: Row) -> None:
    """Add a line to a file of JSON lines."""
    try:
        with open(path, "ab", opener=plain) as file:
            file.write(json.dumps(row).encode() + b"\n")
    except OSError as error:
        raise Unwritable(path, error) from error


def finite(value: float | None) -> float | None:
    """Return a number as JSON can hold it: NaN and infinity are null."""
    return value if value is not None and math.isfinite(value) else None


def sync(path: Path) -> None:
    """Have what was appended to a file on the disk, where there is the file."""
    try:
        with open(path, "rb", opener=plain) as file:
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unwritable(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder and those that it lies in, where they are not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(path, error) from error


def remove(path: Path) -> None:
    """Remove a file, where it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SteadyganError(f"{path} cannot be removed: {error.strerror or error}.") from error


def sweep(folder: Path) -> None:
    """Remove what processes that were killed had not finished writing in a folder of a run."""
    for path in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
        plain_file = path.is_symlink() or not path.is_dir()
        if _BEGUN.fullmatch(path.name):
            _drop(path)  # unless somebody exports into the run right now
        # safetensors wrote its own files aside until version 0.1.0 of this package; folders that
        # are called so are somebody's.
        elif plain_file and (path.name.endswith(PARTIAL) or path.name.startswith(".tmp")):
            remove(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        SteadyganError: Where it is missing or damaged.
    """
    try:
        value = _parsed(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise SteadyganError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise SteadyganError(
            f"{path} is not JSON and cannot be read ({error}): restore it, or remove it and make"
            " it again."
        ) from error
    if not isinstance(value, dict):
        raise SteadyganError(
            f"{path} must hold a JSON object, not {type(value).__name__}: restore it, or remove"
            " it and make it again."
        )
    return value


class Lines(NamedTuple):
    """The objects of JSON lines, and the byte where they end: where the next look begins."""

    rows: list[Row]
    end: int


def read_lines(path: Path, since: int = 0, most: int = -1) -> Lines:
    """Return the objects of a file of JSON lines from a byte on; no file has none.

    Half a last line is still being written, or its process was killed: it is left for the next
    look. Where the file was made anew since (a run that is resumed drops the steps that it makes
    again), all of it is read.

    Args:
        path: The file.
        since: Where an earlier look ended.
        most: Bytes to read in one look, to the end of the line that they end in; what is beyond
            is left for the next. Negative: all.

    Raises:
        SteadyganError: For a line that is no JSON object.
    """
    if not path.is_file():
        return Lines([], 0)
    with path.open("rb") as file:
        if since and not _between_lines(file, since):
            since = 0
        file.seek(since)
        held, rows, end = file.read(most) + file.readline(), [], since
    for line in held.splitlines(keepends=True):
        try:
            if line.strip():
                rows.append(_row(line, str(path)))
        except SteadyganError:
            if not line.endswith(b"\n"):
                break
            with path.open("rb") as file:
                number = file.read(end).count(b"\n") + 1
            _row(line, f"{path}, line {number}")  # raises again, and says where
        end += len(line)
    return Lines(rows, end)


def keep_lines(path: Path, wanted: Callable[[Row], bool]) -> None:
    """Keep the wanted ones of a file of JSON lines; what is damaged goes, and half a line too."""
    if not path.is_file():
        return
    held, kept = path.read_bytes(), []
    for line in held.splitlines(keepends=True):
        with suppress(SteadyganError):
            if line.strip() and wanted(_row(line, str(path))):
                kept.append(line.rstrip(b"\n") + b"\n")
    if b"".join(kept) != held:
        with whole(path) as file:
            file.writelines(kept)


def _between_lines(file: IO[bytes], at: int) -> bool:
    """Return whether a line ends before a byte: with its end, or where that is still to come."""
    file.seek(at - 1)
    before, after = file.read(1), file.read(1)
    return before == b"\n" or (before == b"}" and after in (b"\n", b""))


def _row(line: bytes, at: str) -> Row:
    text = line.decode("utf-8", errors="replace")
    try:
        row = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise SteadyganError(
            f"{at} is not JSON ({error}); the file is damaged: remove that line."
        ) from error
    if not isinstance(row, dict):
        raise SteadyganError(
            f"{at} must be a JSON object, not {text.strip()[:40]!r}; the file is damaged: remove"
            " that line."
        )
    return row


def _parsed(text: str) -> Any:
    return json.loads(text, parse_int=_whole_number)


def _whole_number(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"a number has {len(text)} digits")
    return int(text)


def _sync_folder(path: Path) -> None:
    # A rename is on the disk when its folder is; a system that cannot open folders keeps its own.
    with suppress(PermissionError, IsADirectoryError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
