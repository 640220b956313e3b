from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import read_mask
from napari_genselfdiff.evaluation.pictures import (
    BOTH_COLOR,
    PREDICTION_COLOR,
    TRUTH_COLOR,
    montage_fields,
    outline,
    pick_examples,
    write_png,
)

GREY = np.full((20, 20, 3), 90, np.uint8)


def box(y: int, x: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    labels = np.zeros((20, 20), np.uint8)
    labels[y : y + 6, x : x + 6] = 1
    return labels


def test_outline_draws_both_and_keeps_the_inside() -> None:
    drawn = outline(GREY, box(2, 2), box(2, 10))
    assert tuple(drawn[2, 4]) == TRUTH_COLOR
    assert tuple(drawn[2, 12]) == PREDICTION_COLOR
    assert tuple(drawn[5, 5]) == (90, 90, 90)
    assert tuple(outline(GREY, box(2, 2), box(2, 2))[2, 4]) == BOTH_COLOR
    assert (GREY == 90).all()


def test_touching_objects_have_a_border() -> None:
    labels = np.ones((20, 20), np.uint16)
    labels[:, 10:] = 2
    assert (outline(GREY, labels, np.zeros_like(labels))[:, 9:11] == TRUTH_COLOR).all()


def test_examples() -> None:
    rows = [{"image": c, "dice": v} for c, v in zip("abcd", [0.4, None, 0.9, 0.6], strict=True)]
    assert pick_examples(rows) == {"worst": "a", "median": "d", "best": "c"}
    assert pick_examples([{"image": "a", "dice": None}]) == {}


def test_montage() -> None:
    sheet = montage_fields([GREY] * 3, [box(2, 2)] * 3, columns=2, side=16)
    assert sheet.shape == (36, 36, 3)
    assert (sheet[20:, 20:] == 255).all()
    assert (sheet[:16, :16] == np.array(PREDICTION_COLOR)).all(-1).any()
    with pytest.raises(ConfigError, match="equally many"):
        montage_fields([GREY], [])
    with pytest.raises(ConfigError, match="equally many"):
        montage_fields([], [])


def test_png_keeps_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 40_000]], np.uint32)
    write_png(tmp_path / "deep" / "ids.png", ids)
    np.testing.assert_array_equal(read_mask(tmp_path / "deep" / "ids.png").labels, ids)
    with pytest.raises(ConfigError, match="65535"):
        write_png(tmp_path / "x.png", ids * 2)
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
