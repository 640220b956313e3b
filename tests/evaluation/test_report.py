from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.report import build_report, table, write_report

IMAGES = [("a", {"dice": 0.5, "sq": math.nan}), ("b", {"dice": 0.7, "sq": 0.6})]


def test_report_has_the_promised_shape() -> None:
    report = build_report("default", 0.25, IMAGES)
    assert list(report) == ["schema", "model", "mpp", "n", "mean", "images"]
    assert (report["schema"], report["model"], report["mpp"], report["n"]) == (
        1,
        "default",
        0.25,
        2,
    )
    assert report["mean"]["dice"]["value"] == pytest.approx(0.6)
    assert 0.5 <= report["mean"]["dice"]["low"] <= report["mean"]["dice"]["high"] <= 0.7
    assert report["mean"]["sq"] == {"value": 0.6, "low": None, "high": None}
    assert report["images"][0] == {"image": "a", "dice": 0.5, "sq": None}


def test_written_report_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    write_report(build_report("m", None, IMAGES), path)
    assert json.loads(path.read_text())["images"][0]["sq"] is None
    assert [p.name for p in path.parent.iterdir()] == ["report.json"]


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(ConfigError, match="Cannot write"):
        write_report(build_report("m", None, IMAGES), tmp_path / "report.json")
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_scored() -> None:
    with pytest.raises(ConfigError, match="no image"):
        build_report("m", None, [])


def test_table_names_every_metric() -> None:
    text = table(build_report("m", None, IMAGES))
    assert "0.6000" in text
    assert "–" in text
