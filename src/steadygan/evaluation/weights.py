"""Weights of other people's networks, read as plain tensors.

Nothing that came with a file is ever run.

Three formats: safetensors; a state dict that ``torch.save`` wrote, old or zipped; nested
dictionaries of NumPy arrays in a pickle.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..core.errors import SteadyganError
from ..problems.readers.pickles import Array, SafeUnpickler, arrays_of

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which torch's old format begins
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; the levels of nested dictionaries are joined by dots.

    Raises SteadyganError for a file that is missing, damaged, or asks for anything besides tensors,
    which is refused before it is imported.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = path.read_bytes()
        return dict(
            _leaves(
                _zipped(content) if zipfile.is_zipfile(io.BytesIO(content)) else _plain(content)
            )
        )
    # A stranger's file can be wrong in any way whatever, and each is answered alike.
    except (OSError, SafetensorError) as error:
        raise SteadyganError(
            f"{path} cannot be read: {error}. Give the path of a file of weights."
        ) from error
    except Exception as error:
        raise SteadyganError(
            f"{path} holds no weights that can be read safely ({type(error).__name__}: {error});"
            " download it again, or save its state "
            "dict as .safetensors."
        ) from error


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Return a network with every parameter and buffer set, for evaluation, without gradients.

    Raises:
        SteadyganError: Where they do not fit.
    """
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise SteadyganError(
            f"{path} belongs to another network: {' '.join(str(error).split())[:300]}"
        ) from error
    return network.eval().requires_grad_(False)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_file(package: str, inside: str) -> Path | None:
    """Return a file that an installed package carries, without importing the package.

    None where it is not installed.
    """
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found else None
    return next((path for place in places or () if (path := Path(place) / inside).is_file()), None)


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


_ALLOWED = {
    **arrays_of("f4", "f8"),
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Unpickler(SafeUnpickler):
    """Unpickles names, numbers, dictionaries, tensors and arrays of floats."""

    def __init__(
        self, file: io.BytesIO, storage: Callable[[torch.dtype, str, int], Tensor] | None = None
    ) -> None:
        super().__init__(file, _ALLOWED)
        self._storage = storage

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the numbers that tensors are views of."""
        if self._storage is None or pid[0] != "storage":
            raise pickle.UnpicklingError(f"it asks for {pid!r}")
        _, dtype, key, _, count, *_ = pid
        return self._storage(dtype, key, count)


def _zipped(content: bytes) -> Any:
    """Return what torch's format since 1.6 holds: a zip of data.pkl and storages."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # torch stores them as they are; what is packed could unpack to any size.
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
            raise ValueError("its members are compressed, as torch never does")
        (index,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        folder = index.removesuffix("data.pkl")

        def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
            return torch.frombuffer(
                bytearray(archive.read(f"{folder}data/{key}")), dtype=dtype, count=count
            )

        return _Unpickler(io.BytesIO(archive.read(index)), storage).load()


def _plain(content: bytes) -> Any:
    """Return what a bare pickle, or torch's old format, holds.

    That is: magic number, version, system, the object, names of storages, their bytes.
    """
    file = io.BytesIO(content)
    first = _Unpickler(file).load()
    if first != _MAGIC:
        return first
    if _Unpickler(file).load() != _PROTOCOL or not _Unpickler(file).load()["little_endian"]:
        raise pickle.UnpicklingError("a version of torch's format that is not known")
    storages: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        if count * dtype.itemsize > len(content):
            raise pickle.UnpicklingError(
                f"a storage of {count} numbers in a file of {len(content)} bytes"
            )
        return storages.setdefault(key, torch.empty(count, dtype=dtype))

    # The bytes come after the object whose tensors are views of them.
    tree = _Unpickler(file, storage).load()
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        held = storages[key]
        if count != len(held):
            raise pickle.UnpicklingError(f"a storage of {count} numbers instead of {len(held)}")
        held.copy_(torch.frombuffer(bytearray(file.read(count * held.itemsize)), dtype=held.dtype))
    return tree


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, Tensor):
        yield prefix, tree
    elif isinstance(tree, Array):
        # In the machine's own order of bytes, and memory of their own.
        yield prefix, torch.from_numpy(tree.numbers.astype(tree.numbers.dtype.newbyteorder("=")))
    else:
        raise pickle.UnpicklingError(
            f"{prefix or 'the whole'} is a {type(tree).__name__} instead of a tensor"
        )
