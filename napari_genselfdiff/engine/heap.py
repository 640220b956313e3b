"""Memory that a process has freed and keeps for what it allocates next."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# Numbers of glibc's malloc.h, see mallopt(3).
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_LARGEST: Final = 2**28  # bytes of an array that is taken from what was freed
_KEPT: Final = 2**29  # bytes kept at most at the end of the heap


def keep_freed_memory() -> bool:
    """Let this process keep memory it frees, up to half a gigabyte; whether it does so now.

    The maps of a block or a view are tens of megabytes each. By default the C library gives them
    back to the system one by one, which clears every page anew for the next; what that costs is
    measured by ``benchmarks/freed_memory.py``. Only glibc is asked (Linux); elsewhere nothing
    happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _KEPT))
