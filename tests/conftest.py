"""What every test shares: a private home folder, real data or a skip, synthetic slides."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

Tissue = tuple[NDArray[np.uint8], NDArray[np.uint16]]
TESTS = Path(__file__).parent
QT_FIXTURES = {"qapp", "qtbot", "make_napari_viewer", "make_napari_viewer_proxy"}

# Shared machines make single examples slow; that is not a failure. The same code gets the same
# examples, so that a change is not blamed for what it did not touch; `explore` draws new ones.
hypothesis.settings.register_profile(
    "project", deadline=None, max_examples=50, derandomize=True, database=None
)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=200)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "project"))


def _pick_qt_binding() -> None:
    """Make qtpy and pytest-qt agree; by themselves they prefer different bindings."""
    api = os.environ.get("QT_API", "").lower()
    if not api:
        found = [b for b in ("PyQt5", "PyQt6") if importlib.util.find_spec(b) is not None]
        api = found[0].lower() if found else ""
    if api:
        os.environ["QT_API"] = api
        os.environ.setdefault("PYTEST_QT_API", api)


_pick_qt_binding()
# The tests' networks are tiny: a second thread gains nothing, and on a busy machine each of their
# thousands of operations would wait for its turn. Workers set the threads of their profile.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def _has_display() -> bool:
    """Whether a real or virtual screen is there; Qt aborts the process without one."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with the reason."""
    no_display = pytest.mark.skip(reason="no display; run under xvfb-run, as `make test` does")
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    wants_gpu = [item for item in items if item.get_closest_marker("gpu")]
    for item in items:
        if QT_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.qt)
        if item.get_closest_marker("qt") and not _has_display():
            item.add_marker(no_display)
    if wants_gpu:
        import torch

        if not torch.cuda.is_available():
            for item in wants_gpu:
                item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a private folder for models and settings; the user's own is never touched."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("GENSELFDIFF_HOME", str(folder))
    monkeypatch.setenv("NAPARI_CONFIG", str(folder / "napari.yaml"))
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder with real slides and labelled sets, or skip the test."""
    default = TESTS.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("GENSELFDIFF_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data; GENSELFDIFF_DATA can name its folder")
    return folder


@pytest.fixture(scope="session")
def crops_dir() -> Path:
    """Return the small real H&E crops kept with the tests (`tests/data/SOURCES.md`)."""
    return TESTS / "data"


def _paint_tissue(height: int, width: int, seed: int = 0, nuclei: int | None = None) -> Tissue:
    """Paint pink tissue with separate violet nuclei; return RGB and the nuclei's instance map."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.sin(yy / 23 + seed) + np.sin(xx / 31) + np.sin((xx + yy) / 47)
    stroma = np.stack([228 + 6 * waves, 170 + 10 * waves, 200 + 7 * waves], axis=-1)
    image = stroma + rng.normal(0, 5, (height, width, 1))
    instances = np.zeros((height, width), np.uint16)
    wanted = max(1, height * width // 2500) if nuclei is None else nuclei
    for _ in range(wanted):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(6, 11, 2)
        reach = ((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2
        if (instances[reach < 1.6] > 0).any() or not (reach < 1).any():
            continue
        inside = reach < 1
        instances[inside] = instances.max() + 1
        colour = np.array([105, 70, 140]) + rng.normal(0, 8, 3)
        image[inside] = colour + rng.normal(0, 9, (int(inside.sum()), 1))
    return np.clip(image, 0, 255).astype(np.uint8), instances


def _write_slide(
    path: Path,
    height: int,
    width: int,
    *,
    mpp: float | None = 0.25,
    levels: int = 3,
    seed: int = 0,
    compression: str = "jpeg",
) -> Path:
    """Write a tiled pyramidal TIFF of synthetic tissue; ``mpp=None`` leaves the size unstated."""
    import tifffile

    level, _ = _paint_tissue(height, width, seed)
    with tifffile.TiffWriter(path) as tif:
        for index in range(levels):
            resolution = None if mpp is None else (1e4 / (mpp * 2**index),) * 2
            tif.write(
                level,
                photometric="rgb",
                tile=(256, 256),
                compression=compression,
                compressionargs={"level": 92} if compression == "jpeg" else None,
                subfiletype=1 if index else 0,
                resolution=resolution,
                resolutionunit=None if mpp is None else "CENTIMETER",
                metadata=None,
            )
            half = level[: level.shape[0] // 2 * 2, : level.shape[1] // 2 * 2].astype(np.uint16)
            quads = half[::2, ::2] + half[1::2, ::2] + half[::2, 1::2] + half[1::2, 1::2]
            level = np.asarray((quads + 2) // 4, dtype=np.uint8)
    return path


@pytest.fixture(scope="session")
def make_tissue() -> Callable[..., Tissue]:
    """Return ``make_tissue(height, width, seed=0, nuclei=None) -> (rgb, instances)``."""
    return _paint_tissue


@pytest.fixture(scope="session")
def make_slide() -> Callable[..., Path]:
    """Return ``make_slide(path, height, width, *, mpp=0.25, levels=3, seed=0) -> path``."""
    return _write_slide
