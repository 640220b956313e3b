"""Which reader a file is for, by its content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.source import READABLE, Source

if TYPE_CHECKING:
    from pathlib import Path

_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def open_source(path: Path) -> Source:
    """Open a file, or the folder of a DICOM slide or an OME-Zarr.

    Raises
    ------
    SlideError
        In one line: what was found, and what can be read.
    """
    from napari_genselfdiff.slides import zarr_reader

    if path.is_dir() and zarr_reader.is_zarr(path):
        return zarr_reader.open_zarr(path)
    return _open_file(file_of(path))


def file_of(path: Path) -> Path:
    """Give the file itself, or for a folder of DICOM files the first of them."""
    if not path.is_dir():
        return path
    from napari_genselfdiff.slides.dicom_reader import dicom_files

    found = dicom_files(path)
    if not found:
        raise SlideError(
            f"{path.name} is a folder without DICOM files, and no zarr; readable are {READABLE}"
        )
    return found[0]


def _open_file(path: Path) -> Source:
    # Readers are imported when they are needed: each brings a library of its own.
    from napari_genselfdiff.slides import dicom_reader, image, openslide_reader

    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise SlideError(f"{path} cannot be read: {error.strerror or error}") from error
    if head.startswith(_TIFF):
        from napari_genselfdiff.slides import tiff

        try:
            return tiff.open_tiff(path)
        except tiff.VendorFormatError as error:
            return openslide_reader.open_with_openslide(path, error.vendor)
    if dicom_reader.is_dicom(head):
        return _open_dicom(path)
    kind = image.image_format(head)
    if kind is not None and path.suffix.lower() != ".mrxs":  # MRXS starts with a JPEG
        return image.open_image(path, kind)
    vendor = openslide_reader.openslide_vendor(path)
    if vendor is not None:
        return openslide_reader.open_with_openslide(path, vendor)
    hint = " (OpenSlide is not installed)" if openslide_reader.openslide_missing() else ""
    raise SlideError(f"{path.name} {_described(head)}, not a slide; readable are {READABLE}{hint}")


def _open_dicom(path: Path) -> Source:
    """Read with OpenSlide what it can, and all else with wsidicom."""
    from napari_genselfdiff.slides import dicom_reader, openslide_reader

    refused: SlideError | None = None
    if openslide_reader.openslide_vendor(path) is not None:
        try:
            return openslide_reader.open_with_openslide(path, "DICOM")
        except SlideError as error:
            refused = error
    if refused is not None and dicom_reader.wsidicom_missing():
        hint = f"{refused}; wsidicom reads more kinds of DICOM: {dicom_reader.INSTALL}"
        raise SlideError(hint) from refused
    return dicom_reader.open_with_wsidicom(path)


def _described(head: bytes) -> str:
    if not head:
        return "is empty"
    for start, name in ((b"PK", "a ZIP archive"), (b"%PDF", "a PDF"), (b"\x1f\x8b", "a gzip file")):
        if head.startswith(start):
            return f"is {name}"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "is a text file"
    return f"starts with the bytes {head[:4].hex(' ')}"
