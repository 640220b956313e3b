"""Where a slide's annotations lie, how they begin, and whether they belong to the slide."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import platformdirs

from napari_genselfdiff import __version__
from napari_genselfdiff.annotation.arrays import list_labels
from napari_genselfdiff.annotation.disk import disk_errors, remove_tree
from napari_genselfdiff.annotation.schema import StoreRecord, write_record
from napari_genselfdiff.errors import StoreMismatchError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.schema import SlideRecord

SUFFIX = ".gsd.zarr"


def default_store_path(slide_path: str | Path) -> Path:
    """Folder for a slide's annotations: beside the slide, else in the user's data folder.

    Beside means ``<slide file name>.gsd.zarr``. Where that folder is read-only, the name gets part
    of a hash of the slide's path, so that two slides of one name keep apart; they stay there when
    the folder can be written later. Annotations that lie beside the slide and cannot be written are
    opened all the same, unless there are own ones.
    """
    slide = Path(slide_path).absolute()
    beside = slide.with_name(slide.name + SUFFIX)
    home = os.environ.get("GENSELFDIFF_HOME")
    data = Path(home) if home else platformdirs.user_data_path("napari-genselfdiff", False)
    digest = hashlib.sha256(str(slide).encode()).hexdigest()[:12]
    own = data / "annotations" / f"{slide.name}-{digest}{SUFFIX}"
    if own.exists() and not beside.is_dir():
        return own  # also when the folder can be written by now: they go on where they are
    writable = beside if beside.is_dir() else slide.parent
    if os.access(writable, os.W_OK | os.X_OK) or (beside.is_dir() and not own.exists()):
        return beside
    return own


def create_store(path: Path, slide: SlideRecord) -> None:
    """Create an empty store; the folder appears whole or not at all.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    record = StoreRecord(
        app_version=__version__,
        store_id=uuid4().hex,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        slide=slide,
    )
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    with disk_errors(f"create the annotations {path}"):
        try:
            partial.mkdir(parents=True)
            list_labels(partial, [])
            write_record(partial, record)
            if not path.exists():  # a second window may have been quicker; then that one counts
                partial.rename(path)
        finally:
            remove_tree(partial)


def check_slide(path: Path, found: StoreRecord, slide: SlideRecord) -> None:
    """Refuse annotations of another slide.

    Raises
    ------
    StoreMismatchError
        If identity or size differ.
    """
    size, needed = (found.slide.height, found.slide.width), (slide.height, slide.width)
    if found.slide.hash != slide.hash or size != needed:
        raise StoreMismatchError(
            f"the annotations {path.name} belong to another slide ({Path(found.slide.path).name}, "
            f"{size[0]} x {size[1]}); this one has {needed[0]} x {needed[1]} pixels and another "
            "content. Choose the right slide or another folder"
        )
