from __future__ import annotations

import sys
from pathlib import Path

import pytest

from napari_genselfdiff.widgets.loading_ahead import load_ahead


def test_modules_are_there_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needed_soon_1.py").write_text("import threading\nme = threading.current_thread()")
    (tmp_path / "needed_soon_2.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    thread = load_ahead(["needed_soon_1", "not_installed_anywhere", "needed_soon_2"])
    thread.join(20)
    found = [sys.modules.pop(f"needed_soon_{number}") for number in (1, 2)]
    assert found[0].me is thread
    assert found[1].x == 1
