"""Load libraries before the window needs them, so that it does not stand still then."""

from __future__ import annotations

import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

NEEDED_SOON: Final = ("pandas",)
"""napari loads it with its first layer of labels, which takes 0.5 s of the window's thread."""


def load_ahead(modules: Sequence[str] = NEEDED_SOON) -> threading.Thread:
    """Import modules on a thread of their own; one that is missing is left to who needs it."""

    def load() -> None:
        for name in modules:
            with suppress(ImportError):
                import_module(name)

    thread = threading.Thread(target=load, name="load-ahead")
    thread.start()
    return thread
