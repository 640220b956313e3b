"""Which images a run learns from, is tuned on and is scored on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import Pair, pair_folders
from napari_genselfdiff.learning.sources import read_list

if TYPE_CHECKING:
    from pathlib import Path

    from napari_genselfdiff.learning.study.plan import Row, StudyPlan, StudySet


def subset_file(data: StudySet, row: Row, subset: int) -> str:
    """List file of a subset, relative to the data folder."""
    if row.n == data.full:
        return data.train
    return data.subset.format(n=row.n, subset=subset)


def subset_stems(root: Path, data: StudySet, row: Row, subset: int) -> list[str]:
    """Stems a run may learn from with their labels.

    ConfigError unless they are ``row.n`` different images of the training list.
    """
    file = subset_file(data, row, subset)
    stems = read_list(root / file)
    strange = set(stems) - set(read_list(root / data.train))
    if len(set(stems)) != row.n or strange:
        raise ConfigError(
            f"{file} must name {row.n} images of {data.train}, got {len(set(stems))}, of which "
            f"{len(strange)} are no training images"
        )
    return stems


def aside_stems(root: Path, plan: StudyPlan, row: Row) -> list[str]:
    """Images of the training list that are in no subset of the study's rows of this data set.

    Knobs are chosen on these. The same for all subsets, arms and rows of a set; fewer, or none,
    where the rows use up the list (rows that use all of it do not count).
    """
    data = plan.sets[row.set]
    rows = [r for r in plan.rows if r.set == row.set and r.n != data.full]
    if row.n == data.full:
        return []
    used = {s for r in rows for k in r.subsets for s in subset_stems(root, data, r, k)}
    free = sorted(set(read_list(root / data.train)) - used)
    order = np.random.default_rng(0).permutation(len(free))
    return sorted(free[i] for i in order[: plan.aside])


def unlabelled_stems(root: Path, data: StudySet, row: Row, subset: int) -> list[str]:
    """Images of the training list whose labels a run does not know."""
    known = set(subset_stems(root, data, row, subset))
    return [stem for stem in read_list(root / data.train) if stem not in known]


def pairs_of(root: Path, data: StudySet, stems: list[str]) -> list[Pair]:
    """Image and mask of these stems, in their order; ConfigError if one is missing."""
    folder = root / data.folder
    found = {pair.name: pair for pair in pair_folders(folder / "images", folder / "masks")}
    missing = [stem for stem in stems if stem not in found]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(stems)} images are missing in {folder}; the first is "
            f"{missing[0]}"
        )
    return [found[stem] for stem in stems]


def dev_pairs(root: Path, data: StudySet) -> list[Pair]:
    """The images that are scored once; ConfigError if any of them is in the training list."""
    stems = read_list(root / data.dev)
    both = set(stems) & set(read_list(root / data.train))
    if both:
        raise ConfigError(
            f"{sorted(both)[0]} is in {data.train} and in {data.dev}; nothing is scored"
        )
    return pairs_of(root, data, stems)
