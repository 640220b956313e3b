from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.curves import _COLOURS, CurvePoint, _ticks, draw_curves


def test_every_curve_is_in_the_picture(tmp_path: Path) -> None:
    rising = [CurvePoint(x, 0.5 + x / 20, 0.45 + x / 20, 0.55 + x / 20) for x in (0, 1, 3, 8)]
    flat = [CurvePoint(x, 0.6, 0.6, 0.6) for x in (0, 8)]
    file = tmp_path / "docs" / "curve.png"
    draw_curves({"sparse": rising, "dense": flat}, file, x_name="actions", y_name="Dice")
    pixels = np.asarray(Image.open(file))
    where = [np.argwhere((pixels == colour).all(axis=-1)) for colour in _COLOURS[:3]]
    # left of the legend's colour, up is better: the rising curve ends above the flat one
    right = [places[places[:, 1] > 700] for places in where]
    assert right[0][:, 0].mean() < right[1][:, 0].mean() - 50
    assert len(where[2]) == 0
    assert [p.name for p in file.parent.iterdir()] == ["curve.png"]


@pytest.mark.parametrize(
    "curves",
    [{}, {"a": []}, {"a": [CurvePoint(0, math.nan, 0, 0)]}, {str(i): [] for i in range(9)}],
)
def test_nothing_to_draw_is_said(curves: dict[str, list[CurvePoint]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be drawn"):
        draw_curves(curves, tmp_path / "c.png", x_name="x", y_name="y")
    assert list(tmp_path.iterdir()) == []


@given(low=st.floats(-1e4, 1e4), span=st.floats(0, 1e4))
def test_ticks_hold_what_is_drawn(low: float, span: float) -> None:
    ticks = _ticks(low, low + span)
    assert 2 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    slack = 1e-6 * max(abs(low), span, 1)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
