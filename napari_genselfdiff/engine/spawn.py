"""Starting processes that know nothing of the program that starts them."""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


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
