"""Find the slides and images in folders of everything."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.slides.zarr_reader import is_zarr

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
SLIDES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".czi", ".svslide"})
_NOT_TISSUE = frozenset({"masks", "labels"})
_ANNOTATIONS = ".gsd.zarr"
_READABLE = "SVS, NDPI, MRXS, SCN, BIF, VMS, CZI, TIFF, DICOM folders, zarr, PNG, JPEG and BMP"


@dataclass
class Found:
    """What lies in some folders: pictures by name order, and what was passed over, by kind."""

    pictures: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def summary(self) -> str:
        """One sentence for the user."""
        kinds = Counter(path.suffix.lower() or "folder" for path in self.pictures)
        text = f"{len(self.pictures)} pictures ({_counted(kinds)})" if kinds else "no picture"
        return f"{text}, and {self.others.total()} other files" + (
            f" ({_counted(self.others)})" if self.others else ""
        )


def find_pictures(folders: list[Path]) -> Found:
    """Look through folders and all below, by name alone; nothing is opened.

    A folder of DICOM files is one slide, a zarr array or image is one picture. Hidden files, our
    own annotations, and folders called ``masks`` or ``labels`` are passed over.

    Raises
    ------
    ConfigError
        If a folder does not exist, or none holds a picture: says what was found instead.
    """
    found = Found()
    seen: set[Path] = set()
    for folder in folders:
        if folder.is_file():  # a single slide is a folder of one
            found.pictures.append(folder)
        elif folder.is_dir():
            _search(folder, found, seen)
        else:
            raise ConfigError(f"the folder {folder} does not exist; check data.folders")
    found.pictures = sorted(set(found.pictures))
    if not found.pictures:
        names = ", ".join(str(folder) for folder in folders)
        raise ConfigError(f"{names}: {found.summary()}; readable are {_READABLE}")
    return found


def _search(folder: Path, found: Found, seen: set[Path]) -> None:
    real = folder.resolve()
    if real in seen:  # a link back to a folder above
        return
    seen.add(real)
    if folder.name.endswith(_ANNOTATIONS):
        found.others[_ANNOTATIONS] += 1
        return
    if is_zarr(folder):
        found.pictures.append(folder)
        return
    try:
        visible = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        found.others["folder that cannot be read"] += 1
        return
    for entry in (e for e in visible if e.is_dir()):
        if entry.name.lower() in _NOT_TISSUE:
            found.others[f"folder {entry.name}"] += 1
        else:
            _search(Path(entry.path), found, seen)
    _sort_files(folder, [entry.name for entry in visible if not entry.is_dir()], found)


def _sort_files(folder: Path, names: list[str], found: Found) -> None:
    suffixes = [Path(name).suffix.lower() for name in names]
    for name, suffix in zip(names, suffixes, strict=True):
        if suffix in IMAGES or suffix in SLIDES:
            found.pictures.append(folder / name)
        elif suffix != ".dcm":
            found.others[suffix or "no suffix"] += 1
    if ".dcm" in suffixes:
        found.pictures.append(folder)


def _counted(kinds: Counter[str]) -> str:
    common = [f"{count} {kind}" for kind, count in kinds.most_common(6)]
    return ", ".join(common + (["…"] if len(kinds) > 6 else []))
