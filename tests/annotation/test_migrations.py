"""Annotations of older versions; the files are described in ``tests/golden/README.md``."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_genselfdiff.annotation.disk import replace_file
from napari_genselfdiff.annotation.schema import SCHEMA_VERSION
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import StoreCorruptError, StoreError
from tests.annotation.builders import reopen, whole
from tests.annotation.checks import check_store

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(params=["store_v1.zip"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with zipfile.ZipFile(GOLDEN / request.param) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "store"


def expected(path: Path, when: str) -> dict[str, np.ndarray]:
    data = np.load(io.BytesIO((path.parent / "expected.npz").read_bytes()))
    return {name.partition("/")[2]: data[name] for name in data.files if name.startswith(when)}


def check_content(store: AnnotationStore, path: Path, when: str) -> None:
    for name, values in expected(path, when).items():
        task, array = name.split(".")
        np.testing.assert_array_equal(whole(store, task)[array], values)  # type: ignore[index]


def test_an_old_store_opens_with_everything_it_held(old: Path) -> None:
    before = (old / "zarr.json").read_bytes()
    with reopen(old) as store:
        check_content(store, old, "now")
        assert [op.what for op in store.history] == [
            "Predict",
            "Edit",
            "Accept view",
            "Edit",
            "Edit",
            "Accept view",
        ]
        check_store(store)
        store.redo()
        store.redo()
        check_content(store, old, "redone")
        assert [look.what for look in store.looks("Cells")] == [
            "Edit",
            "Edit",
            "Edit",
            "Accept view",
        ]
        store.add_class("Cells", "New", "#009E73")
        store.go_to(None)
        assert not any(whole(store, "Cells")["provenance"].ravel())
        check_store(store)
    assert (old / "zarr.json.version-1").read_bytes() == before
    assert f'"schema_version": {SCHEMA_VERSION}' in (old / "zarr.json").read_text()


def test_looking_at_an_old_store_changes_nothing(old: Path) -> None:
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    with AnnotationStore.open_read_only(old) as store:
        check_content(store, old, "now")
        assert len(store.history) == 6
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("at", [1, 2])
def test_an_update_that_is_cut_off_begins_anew(
    old: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Whichever file is not written any more, the old record is still there."""
    before, calls = (old / "zarr.json").read_bytes(), []

    def refuse(path: Path, data: bytes, *, durable: bool = False) -> None:
        calls.append(path.name)
        if len(calls) == at:
            raise OSError(28, "No space left on device")
        replace_file(path, data, durable=durable)

    monkeypatch.setattr("napari_genselfdiff.annotation.schema.replace_file", refuse)
    with pytest.raises(StoreError, match="disk is full"):
        reopen(old)
    assert (old / "zarr.json").read_bytes() == before
    monkeypatch.undo()
    with reopen(old) as store:
        check_content(store, old, "now")


@pytest.mark.parametrize("damage", ['"tasks": {"Cells": 3}', '"tasks": [1]', '"tasks": {"C": {}}'])
def test_an_old_record_that_is_none_is_refused(old: Path, damage: str) -> None:
    (old / "zarr.json").write_text('{"attributes": {"gsd": {"schema_version": 1, ' + damage + "}}}")
    with pytest.raises(StoreCorruptError, match="Nothing was changed"):
        AnnotationStore.open_read_only(old)
