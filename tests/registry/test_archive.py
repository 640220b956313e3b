from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

import pytest

from napari_genselfdiff.errors import ModelFileError
from napari_genselfdiff.registry import archive as archive_module
from napari_genselfdiff.registry.registry import Registry
from tests.registry.networks import WriteModel


@pytest.fixture
def packed(registry: Registry, write: WriteModel, tmp_path: Path) -> Path:
    extras = {"corrections/0.png": b"tissue", "fields.png": b"picture"}
    return registry.export(write("mine", 1, extras=extras), tmp_path / "out" / "mine.zip")


def rewrite(path: Path, change: dict[str, bytes | None], prefix: str = "") -> Path:
    """Copy a zip file with entries replaced, added or (None) left out."""
    with zipfile.ZipFile(path) as old:
        entries: dict[str, bytes | None] = {i.filename: old.read(i) for i in old.infolist()}
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(target, "w") as new:
        for name, data in {**entries, **change}.items():
            if data is not None:
                new.writestr(prefix + name, data)
    return target


def refused(registry: Registry, path: Path, words: str) -> None:
    with pytest.raises(ModelFileError, match=words) as caught:
        registry.import_(path)
    assert "\n" not in str(caught.value)
    assert [m.path.name for m in registry.list()] == ["nuclei"]
    if registry.models_dir.exists():
        assert list(registry.models_dir.iterdir()) == []


def test_round_trip_leaves_tissue_out(registry: Registry, packed: Path, tmp_path: Path) -> None:
    model = registry.import_(packed)
    assert model.path == registry.models_dir / "mine"
    assert model.hash == registry.resolve(tmp_path / "made" / "mine").hash
    assert list(model.card.files) == ["fields.png"]
    assert not (model.path / "corrections").exists()
    assert model.load().n_classes == 1
    assert sorted(p.name for p in registry.models_dir.iterdir()) == ["mine"]


def test_corrections_when_asked(registry: Registry, write: WriteModel, tmp_path: Path) -> None:
    model = write("mine", 1, extras={"corrections/0.png": b"tissue"})
    file = registry.export(model, tmp_path / "mine.zip", corrections=True)
    assert (registry.import_(file).path / "corrections" / "0.png").read_bytes() == b"tissue"


def test_a_folder_zipped_by_hand(registry: Registry, packed: Path) -> None:
    assert registry.import_(rewrite(packed, {}, prefix="my model/")).path.name == "mine"


def test_the_same_name_gets_a_date(registry: Registry, packed: Path, write: WriteModel) -> None:
    registry.add(write("mine", 5, folder=packed.parent / "other").path)
    assert registry.import_(packed).path.name.startswith("mine-20")


@pytest.mark.parametrize(
    "name",
    ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:evil", "./a"],
)
def test_paths_that_lead_outside(registry: Registry, packed: Path, name: str) -> None:
    refused(registry, rewrite(packed, {name: b"x"}), "leads outside")


def test_links(registry: Registry, packed: Path) -> None:
    with zipfile.ZipFile(packed, "a") as file:
        info = zipfile.ZipInfo("link.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    refused(registry, packed, "link or device")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model.json": None}, "holds no model.json"),
        ({"weights.safetensors": None}, "holds no weights"),
        ({"model.json": b"{"}, "not JSON"),
        ({"model.json": b" " * (5 * 2**20)}, "too large"),
        ({"run.py": b"x"}, "does not list"),
        ({"weights.safetensors": b"x" * 99}, "cut off or no safetensors"),
        ({"fields.png": b"other"}, "altered"),
        ({"fields.png": None}, "fields.png is missing"),
    ],
)
def test_contents_that_are_wrong(
    registry: Registry, packed: Path, change: dict[str, bytes | None], words: str
) -> None:
    refused(registry, rewrite(packed, change), words)


def test_a_card_with_a_path_for_a_name(registry: Registry, packed: Path) -> None:
    with zipfile.ZipFile(packed) as file:
        card = json.loads(file.read("model.json"))
    for field in ({"name": "../../x"}, {"files": {"../../x.png": "0" * 64}}):
        text = json.dumps({**card, **field}).encode()
        refused(registry, rewrite(packed, {"model.json": text}), "not valid")


def test_two_files_of_one_name(registry: Registry, packed: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(packed, "a") as file:
        file.writestr("model.json", b"{}")
    refused(registry, packed, "two files of one name")


def test_bombs(registry: Registry, packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "_MAX_TOTAL_BYTES", 1000)
    refused(registry, packed, "more than a model can have")
    monkeypatch.undo()
    monkeypatch.setattr(archive_module, "MAX_ENTRIES", 2)
    refused(registry, packed, "more than any model")


def test_a_header_that_lies_about_size(registry: Registry, packed: Path) -> None:
    """A packed size far above the one promised is stopped by counting, not by believing."""
    target = packed.with_name("bomb.zip")
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            zeros = bytes(4 * 2**20)
            new.writestr(info.filename, zeros if info.filename == "fields.png" else old.read(info))
    data = bytearray(target.read_bytes())
    promised = (4 * 2**20).to_bytes(4, "little")
    assert data.count(promised) >= 2
    target.write_bytes(data.replace(promised, (7).to_bytes(4, "little")))
    refused(registry, target, "zip|too large|altered")


@pytest.mark.parametrize("cut", [0, 10, 1000])
def test_cut_off_files(registry: Registry, packed: Path, cut: int) -> None:
    packed.write_bytes(packed.read_bytes()[:cut])
    refused(registry, packed, "no readable zip")


def test_no_file(registry: Registry, tmp_path: Path) -> None:
    refused(registry, tmp_path / "none.zip", "does not exist")
    refused(registry, tmp_path, r"failed|zip")


def test_damaged_in_the_middle(registry: Registry, packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 255
    packed.write_bytes(data)
    refused(registry, packed, "CRC|altered|zip")


def test_an_interrupted_export_leaves_the_old_file(
    registry: Registry, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = packed.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    with pytest.raises(ModelFileError, match="No space left"):
        registry.export(registry.resolve("nuclei"), packed)
    assert packed.read_bytes() == before
    assert list(packed.parent.iterdir()) == [packed]
