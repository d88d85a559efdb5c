"""What a critic may ask of a tensor without touching its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def called(kinds: Sequence[Any], names: str) -> list[Any]:
    """Return the operations of these names, as far as torch has them."""
    return [getattr(kind, name) for kind in kinds for name in names.split() if hasattr(kind, name)]


_VALUES = {"data", "T", "mT", "H", "mH", "real", "imag", "grad", "_grad", "_base"}
LOOKS: set[Any] = {
    *(
        what.__get__
        for kind in (torch._C.TensorBase, torch.Tensor)
        for name, what in vars(kind).items()
        if hasattr(type(what), "__set__") and hasattr(what, "__get__") and name not in _VALUES
    ),
    *called(
        [torch.Tensor],
        """size dim numel nelement stride is_contiguous __len__ is_floating_point is_complex
        get_device element_size storage_offset new_zeros new_ones new_full new_empty
        requires_grad_""",
    ),
    *called(
        [torch],
        "is_floating_point is_complex numel is_tensor zeros_like ones_like full_like empty_like",
    ),
}
"""What looks at an activation without touching its values."""
