"""Slides kept open between patches: few files, few bytes, however many slides there are."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_genselfdiff.slides.slide import Slide, open_slide

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_genselfdiff.slides.color_names import Colors


@dataclass
class _Entry:
    slide: Slide
    users: int = 0
    nbytes: int = 0

    @property
    def holds_file(self) -> bool:
        return self.slide.reader != "image"  # a plain image is read whole and its file closed


class SlideCache:
    """The most recently used slides and images; safe between threads.

    Parameters
    ----------
    max_bytes
        Upper bound of decoded pixels of all of them together, those in use right now aside.
    max_open
        Upper bound of open files, those in use right now aside. An open slide also holds the
        places of its tiles, a few MiB.
    colors
        Colours they are read with.
    """

    def __init__(
        self, max_bytes: int = 2**30, max_open: int = 64, colors: Colors = "stored"
    ) -> None:
        self.max_bytes, self.max_open, self.colors = max_bytes, max_open, colors
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._nbytes = self._files = 0

    @property
    def nbytes(self) -> int:
        """Decoded pixels held, as of the last use of each slide."""
        return self._nbytes

    @property
    def n_open(self) -> int:
        """Files held open."""
        return self._files

    @contextmanager
    def lend(self, path: Path) -> Iterator[Slide]:
        """Lend an open slide; it is not closed before it is given back.

        Raises
        ------
        SlideError
            If the file cannot be opened.
        """
        entry = self._take(path)
        try:
            yield entry.slide
        finally:
            self._give_back(entry)

    def close(self) -> None:
        """Close every slide."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
            self._nbytes = self._files = 0
        for entry in entries:
            entry.slide.close()

    def _take(self, path: Path) -> _Entry:
        with self._lock:
            entry = self._entries.get(path)
            if entry is not None:
                entry.users += 1
                self._entries.move_to_end(path)
                return entry
        slide = open_picture(path, self.colors)  # slow, so not under the lock
        with self._lock:
            entry = self._entries.get(path)
            if entry is None:
                entry = self._entries[path] = _Entry(slide)
                self._files += entry.holds_file
            entry.users += 1
            self._entries.move_to_end(path)
        if entry.slide is not slide:  # another thread was faster
            slide.close()
        return entry

    def _give_back(self, entry: _Entry) -> None:
        held = entry.slide.nbytes
        with self._lock:
            entry.users -= 1
            self._nbytes += held - entry.nbytes
            entry.nbytes = held
            closed = self._trim()
        for slide in closed:
            slide.close()

    def _trim(self) -> list[Slide]:
        """Take out what is too much, the least recently used first."""
        if self._files <= self.max_open and self._nbytes <= self.max_bytes:
            return []
        closed = []
        for path, entry in list(self._entries.items()):
            if self._files <= self.max_open and self._nbytes <= self.max_bytes:
                break
            if entry.users:
                continue
            self._nbytes -= entry.nbytes
            entry.nbytes = 0
            if entry.holds_file and self._files <= self.max_open:
                entry.slide.forget()  # its tiles can be read again without opening it
                continue
            self._files -= entry.holds_file
            closed.append(self._entries.pop(path).slide)
        return closed


def open_picture(path: Path, colors: Colors = "stored") -> Slide:
    """Open a slide, a plain image or a zarr picture."""
    return open_slide(path, colors=colors)
