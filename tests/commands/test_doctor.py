"""``genselfdiff doctor`` says what is there and what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_genselfdiff.commands import doctor
from napari_genselfdiff.registry.folder import Model
from tests.commands.conftest import Run


@pytest.fixture(autouse=True)
def quick(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds: measuring the machine, starting a window."""
    monkeypatch.setitem(doctor.CHECKS, "speed settings", lambda: ("ok", "not measured"))
    monkeypatch.setitem(doctor.CHECKS, "opengl", lambda: ("ok", "not tried"))


def test_sound_machine_is_exit_0(run: Run, model: Model) -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert found["ok"] is True
    checks = {check["name"]: check for check in found["checks"]}
    assert set(checks) == set(doctor.CHECKS)
    assert model.card.name in checks["models"]["detail"]
    assert "research use only" in run("doctor").stdout


def test_model_in_use_that_is_damaged_is_a_problem(run: Run, model: Model) -> None:
    model.weights.write_bytes(b"")
    found = json.loads(run("doctor", "--json", code=1).stdout)
    assert found["ok"] is False
    (problem,) = [check for check in found["checks"] if check["state"] == "problem"]
    assert problem["name"] == "models"
    assert "weights.safetensors" in problem["detail"]


def test_folder_that_refuses_is_a_problem(
    run: Run, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_args: object) -> None:
        raise PermissionError(13, "Permission denied", "home")

    monkeypatch.setattr(Path, "write_bytes", read_only)
    result = run("doctor", code=1)
    assert "PROBLEM  room to write" in result.stdout
    assert "Permission denied" in result.stdout


def test_no_screen_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    state, detail = doctor._opengl()
    assert state == "warning"
    assert "no screen" in detail


@pytest.mark.qt
def test_opengl_is_really_tried() -> None:
    assert doctor._opengl()[0] == "ok"
