"""What a segmenter is asked to answer, made from instance label maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray


def distance_target(instances: NDArray[np.integer]) -> NDArray[np.float32]:
    """Normalised distance to the border inside every object, ``(H, W)`` float32 in [0, 1].

    1 at the core of an object whatever its size, 0 on the background. The value survives
    scaling and rotation of the picture, so it can be computed once and augmented afterwards.
    """
    target = np.zeros(instances.shape, np.float32)
    for index, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        inside = np.pad(instances[box] == index, 1)
        distance = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
        target[box] = np.maximum(target[box], distance / distance.max())
    return target
