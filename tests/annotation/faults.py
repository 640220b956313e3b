"""Disks that refuse, for the tests of annotations."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def refusing(folder: Path, error: int) -> Iterator[None]:
    """Within this, everything that writes into a folder fails as a disk with this errno does."""

    def guarded(original: Callable[..., Any], at: Callable[..., Path]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if at(*args).is_relative_to(folder):
                raise OSError(error, os.strerror(error), str(at(*args)))
            return original(*args, **kwargs)

        return call

    def first(path: Any, *_: Any) -> Path:
        return Path(path)

    def archive(file: zipfile.ZipFile, *_: Any) -> Path:
        return Path(str(file.filename))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink", "mkdir", "rename"):
            patch.setattr(Path, name, guarded(getattr(Path, name), first))
        patch.setattr(zipfile.ZipFile, "writestr", guarded(zipfile.ZipFile.writestr, archive))
        patch.setattr(shutil, "rmtree", guarded(shutil.rmtree, first))
        for module in ("disk", "journal", "files"):
            where = f"napari_genselfdiff.annotation.{module}"
            for name in ("write_file", "flush_file", "append_file"):
                original = getattr(sys.modules[where], name, None)
                if original is not None:
                    patch.setattr(f"{where}.{name}", guarded(original, first))
        yield


@contextmanager
def gone(folder: Path) -> Iterator[None]:
    """Within this, the folder is not there, as when a network drive goes away."""
    away = folder.with_name(f"{folder.name} is away")
    folder.rename(away)
    try:
        yield
    finally:
        away.rename(folder)
