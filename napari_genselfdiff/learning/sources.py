"""From a recipe's data section to sources that patches can be cut from."""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.data import ArraySource, Labels
from napari_genselfdiff.learning.file_source import FileSource, TissueCache
from napari_genselfdiff.learning.recipe import (
    ImageSet,
    LabelledData,
    LabelledSet,
    UnlabelledData,
    data_root,
)
from napari_genselfdiff.learning.scan import IMAGES, find_pictures
from napari_genselfdiff.learning.slide_cache import SlideCache
from napari_genselfdiff.learning.targets import distance_target
from napari_genselfdiff.slides.slide import open_slide

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.slides.color_names import Colors

_log = logging.getLogger(__name__)


def unlabelled_sources(data: UnlabelledData) -> list[FileSource]:
    """One source for every image or slide of the recipe, opened when first needed.

    Raises
    ------
    ConfigError
        If a listed file or a folder is missing, or the folders hold no picture.
    """
    root = data_root(data.root, needed=not data.folders)
    if data.list:
        paths = [root / line for line in read_list(root / data.list)]
        missing = [path for path in paths if not path.exists()]
        if missing or not paths:
            raise ConfigError(
                f"{len(missing)} of {len(paths)} images of {data.list} are missing under {root}"
                + (f", the first is {missing[0].relative_to(root)}" if missing else "")
            )
    elif any(part.list for part in data.sets):
        paths = [path for part in data.sets if part.list for path in _listed(root, part)]
    else:
        found = find_pictures([root / Path(f).expanduser() for f in data.folders or (".",)])
        _log.info("%s", found.summary())
        paths = found.pictures
    caches = SlideCache(colors=data.colors), TissueCache()
    return [_file_source(path, root, data, caches) for path in paths]


def labelled_sources(data: LabelledData) -> list[ArraySource]:
    """Every labelled image of the recipe, in memory with its targets."""
    root = data_root(data.root)
    return [source for part in data.sets for source in _labelled_set(root, part, data.colors)]


def read_list(path: Path) -> list[str]:
    """Lines of a list file without blanks."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"the list {path} cannot be read: {err}") from err
    return [line.strip() for line in lines if line.strip()]


def left_out(stem: str, part: LabelledSet) -> bool:
    """Whether the recipe keeps this image of the set aside."""
    return any(fnmatchcase(stem, pattern) for pattern in part.leave_out)


def read_pixels(path: Path, colors: Colors = "stored") -> NDArray[np.uint8]:
    """All pixels of a plain image, ``(H, W, 3)``; for training images, not for slides."""
    with open_slide(path, colors=colors) as slide:
        return np.asarray(slide.levels[0][:])


def _listed(root: Path, part: ImageSet) -> list[Path]:
    """The images of a folder whose stems are in the set's list."""
    images = {p.stem: p for p in sorted((root / part.folder).glob("*"))}
    stems = read_list(root / str(part.list))
    missing = [stem for stem in stems if stem not in images]
    if missing or not stems:
        raise ConfigError(
            f"{len(missing)} of {len(stems)} images of {part.list} are missing in {part.folder}"
            + (f", the first is {missing[0]}" if missing else "")
        )
    return [images[stem] for stem in stems]


def _file_source(
    path: Path, root: Path, data: UnlabelledData, caches: tuple[SlideCache, TissueCache]
) -> FileSource:
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    part = next(
        (p for p in data.sets if inside.startswith(p.folder.rstrip("/") + "/")), ImageSet(folder="")
    )
    return FileSource(
        path,
        *caches,
        given_mpp=part.mpp,
        default_mpp=data.mpp,
        need_mpp=data.need_mpp,
        stretch_x=part.stretch_x,
        weight=part.weight,
    )


def _labelled_set(root: Path, part: LabelledSet, colors: Colors) -> list[ArraySource]:
    folder = root / part.folder
    images = {
        p.stem: p for p in sorted((folder / "images").glob("*")) if p.suffix.lower() in IMAGES
    }
    masks = {p.stem: p for p in sorted((folder / "masks").glob("*")) if p.suffix.lower() in IMAGES}
    stems = read_list(root / part.list) if part.list else sorted(images)
    lost = [stem for stem in stems if stem not in images or stem not in masks]
    if lost or not stems:
        raise ConfigError(
            f"{folder} lacks the image or the mask of {len(lost)} of {len(stems)} stems"
            + (f", the first is {lost[0]}" if lost else "")
        )
    taught = [stem for stem in stems if not left_out(stem, part)]
    if not taught:
        raise ConfigError(f"leave_out = {list(part.leave_out)} leaves nothing of {folder}")
    return [_labelled_source(images[s], masks[s], part, colors) for s in taught]


def _labelled_source(image: Path, mask: Path, part: LabelledSet, colors: Colors) -> ArraySource:
    from skimage.io import imread

    pixels, labels = read_pixels(image, colors), np.asarray(imread(mask))
    if labels.ndim != 2 or labels.shape != pixels.shape[:2]:
        raise ConfigError(
            f"{mask.name} has shape {labels.shape}, its image {pixels.shape[:2]}; "
            "a mask is one channel of the image's size"
        )
    if labels.dtype == np.uint8:
        classes, instances = labels, labels.astype(np.int32)
    else:
        classes, instances = (labels > 0).astype(np.uint8), labels.astype(np.int32)
    truth = Labels(classes, distance_target(instances), np.ones(labels.shape, bool))
    return ArraySource(pixels, part.mpp, truth, weight=part.weight)
