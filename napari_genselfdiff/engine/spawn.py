"""Starting processes that know nothing of the program that starts them, and how they begin."""

from __future__ import annotations

import os
import signal
import sys
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_genselfdiff.engine.heap import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Iterator


def settle_in(niceness: int) -> None:
    """Prepare a process that computes for another: it gives way to others, and Ctrl+C is not its.

    ``niceness`` is how much it gives way (Unix).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    keep_freed_memory()


@contextmanager
def without_main() -> Iterator[None]:
    """Hide the program's main module, which a spawned process would run again from the top.

    The worker needs nothing of it, and a script without a main guard would start itself anew.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
