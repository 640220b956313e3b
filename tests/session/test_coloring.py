"""Colours by the scanner's profile: shown if chosen, and read by models that learned from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_genselfdiff.annotation.tasks import NUCLEI
from napari_genselfdiff.commands.slide_job import Job as SlideJob
from napari_genselfdiff.engine.tasks import Context
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.corrections import collect_tiles
from napari_genselfdiff.prediction.records import run_record, segment_command
from napari_genselfdiff.prediction.tiles import colors_warning
from napari_genselfdiff.session.coloring import choose_colors, colors_note
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from tests.annotation.builders import store_of
from tests.session.parts import FakeEngine, make_model
from tests.slides.test_colors import profile

LIGHT, SHOWN = 128, 188  # what the file stores, and its sRGB (worked out in tests/slides)
PLACE = Region(0, 0, 300, 400)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A grey slide that states how much light its samples mean."""
    file = tmp_path / "case.tif"
    tifffile.imwrite(
        file,
        np.full((*PLACE.shape, 3), LIGHT, np.uint8),
        photometric="rgb",
        tile=(128, 128),
        resolution=(40_000, 40_000),
        resolutionunit="CENTIMETER",
        iccprofile=profile(),
        metadata=None,
    )
    return file


def mean(pixels: np.ndarray[Any, Any]) -> float:
    return float(pixels.mean())


def test_chosen_colours_are_shown_and_remembered(
    closed: tuple[Session, FakeEngine], path: Path
) -> None:
    session, heard = closed[0], []
    session.open_slide(path)
    session.events.colors_changed.connect(lambda: heard.append(session.slide))
    assert colors_note(session) == ""
    choose_colors(session, "srgb")
    assert session.slide is not None
    assert len(heard) == 1
    assert mean(session.slide.read(PLACE)) == pytest.approx(SHOWN, abs=1)
    assert "learned from colours as the slide stores them" in session.status.text
    assert session.open_slide(path).colors == "srgb"
    choose_colors(session, "stored")
    assert session.open_slide(path).colors == "stored"
    session.close_slide()
    with pytest.raises(ConfigError, match="no slide is open"):
        choose_colors(session, "srgb")


@pytest.mark.parametrize("colors", ["stored", "srgb"])
def test_a_model_reads_what_it_learned_from_whatever_is_shown(
    closed: tuple[Session, FakeEngine], path: Path, tmp_path: Path, colors: Any
) -> None:
    session = closed[0]
    session.open_slide(path)
    session.model = model = make_model(tmp_path / "model", colors=colors)
    other: Any = "stored" if colors == "srgb" else "srgb"
    choose_colors(session, other)
    assert model.card.name in colors_note(session)
    session.predicting.start(Region(0, 0, 128, 128))
    running = session.predicting._running
    assert running is not None
    assert running.slide.colors == colors
    assert session.whole_slide._request(model, Any).slide.colors == colors  # type: ignore[arg-type]
    read = Context().slide(path, None, colors).read(PLACE)
    assert mean(read) == pytest.approx(SHOWN if colors == "srgb" else LIGHT, abs=1)


def test_corrections_are_read_in_the_colours_of_the_model(path: Path, tmp_path: Path) -> None:
    card = make_model(tmp_path / "model", colors="srgb").card
    with open_slide(path) as slide:
        store = store_of(slide, tmp_path / "case.gsd.zarr")
        store.add_task(NUCLEI)
        store.accept("Nuclei", Region(0, 0, 200, 200))
        tiles = collect_tiles(slide, store, card)
        store.close()
    assert tiles
    assert all(mean(tile.image) == pytest.approx(SHOWN, abs=1) for tile in tiles)


def test_the_command_line_follows_the_model_unless_told(path: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", colors="srgb")
    job: Any = SlideJob(model, None, None, None, None)  # type: ignore[arg-type]
    assert job.read_colors == "srgb"
    assert SlideJob(model, None, None, None, None, "stored").read_colors == "stored"  # type: ignore[arg-type]
    said = colors_warning("stored", "srgb")
    assert said is not None
    assert "learned from colours turned into sRGB, and the slide is read" in said
    assert colors_warning("srgb", "srgb") is None


def test_a_run_says_which_colours_it_read(path: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", colors="srgb")
    profile_: Any = type("Speed", (), {"to_dict": dict})()
    with open_slide(path) as slide:
        for colors in ("stored", "srgb"):
            read = slide.in_colors(colors)
            assert run_record(read, model, profile_, None, {})["slide"]["colors"] == colors
            command = segment_command(read, model, PLACE, tmp_path / "run.json")
            assert ("--colors stored" in command) == (colors == "stored")
