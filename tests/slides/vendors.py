"""Scanner formats written by hand: Hamamatsu NDPI and VMS, 3DHISTECH MRXS, Ventana BIF.

No scanner made them; they hold what OpenSlide asks of each format, with pixels that are known.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

RGB = NDArray[np.uint8]


def jpeg(pixels: RGB, **options: Any) -> bytes:
    """A JPEG picture of the best quality, colours not thinned out."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=100, subsampling=0, **options)
    return file.getvalue()


def write_ndpi(path: Path, levels: list[RGB], *, mpp: float, lens: float = 20.0) -> Path:
    """Write a TIFF with Hamamatsu's tags, one JPEG strip a level, and offsets of 8 bytes."""
    out, link = bytearray(b"II*\0" + bytes(8)), 4
    for level in levels:
        height, width = level.shape[:2]
        step = levels[0].shape[1] / width
        strip, pixels = len(out), jpeg(level)
        out += pixels
        bits, resolution, make = len(out), len(out) + 6, len(out) + 14
        out += struct.pack("<3H2I10s", 8, 8, 8, round(1e7 / (mpp * step)), 1000, b"Hamamatsu")
        tags = [
            (254, 4, 1, 0),
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 3, bits),
            (259, 3, 1, 7),  # JPEG
            (262, 3, 1, 6),  # YCbCr
            (271, 2, 10, make),
            (273, 4, 1, strip),
            (277, 3, 1, 3),
            (278, 4, 1, height),
            (279, 4, 1, len(pixels)),
            (282, 5, 1, resolution),
            (283, 5, 1, resolution),
            (296, 3, 1, 3),  # per centimetre
            (530, 3, 2, 0x10001),  # colours not thinned out
            (65420, 4, 1, 1),  # Hamamatsu's: format, lens, place on the glass in nm, focal plane
            (65421, 11, 1, struct.unpack("<I", struct.pack("<f", lens / step))[0]),
            (65422, 9, 1, 0),
            (65423, 9, 1, 0),
            (65424, 9, 1, 0),
        ]
        out[link : link + 8] = struct.pack("<Q", len(out))
        out += struct.pack("<H", len(tags))
        for tag in tags:
            out += struct.pack("<HHII", *tag)
        link = len(out)
        out += bytes(8 + 4 * len(tags))  # the next one's place; upper halves of the values
    path.write_bytes(out)
    return path


def write_vms(folder: Path, pixels: RGB, overview: RGB) -> Path:
    """Write Hamamatsu's older format: a text that names JPEG pictures; sides multiples of 8."""
    for name, picture in (("a.jpg", pixels), ("map.jpg", overview), ("macro.jpg", overview)):
        (folder / name).write_bytes(jpeg(picture, restart_marker_rows=1))
    lines = (
        "[Virtual Microscope Specimen]",
        "NoLayers=1",
        "NoJpegColumns=1",
        "NoJpegRows=1",
        "ImageFile=a.jpg",
        "MapFile=map.jpg",
        "MacroImage=macro.jpg",
        "SourceLens=20",
        f"PhysicalWidth={pixels.shape[1] * 300}",
        f"PhysicalHeight={pixels.shape[0] * 300}",
    )
    path = folder / "a.vms"
    path.write_text("\r\n".join(lines) + "\r\n")
    return path


def write_mrxs(folder: Path, levels: list[RGB], *, tile: int, mpp: float) -> Path:
    """Write 3DHISTECH's format: a text, an index and a file of JPEG tiles; white ones left out.

    Sides of the first are multiples of ``tile``; each level is half of the one before.
    """
    inside = folder / "a"
    inside.mkdir()
    identity = "0123456789abcdef0123456789abcdef"
    data, records = bytearray(identity.encode() + b"01.02"), []
    columns = levels[0].shape[1] // tile
    for number, level in enumerate(levels):
        found = []
        for y in range(0, level.shape[0], tile):
            for x in range(0, level.shape[1], tile):
                one = np.full((tile, tile, 3), 255, np.uint8)  # those of the border, too
                part = level[y : y + tile, x : x + tile]
                one[: part.shape[0], : part.shape[1]] = part
                if (one == 255).all():
                    continue
                place = (y // tile * columns + x // tile) * 2**number
                encoded = jpeg(one)
                found.append((place, len(data), len(encoded), 0))
                data += encoded
        records.append(found)
    (inside / "Data0000.dat").write_bytes(data)
    (inside / "Index.dat").write_bytes(_mrxs_index(identity, records))
    (inside / "Slidedat.ini").write_text(_mrxs_text(identity, levels, tile, mpp), newline="\r\n")
    path = folder / "a.mrxs"
    path.write_bytes(jpeg(levels[-1]))
    return path


def _mrxs_index(identity: str, records: list[list[tuple[int, int, int, int]]]) -> bytes:
    """Version, name, where the tables begin, and of every level a list of one page."""
    head = b"01.02" + identity.encode()
    table = len(head) + 8
    pages = table + 4 * len(records)
    out, lists = bytearray(), []
    for found in records:
        begin = pages + len(out)
        lists.append(begin)
        out += struct.pack("<ii", 0, begin + 8)
        out += struct.pack("<ii", len(found), 0)
        for one in found:
            out += struct.pack("<iiii", *one)
    end = pages + len(out)
    return (
        head
        + struct.pack("<ii", table, end)
        + struct.pack(f"<{len(lists)}i", *lists)
        + bytes(out)
        + struct.pack("<i", 0)
    )


def _mrxs_text(identity: str, levels: list[RGB], tile: int, mpp: float) -> str:
    rows, columns = (side // tile for side in levels[0].shape[:2])
    general = {
        "SLIDE_VERSION": "02.02",
        "SLIDE_ID": identity,
        "IMAGENUMBER_X": columns,
        "IMAGENUMBER_Y": rows,
        "OBJECTIVE_MAGNIFICATION": 20,
    }
    levels_named = {
        f"HIER_0_VAL_{i}_SECTION": f"LAYER_0_LEVEL_{i}_SECTION" for i in range(len(levels))
    }
    hierarchical = {
        "HIER_COUNT": 1,
        "NONHIER_COUNT": 0,
        "INDEXFILE": "Index.dat",
        "HIER_0_NAME": "Slide zoom level",
        "HIER_0_COUNT": len(levels),
        **levels_named,
    }
    sections: dict[str, dict[str, Any]] = {
        "GENERAL": general,
        "HIERARCHICAL": hierarchical,
        "DATAFILE": {"FILE_COUNT": 1, "FILE_0": "Data0000.dat"},
    }
    for number, section in enumerate(levels_named.values()):
        sections[section] = {
            "OVERLAP_X": 0,
            "OVERLAP_Y": 0,
            "MICROMETER_PER_PIXEL_X": mpp * 2**number,
            "MICROMETER_PER_PIXEL_Y": mpp * 2**number,
            "IMAGE_FILL_COLOR_BGR": 0xFFFFFF,
            "DIGITIZER_WIDTH": tile,
            "DIGITIZER_HEIGHT": tile,
            "IMAGE_FORMAT": "JPEG",
            "IMAGE_CONCAT_FACTOR": 1 if number else 0,
        }
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def write_bif(path: Path, levels: list[RGB], *, tile: int, mpp: float) -> Path:
    """Write a BigTIFF whose XML says how tiles lie beside each other: here without overlap.

    Sides of the first are multiples of ``tile``; each level is half of the one before.
    """
    rows, columns = (side // tile for side in levels[0].shape[:2])
    scan = (
        f'<?xml version="1.0"?><Metadata><iScan Magnification="20" ScanRes="{mpp}" '
        'UnitNumber="1" ScanWhitePoint="255"><AOI0 Left="0" Top="0" Right="1" Bottom="1"/>'
        "</iScan></Metadata>"
    )
    joints = _bif_joints(rows, columns, tile)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for number, level in enumerate([levels[-1], *levels]):  # first the photograph of the glass
            xml = (scan, joints)[number].encode() if number < 2 else b""
            text = f"level={number - 1} mag={20 / 2 ** (number - 1):g} quality=95"
            tif.write(
                level,
                photometric="rgb",
                tile=(tile, tile) if number else None,
                rowsperstrip=None if number else level.shape[0],
                compression="jpeg",
                compressionargs={"level": 100},
                subsampling=(1, 1),
                description=text if number else "Label Image",
                metadata=None,
                extratags=[(700, "B", len(xml), xml, True)] if xml else [],
            )
    return path


def _bif_joints(rows: int, columns: int, tile: int) -> str:
    """Tiles are counted in snakes from the lower left corner; each touches the next ones."""

    def number(row: int, column: int) -> int:
        return row * columns + (columns - 1 - column if row % 2 else column) + 1

    pairs = [
        ("RIGHT", number(r, c), number(r, c + 1)) for r in range(rows) for c in range(columns - 1)
    ]
    pairs += [
        ("UP", number(r, c), number(r + 1, c)) for r in range(rows - 1) for c in range(columns)
    ]
    joints = "".join(
        f'<TileJointInfo FlagJoined="1" Confidence="100" Direction="{way}" Tile1="{one}" '
        f'Tile2="{other}" OverlapX="0" OverlapY="0"/>'
        for way, one, other in pairs
    )
    return (
        '<EncodeInfo Ver="2"><SlideInfo/><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" '
        f'NumRows="{rows}" NumCols="{columns}" Width="{tile}" Height="{tile}" Pos-X="0" '
        f'Pos-Y="0">{joints}</ImageInfo></SlideStitchInfo><AoiOrigin>'
        '<AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
