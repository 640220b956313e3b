"""The files of a store, by their place in it; kept aside where its own folder refuses them."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from zarr.storage import LocalStore

from napari_genselfdiff.annotation.disk import append_file, replace_file
from napari_genselfdiff.annotation.schema import ROOT_FILE
from napari_genselfdiff.errors import StoreCorruptError

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES: Final = 256 * 2**20
REMEMBERED_BYTES: Final = 64 * 2**20
_LITTLE: Final = 200  # what remembering costs beside the bytes


class Files:
    """Files of a store by key, which is their path within it, such as ``tables/x/c/0/0``.

    They lie in the store's own folder. Once that refuses to be written, ``aside`` names a folder of
    this computer: everything is written there from then on, and what is there hides what lies under
    the same key at home (an empty file hides it altogether). Small files that were read lately are
    remembered, so that what is on screen stays readable when a network drive goes away.

    Reading may happen in any thread.

    Parameters
    ----------
    home
        Folder of the store.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.aside: Path | None = None
        self._remembered: OrderedDict[str, bytes | None] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path:
        """Where files are written."""
        return self.home if self.aside is None else self.aside

    def find(self, key: str) -> Path:
        """Place of a file that may be read; it need not exist."""
        if self.aside is not None and (self.aside / key).is_file():
            return self.aside / key
        return self.home / key

    def read(self, key: str, limit: int = MAX_FILE_BYTES) -> bytes | None:
        """Bytes of a file, None if there is none.

        Raises
        ------
        StoreCorruptError
            If it is larger than ``limit``.
        OSError
            If the disk refuses, or the whole folder is gone (FileNotFoundError).
        """
        kept_aside = self.aside is not None and (self.aside / key).is_file()
        # Plain text: a slide has thousands of these, and making a Path takes as long as opening it.
        path = f"{self.aside if kept_aside else self.home}/{key}"
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                too_large = os.fstat(file.fileno()).st_size > limit
                data = None if too_large else file.readall()
        except FileNotFoundError as err:
            if not self.is_there():  # else a drive that is gone would look like an empty slide
                return self._recall(key, err)
            data, too_large = None, False
        except OSError as err:
            return self._recall(key, err)
        if too_large:
            raise StoreCorruptError(
                f"the annotations {self.home.name} are damaged: {key} is far too large. Restore "
                "the folder from a backup"
            )
        if kept_aside:
            return data or None  # an empty file hides what is at home
        self._remember(key, data)
        return data

    def write(self, key: str, data: bytes | None, *, durable: bool = False) -> None:
        """Replace a file whole; None takes it away. OSError if the disk refuses."""
        path = self.writable(key)
        if data is None and self.aside is None:
            path.unlink(missing_ok=True)
        else:
            replace_file(path, data or b"", durable=durable)
        if self.aside is None:
            self._remember(key, data)

    def append(self, key: str, data: bytes) -> None:
        """Add to a file, which is made if need be; on the disk itself afterwards."""
        append_file(self.writable(key), data)

    def writable(self, key: str) -> Path:
        """Place to write a file, in a folder that exists.

        FileNotFoundError if the store's folder is gone: nothing may be made in its place.
        """
        if self.aside is None and not self.is_there():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(self.home))
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def is_there(self) -> bool:
        """Whether the store's own folder can be reached."""
        return (self.home / ROOT_FILE).exists()

    def come_home(self) -> None:
        """Write to the store's own folder again, which holds everything; others changed it."""
        with self._lock:
            self.aside, self._size = None, 0
            self._remembered.clear()

    def replaced(self, key: str) -> None:
        """Take note that a file is another one now."""
        with self._lock:
            self._drop(key)
        if key.startswith("tables/"):  # small, and asked for at every step
            with suppress(OSError):
                self.read(key)

    def _recall(self, key: str, err: OSError) -> bytes | None:
        with self._lock:
            if key in self._remembered:
                return self._remembered[key]
        raise err

    def _remember(self, key: str, data: bytes | None) -> None:
        with self._lock:
            self._drop(key)
            if len(data or b"") > REMEMBERED_BYTES // 16:
                return
            self._remembered[key] = data
            self._size += _LITTLE + len(data or b"")
            while self._size > REMEMBERED_BYTES:
                self._drop(next(iter(self._remembered)))

    def _drop(self, key: str) -> None:
        if key in self._remembered:
            self._size -= _LITTLE + len(self._remembered.pop(key) or b"")


class ShownStore(LocalStore):
    """What zarr reads the arrays of a store through: its folder, and what is kept aside."""

    def __init__(self, files: Files) -> None:
        super().__init__(files.home, read_only=True)
        self._files = files

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Bytes of a file; None where there is none or the drive is gone."""
        if self._as_usual(prototype, byte_range):
            return await super().get(key, prototype, byte_range)
        return self._kept(key, prototype)

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        """As :meth:`get`, at once."""
        if self._as_usual(prototype, byte_range):
            return super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._kept(key, prototype)

    def _as_usual(self, prototype: Any, byte_range: Any) -> bool:
        """Whether this is nothing but a read at home; arrays read whole files and name a buffer."""
        return self._files.aside is None or prototype is None or byte_range is not None

    def _kept(self, key: str, prototype: Any) -> Any:
        try:
            data = self._files.read(key)
        except OSError:
            return None
        return None if data is None else prototype.buffer.from_bytes(data)
