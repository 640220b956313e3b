"""Features of a GeoJSON file one after the other, however long it is and whoever wrote it."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from napari_genselfdiff.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 8 * 2**30  # unpacked; a slide of a million nuclei has about 1 GB
MAX_FEATURE = 2**27  # characters of one feature, or before the first; four bytes each at most
MAX_BLANKS = 2**26  # in a row
_BOMB = 2**26, 200  # bytes unpacked, and how many times the packed ones, that no slide's shapes are
_BLANKS = re.compile(r"\s*")
_PIECE = 2**20
_START = '"features"'


def read_features(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield what the file says of itself (``genselfdiff``, else empty) with each feature.

    Raises
    ------
    ExchangeError
        If the file cannot be read, is not JSON in UTF-8, or larger than anything we can hold.
    """
    with _readable(path), _binary(path) as raw:
        text = _Text(raw, path.name, path.stat().st_size)
        about = text.open()
        while (feature := text.feature()) is not None:
            yield about, feature[0]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except ExchangeError:
        raise
    except FileNotFoundError as err:
        raise ExchangeError(f"{path} is not there; choose a file that is") from err
    except UnicodeDecodeError as err:
        raise ExchangeError(f"{path.name} is not UTF-8 text; save it as UTF-8 GeoJSON") from err
    except (OSError, EOFError, zlib.error) as err:
        raise ExchangeError(f"{path.name} cannot be read: {err}; copy it again") from err


@contextmanager
def _binary(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked
        else:
            yield raw


class _Text:
    """The file's text, a piece at a time."""

    def __init__(self, raw: BinaryIO | gzip.GzipFile, name: str, size: int) -> None:
        self._raw, self._name, self._size = raw, name, size
        self._decoder = json.JSONDecoder(parse_constant=_no_constant)
        self._buffer, self._at, self._bytes = "", 0, 0
        self._rest = b""
        self._single: list[Any] | None = None

    def open(self) -> dict[str, Any]:
        """Go to the first feature; what the file says of itself before."""
        self._more()
        self._buffer = self._buffer.removeprefix("\ufeff")
        start = self._peek()
        if start == "[":
            self._at += 1
            return {}
        if start != "{":
            self._fail("it does not begin like GeoJSON")
        while (found := self._buffer.find(_START)) < 0:
            if len(self._buffer) > MAX_FEATURE:
                self._fail(f"no features are in its first {MAX_FEATURE:,} characters")
            if not self._more():
                self._single = [self._value()]  # one feature alone
                return {}
        head = self._buffer[self._at : found].rstrip().removesuffix(",") + "}"
        self._at = found + len(_START)
        for mark in ":[":
            if self._peek() != mark:
                self._fail("its features are no list")
            self._at += 1
        return self._about(head)

    def feature(self) -> list[Any] | None:
        """Next feature, in a list of one; None at the end."""
        if self._single is not None:
            return [self._single.pop()] if self._single else None
        mark = self._peek()
        if mark == ",":
            self._at += 1
            mark = self._peek()
        if mark == "]":
            return None
        return [self._value()]

    def _about(self, head: str) -> dict[str, Any]:
        try:
            about = self._decoder.decode(head).get("genselfdiff", {})
        except (ValueError, RecursionError):
            return {}  # whatever comes before the features, we do not need it
        return about if isinstance(about, dict) else {}

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError:
                self._fail("it is nested too deeply")
            except ValueError as err:
                if "no number" in str(err):
                    self._fail(str(err))
                if len(self._buffer) - self._at > MAX_FEATURE:
                    self._fail(f"one feature has more than {MAX_FEATURE:,} characters")
                if not self._more():
                    self._fail(f"it is not complete JSON ({err})")
            else:
                self._at = end
                return value

    def _peek(self) -> str:
        blanks = 0
        while True:
            found = _BLANKS.match(self._buffer, self._at)
            end = self._at if found is None else found.end()
            blanks, self._at = blanks + end - self._at, end
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if blanks > MAX_BLANKS:
                self._fail(f"it has more than {MAX_BLANKS:,} blanks in a row")
            if not self._more():
                self._fail("it ends too early")

    def _more(self) -> bool:
        """Read on, twice as much each time; whether there was anything."""
        piece = self._raw.read(max(_PIECE, len(self._buffer) - self._at))
        self._bytes += len(piece)
        if self._bytes > MAX_BYTES:
            self._fail(f"it has more than {MAX_BYTES:,} bytes")
        least, times = _BOMB
        if self._bytes > max(least, times * self._size):
            self._fail(f"{self._size:,} bytes unpack to more than {self._bytes:,}")
        data = self._rest + piece
        cut = _complete(data) if piece else len(data)
        text = data[:cut].decode("utf-8")
        self._rest = data[cut:]
        self._buffer, self._at = self._buffer[self._at :] + text, 0
        return bool(piece)

    def _fail(self, why: str) -> NoReturn:
        raise ExchangeError(f"{self._name} cannot be imported: {why}. Export it again as GeoJSON")


def _complete(data: bytes) -> int:
    """Length without a character that was cut off at the end."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if needed > back else len(data)
        if byte < 0x80:
            break
    return len(data)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
