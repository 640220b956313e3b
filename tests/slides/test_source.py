"""Downsamples from sizes, and reading a file by position."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from napari_genselfdiff.errors import SlideError
from napari_genselfdiff.slides.levels import TileDamagedError
from napari_genselfdiff.slides.source import SourceFile, level_downsample


@pytest.mark.parametrize(
    ("shape0", "shape", "downsample"),
    [
        ((3567, 4443), (1783, 2221), 2.0),
        ((32914, 46000), (8228, 11500), 4.0),
        ((5154, 5477), (644, 684), 8.0),
        ((100, 100), (100, 100), 1.0),
        ((3000, 2000), (1200, 800), 2.5),
        ((3000, 2000), (800, 1200), None),
        ((3000, 2000), (768, 574), None),
        ((100, 100), (200, 200), None),
        ((100, 100), (0, 50), None),
    ],
)
def test_downsample_is_the_whole_number_it_came_from(
    shape0: tuple[int, int], shape: tuple[int, int], downsample: float | None
) -> None:
    assert level_downsample(shape0, shape) == downsample


def test_reads_by_position_and_stops_when_closed(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    (tmp_path / "file").write_bytes(content)
    source = SourceFile(tmp_path / "file")
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda i: source.read_at(i, 10), range(2000)))
    assert all(part == content[i : i + 10] for i, part in enumerate(parts))
    with pytest.raises(TileDamagedError, match="ends at byte 10240"):
        source.read_at(10_235, 10)
    with pytest.raises(TileDamagedError):
        source.read_at(2**70, 10)
    source.close()
    source.close()
    with pytest.raises(SlideError, match="closed"):
        source.read_at(0, 1)
