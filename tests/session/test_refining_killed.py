"""The window's training worker, killed while it refines: the model in use stays, nothing is left.

A window that is killed with its worker is shown by `tests/registry/test_processes.py`: its working
folder goes at the next start.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from napari_genselfdiff.engine.engine import Engine
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region


def _poll_until_stage(session: Session, words: str, timeout_s: float = 240.0) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        session.poll()
        activity = session.refining.activity
        assert activity is not None, session.status
        if words in activity.what and "training" in session.engine.pids:
            return
        time.sleep(0.02)
    raise AssertionError(f"the refine never came to {words!r}")


def _poll_to_the_end(session: Session, timeout_s: float = 240.0) -> None:
    end = time.monotonic() + timeout_s
    while session.refining.activity is not None:
        assert time.monotonic() < end, session.status
        with session.attempt():
            session.poll()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("stage", ["Preparing", "Learning", "Comparing"])
def test_killed_worker(bundled: Path, slide_path: Path, tmp_path: Path, stage: str) -> None:
    registry = Registry(tmp_path / "home", bundled=bundled)
    session = Session(registry, Engine, Profile(threads=1))
    try:
        session.open_slide(slide_path)
        session.correcting.accept(Region(0, 0, 256, 256), 1.0)
        old = session.model
        assert old is not None
        session.refining.budget_s = 30.0 if stage == "Learning" else 1.0
        session.refining.start()
        _poll_until_stage(session, stage)
        os.kill(session.engine.pids["training"], signal.SIGKILL)
        _poll_to_the_end(session)
        assert session.status.tone == "error"
        assert session.refining.outcome is None
        assert registry.active("Nuclei") == old
        assert [model.path for model in registry.list()] == [old.path]
        assert registry.problems() == {}
        assert list((registry.root / "runs").iterdir()) == []
    finally:
        session.close()
