"""Pictures of the slide in the panel; a label, which may name a patient, only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_genselfdiff.samples import sample_path
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.slide import open_slide
from napari_genselfdiff.widgets.associated import AssociatedPictures


@pytest.fixture
def pictures(qtbot: Any) -> AssociatedPictures:
    session = Session()
    session.slide = open_slide(sample_path("cmu_small_region"))
    made = AssociatedPictures(session)
    qtbot.addWidget(made)
    made.show_slide()
    return made


def test_nothing_is_shown_before_it_is_asked_for(pictures: AssociatedPictures) -> None:
    assert list(pictures.buttons) == ["label", "macro", "thumbnail"]
    assert pictures.shown == ""
    assert pictures.picture.isHidden()
    shown: Any = pictures.picture.pixmap()
    assert shown is None or shown.isNull()
    assert "patient" in pictures.buttons["label"].toolTip()


def test_a_button_shows_and_hides(pictures: AssociatedPictures) -> None:
    pictures.buttons["label"].click()
    assert pictures.shown == "label"
    shown: Any = pictures.picture.pixmap()
    assert not pictures.picture.isHidden()
    assert shown.height() / shown.width() == pytest.approx(463 / 387, abs=0.02)
    pictures.buttons["macro"].click()
    assert pictures.shown == "macro"
    pictures.buttons["macro"].click()
    assert pictures.picture.isHidden()


def test_another_slide_hides_the_label(pictures: AssociatedPictures, tmp_path: Path) -> None:
    pictures.toggle("label")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40, 3), np.uint8))
    session = pictures._session
    assert session.slide is not None
    session.slide.close()
    session.slide = open_slide(tmp_path / "a.tif")
    pictures.show_slide()
    assert pictures.isHidden()
    assert pictures.picture.isHidden()
    assert pictures.buttons == {}
    session.slide.close()
