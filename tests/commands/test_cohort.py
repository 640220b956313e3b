"""``genselfdiff cohort``: a report to hand on, whatever is wrong with some slides."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from napari_genselfdiff.annotation.runs import RunFolder
from napari_genselfdiff.engine.cohort_pictures import pick_fields
from napari_genselfdiff.engine.cohort_report import build_page
from napari_genselfdiff.errors import StoreError
from napari_genselfdiff.registry.folder import Model
from tests.commands.conftest import Run

EVIL = "<script>alert(1)</script>&'\".tif"


class Page(HTMLParser):
    """Collects what a page would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def _state(out: Path) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((out / "cohort.json").read_text())["entries"]
    return entries


@pytest.fixture
def slides(slide: Path, tmp_path: Path) -> Path:
    """Two good slides, one with a hostile name, and a broken one."""
    shutil.copy(slide, slide.with_name(EVIL.replace("/", "∕")))
    slide.with_name("broken.svs").write_text("no slide at all")
    slide.with_name("notes.txt").write_text("not a slide")
    return slide.parent


def test_a_cohort_leaves_tables_and_a_page_of_its_own(
    run: Run, slides: Path, speed: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = run("cohort", slides, "--out", out, *speed, code=1)
    assert "2 of 3 slides without a failure" in result.stdout
    assert "broken.svs" in result.stderr
    table = pd.read_csv(out / "summary.csv")
    parquet = pd.read_parquet(out / "summary.parquet")
    assert sorted(table.status) == ["done", "done", "failed"]
    assert parquet.objects.dropna().tolist() == table.objects.dropna().tolist()
    done = parquet[parquet.status == "done"]
    assert (done.tissue_mm2 > 0).all()
    assert done.objects_per_mm2.iloc[0] == pytest.approx(
        done.objects.iloc[0] / done.tissue_mm2.iloc[0]
    )
    text = (out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert not page.handlers
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "<script>alert(1)" in page.text, "the name is shown as text"
    assert "broken.svs" in page.text
    bars = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert len(bars.findall("g/rect")) == 2
    assert "Research use only" in page.text
    assert "default-src 'none'" in text


def test_the_same_command_goes_on(
    run: Run, slides: Path, speed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (slides / "broken.svs").unlink()
    out, finish = tmp_path / "out", RunFolder.finish

    def cut(self: RunFolder, record: dict[str, Any]) -> None:
        raise StoreError("cut")

    monkeypatch.setattr(RunFolder, "finish", cut)
    run("cohort", slides, "--out", out, *speed, code=1)
    monkeypatch.setattr(RunFolder, "finish", finish)
    states = [entry["status"] for entry in _state(out).values()]
    assert states == ["failed", "failed"]
    result = run("cohort", slides, "--out", out, *speed)
    assert result.stderr.count("went on with an unfinished run; 0 of") == 2
    again = run("cohort", slides, "--out", out, *speed)
    assert "2 of 2 slides are done already" in again.stderr
    assert "went on" not in again.stderr


def test_a_slide_that_changed_is_done_again_and_refused_where_it_does_not_fit(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run("cohort", slide, "--out", out, *speed)
    slide.write_bytes(slide.read_bytes() + b"more")
    result = run("cohort", slide, "--out", out, *speed, code=1)
    assert "belong to another slide" in result.stderr


def test_a_folder_of_another_model_is_refused(
    run: Run, slide: Path, speed: Any, tmp_path: Path, model: Model
) -> None:
    out = tmp_path / "out"
    run("cohort", slide, "--out", out, *speed)
    state = json.loads((out / "cohort.json").read_text())
    (out / "cohort.json").write_text(json.dumps(state | {"model_hash": "0" * 64}))
    result = run("cohort", slide, "--out", out, *speed, code=1)
    assert "holds a cohort of the model" in result.stderr
    (out / "cohort.json").write_text("{")
    assert "is not JSON" in run("cohort", slide, "--out", out, *speed, code=1).stderr


def test_slides_of_one_name_and_a_list_with_sizes(
    run: Run, slide: Path, make_slide: Any, speed: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    silent = make_slide(other / "case.tif", 300, 300, mpp=None, levels=1)
    names = tmp_path / "slides.txt"
    names.write_text(f"{slide}\n{silent}\t0.5\n")
    out = tmp_path / "out"
    run("cohort", "--list", names, "--out", out, *speed)
    table = pd.read_csv(out / "summary.csv")
    assert table.mpp.tolist() == [0.25, 0.5]
    assert table.mpp_assumed.tolist() == [False, True]
    assert len(list(out.glob("case.tif*.gsd.zarr"))) == 2
    names.write_text(f"{silent}\tlarge\n")
    wrong = run("cohort", "--list", names, "--out", out, *speed, code=1)
    assert "after the tab comes µm per pixel" in wrong.stderr


def test_nothing_to_do_is_wrong_use(run: Run) -> None:
    assert "name at least one slide" in " ".join(run("cohort", code=2).stderr.split())


def test_fields_are_the_densest_and_a_middling_one() -> None:
    share = np.zeros((12, 12), np.float32)
    share[0:4, 0:4], share[4:8, 4:8], share[8:12, 8:12] = 0.9, 0.5, 0.4
    known = np.ones_like(share, bool)
    assert pick_fields(share, known, 4) == {"dense": (0, 0), "typical": (4, 4)}
    assert pick_fields(np.zeros_like(share), known, 4) == {}


def test_formulas_in_names_do_not_run_in_a_spreadsheet(
    run: Run, slide: Path, speed: Any, tmp_path: Path
) -> None:
    path = Path(shutil.copy(slide, slide.with_name("=cmd|' !A0'.tif")))
    run("cohort", path, "--out", tmp_path / "out", *speed)
    lines = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert lines[1].startswith("'=cmd|")


def test_an_empty_cohort_has_a_page() -> None:
    about = dict.fromkeys(
        ("title", "things", "task", "model", "model_hash", "version", "finished"), "x"
    )
    assert "0 of 0 slides" in build_page(about, [], {})
