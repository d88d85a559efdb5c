"""CIFAR's published archives: a tar, or a folder, of pickles that are read without running them."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SteadyganError
from .arrays import from_array, to_classes
from .pickles import Allowed, SafeUnpickler, arrays_of
from .source import Classes, Place, Reading, Source, identity

_BATCH = re.compile(r"data_batch_\d+$")
_FILE = re.compile(r"data_batch_\d+|batches\.meta|train|meta")


def cifar_files(names: Collection[str]) -> list[str]:
    """Return those of a folder's files that are CIFAR's; none where it is no such folder."""
    found = [name for name in names if _FILE.fullmatch(name)]
    return sorted(found) if _is_cifar(found) else []


def cifar_folder(root: Path, names: Collection[str], reading: Reading) -> Place:
    """Return the batches that were unpacked into a folder."""

    def reader(stack: ExitStack) -> Source:
        reading.bound(sum((root / name).stat().st_size for name in names), str(root))
        return _cifar(root, {name: (root / name).read_bytes() for name in names}, reading)

    return Place(str(root), identity(*(root / name for name in sorted(names))), reader)


def cifar_archive(path: Path, reading: Reading) -> Place:
    """Return the batches in a tar, plain or gzipped."""

    def reader(stack: ExitStack) -> Source:
        file = stack.enter_context(path.open("rb"))
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        plain = gzip.GzipFile(fileobj=file) if packed else file
        files: dict[str, bytes] = {}
        folders: set[str] = set()
        # A stream, so that no header can make it go back, and bounded, so that none can make it
        # unpack without end.
        stream: Any = _Bounded(plain, reading, path)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                within, _, name = member.name.rpartition("/")
                # No links, which may lead anywhere, and no sparse files, which hold any size.
                if _FILE.fullmatch(name) and member.isreg() and not member.issparse():
                    folders.add(within)
                    content = archive.extractfile(member)
                    files[name] = content.read() if content else b""
        if len(folders) > 1:
            raise SteadyganError(
                f"{path} holds CIFAR's files in several folders ({', '.join(sorted(folders))}):"
                " unpack it, and name one of them, so that they are not mixed."
            )
        if not _is_cifar(files):
            raise SteadyganError(
                f"{path} holds no CIFAR batches (data_batch_1, ...; train and meta). Other images"
                " are read from a folder or a .zip: repack."
            )
        return _cifar(path, files, reading)

    return Place(str(path), identity(path), reader)


class _Bounded:
    """A file that gives no more than the limit."""

    def __init__(self, file: Any, reading: Reading, path: Path) -> None:
        self._file, self._reading, self._path = file, reading, path
        self._left = reading.bytes

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            SteadyganError: over the limit.
        """
        content: bytes = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise SteadyganError(f"{self._path} {self._reading.over()}")
        return content


def _is_cifar(names: Collection[str]) -> bool:
    return any(_BATCH.match(name) for name in names) or {"train", "meta"} <= set(names)


def _cifar(root: Path, files: dict[str, bytes], reading: Reading) -> Source:
    batches = sorted(name for name in files if _BATCH.match(name)) or ["train"]
    images: list[np.ndarray] = []
    labels: list[int] = []
    class_names: list[str] | None = None
    allowed = _allowed(root, reading)
    for name in [*batches, *(meta for meta in ("batches.meta", "meta") if meta in files)]:
        try:
            content = {
                key.decode() if isinstance(key, bytes) else key: value
                for key, value in _unpickled(files[name], allowed).items()
            }
            if name in batches:
                images.append(content["data"].numbers.reshape(-1, 3, 32, 32))
                labels += content.get("labels") or content["fine_labels"]
            else:
                class_names = [
                    bytes(label).decode()
                    for label in content.get("label_names") or content["fine_label_names"]
                ]
        except SteadyganError:
            raise
        # A stranger's pickle can be wrong in any way whatever, and each is answered alike.
        except Exception as error:
            raise SteadyganError(
                f"{root}/{name} is no CIFAR file that can be read safely"
                f" ({type(error).__name__}: {error}); download it again."
            ) from error
    classes = len(class_names) if class_names else 100
    if not all(isinstance(label, int) and 0 <= label < classes for label in labels):
        raise SteadyganError(
            f"{root}: a label is not one of the {classes} classes; download it again."
        )
    found = (
        Classes(why="they were not asked for (classes none)")
        if reading.classes == "none"
        else to_classes(str(root), np.array(labels), class_names)
    )
    return from_array(str(root), np.concatenate(images), found)


def _allowed(root: Path, reading: Reading) -> Allowed:
    left = reading.bytes

    def encode(text: str, _: object) -> bytes:
        nonlocal left
        # A pickle may ask for the same text as often as it likes.
        left -= len(text)
        if left < 0:
            raise SteadyganError(f"{root} {reading.over()}")
        return text.encode("latin1")

    # How Python 3 writes bytes in the pickles that Python 2 reads.
    return {**arrays_of("u1"), ("_codecs", "encode"): encode}


def _unpickled(content: bytes, allowed: Allowed) -> Any:
    return SafeUnpickler(io.BytesIO(content), allowed, encoding="bytes").load()
