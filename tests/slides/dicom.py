"""DICOM slides written by hand with pydicom, one file a level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

Encode = Callable[[NDArray[Any]], bytes]
SYNTAXES: dict[str, tuple[str, Encode | None]] = {
    "raw": ("1.2.840.10008.1.2.1", None),
    "deflated": ("1.2.840.10008.1.2.1.99", None),
    "rle": ("1.2.840.10008.1.2.5", lambda tile: _rle(tile)),
    "jpegls": ("1.2.840.10008.1.2.4.80", lambda tile: bytes(imagecodecs.jpegls_encode(tile))),
    "jpeg2000": (
        "1.2.840.10008.1.2.4.90",
        lambda tile: bytes(imagecodecs.jpeg2k_encode(tile, codecformat="j2k", reversible=True)),
    ),
    "jpeg": (
        "1.2.840.10008.1.2.4.50",
        lambda tile: bytes(imagecodecs.jpeg8_encode(tile, level=95, subsampling="444")),
    ),
}
_WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
_ROOT = "1.2.826.0.1.3680043.8.498."


def write_dicom(
    folder: Path,
    levels: list[NDArray[Any]],
    *,
    syntax: str = "jpegls",
    tile: tuple[int, int] = (240, 192),
    mpp: float = 0.3,
    sparse: bool = False,
    icc: bytes | None = None,
    suffix: str = ".dcm",
    series: int = 7,
    label: NDArray[np.uint8] | None = None,
) -> Path:
    """Write ``levels`` (H, W, 3) or grey (H, W), sharpest first; if sparse, without white tiles.

    Returns
    -------
    Path
        The folder.
    """
    images = [(level, "VOLUME", tile) for level in levels]
    if label is not None:
        images.append((label, "LABEL", label.shape[:2]))
    height, width = levels[0].shape[:2]
    for number, (pixels, kind, one) in enumerate(images):
        spacing = mpp / 1000 * width / pixels.shape[1]
        data = _dataset(pixels, kind, one, spacing, f"{_ROOT}{series}", number)
        data.ImagedVolumeWidth, data.ImagedVolumeHeight = width * mpp / 1000, height * mpp / 1000
        if icc is not None:
            data.OpticalPathSequence[0].ICCProfile = icc
        uid, encode = SYNTAXES[syntax]
        _fill(data, _tiles(pixels, one), one, uid, encode, sparse=sparse and kind == "VOLUME")
        data.save_as(folder / f"{number}{suffix}", enforce_file_format=True)
    return folder


def _dataset(
    pixels: NDArray[Any], kind: str, tile: tuple[int, int], spacing: float, root: str, number: int
) -> Any:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def item(**values: Any) -> Any:
        one = Dataset()
        for name, value in values.items():
            setattr(one, name, value)
        return one

    samples = 1 if pixels.ndim == 2 else 3
    measures = item(PixelSpacing=[f"{spacing:.12f}"[:16]] * 2, SliceThickness="0.001")
    values: dict[str, Any] = {
        "SOPClassUID": _WSI,
        "SOPInstanceUID": f"{root}.1.{number}",
        "StudyInstanceUID": f"{root}.2",
        "SeriesInstanceUID": f"{root}.3",
        "FrameOfReferenceUID": f"{root}.4",
        "ImageType": ["ORIGINAL" if number == 0 else "DERIVED", "PRIMARY", kind, "NONE"],
        "Modality": "SM",
        "Manufacturer": "none",
        "PatientName": "Nobody",
        "PatientID": "0",
        "SamplesPerPixel": samples,
        "PhotometricInterpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "Rows": tile[0],
        "Columns": tile[1],
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": pixels.dtype.itemsize * 8,
        "HighBit": pixels.dtype.itemsize * 8 - 1,
        "PixelRepresentation": 0,
        "TotalPixelMatrixRows": pixels.shape[0],
        "TotalPixelMatrixColumns": pixels.shape[1],
        "TotalPixelMatrixFocalPlanes": 1,
        "NumberOfOpticalPaths": 1,
        "ImagedVolumeDepth": 0.001,
        "ImageOrientationSlide": [0, -1, 0, -1, 0, 0],
        "OpticalPathSequence": Sequence([item(OpticalPathIdentifier="0")]),
        "SharedFunctionalGroupsSequence": Sequence(
            [item(PixelMeasuresSequence=Sequence([measures]))]
        ),
    }
    data = item(**values)
    if samples == 3:
        data.PlanarConfiguration = 0
    return data


def _tiles(pixels: NDArray[Any], tile: tuple[int, int]) -> list[list[NDArray[Any]]]:
    """Rows of tiles; those of the border repeat its pixels, as scanners do."""
    rows, columns = (-(-n // t) for n, t in zip(pixels.shape[:2], tile, strict=True))
    more = rows * tile[0] - pixels.shape[0], columns * tile[1] - pixels.shape[1]
    padding = [(0, more[0]), (0, more[1])] + [(0, 0)] * (pixels.ndim - 2)
    padded = np.pad(pixels, padding, mode="edge")
    return [
        [
            np.ascontiguousarray(
                padded[i * tile[0] : (i + 1) * tile[0], j * tile[1] : (j + 1) * tile[1]]
            )
            for j in range(columns)
        ]
        for i in range(rows)
    ]


def _fill(
    data: Any,
    tiles: list[list[NDArray[Any]]],
    tile: tuple[int, int],
    uid: str,
    encode: Encode | None,
    *,
    sparse: bool,
) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate

    kept = [
        (i, j, one)
        for i, row in enumerate(tiles)
        for j, one in enumerate(row)
        if not (sparse and (one == 255).all())
    ]
    data.NumberOfFrames = len(kept)
    data.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    if sparse:
        data.PerFrameFunctionalGroupsSequence = [
            _position(i * tile[0] + 1, j * tile[1] + 1) for i, j, _ in kept
        ]
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = uid
    if encode is None:
        raw = b"".join(one.tobytes() for _, _, one in kept)
        data.PixelData = raw + bytes(len(raw) % 2)
        data["PixelData"].VR = "OB" if data.BitsAllocated == 8 else "OW"
    else:
        data.PixelData = encapsulate([encode(one) for _, _, one in kept])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True


def _position(row: int, column: int) -> Any:
    from pydicom.dataset import Dataset

    place, frame = Dataset(), Dataset()
    place.RowPositionInTotalImagePixelMatrix = row
    place.ColumnPositionInTotalImagePixelMatrix = column
    place.XOffsetInSlideCoordinateSystem = place.YOffsetInSlideCoordinateSystem = "0"
    place.ZOffsetInSlideCoordinateSystem = "0"
    frame.PlanePositionSlideSequence = [place]
    return frame


def _rle(tile: NDArray[Any]) -> bytes:
    """DICOM's run lengths (PS3.5 annex G): a table of 16 words, then each colour by itself."""
    planes = [tile] if tile.ndim == 2 else [tile[..., i] for i in range(tile.shape[2])]
    segments = []
    for plane in planes:
        rows = b"".join(bytes(imagecodecs.packbits_encode(row.tobytes())) for row in plane)
        segments.append(rows + bytes(len(rows) % 2))
    starts = [64 + sum(map(len, segments[:i])) for i in range(len(segments))]
    table = [len(segments), *starts, *[0] * (15 - len(segments))]
    return np.array(table, "<u4").tobytes() + b"".join(segments)
