"""A Leica SCN file written by hand: a scan somewhere on a larger glass, smaller copies by three."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

_XML = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:0">
<collection name="c" uuid="urn:uuid:1" sizeX="{glass_x}" sizeY="{glass_y}">
<image name="scan" uuid="urn:uuid:2"><creationDate>2020</creationDate>
<device model="m" version="1"/>
<pixels sizeX="{w}" sizeY="{h}"><dimension sizeX="{w}" sizeY="{h}" r="0" ifd="0"/>
<dimension sizeX="{w3}" sizeY="{h3}" r="1" ifd="1"/></pixels>
<view sizeX="{scan_x}" sizeY="{scan_y}" offsetX="{x}" offsetY="{y}" spacingZ="0"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><numericalAperture>0.4</numericalAperture>
<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>
</image></collection></scn>"""


def write_scn(
    path: Path,
    scan: NDArray[np.uint8],
    *,
    corner: tuple[int, int],
    glass: tuple[int, int],
    nm: int,
) -> Path:
    """Write ``scan`` (H, W, 3), sides divisible by 3, at ``corner`` (y, x) of a larger glass."""
    (h, w), (y, x) = scan.shape[:2], corner
    xml = _XML.format(
        glass_x=glass[1] * nm,
        glass_y=glass[0] * nm,
        scan_x=w * nm,
        scan_y=h * nm,
        x=x * nm,
        y=y * nm,
        w=w,
        h=h,
        w3=w // 3,
        h3=h // 3,
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for step, text in ((1, xml), (3, None)):
            tif.write(
                np.ascontiguousarray(scan[step // 2 :: step, step // 2 :: step]),
                tile=(128, 128),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 100},
                resolution=(1e7 / (nm * step), 1e7 / (nm * step)),
                resolutionunit="CENTIMETER",
                description=text,
                metadata=None,
            )
    return path
