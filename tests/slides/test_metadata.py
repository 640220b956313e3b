"""Pixel size, Aperio's text, identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_genselfdiff.slides.metadata import (
    aperio_properties,
    identity_hash,
    mean_mpp,
    ome_mpp,
    plausible_mpp,
    resolution_mpp,
    to_float,
)

OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image><Pixels SizeX="10" SizeY="10" PhysicalSizeX="9" PhysicalSizeY="9"/></Image>'
    '<Image><Pixels SizeX="200" SizeY="100" {}/></Image></OME>'
)


@pytest.mark.parametrize(
    ("mpp", "kept"),
    [(0.25, True), (0.05, True), (20.0, True), (0.049, False), (352.8, False), (None, False)],
)
def test_implausible_pixel_sizes_are_none(mpp: float | None, kept: bool) -> None:
    assert plausible_mpp(mpp) == (mpp if kept else None)
    assert plausible_mpp(float("nan")) is None


def test_mean_takes_the_plausible_sides() -> None:
    assert mean_mpp(0.25, 0.27) == pytest.approx(0.26)
    assert mean_mpp(0.25, 400.0) == 0.25
    assert mean_mpp(None, None) is None


def test_aperio_text() -> None:
    text = "Aperio Image Library v11\r\n46000x32914 (240x240)|AppMag = 20|MPP = 0.4990|a=b=c|odd"
    assert aperio_properties(text) == {
        "aperio.AppMag": "20",
        "aperio.MPP": "0.4990",
        "aperio.a": "b=c",
    }
    assert aperio_properties("something|MPP = 0.5") == {}
    assert to_float("0.4990") == 0.499
    assert to_float("n/a") is None
    assert to_float(None) is None


@pytest.mark.parametrize(
    ("attributes", "mpp"),
    [
        ('PhysicalSizeX="0.5" PhysicalSizeY="0.5"', 0.5),
        ('PhysicalSizeX="500" PhysicalSizeXUnit="nm"', 0.5),
        ('PhysicalSizeX="0.0005" PhysicalSizeXUnit="mm" PhysicalSizeY="0.5"', 0.5),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel"', None),
        ('PhysicalSizeX="many"', None),
        ("", None),
    ],
)
def test_ome_pixel_size_is_that_of_the_image(attributes: str, mpp: float | None) -> None:
    assert ome_mpp(OME.format(attributes), (100, 200)) == mpp


@pytest.mark.parametrize(
    "xml",
    ["", "<OME", "<OME/>", "Aperio", '<!DOCTYPE x [<!ENTITY a "b">]><OME>&a;</OME>'],
)
def test_broken_or_hostile_ome_is_ignored(xml: str) -> None:
    assert ome_mpp(xml, (10, 10)) is None


@pytest.mark.parametrize(
    ("resolution", "unit", "description", "mpp"),
    [
        ((40_000, 40_000), 3, "", 0.25),
        ((50_800, 50_800), 2, "", 0.5),
        ((72, 72), 2, "", None),
        ((4, 4), 1, "", None),
        ((4, 4), 1, "ImageJ=1.5\nunit=micron\n", 0.25),
        ((4, 4), 1, "ImageJ=1.5\nunit=\\u00B5m\n", 0.25),
        ((4, 4), 1, "ImageJ=1.5\nunit=pixel\n", None),
        ((0, 40_000), 3, "", None),
        ((float("inf"), 40_000), 3, "", None),
    ],
)
def test_tiff_resolution(
    resolution: tuple[float, float], unit: int, description: str, mpp: float | None
) -> None:
    assert resolution_mpp(resolution, unit, description) == mpp


def test_identity_sees_size_ends_and_properties(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytearray(5 * 2**20)
    path.write_bytes(content)
    first = identity_hash(path, {"a": "1", "openslide.vendor": "x"})
    assert first == identity_hash(path, {"a": "1", "openslide.vendor": "y", "openslide.new": "z"})
    seen = {first, identity_hash(path, {"a": "2"})}
    for place in (0, 2**20 - 1, 4 * 2**20, 5 * 2**20 - 1):
        changed = bytearray(content)
        changed[place] = 1
        path.write_bytes(changed)
        seen.add(identity_hash(path, {"a": "1"}))
    path.write_bytes(content + b"\0")
    seen.add(identity_hash(path, {"a": "1"}))
    assert len(seen) == 7
