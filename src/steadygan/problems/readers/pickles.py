"""Pickles of other people, read without running anything that they name."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

Allowed = Mapping[tuple[str, str], Any]
"""What stands for the names that a pickle may ask for, by module and name."""


# Python's own unpickler: the faster one in C takes as much memory as a pickle bids it to.
class SafeUnpickler(pickle._Unpickler):
    """Unpickles strings, numbers, lists, dictionaries and what is allowed.

    Whatever else a pickle names is refused before it is imported.

    >>> import io
    >>> SafeUnpickler(io.BytesIO(pickle.dumps({"a": 1})), {}).load()
    {'a': 1}
    """

    def __init__(self, file: IO[bytes], allowed: Allowed, encoding: str = "ASCII") -> None:
        super().__init__(file, encoding=encoding)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for an allowed name."""
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return self._allowed[module, name]


class Kind:
    """Stands in for numpy.dtype while unpickling."""

    order = "<"

    def __init__(self, name: str | bytes, *_: Any) -> None:
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] in (">", b">") else "<"


class Array:
    """Stands in for numpy.ndarray while unpickling, so that no stranger reaches NumPy's insides."""

    numbers: np.ndarray

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._kinds = kinds

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, raw = state
        if kind.name not in self._kinds:
            raise pickle.UnpicklingError(
                f"an array of {kind.name!r} instead of {' or '.join(self._kinds)}"
            )
        flat = np.frombuffer(raw, kind.order + kind.name)
        self.numbers = flat.reshape(shape, order="F" if fortran else "C")


def arrays_of(*kinds: str) -> Allowed:
    """Return what stands for arrays of some kinds of numbers, such as ``u1`` and ``f4``."""
    return {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: Array(kinds),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: Array(kinds),
        ("numpy", "ndarray"): Array,
        ("numpy", "dtype"): Kind,
    }
