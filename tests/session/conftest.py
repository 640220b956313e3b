"""An open slide in a session whose jobs the test drives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from napari_genselfdiff.session.session import Session
from tests.registry.networks import make_backbone
from tests.session.parts import FakeEngine, make_model, make_session


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, make_slide: Callable[..., Path]) -> Path:
    """Slide and model, made once."""
    folder = tmp_path_factory.mktemp("made")
    make_slide(folder / "case.tif", 600, 800, levels=2)
    make_model(folder / "bundled" / "nuclei", notes="shipped", starter=True)
    make_backbone(folder / "bundled" / "backbone")
    return folder


@pytest.fixture
def bundled(made: Path, tmp_path: Path) -> Path:
    """A copy of the shipped model that a test may spoil."""
    return Path(shutil.copytree(made / "bundled", tmp_path / "bundled"))


@pytest.fixture
def slide_path(made: Path, tmp_path: Path) -> Path:
    """A slide of 0.25 µm per pixel in a folder of its own."""
    folder = tmp_path / "slides"
    folder.mkdir()
    return Path(shutil.copy(made / "case.tif", folder))


@pytest.fixture
def closed(tmp_path: Path, bundled: Path) -> Iterator[tuple[Session, FakeEngine]]:
    """A session without a slide."""
    session, engine = make_session(tmp_path, bundled)
    yield session, engine
    session.close()


@pytest.fixture
def opened(closed: tuple[Session, FakeEngine], slide_path: Path) -> tuple[Session, FakeEngine]:
    """A session with the slide open."""
    closed[0].open_slide(slide_path)
    return closed
