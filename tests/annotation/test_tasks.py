from __future__ import annotations

import colorsys

import pytest

from napari_genselfdiff.annotation.tasks import PALETTE, TASKS, grid_downsample, next_color
from napari_genselfdiff.errors import ConfigError


@pytest.mark.parametrize(
    ("slide", "task", "expected"),
    [
        (0.25, 0.25, 1),
        (0.2528, 0.5, 2),
        (0.25, 1.0, 4),
        (0.275, 0.5, 2),  # 0.55 is 1.1 times 0.5
        (0.276, 0.5, 1),
        (0.499, 0.25, 1),  # a coarse slide keeps its own grid
        (0.05, 20.0, 256),
    ],
)
def test_grid_is_the_coarsest_that_is_fine_enough(slide: float, task: float, expected: int) -> None:
    assert grid_downsample(slide, task) == expected


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), 100.0])
def test_impossible_resolutions_are_refused(mpp: float) -> None:
    with pytest.raises(ConfigError, match="µm/px"):
        grid_downsample(mpp, 0.5)


def test_no_color_is_one_of_the_stain() -> None:
    """Nothing red, pink or purple: hues from orange to blue only."""
    for color in PALETTE:
        hue, _, _ = colorsys.rgb_to_hsv(*(byte / 255 for byte in bytes.fromhex(color[1:])))
        assert 30 <= hue * 360 <= 215, color


def test_classes_take_colors_of_the_palette() -> None:
    for task in TASKS:
        assert {spec.color for spec in task.classes} <= set(PALETTE)
    assert next_color([]) == PALETTE[0]
    assert next_color([PALETTE[0], PALETTE[1].lower()]) == PALETTE[2]
    assert next_color([*PALETTE, *PALETTE[1:]]) == PALETTE[0]
