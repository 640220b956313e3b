from __future__ import annotations

from pathlib import Path

import pytest

from napari_genselfdiff.registry.pixel_sizes import recall, remember


def test_what_was_said_last_holds(home: Path) -> None:
    assert recall("a") is None
    remember("a", 0.5)
    remember("b", 0.25)
    remember("a", 0.46)
    assert (recall("a"), recall("b")) == (0.46, 0.25)
    assert [path.name for path in home.iterdir()] == ["pixel-sizes.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": "0.5"}', '{"a": 1e9}', '{"a": NaN}', "[" * 100_000]
)
def test_a_damaged_file_is_as_if_nothing_had_been_said(home: Path, text: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "pixel-sizes.json").write_text(text)
    assert recall("a") is None
    remember("a", 0.5)
    assert recall("a") == 0.5
