"""A real, short study on the crops of the tests: one label, two subsets, both starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from napari_genselfdiff.learning.study.plan import SETS, StudyPlan
from napari_genselfdiff.learning.study.run import StudyOptions, run_study
from napari_genselfdiff.learning.study.table import difference, summary

LISTS = {
    "train": ["tnbc_01_1", "tnbc_03_2", "dsb2018_colour_0e21d7b3eea8cdbb"],
    "dev": ["tnbc_05_4"],
    "n1_subset0": ["tnbc_01_1"],
    "n1_subset1": ["tnbc_03_2"],
}


@pytest.fixture
def root(tmp_path: Path, crops_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    shutil.copytree(crops_dir, root / "labelled/crops")
    (root / "splits").mkdir()
    for name, stems in LISTS.items():
        (root / f"splits/crops_{name}.txt").write_text("\n".join(stems) + "\n")
    monkeypatch.setenv("GENSELFDIFF_DATA", str(root))
    return root


@pytest.mark.slow
def test_two_subsets_of_one_label(root: Path, tmp_path: Path) -> None:
    crops = SETS["monuseg"].model_copy(
        update={
            "folder": "labelled/crops",
            "train": "splits/crops_train.txt",
            "dev": "splits/crops_dev.txt",
            "subset": "splits/crops_n{n}_subset{subset}.txt",
            "full": 3,
        }
    )
    values = {
        "name": "short",
        "sets": {"crops": crops},
        "rows": [{"set": "crops", "n": 1, "subsets": [0, 1], "seeds": [0], "images": 160}],
        "arms": {"default": {}, "scratch": {"settings": ["start=scratch"]}},
        "aside": 1,
    }
    options = StudyOptions(phase="score", scored=tmp_path / "scored.jsonl")
    study = StudyPlan.model_validate(values)
    records = list(run_study(study, tmp_path / "out", options))
    assert len(records) == 4
    for arm in ("default", "scratch"):
        found = summary(records, "crops_n1", arm)
        assert found is not None
        assert found.value > 0.3, arm  # all foreground would have 0.18
    paired = difference(records, "crops_n1", "default")
    assert paired is not None
    assert paired.subsets == 2
    assert paired.low <= paired.value <= paired.high
