"""Memory of large tables goes back to the system when they are replaced.

A hash table of a few hundred thousand blocks is rebuilt now and then, and each time tens of
megabytes are freed at once. The C library (glibc) maps blocks of that size one by one and unmaps
them again, but each time it does it raises the size from which on it will, up to 32 MiB: from then
on tables come from the heap, and leave holes of their size in it. The process then takes a table
or two more than it uses, sometimes, for hours. A fixed threshold keeps large blocks apart.

Source: mallopt(3), M_MMAP_THRESHOLD.
"""

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD in malloc.h
_LARGE_BYTES: Final = 8 << 20  # above most request bodies, which the heap serves faster


def keep_large_blocks_apart() -> bool:
    """Fix the threshold for this process; False where the C library has none."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE_BYTES) == 1)
