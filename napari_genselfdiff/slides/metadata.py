"""What files say about themselves: pixel size, Aperio's key-value text, identity."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MPP_RANGE = (0.05, 20.0)
_MIB = 2**20
_MICRONS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "Å": 1e-4}
_RESOLUTION_UNITS = {2: 25_400.0, 3: 10_000.0}  # TIFF tag 296: inch, centimetre, in µm


def plausible_mpp(mpp: float | None) -> float | None:
    """Give ``mpp`` if a microscope could have made it (0.05-20 µm per pixel), else None."""
    if mpp is None or not math.isfinite(mpp):
        return None
    return mpp if MPP_RANGE[0] <= mpp <= MPP_RANGE[1] else None


def mean_mpp(mpp_y: float | None, mpp_x: float | None) -> float | None:
    """Mean of the plausible ones of two pixel sides."""
    sides = [side for side in map(plausible_mpp, (mpp_y, mpp_x)) if side is not None]
    return sum(sides) / len(sides) if sides else None


def to_float(text: str | None) -> float | None:
    """Number in a text, or None."""
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def aperio_properties(description: str) -> dict[str, str]:
    """Key-value pairs of Aperio's image description, keys as ``aperio.MPP``."""
    if not description.startswith("Aperio"):
        return {}
    pairs = (part.split("=", 1) for part in description.split("|")[1:] if "=" in part)
    return {f"aperio.{key.strip()}": value.strip() for key, value in pairs}


def ome_mpp(xml: str, shape: tuple[int, int]) -> float | None:
    """Pixel size of the image of this shape (H, W) in OME-XML, or None."""
    if not xml or "<OME" not in xml or "<!ENTITY" in xml:  # entities: not OME, maybe an attack
        return None
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    found = [element for element in root.iter() if element.tag.endswith("}Pixels")]
    size = str(shape[0]), str(shape[1])
    found.sort(key=lambda pixels: (pixels.get("SizeY"), pixels.get("SizeX")) != size)
    return mean_mpp(*(_ome_side(found[0], axis) for axis in "YX")) if found else None


def _ome_side(pixels: ElementTree.Element, axis: str) -> float | None:
    value = to_float(pixels.get(f"PhysicalSize{axis}"))
    unit = _MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return value * unit if value is not None and unit is not None else None


def resolution_mpp(resolution: tuple[float, float], unit: int, description: str) -> float | None:
    """Pixel size from TIFF's pixels per unit ``(y, x)``; ImageJ writes its unit as text."""
    microns = _RESOLUTION_UNITS.get(unit)
    if microns is None and description.startswith("ImageJ="):
        named = re.search(r"^unit=(.+)$", description, re.MULTILINE)
        text = named[1].strip().replace("\\u00B5", "µ") if named else ""
        microns = _MICRONS.get("µm" if text in ("micron", "microns") else text)
    if microns is None or not all(math.isfinite(r) and r > 0 for r in resolution):
        return None
    return mean_mpp(*(microns / r for r in resolution))


def identity_hash(path: Path, properties: Mapping[str, str]) -> str:
    """SHA-256 of the file's size, its first and last MiB, and its properties.

    Properties that OpenSlide derives (``openslide.*``) are left out: a new version may change them.
    """
    stored = {k: v for k, v in properties.items() if not k.startswith("openslide.")}
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        first = file.read(_MIB)
        file.seek(max(size - _MIB, 0))
        last = file.read(_MIB)
    digest = hashlib.sha256(str(size).encode())
    for part in (first, last, json.dumps(stored, sort_keys=True).encode()):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
