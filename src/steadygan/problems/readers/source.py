"""What every reader makes: images that wait to be decoded, and how they are to be read."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ...core.errors import SteadyganError, foreign, printable, unknown

GIB = 2**30


@dataclass(frozen=True)
class Reading:
    """How data are read, where there is a choice.

    ``broken`` images are refused or skipped. ``classes`` come from where the data say it
    (``auto``), from ``dataset.json``, from the folders of ``level=N`` (the outermost is 1), from
    ``column=NAME`` of a table, or from nowhere (``none``). ``value_range`` is ``LOW..HIGH``, the
    values that are black and white in images of more than 8 bits, or ``auto``. ``limit`` is how
    many GiB one file may unpack to in memory.

    Raises:
        SteadyganError: for a choice that is none.

    >>> Reading(value_range="-1024..3071").limits
    (-1024.0, 3071.0)
    """

    broken: Literal["refuse", "skip"] = "refuse"
    classes: str = "auto"
    value_range: str = "auto"
    limit: float = 1.0

    def __post_init__(self) -> None:
        if self.broken not in ("refuse", "skip"):
            raise unknown("choice for broken", self.broken, ("refuse", "skip"))
        kind, _, value = self.classes.partition("=")
        if not (
            self.classes in ("auto", "none", "dataset.json")
            or (kind == "level" and value.isdecimal() and int(value) > 0)
            or (kind == "column" and value)
        ):
            raise SteadyganError(
                f"classes come from {self.classes!r}, which is none of auto, none, dataset.json,"
                " level=N (a level of folders, the outermost is 1) and column=NAME."
            )
        if not self.limit > 0:
            raise SteadyganError(f"limit is a number of GiB above 0, not {self.limit:g}.")
        _ = self.limits

    @property
    def limits(self) -> tuple[float, float] | None:
        """The values that are black and white; None where they are to be found."""
        if self.value_range == "auto":
            return None
        try:
            low, high = map(float, self.value_range.split(".."))
            if not -np.inf < low < high < np.inf:
                raise ValueError
        except ValueError:
            raise SteadyganError(
                f"value range {self.value_range!r}: expected LOW..HIGH, the values that are black"
                " and white, such as 0..4095, or auto."
            ) from None
        return low, high

    @property
    def bytes(self) -> int:
        """The limit in bytes."""
        return int(min(self.limit * GIB, sys.maxsize))

    def bound(self, size: int, what: str) -> None:
        """Refuse, before it is unpacked, what would take more than the limit.

        Args:
            size: how many bytes it would take.
            what: its name.

        Raises:
            SteadyganError: if that is more than ``limit``.
        """
        if size > self.bytes:
            raise SteadyganError(f"{what} {self.over(size)}")

    def over(self, size: int | None = None) -> str:
        """Return the sentence about what is over the limit, with the way to raise it."""
        much = "more" if size is None else f"{size / GIB:.3g} GiB"
        return (
            f"would unpack to {much}, and the limit is {self.limit:g} GiB. If you trust it, raise"
            " the limit (--limit GIB)."
        )


def check_packed(member: zipfile.ZipInfo, what: str) -> None:
    """Refuse a member of a zip that Python unpacks whole, however little of it is asked for.

    Raises:
        SteadyganError: for all ways of packing but deflate, and storing as it is.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SteadyganError(
            f"{what} is packed in a way (zip's method {member.compress_type}) that cannot be"
            " unpacked piece by piece: pack it again with deflate."
        )


class DataWarning(UserWarning):
    """A word about how data were read, where another reading was possible."""


def tell(note: str) -> None:
    """Say a word about how data were read; names from outside are escaped."""
    warnings.warn(printable(note), DataWarning, stacklevel=3)


@dataclass(frozen=True, eq=False)
class Classes:
    """Numbers of classes (count,) int64 and their names; or None, and why there are none.

    ``note`` is a word about how they were found, where they could have been found otherwise.
    """

    numbers: np.ndarray | None = None
    names: tuple[str, ...] = ()
    why: str = ""
    note: str = ""

    @staticmethod
    def of(labels: Any, names: Any = None, note: str = "") -> Classes:
        """Number the distinct labels 0, 1, ... in sorted order.

        Args:
            labels: one a sample.
            names: names[v], where given, is the name of the label v; else its own spelling.
            note: a word about how they were found.

        Returns:
            The classes, whose names can be printed.
        """
        values, numbers = np.unique(np.asarray(labels), return_inverse=True)
        spelled = (str(names[v] if names is not None else v) for v in values)
        return Classes(numbers.astype(np.int64), tuple(map(printable, spelled)), note=note)


@dataclass(frozen=True, eq=False)
class Source:
    """Images that wait to be decoded: how many; the name, the bytes and the image of number i.

    An image is a picture, or an array (H, W) or (H, W, C) of any kind of number. ``whole`` is all
    of them (N, C, H, W) where they lie in memory, or in a mapped file, as bytes. ``limits`` are the
    values that are black and white, where the data say so; ``forks`` whether forked processes can
    open the images.
    """

    count: int
    name: Callable[[int], str]
    open: Callable[[int], Image.Image | np.ndarray]
    classes: Classes
    size: Callable[[int], int] = lambda i: 0
    notes: tuple[str, ...] = ()
    whole: np.ndarray | None = None
    limits: tuple[float, float] | None = None
    forks: bool = True


@dataclass(frozen=True)
class Place:
    """Where images lie, found but not read yet.

    ``identity`` is another one when they have changed, None where that cannot be told.
    """

    spelled: str
    identity: str | None
    reader: Callable[[ExitStack], Source]

    @contextmanager
    def open(self) -> Iterator[Source]:
        """Yield the images, opened.

        Raises:
            SteadyganError: where they cannot be read.
        """
        with ExitStack() as stack:
            with readable(self.spelled):
                source = self.reader(stack)
            yield source


@contextmanager
def readable(spelled: str) -> Iterator[None]:
    """Turn whatever a damaged file raises into a sentence that names the file."""
    mend = "it is damaged or not what its name says; copy or download it again"
    with foreign(f"{spelled} cannot be read", mend):
        yield


def identity(*paths: Path) -> str:
    """Return a digest of files that changes when they change, without reading them whole.

    Size and age, and the first and the last MiB, where archives hold the checksums of what is in
    them. Of the two ages the system's own is for arrays, which have none: no program sets it back.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            there = os.fstat(file.fileno())
            ages = f"{there.st_mtime_ns} {there.st_ctime_ns}"
            digest.update(os.fsencode(f"{path.name} {there.st_size} {ages} "))
            digest.update(file.read(2**20))
            file.seek(max(0, there.st_size - 2**20))
            digest.update(file.read(2**20))
    return digest.hexdigest()
