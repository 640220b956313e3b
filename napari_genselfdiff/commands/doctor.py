"""``genselfdiff doctor``: what this machine has, and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final, Literal

import typer

import napari_genselfdiff
from napari_genselfdiff.commands import console
from napari_genselfdiff.errors import GenSelfDiffError

State = Literal["ok", "warning", "problem"]
_SIGNS: Final[dict[State, str]] = {"ok": "ok", "warning": "careful", "problem": "PROBLEM"}
_GL_SECONDS: Final = 60
# Qt ends the whole process where it finds no screen, so it is tried in another one.
_GL_SCRIPT: Final = """
from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext
app = QGuiApplication([])
surface, context = QOffscreenSurface(), QOpenGLContext()
surface.create()
if not (context.create() and context.makeCurrent(surface)):
    raise SystemExit("no OpenGL context can be made")
from OpenGL.GL import GL_RENDERER, GL_VERSION, glGetString
print(glGetString(GL_VERSION).decode(), "-", glGetString(GL_RENDERER).decode())
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what it is, how it is, and what to do about it."""

    name: str
    state: State
    detail: str


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check what this machine has: torch, GPU, OpenGL, OpenSlide, models, room to write."""
    found = [_checked(name, look) for name, look in CHECKS.items()]
    sound = all(check.state != "problem" for check in found)
    if as_json:
        checks = [asdict(check) for check in found]
        app_version = napari_genselfdiff.__version__
        console.say_json({"schema": 1, "version": app_version, "ok": sound, "checks": checks})
    else:
        console.say(f"napari-genselfdiff {napari_genselfdiff.__version__}, research use only")
        console.table(("", "", ""), [(_SIGNS[c.state], c.name, c.detail) for c in found])
    if not sound:
        raise typer.Exit(console.FAILED)


def _checked(name: str, look: Callable[[], tuple[State, str]]) -> Check:
    try:
        state, detail = look()
    except (GenSelfDiffError, OSError) as err:
        state, detail = "problem", console.reason(err)
    except ImportError as err:
        state, detail = "problem", f"{err}; install the package again"
    return Check(name, state, " ".join(detail.split()))


def _python() -> tuple[State, str]:
    return "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _torch() -> tuple[State, str]:
    import torch

    from napari_genselfdiff.prediction.profile import available_cores, has_cpu_bf16

    bf16 = ", bf16" if has_cpu_bf16() else ""
    return "ok", f"torch {torch.__version__}, {available_cores()} cores{bf16}"


def _gpu() -> tuple[State, str]:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return "ok", f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB"
    return "ok", "none that torch can use; the processor does the work"


def _window() -> tuple[State, str]:
    found = [name for name in ("PyQt5", "PyQt6", "PySide6") if importlib.util.find_spec(name)]
    if not found:
        return "problem", "no Qt: pip install 'napari-genselfdiff[pyqt6]'"
    return "ok", f"napari {_version('napari')}, {', '.join(f'{n} {_version(n)}' for n in found)}"


def _opengl() -> tuple[State, str]:
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform == "linux" and not screen:
        return "warning", "no screen here; the window needs one (or xvfb-run), commands do not"
    try:
        run = subprocess.run(
            [sys.executable, "-c", _GL_SCRIPT],
            capture_output=True,
            text=True,
            timeout=_GL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "problem", f"no answer within {_GL_SECONDS} s; check the graphics driver"
    if run.returncode == 0:
        return "ok", run.stdout
    why = (run.stderr.strip().splitlines() or ["the process died"])[-1]
    return "problem", f"OpenGL does not work ({why}); install Mesa or a graphics driver"


def _openslide() -> tuple[State, str]:
    try:
        import openslide
    except (ImportError, OSError):
        return "warning", "not installed: TIFF slides open, others need pip install " + (
            "'napari-genselfdiff[slides]'"
        )
    return "ok", f"OpenSlide {openslide.__library_version__}"


def _room() -> tuple[State, str]:
    import shutil
    from uuid import uuid4

    from napari_genselfdiff.registry.home import data_home

    home = data_home()
    home.mkdir(parents=True, exist_ok=True)
    trial = home / f".doctor.{uuid4().hex}"
    try:
        trial.write_bytes(b"0")
    finally:
        trial.unlink(missing_ok=True)
    free = shutil.disk_usage(home).free / 2**30
    return ("ok" if free > 1 else "warning"), f"{home}, {free:.1f} GiB free"


def _models() -> tuple[State, str]:
    from napari_genselfdiff.registry.registry import DEFAULT, Registry

    registry = Registry()
    model = registry.resolve(DEFAULT)
    damaged = registry.problems()
    count = len(registry.list())
    if damaged:
        first = next(iter(damaged.values()))
        return "warning", f"{count} sound, {len(damaged)} damaged: {first}"
    return "ok", f"{count}, in use for {model.card.task.name}: {model.card.name}"


def _profile() -> tuple[State, str]:
    from napari_genselfdiff.prediction.profile import default_profile

    speed = default_profile()
    tiles = f"{speed.parallel} x {speed.threads} threads, batch {speed.batch}"
    return "ok", f"{speed.device}, {speed.precision}, {tiles}"


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"


CHECKS: Final[dict[str, Callable[[], tuple[State, str]]]] = {
    "python": _python,
    "torch": _torch,
    "gpu": _gpu,
    "window": _window,
    "opengl": _opengl,
    "openslide": _openslide,
    "room to write": _room,
    "models": _models,
    "speed settings": _profile,
}
