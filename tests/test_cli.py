"""``genselfdiff``: its commands, ``info``, and what it says to bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import napari_genselfdiff
from napari_genselfdiff.cli import app
from napari_genselfdiff.samples import sample_path

COMMANDS = ("doctor", "info", "demo", "segment", "refine", "pretrain", "finetune", "evaluate")
EXCHANGE = ("export", "import", "measure", "models")


def test_every_command_explains_itself() -> None:
    listed = CliRunner().invoke(app, ["--help"]).output
    for command in (*COMMANDS, *EXCHANGE):
        assert command in listed
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output.strip() == napari_genselfdiff.__version__


@pytest.mark.parametrize("arguments", [["nothing"], ["info"], ["info", "a.svs", "--colour"]])
def test_wrong_use_is_exit_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_info_as_json_is_alone_on_stdout() -> None:
    result = CliRunner().invoke(app, ["info", str(sample_path("cmu_small_region")), "--json"])
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert list(facts) == [
        *("schema", "path", "hash", "levels", "mpp", "mpp_assumed", "reader", "bounds", "warnings")
    ]
    assert facts["levels"] == [{"height": 2967, "width": 2220, "downsample": 1.0}]
    assert facts["mpp"] == 0.499
    assert facts["mpp_assumed"] is False


def test_info_in_words() -> None:
    result = CliRunner().invoke(app, ["info", str(sample_path("tnbc_pyramid"))])
    assert "µm per pixel: 0.25" in result.stdout
    assert "level 2: 384 x 512, downsample 4" in result.stdout


def _cut(source: Path, target: Path, size: int) -> Path:
    target.write_bytes(source.read_bytes()[:size])
    return target


BadFile = Callable[[Path], Path]
BAD_FILES: dict[str, tuple[BadFile, str]] = {
    "text named svs": (
        lambda folder: _written(folder / "report.svs", b"Dear colleague,\n"),
        "report.svs is a text file",
    ),
    "truncated TIFF": (
        lambda folder: _cut(sample_path("tnbc_pyramid"), folder / "cut.tif", 1000),
        "cut.tif",
    ),
    "empty file": (lambda folder: _written(folder / "empty.ndpi", b""), "empty.ndpi is empty"),
    "unknown kind": (
        lambda folder: _written(folder / "movie.xyz", bytes(range(256))),
        "movie.xyz starts with the bytes 00 01 02 03",
    ),
    "not there": (lambda folder: folder / "none.svs", "none.svs cannot be read"),
    "folder": (lambda folder: folder, "without DICOM files"),
}


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_slide_is_one_line_and_exit_1(case: str, tmp_path: Path) -> None:
    make, says = BAD_FILES[case]
    result = CliRunner().invoke(app, ["info", str(make(tmp_path)), "--json"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_help_comes_without_torch_or_napari() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom napari_genselfdiff.cli import app\n"
        "CliRunner().invoke(app, ['--help'])\n"
        "print(sorted({'torch', 'napari', 'zarr', 'dask', 'skimage', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "[]"
