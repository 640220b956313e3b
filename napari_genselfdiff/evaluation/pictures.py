"""Pictures of how a model does: truth and prediction outlined over the tissue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.overlaps import Labels, check_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]

# Colour-blind safe (Okabe and Ito) and unlike anything haematoxylin and eosin colour.
TRUTH_COLOR = (240, 228, 66)
PREDICTION_COLOR = (0, 114, 178)
BOTH_COLOR = (255, 255, 255)


def outline(image: Rgb, truth: Labels, prediction: Labels) -> Rgb:
    """Draw truth (yellow), prediction (blue) and where both run (white), 2 px wide."""
    for labels in (truth, prediction):
        if image.shape[:2] != labels.shape:
            raise ConfigError(f"the image is {image.shape[:2]}, its labels are {labels.shape}")
    check_shapes(prediction, truth)
    drawn = image.copy()
    true_line, pred_line = _borders(truth), _borders(prediction)
    drawn[true_line] = TRUTH_COLOR
    drawn[pred_line] = PREDICTION_COLOR
    drawn[true_line & pred_line] = BOTH_COLOR
    return drawn


def pick_examples(images: Sequence[Mapping[str, Any]], metric: str = "dice") -> dict[str, str]:
    """Names of the best, median and worst image of a report's rows; undefined ones are left out."""
    rated = [(row[metric], row["image"]) for row in images if _defined(row.get(metric))]
    if not rated:
        return {}
    rated.sort()
    return {"worst": rated[0][1], "median": rated[len(rated) // 2][1], "best": rated[-1][1]}


def montage_fields(
    images: Sequence[Rgb],
    predictions: Sequence[Labels],
    truths: Sequence[Labels] | None = None,
    *,
    columns: int = 5,
    side: int = 256,
) -> Rgb:
    """Fields in a grid for a model card, each cut from its centre and outlined.

    Without truths only the predictions are drawn. Fields smaller than ``side`` are set on white.
    """
    shown = truths if truths is not None else [np.zeros_like(p) for p in predictions]
    if not images or not len(images) == len(predictions) == len(shown):
        raise ConfigError(
            f"a montage needs equally many images, predictions and truths and at least one, got "
            f"{len(images)}, {len(predictions)} and {len(shown)}"
        )
    if columns < 1 or side < 1:
        raise ConfigError(f"columns and side must be 1 or more, got {columns} and {side}")
    rows, gap = math.ceil(len(images) / columns), 4
    step = side + gap
    sheet = np.full((rows * step - gap, columns * step - gap, 3), 255, np.uint8)
    for i, (image, truth, labels) in enumerate(zip(images, shown, predictions, strict=True)):
        field = _centre(outline(image, truth, labels), side)
        y, x = divmod(i, columns)
        sheet[y * step : y * step + field.shape[0], x * step : x * step + field.shape[1]] = field
    return sheet


def write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write an RGB picture or a label map (8 or 16 bits) as PNG, whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_storable(pixels)).save(partial, format="PNG")
        partial.replace(path)
    except OSError as err:
        raise ConfigError(f"Cannot write {path}: {err}. Choose another place.") from err
    finally:
        partial.unlink(missing_ok=True)


def _borders(labels: Labels) -> NDArray[np.bool_]:
    """Pixels beside which, up, down, left or right, another label begins."""
    border = np.zeros(labels.shape, np.bool_)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border


def _storable(pixels: NDArray[Any]) -> NDArray[Any]:
    """Bytes stay; other label maps become 16 bits; ConfigError above 65535 objects."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.size and int(pixels.max()) > 65535:
        raise ConfigError(f"a 16-bit PNG holds ids up to 65535, got {int(pixels.max())}")
    return pixels.astype(np.uint16)


def _centre(image: Rgb, side: int) -> Rgb:
    y, x = (max(0, (n - side) // 2) for n in image.shape[:2])
    return image[y : y + side, x : x + side]


def _defined(value: Any) -> bool:
    return value is not None and math.isfinite(value)
