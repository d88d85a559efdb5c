"""Folders and zips of pictures: what is in them, what is passed over, and what is read."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ...core.errors import SteadyganError
from .classes import splits
from .pictures import is_picture, open_picture, suffixes
from .source import Place, Reading, Source, check_packed, identity
from .tables import find_classes, is_table

_HIDDEN = "hidden"
_PIECE = 2**20  # bytes that are unpacked at once


@dataclass
class _Tree:
    """The sizes of pictures and tables by name, and how many of what else was passed over."""

    pictures: dict[str, int] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, size: int) -> None:
        """Take a file, or count it by its ending."""
        kept = self.pictures if is_picture(name) else self.tables if is_table(name) else None
        if kept is None:
            self.passed[Path(name).suffix.lower() or "without an ending"] += 1
        else:
            self.passed["named twice (the last counts)"] += name in kept
            kept[name] = size

    def source(
        self,
        root: Path,
        reading: Reading,
        read: Callable[[str], bytes],
        picture: Callable[[str], Image.Image],
    ) -> Source:
        """Return the pictures as a source, in the order of their names."""
        names = sorted(self.pictures)
        passed = +self.passed
        counted = ", ".join(f"{n:,} {what}" for what, n in passed.most_common(8))
        if not names:
            raise SteadyganError(
                f"{root} holds no images: looked, in its folders too, for"
                f" {', '.join('*' + suffix for suffix in suffixes())}"
                f"{'; found: ' + counted if passed else ''}."
            )
        words = [splits(names), f"passed over: {counted}" if passed.keys() - {_HIDDEN} else ""]

        def table(name: str) -> bytes:
            reading.bound(self.tables[name], f"{root}/{name}")
            return read(name)

        return Source(
            len(names),
            lambda i: f"{root}/{names[i]}",
            lambda i: picture(names[i]),
            find_classes(names, sorted(self.tables), table, reading),
            lambda i: self.pictures[names[i]],
            tuple(f"{root}: {word}." for word in words if word),
        )


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def folder(root: Path, reading: Reading) -> Place:
    """Return the pictures under a folder.

    Links are followed, but every folder is read once; what is no file (a pipe, a socket, a device)
    is passed over.
    """
    tree, digest = _Tree(), hashlib.sha256()
    for name, there in _walk(root, tree.passed):
        tree.add(name, there.st_size)
        if name in tree.pictures or name in tree.tables:
            # Time of change and number tell a file from another of the same size and age.
            line = name, there.st_size, there.st_mtime_ns, there.st_ctime_ns, there.st_ino
            digest.update(repr(line).encode())

    def reader(stack: ExitStack) -> Source:
        return tree.source(
            root,
            reading,
            lambda name: (root / name).read_bytes(),
            lambda name: open_picture(root / name, name),
        )

    return Place(str(root), digest.hexdigest(), reader)


def _walk(root: Path, passed: Counter[str]) -> list[tuple[str, os.stat_result]]:
    """Return the regular files under a folder in the order of their names, and count the rest."""
    found: list[tuple[str, os.stat_result]] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [""], list[str]()
    while folders or links:
        # Links come after all real folders, so that a folder is read under its own name.
        inside = folders.pop() if folders else links.pop(0)
        try:
            there = os.stat(root / inside)
            if (there.st_dev, there.st_ino) in seen:
                passed["links to folders that are read already"] += 1
                continue
            with os.scandir(root / inside) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError:
            passed["folders that cannot be read"] += 1
            continue
        seen.add((there.st_dev, there.st_ino))
        for entry in entries:
            name = inside + entry.name
            try:
                if _hidden(entry.name):
                    passed[_HIDDEN] += 1
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif entry.is_dir():
                    links.append(f"{name}/")
                elif entry.is_file():
                    found.append((name, entry.stat()))
                else:
                    passed["pipes, sockets, devices or broken links"] += 1
            except OSError:
                passed["broken links"] += 1
    return sorted(found, key=lambda file: file[0])


class _Shared(io.RawIOBase):
    """A file that forked processes read at once: each keeps a place in it of its own."""

    def __init__(self, path: Path) -> None:
        self._file, self._place = path.open("rb", buffering=0), 0
        self._size = os.fstat(self._file.fileno()).st_size

    def seekable(self) -> bool:
        """Return whether it has a place."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Return the place that it goes to."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return bytes from the place on."""
        wanted = self._size - self._place if size < 0 else size
        found = os.pread(self._file.fileno(), max(0, wanted), self._place)
        self._place += len(found)
        return found

    def close(self) -> None:
        """Close it."""
        self._file.close()
        super().close()


def archive(path: Path, reading: Reading) -> Place:
    """Return the pictures in a zip."""

    def reader(stack: ExitStack) -> Source:
        # ZipFile's count of its readers is not safe among threads and closes a file that it opened
        # itself too early; this one it leaves open.
        file = stack.enter_context(zipfile.ZipFile(stack.enter_context(_Shared(path))))
        tree, members = _Tree(), dict[str, zipfile.ZipInfo]()
        for info in file.infolist():
            parts = _parts(info)
            if info.is_dir() or not parts:
                continue
            if any(map(_hidden, parts)):
                tree.passed[_HIDDEN] += 1
            elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                tree.passed["links or devices"] += 1
            else:
                name = "/".join(parts)
                members[name] = info
                tree.add(name, info.file_size)

        def unpacked(name: str, what: str) -> bytes:
            check_packed(members[name], what)
            content, left = bytearray(), members[name].file_size
            with file.open(members[name]) as member:
                # Asked for all of it, zipfile unpacks whatever is there and cuts it afterwards.
                while left > 0 and (part := member.read(min(left, _PIECE))):
                    content += part
                    left -= len(part)
            return bytes(content)

        def picture(name: str) -> Image.Image:
            reading.bound(members[name].file_size, "it")
            return open_picture(io.BytesIO(unpacked(name, "it")), name)

        return tree.source(path, reading, lambda name: unpacked(name, f"{path}/{name}"), picture)

    return Place(str(path), identity(path), reader)


def _parts(info: zipfile.ZipInfo) -> list[str]:
    r"""Return the folders and the file of a member's name, whatever wrote it: ``.\a\b.png``."""
    name = info.filename
    if not info.flag_bits & 0x800 and not name.isascii():
        # Without the mark for UTF-8 names are read as cp437, though many programs write UTF-8.
        raw = name.encode("cp437")
        try:
            name = raw.decode("utf-8")
        except UnicodeDecodeError:
            # In the encodings of East Asia a backslash may be the second byte of a character.
            split = re.split(rb"(?<![\x80-\xff])\\|/", raw)
            return [part.decode("cp437") for part in split if part not in (b"", b".")]
    return [part for part in re.split(r"[\\/]", name) if part not in ("", ".")]
