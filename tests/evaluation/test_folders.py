from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation import folders
from napari_genselfdiff.evaluation.folders import pair_folders, read_image, read_mask, read_pair


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("b", "a"):
        rgb = rng.integers(0, 255, (8, 9, 3), np.uint8)
        Image.fromarray(rgb).save(tmp_path / "images" / f"{name}.png")
        ids = rng.integers(0, 400, (8, 9)).astype(np.uint16)
        Image.fromarray(ids).save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def test_pairs_by_stem(data: Path) -> None:
    (data / "images" / "a.png").rename(data / "images" / "a.TIF.png")
    (data / "masks" / "a.png").rename(data / "masks" / "a.TIF.png")
    (data / "images" / "notes.txt").write_text("not an image")
    (data / "masks" / "extra.png").write_bytes(b"never read")
    pairs = pair_folders(data / "images", data / "masks")
    assert [p.name for p in pairs] == ["a.TIF", "b"]
    image, mask = read_pair(pairs[0])
    assert (image.shape, mask.kind) == ((8, 9, 3), "instances")
    assert mask.labels.dtype == np.uint16


def test_missing_mask_is_named(data: Path) -> None:
    (data / "masks" / "b.png").unlink()
    with pytest.raises(ConfigError, match=r"1 of 2 images .* have no mask .*\(b\)"):
        pair_folders(data / "images", data / "masks")


def test_two_files_of_one_stem(data: Path) -> None:
    (data / "images" / "a.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="one file stem"):
        pair_folders(data / "images", data / "masks")


def test_no_folder_and_no_files(data: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        pair_folders(data / "nowhere", data / "masks")
    (data / "bare").mkdir()
    with pytest.raises(ConfigError, match="holds no images"):
        pair_folders(data / "bare", data / "masks")


def test_sizes_must_agree(data: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(data / "masks" / "a.png")
    with pytest.raises(ConfigError, match=r"8 × 9 but its mask .* 8 × 8"):
        read_pair(pair_folders(data / "images", data / "masks")[0])


def test_eight_bits_are_classes(tmp_path: Path) -> None:
    values = np.array([[0, 3], [1, 0]], np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png")
    assert mask.kind == "classes"
    np.testing.assert_array_equal(mask.labels, values)
    Image.fromarray(values * 85 // 255 * 255).save(tmp_path / "black_white.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "black_white.png").labels, values == 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_tiff_instances(tmp_path: Path, dtype: type[np.unsignedinteger]) -> None:
    ids = np.array([[0, 60_000], [1, 0]]).astype(dtype)
    tifffile.imwrite(tmp_path / "m.tif", ids)
    mask = read_mask(tmp_path / "m.tif")
    assert mask.kind == "instances"
    np.testing.assert_array_equal(mask.labels, ids)


def test_images_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray(np.full((4, 5, 4), 9, np.uint8)).save(tmp_path / "alpha.png")
    tifffile.imwrite(tmp_path / "t.tif", np.full((4, 5, 3), 8, np.uint8), photometric="rgb")
    for name, value in (("grey.png", 7), ("alpha.png", 9), ("t.tif", 8)):
        np.testing.assert_array_equal(read_image(tmp_path / name), np.full((4, 5, 3), value))


def test_files_that_lie(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "text.tif").write_text("hello")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    for name in ("text.png", "text.tif", "cut.png"):
        with pytest.raises(ConfigError):
            read_image(tmp_path / name)
    with pytest.raises(ConfigError, match="mask"):
        read_mask(tmp_path / "whole.png")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ConfigError, match="8-bit RGB"):
        read_image(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(ConfigError, match="no mask"):
        read_mask(tmp_path / "float.tif")


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_size_is_checked_before_decoding(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.zeros((20, 20), np.uint8)
    (tifffile.imwrite if name.endswith("tif") else lambda p, a: Image.fromarray(a).save(p))(
        tmp_path / name, data
    )
    monkeypatch.setattr(folders, "MAX_PIXELS", 399)
    with pytest.raises(ConfigError, match="says it has 400 pixels"):
        read_mask(tmp_path / name)
