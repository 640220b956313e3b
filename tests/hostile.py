"""Files that mean harm, one of each kind, each named for what it does."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.slides.test_zarr_reader import write_ome

SIDE = 160
RGB = np.full((SIDE, SIDE, 3), 90, np.uint8)
Attack = Callable[[Path], Path]


def attacks(folder: Path, which: tuple[Attack, ...]) -> Iterator[tuple[Path, str]]:
    """Write one after the other; the file, and what it is."""
    for number, make in enumerate(which):
        inside = folder / f"attack{number}"
        inside.mkdir()
        yield make(inside), make.__name__


def _collection(*rings: Any) -> str:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"label": "Nucleus"},
        }
        for ring in rings
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def _geojson(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.geojson"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def a_million_vertices_of_a_tangle(folder: Path, number: int = 10**6) -> Path:
    ring = np.random.default_rng(0).integers(0, SIDE, (number, 2))
    return _geojson(folder, _collection(ring.tolist()))


def a_tangle_of_many_vertices(folder: Path) -> Path:
    return a_million_vertices_of_a_tangle(folder, 90_000)


def stars_that_cross_themselves(folder: Path) -> Path:
    rings = np.random.default_rng(1).uniform(0, SIDE, (300, 400, 2))
    return _geojson(folder, _collection(*rings.round(3).tolist()))


def a_region_of_interest_that_is_a_tangle(folder: Path) -> Path:
    ring = np.random.default_rng(0).integers(0, SIDE, (40_000, 2)).tolist()
    about = '"properties": {"name": "a", "metadata": {"genselfdiff": "region of interest"}}'
    return _geojson(folder, _collection(ring).replace('"properties": {"label": "Nucleus"}', about))


def coordinates_that_are_no_numbers(folder: Path) -> Path:
    return _geojson(folder, _collection([[0, 0], [9, 0], [9, 9]]).replace("9", "NaN"))


def coordinates_beyond_everything(folder: Path) -> Path:
    return _geojson(folder, _collection([[0, 0], [9, 0], [9, 9]]).replace("9", "1e308"))


def text_in_utf_16(folder: Path) -> Path:
    return _geojson(folder, _collection([[0, 0], [9, 0], [9, 9]]).encode("utf-16"))


def text_in_latin_1(folder: Path) -> Path:
    return _geojson(
        folder, _collection([[0, 0], [9, 0], [9, 9]]).replace("Nu", "é").encode("cp1252")
    )


def lists_nested_a_million_times(folder: Path) -> Path:
    return _geojson(folder, '{"features": ' + "[" * 10**6)


def _packed(folder: Path, begin: bytes, piece: bytes, times: int) -> Path:
    path = folder / "a.geojson.gz"
    packer = zlib.compressobj(6, wbits=31)
    with path.open("wb") as file:
        file.write(packer.compress(begin))
        for _ in range(times):
            file.write(packer.compress(piece * (2**20 // len(piece))))
        file.write(packer.flush())
    return path


def blanks_that_unpack_without_end(folder: Path) -> Path:
    return _packed(folder, b'{"features": [', b" ", 80)


def zeros_that_unpack_without_end(folder: Path) -> Path:
    return _packed(folder, b'{"features": [', b"0,", 80)


def a_head_that_unpacks_without_end(folder: Path) -> Path:
    return _packed(folder, b'{"a": "', b"x", 80)


def _xml(folder: Path, text: str) -> Path:
    (folder / "a.xml").write_text(text)
    return folder / "a.xml"


def billion_laughs(folder: Path) -> Path:
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    return _xml(
        folder, f'<?xml version="1.0"?><!DOCTYPE x [{entities}]><Annotations>&a11;</Annotations>'
    )


def an_entity_that_reads_a_file(folder: Path) -> Path:
    return _xml(
        folder,
        '<!DOCTYPE x [<!ENTITY s SYSTEM "file:///etc/passwd">]><Annotations Name="&s;"/>',
    )


def elements_nested_a_million_times(folder: Path) -> Path:
    return _xml(folder, "<Annotations>" + "<Annotation>" * 10**6)


def holes_and_regions_by_the_thousand(folder: Path) -> Path:
    corners = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((1, 1), (99, 1), (99, 99)))
    region = '<Region NegativeROA="{}"><Vertices>' + corners + "</Vertices></Region>"
    regions = region.format(0) * 1500 + region.format(1) * 1500
    return _xml(
        folder, f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>"
    )


def _tiff(folder: Path, **options: Any) -> Path:
    path = folder / "a.tif"
    tifffile.imwrite(path, RGB, tile=(64, 64), photometric="rgb", metadata=None, **options)
    return path


def _patched(path: Path, tag: str, value: bytes, *, at: int = 8) -> Path:
    """Overwrite a tag of the first page: its value (8) or its number of values (4)."""
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.tags[tag].offset
    data = bytearray(path.read_bytes())
    data[offset + at : offset + at + len(value)] = value
    path.write_bytes(data)
    return path


def a_page_that_follows_itself(folder: Path) -> Path:
    path = _tiff(folder)
    data = bytearray(path.read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    path.write_bytes(data)
    return path


def a_page_that_is_its_own_smaller_copy(folder: Path) -> Path:
    path = folder / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(RGB, tile=(64, 64), photometric="rgb", metadata=None, subifds=1)
        tif.write(RGB[::2, ::2], tile=(64, 64), photometric="rgb", metadata=None)
    first = struct.unpack_from("<I", path.read_bytes(), 4)[0]
    return _patched(path, "SubIFDs", struct.pack("<I", first))


def two_thousand_million_pixels_a_side(folder: Path) -> Path:
    path = _patched(_tiff(folder), "ImageWidth", struct.pack("<I", 2**31 - 1))
    return _patched(path, "ImageLength", struct.pack("<I", 2**31 - 1))


def a_tile_of_a_million_pixels_a_side(folder: Path) -> Path:
    path = _patched(_tiff(folder, compression="zlib"), "TileWidth", struct.pack("<I", 2**20))
    return _patched(path, "TileLength", struct.pack("<I", 2**20))


def tiles_of_no_bytes(folder: Path) -> Path:
    path = _tiff(folder, compression="jpeg")
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags["TileByteCounts"]
        at, nbytes = tag.valueoffset, tag.valuebytecount
    data = bytearray(path.read_bytes())
    data[at : at + nbytes] = bytes(nbytes)
    path.write_bytes(data)
    return path


def tags_with_thousands_of_millions_of_values(folder: Path) -> Path:
    return _patched(_tiff(folder), "TileOffsets", struct.pack("<I", 2**32 - 1), at=4)


def entities_in_the_description_of_an_ome_tiff(folder: Path) -> Path:
    laughs = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    text = (
        f'<?xml version="1.0"?><!DOCTYPE OME [{laughs}]><OME xmlns="x"><Image>&a11;</Image></OME>'
    )
    return _tiff(folder, description=text)


def a_picture_larger_than_any_memory(folder: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    body = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(2**20))) + chunk(b"IEND", b"")
    )
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return folder / "a.png"


def _zarr(folder: Path) -> Path:
    return write_ome(folder / "a.zarr", [RGB.transpose(2, 0, 1)], "cyx")


def _level_elsewhere(folder: Path, where: str) -> Path:
    path = _zarr(folder)
    (path / "0").rename(folder / "secret")
    record = json.loads((path / "zarr.json").read_text())
    record["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = where
    (path / "zarr.json").write_text(json.dumps(record))
    return path


def a_zarr_level_outside_its_folder(folder: Path) -> Path:
    return _level_elsewhere(folder, "../secret")


def a_zarr_level_that_is_a_link(folder: Path) -> Path:
    path = _level_elsewhere(folder, "link")
    (path / "link").symlink_to(folder / "secret")
    return path


def a_zarr_link_to_itself(folder: Path) -> Path:
    path = _level_elsewhere(folder, "link")
    (path / "link").symlink_to(path / "link")
    return path


def a_zarr_chunk_without_end(folder: Path) -> Path:
    path = _zarr(folder)
    chunk = next(one for one in (path / "0" / "c").rglob("*") if one.is_file())
    chunk.unlink()
    chunk.symlink_to("/dev/zero")
    return path


def a_zarr_chunk_larger_than_any_memory(folder: Path) -> Path:
    path = _zarr(folder)
    file = path / "0" / "zarr.json"
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 2**20, 2**20]}}
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"shape": [3, 2**20, 2**20], "chunk_grid": grid})
    )
    return path


def a_zarr_of_impossible_size(folder: Path) -> Path:
    path = _zarr(folder)
    file = path / "0" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"shape": [3, 2**60, 2**60]}))
    return path


def label_images_of_another_world(folder: Path) -> Path:
    path = folder / "a.label.tif"
    tifffile.imwrite(path, np.ones((SIDE, SIDE), np.uint16), tile=(64, 64), compression="zlib")
    return _patched(path, "ImageWidth", struct.pack("<I", 2**31 - 1))


def a_gzip_inside_a_gzip(folder: Path) -> Path:
    path = folder / "a.geojson.gz"
    path.write_bytes(gzip.compress(gzip.compress(b"{}" * 1000)))
    return path


ATTACKS: tuple[Attack, ...] = (
    a_tangle_of_many_vertices,
    stars_that_cross_themselves,
    a_region_of_interest_that_is_a_tangle,
    coordinates_that_are_no_numbers,
    coordinates_beyond_everything,
    text_in_utf_16,
    text_in_latin_1,
    lists_nested_a_million_times,
    blanks_that_unpack_without_end,
    zeros_that_unpack_without_end,
    a_head_that_unpacks_without_end,
    a_gzip_inside_a_gzip,
    billion_laughs,
    an_entity_that_reads_a_file,
    elements_nested_a_million_times,
    holes_and_regions_by_the_thousand,
    a_page_that_follows_itself,
    a_page_that_is_its_own_smaller_copy,
    two_thousand_million_pixels_a_side,
    a_tile_of_a_million_pixels_a_side,
    tiles_of_no_bytes,
    tags_with_thousands_of_millions_of_values,
    entities_in_the_description_of_an_ome_tiff,
    a_picture_larger_than_any_memory,
    a_zarr_level_outside_its_folder,
    a_zarr_level_that_is_a_link,
    a_zarr_link_to_itself,
    a_zarr_chunk_without_end,
    a_zarr_chunk_larger_than_any_memory,
    a_zarr_of_impossible_size,
    label_images_of_another_world,
)
# What may be read all the same: where something is wrong, it is counted and told.
READ = {
    "a_tangle_of_many_vertices",
    "stars_that_cross_themselves",
    "holes_and_regions_by_the_thousand",
    "a_page_that_follows_itself",
    "a_page_that_is_its_own_smaller_copy",
    "tiles_of_no_bytes",
    "entities_in_the_description_of_an_ome_tiff",
    "a_zarr_chunk_without_end",
}
