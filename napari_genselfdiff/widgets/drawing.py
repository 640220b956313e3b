"""Pictures of tissue with classes drawn over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QImage, QPixmap

from napari_genselfdiff.widgets.outlines import border

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_genselfdiff.registry.card import TaskSpec

ENLARGED = 2
_AREA_SHARE = 0.35


def enlarged(values: NDArray[Any]) -> NDArray[Any]:
    """Twice as large, so that outlines are thin."""
    return values.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


def drawn_over(
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    task: TaskSpec,
    frame: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Draw classes over a picture: outlines of objects, areas as a tint; (h, w, 3) uint8.

    ``frame`` marks pixels that get a white rim.
    """
    drawn = image.copy()
    for spec in task.classes:
        mask = classes == spec.value
        color = np.array(QColor(spec.color).getRgb()[:3], np.float32)
        if task.kind == "objects":
            drawn[border(mask.astype(np.uint32))] = color
        else:
            drawn[mask] = (1 - _AREA_SHARE) * drawn[mask] + _AREA_SHARE * color
    if frame is not None and frame.any():
        drawn[border(frame.astype(np.uint32), 1)] = 255
    return drawn


def pixmap(image: NDArray[np.uint8], side: int) -> QPixmap:
    """A picture (h, w, 3) uint8 scaled to fit a square of ``side`` points."""
    height, width = image.shape[:2]
    data = np.ascontiguousarray(image)
    picture = QImage(data.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(picture).scaled(
        side,
        side,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
