"""Folders of images and masks, paired by file stem, read with care."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tifffile
from PIL import Image

from napari_genselfdiff.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 2**28  # fields, not slides: larger ones are segmented by tiles
_CLASS_MODES = ("1", "L", "P")
_INSTANCE_MODES = ("I;16", "I;16B", "I;16L", "I")

MaskKind = Literal["instances", "classes"]


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask; ``name`` is their common file stem."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class Mask:
    """A truth: ``instances`` holds object ids, ``classes`` class values."""

    kind: MaskKind
    labels: NDArray[Any]


def pair_folders(images: Path, masks: Path) -> list[Pair]:
    """Pair every image with the mask of the same file stem, sorted by stem.

    Masks without an image are left out. ConfigError names what is missing or double.
    """
    image_files, mask_files = _by_stem(images, "images"), _by_stem(masks, "masks")
    missing = [stem for stem in image_files if stem not in mask_files]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise ConfigError(
            f"{len(missing)} of {len(image_files)} images in {images} have no mask in {masks} "
            f"({shown}); every image needs a mask with the same file stem"
        )
    return [Pair(stem, path, mask_files[stem]) for stem, path in sorted(image_files.items())]


def _by_stem(folder: Path, what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigError(f"The folder of {what} {folder} does not exist; give a folder of files")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise ConfigError(
                f"{found[path.stem].name} and {path.name} in {folder} have one file stem; keep one"
            )
        found[path.stem] = path
    if not found:
        raise ConfigError(f"{folder} holds no {what} ({', '.join(SUFFIXES)})")
    return found


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as ``(H, W, 3)`` uint8; ConfigError if it is not an 8-bit picture."""
    data, mode = _read(path)
    if data.dtype != np.uint8 or mode in ("P", "1") or data.ndim not in (2, 3):
        raise ConfigError(f"{path} is not an 8-bit RGB or grey image ({mode}); convert it first")
    if data.ndim == 2:
        data = np.repeat(data[..., None], 3, axis=2)
    if data.shape[2] not in (3, 4):
        raise ConfigError(f"{path} has {data.shape[2]} channels; 3 (RGB) are needed")
    return np.ascontiguousarray(data[..., :3])


def read_mask(path: Path) -> Mask:
    """Read a mask: 16 or 32 bits hold instances, 8 bits hold classes.

    An 8-bit mask of 0 and 255 alone is read as 0 and 1, as drawing programs write two classes.
    """
    data, mode = _read(path)
    if data.ndim != 2:
        raise ConfigError(f"{path} has {data.ndim} axes ({mode}); a mask is a single grey plane")
    if mode in _CLASS_MODES:
        values = data.astype(np.uint8)
        if mode == "L" and set(np.unique(values).tolist()) <= {0, 255}:
            values = (values > 0).astype(np.uint8)
        return Mask("classes", values)
    if mode in _INSTANCE_MODES and (data.size == 0 or data.min() >= 0):
        return Mask("instances", data)
    raise ConfigError(f"{path} is no mask ({mode}); 8-bit classes or 16-bit instances are needed")


def read_pair(pair: Pair) -> tuple[NDArray[np.uint8], Mask]:
    """Read an image and its mask; ConfigError if their sizes differ."""
    image, mask = read_image(pair.image), read_mask(pair.mask)
    if image.shape[:2] != mask.labels.shape:
        raise ConfigError(
            f"{pair.image} is {_size(image)} but its mask {pair.mask} is {_size(mask.labels)} "
            "(height × width); they must be equal"
        )
    return image, mask


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[0]} × {array.shape[1]}"


def _read(path: Path) -> tuple[NDArray[Any], str]:
    """Pixels and a mode in Pillow's words; the size is checked before anything is decoded."""
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            return _read_tiff(path)
        with Image.open(path) as image:
            _check_size(path, image.size[0] * image.size[1])
            return np.asarray(image), image.mode
    except (OSError, ValueError, SyntaxError, IndexError, Image.DecompressionBombError) as err:
        if isinstance(err, ConfigError):
            raise
        raise ConfigError(f"{path} cannot be read as an image: {err}") from err


def _read_tiff(path: Path) -> tuple[NDArray[Any], str]:
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            _check_size(path, int(np.prod(page.shape)) // (page.shape[-1] if _rgb(page) else 1))
            data = np.asarray(page.asarray())
    except tifffile.TiffFileError as err:
        raise ConfigError(f"{path} is not a readable TIFF: {err}") from err
    if data.ndim == 3:
        return data, "RGB"
    modes = {1: "L", 2: "I;16", 4: "I"}
    whole = data.dtype.kind in "iu"
    return data, modes.get(data.dtype.itemsize, "?") if whole else str(data.dtype)


def _rgb(page: Any) -> bool:
    return len(page.shape) == 3 and page.shape[-1] in (3, 4)


def _check_size(path: Path, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise ConfigError(
            f"{path} says it has {pixels} pixels; fields of up to {MAX_PIXELS} are evaluated. "
            "Cut smaller fields out of it."
        )
