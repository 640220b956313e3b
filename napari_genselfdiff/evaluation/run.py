"""Score a segmenter on folders of images and masks, whoever runs the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import Mask, Pair, read_pair
from napari_genselfdiff.evaluation.metrics import score_classes
from napari_genselfdiff.evaluation.pictures import outline, pick_examples, write_png
from napari_genselfdiff.evaluation.report import score_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Answer(NamedTuple):
    """What a model says about an image: classes and, for tasks of objects, ids per pixel."""

    classes: NDArray[np.uint8]
    objects: NDArray[Any] | None


Segment = Callable[[NDArray[np.uint8]], Answer]


@dataclass(frozen=True, slots=True)
class Scored:
    """One image's metrics, and how many of how many images are done."""

    image: str
    scores: dict[str, float]
    done: int
    total: int


def score_folder(
    pairs: Sequence[Pair],
    segment: Segment,
    predictions: Path | None = None,
    *,
    distances: bool = True,
) -> Iterator[Scored]:
    """Segment and score image by image, so that only one is in memory.

    ``segment`` takes ``(H, W, 3)`` uint8 and gives an answer of the same height and width.
    ``predictions`` is a folder for label PNGs: ids (16 bits) beside a truth of instances,
    classes (8 bits) beside a truth of classes. Without ``distances`` Hausdorff's is left out.
    """
    for done, pair in enumerate(pairs, 1):
        image, mask = read_pair(pair)
        labels = _comparable(segment(image), mask, pair)
        if predictions is not None:
            write_png(predictions / f"{pair.name}.png", labels)
        scores = (
            score_pair(labels, mask.labels, distances=distances)
            if mask.kind == "instances"
            else score_classes(labels, mask.labels)
        )
        yield Scored(pair.name, scores, done, len(pairs))


def write_examples(
    report: Mapping[str, Any], pairs: Sequence[Pair], segment: Segment, folder: Path
) -> list[Path]:
    """Write pictures of the best, median and worst image (by Dice), segmenting them once more."""
    by_name = {pair.name: pair for pair in pairs}
    written = []
    for rank, name in pick_examples(report["images"]).items():
        image, mask = read_pair(by_name[name])
        labels = _comparable(segment(image), mask, by_name[name])
        written.append(folder / f"{rank}-{name}.png")
        write_png(written[-1], outline(image, mask.labels, labels))
    return written


def _comparable(answer: Answer, mask: Mask, pair: Pair) -> NDArray[Any]:
    """The labels of an answer that can be held against this truth."""
    if mask.kind == "classes":
        labels: NDArray[Any] = answer.classes
    elif answer.objects is None:  # areas against instances: every connected piece is an object
        labels = ndimage.label(answer.classes > 0)[0]
    else:
        labels = answer.objects
    if labels.shape != mask.labels.shape:
        raise ConfigError(
            f"the answer for {pair.image} is {labels.shape}, the image {mask.labels.shape}"
        )
    return labels.astype(np.uint8) if mask.kind == "classes" else labels
