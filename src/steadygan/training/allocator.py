"""A setting of the C library that small training loops need."""

from __future__ import annotations

import ctypes


def keep_memory() -> None:
    """Tell glibc, for this process, to keep freed memory.

    Small loops otherwise spend up to a third of their time on page faults.

    Elsewhere nothing happens. For processes of your own the variables MALLOC_TRIM_THRESHOLD_,
    MALLOC_TOP_PAD_ and MALLOC_MMAP_THRESHOLD_, set before they start, do the same.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    for option, value in ((trim_threshold, 1 << 30), (top_pad, 1 << 26), (mmap_threshold, 1 << 30)):
        mallopt(option, value)
