"""The files of a store, by their place in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.disk import append_file
from napari_genselfdiff.errors import StoreCorruptError

if TYPE_CHECKING:
    from pathlib import Path


class Files:
    """Files of a store by key, which is their path within it, such as ``journal/0000000001.zip``.

    Parameters
    ----------
    home
        Folder of the store.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def read(self, key: str, limit: int) -> bytes | None:
        """Bytes of a file, None if there is none.

        Raises
        ------
        StoreCorruptError
            If it is larger than ``limit``.
        OSError
            If the disk refuses.
        """
        try:
            with (self.home / key).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            return None
        if len(data) > limit:
            raise StoreCorruptError(
                f"the annotations {self.home.name} are damaged: {key} is far too large. Restore "
                "the folder from a backup"
            )
        return data

    def append(self, key: str, data: bytes) -> None:
        """Add to a file, which is made if need be; on the disk itself afterwards."""
        append_file(self.home / key, data)
