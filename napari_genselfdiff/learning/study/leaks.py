"""Proof that what a network began with has never seen an image that is scored."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.recipe import data_root
from napari_genselfdiff.learning.sources import read_list
from napari_genselfdiff.learning.start import BUNDLED, SCRATCH, start_file
from napari_genselfdiff.learning.study.images import dev_pairs
from napari_genselfdiff.registry.files import sha256_of
from napari_genselfdiff.registry.folder import CARD_FILE, read_backbone, read_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from napari_genselfdiff.learning.study.plan import StudyPlan

_PLAIN = (".png", ".jpg", ".jpeg", ".bmp")


def fingerprints(path: Path) -> set[str]:
    """What two copies of an image have in common: the file's bytes, or the pixels in it.

    A re-encoded or cut copy has other pixels and is not found.
    """
    found = {sha256_of(path)}
    if path.suffix.lower() in _PLAIN:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        found.add(hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest())
    return found


def shared_images(
    learned: Iterable[Path],
    scored: Iterable[Path],
    read: Callable[[Path], set[str]] = fingerprints,
) -> list[tuple[Path, Path]]:
    """Pairs of a file that was learned from and one to be scored that hold the same image.

    Two files of one stem in folders of one data set count as the same as well.
    """
    marks: dict[str, Path] = {}
    for path in scored:
        for mark in (*read(path), _named(path)):
            marks[mark] = path
    return [
        (path, marks[mark])
        for path in learned
        for mark in (*read(path), _named(path))
        if mark in marks
    ]


def check_start(plan: StudyPlan) -> Iterator[str]:
    """Check every backbone of a study against every list of it that is scored; says what was done.

    Raises
    ------
    ConfigError
        If a backbone has learned from an image that is scored.
    """
    root = data_root("")
    scored = [p.image for row in plan.rows for p in dev_pairs(root, plan.sets[row.set])]
    scored, read = sorted(set(scored)), cache(fingerprints)
    for start in _starts(plan):
        learned = learned_files(root, start)
        if learned is None:
            yield f"{start}: its card does not list its images; check by hand that none is scored"
            continue
        both = shared_images(learned, scored, read)
        if both:
            raise ConfigError(
                f"backbone {start} learned from {both[0][0]}, which is {both[0][1]} of a list that "
                "is scored; use another backbone"
            )
        yield f"{start}: {len(learned)} images learned from, none of the {len(scored)} scored"


def learned_files(root: Path, start: str) -> list[Path] | None:
    """Files that a backbone, or a model, learned from by the lists its card names.

    None if there is no card, or it names none.
    """
    card = start_file(start).parent / CARD_FILE
    if not card.exists():
        return None
    named = read_backbone if "schedule" in json.loads(card.read_bytes()) else read_model
    recipe = named(card.parent).card.recipe
    data = recipe.get("data") or {}
    paths = [root / line for line in read_list(root / data["list"])] if data.get("list") else []
    for part in data.get("sets", []):
        if part.get("list"):
            stems, folder = set(read_list(root / part["list"])), root / part["folder"]
            found = [*folder.glob("*"), *(folder / "images").glob("*")]
            paths += [path for path in sorted(found) if path.stem in stems]
    before = recipe.get("start", SCRATCH)
    if before == BUNDLED and start != BUNDLED:
        paths += learned_files(root, BUNDLED) or []
    return sorted({path for path in paths if path.is_file()}) or None


def _starts(plan: StudyPlan) -> list[str]:
    """Every start of the plan's arms but scratch."""
    found = {BUNDLED}
    for arm in plan.arms.values():
        every = [*arm.settings, *(s for some in arm.row_settings.values() for s in some)]
        found |= {s.split("=", 1)[1] for s in every if s.startswith("start=")}
        found.add(arm.backbone)
    return sorted(found - {SCRATCH})


def _named(path: Path) -> str:
    return f"{path.parent.parent.name}/{path.stem}"
