from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import pair_folders, read_image, read_mask
from napari_genselfdiff.evaluation.report import build_report
from napari_genselfdiff.evaluation.run import Answer, score_folder, write_examples


def dark(image: NDArray[np.uint8]) -> Answer:
    """A segmenter that finds dark boxes, exactly."""
    return Answer((image[..., 0] < 128).astype(np.uint8), None)


@pytest.fixture(params=[np.uint16, np.uint8])
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        image = np.full((32, 32, 3), 200, np.uint8)
        mask = np.zeros((32, 32), request.param)
        for k in range(2):
            image[4:12, 4 + 14 * k : 12 + 14 * k] = 50
            mask[4 : 12 - i, 4 + 14 * k : 12 + 14 * k] = 1 if mask.dtype == np.uint8 else 5 + k
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def test_scores_predictions_and_pictures(data: Path) -> None:
    pairs = pair_folders(data / "images", data / "masks")
    rows = list(score_folder(pairs, dark, data / "predictions"))
    assert [(r.image, r.done, r.total) for r in rows] == [("0", 1, 3), ("1", 2, 3), ("2", 3, 3)]
    assert [r.scores["dice"] for r in rows] == pytest.approx([1, 14 / 15, 12 / 14])
    kind = read_mask(pairs[0].mask).kind
    assert ("aji" in rows[0].scores) == (kind == "instances")
    written = read_mask(data / "predictions" / "0.png")
    assert (written.kind, int(written.labels.max())) == (kind, 2 if kind == "instances" else 1)

    report = build_report("dark", 0.25, [(r.image, r.scores) for r in rows])
    pictures = write_examples(report, pairs, dark, data / "pictures")
    assert [p.name for p in pictures] == ["worst-2.png", "median-1.png", "best-0.png"]
    assert all(read_image(p).shape == (32, 32, 3) for p in pictures)


def test_an_answer_of_the_wrong_size(data: Path) -> None:
    pairs = pair_folders(data / "images", data / "masks")
    with pytest.raises(ConfigError, match="the answer for"):
        list(score_folder(pairs, lambda image: dark(image[1:])))
