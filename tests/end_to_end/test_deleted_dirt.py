"""Deleting false nuclei in the window and refining; with the shipped model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from napari_genselfdiff.widgets.hand import Hand
from napari_genselfdiff.widgets.view import look_at
from tests.end_to_end.conftest import Open

pytestmark = [pytest.mark.qt, pytest.mark.slow]

LEFT, RIGHT = Region(0, 0, 480, 480), Region(0, 544, 480, 480)


def test_such_false_nuclei_vanish_elsewhere(open_panel: Open, tmp_path: Path) -> None:
    """Green dirt the model takes for nuclei: deleted on the left, forgotten on the right."""
    dots = write_dirty_slide(tmp_path / "dirty.ome.tif")
    hand = open_panel(Registry())
    session = hand.panel.session
    session.refining.budget_s = 120.0  # a busy machine must not decide how much is learnt
    hand.panel.controller.open_slide(str(tmp_path / "dirty.ome.tif"))
    hand.until(lambda: hand.panel.controller.layers.slide is not None, "opening")
    assert share_taken(hand, RIGHT, dots) > 0.3
    assert share_taken(hand, LEFT, dots) > 0.3

    delete_by_clicks(hand, dots)
    hand.key("A")
    _, store = session.open_store()
    assert not (store.read("Nuclei", LEFT).classes > 0)[dots[LEFT.slices]].any()

    hand.click(hand.panel.refine.refine_button)
    hand.until(lambda: session.refining.activity is None, "Refine", seconds=600)
    outcome = session.refining.outcome
    assert outcome is not None, session.status.text
    assert outcome.result.verdict.decision == "better", outcome.result.verdict.sentence
    assert outcome.in_use
    assert share_taken(hand, RIGHT, dots) < 0.15


def share_taken(hand: Hand, place: Region, dots: NDArray[np.bool_]) -> float:
    """Press P on a place; the share of its dirt that the model takes for nuclei."""
    session, slide = hand.panel.session, hand.panel.controller.layers.slide
    assert slide is not None
    look_at(hand.viewer, slide, place, margin=1.0)
    hand.rest(0.6)
    hand.key("P")
    hand.until(lambda: session.predicting.activity is None, "Predict")
    _, store = session.open_store()
    return float((store.read("Nuclei", place).classes > 0)[dots[place.slices]].mean())


def delete_by_clicks(hand: Hand, dots: NDArray[np.bool_]) -> None:
    """Click with the delete tool on every object of the left half that touches dirt."""
    _, store = hand.panel.session.open_store()
    objects = store.read("Nuclei", LEFT).objects
    assert objects is not None
    dirt = dots[LEFT.slices]
    hand.key("D")
    for number in np.unique(objects[dirt & (objects > 0)]):
        rows, columns = np.nonzero((objects == number) & dirt)
        middle = len(rows) // 2
        hand.tap((LEFT.y + rows[middle], LEFT.x + columns[middle]))
    hand.key("Escape")


def write_dirty_slide(path: Path) -> NDArray[np.bool_]:
    """Fields of the sample with green dots between their nuclei; gives where the dots are."""
    with open_slide(sample_path("tnbc_pyramid")) as sample:
        image = sample.read(Region(512, 0, 512, 1024)).copy()
    with Image.open(sample_path("tnbc_pyramid_masks")) as picture:
        nuclei = np.asarray(picture)[512:1024, :1024] > 0
    rng, dots = np.random.default_rng(3), np.zeros(nuclei.shape, bool)
    yy, xx = np.mgrid[: nuclei.shape[0], : nuclei.shape[1]]
    spots: list[tuple[int, int]] = []
    for y, x in rng.integers((14, 14), (498, 1010), (4000, 2)):
        near = (slice(y - 12, y + 12), slice(x - 12, x + 12))
        apart = all((y - a) ** 2 + (x - b) ** 2 > 40**2 for a, b in spots)
        if apart and not nuclei[near].any() and image[near].mean() < 225:
            spots.append((int(y), int(x)))
            dots |= ((yy - y) / 8) ** 2 + ((xx - x) / 10) ** 2 < 1
    image[dots] = rng.normal((55, 105, 60), 8, (int(dots.sum()), 3)).clip(0, 255)
    micron = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "axes": "YXS"}
    tifffile.imwrite(path, image, ome=True, tile=(256, 256), metadata=micron, photometric="rgb")
    return dots
