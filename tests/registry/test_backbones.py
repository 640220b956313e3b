"""Backbones of one's own: taken in, put to use, given away, removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry.folder import CARD_FILE, WEIGHTS_FILE, read_backbone
from napari_genselfdiff.registry.registry import Registry
from tests.registry.networks import WriteModel, make_backbone


def test_the_shipped_one_is_in_use_until_another_is_chosen(
    registry: Registry, tmp_path: Path
) -> None:
    backbones = registry.backbones
    shipped = backbones.active()
    assert backbones.is_shipped(shipped)
    mine = backbones.use(make_backbone(tmp_path / "scanner", 1))
    assert mine.path == backbones.folder / "scanner"
    assert [b.path for b in backbones.list()] == [shipped.path, mine.path]
    again = Registry(registry.root, bundled=shipped.path.parent).backbones
    assert again.active().hash == mine.hash
    found = again.find("backbone")
    assert found is not None
    again.use(found)
    assert backbones.active().hash == shipped.hash


def test_what_was_made_beside_a_checkpoint_is_copied_without_it(
    registry: Registry, tmp_path: Path
) -> None:
    run = make_backbone(tmp_path / "run", 1, name="adapted_backbone").path
    (run / "checkpoint.pt").write_bytes(b"large")
    kept = registry.backbones.add(run)
    assert kept.card.name == kept.path.name == "adapted_backbone"
    assert sorted(p.name for p in kept.path.iterdir()) == [CARD_FILE, WEIGHTS_FILE]
    assert registry.backbones.add(run) == kept


def test_names_are_shared_with_the_models(
    registry: Registry, write: WriteModel, tmp_path: Path
) -> None:
    registry.add(write("mine", 1).path)
    other = registry.backbones.add(make_backbone(tmp_path / "mine", 1).path)
    assert other.path.name.startswith("mine-20")
    assert other.path.name == other.card.name
    shipped_name = registry.backbones.add(make_backbone(tmp_path / "backbone", 2).path)
    assert shipped_name.path.name.startswith("backbone-20")
    assert registry.new_name(other.path.name) != other.path.name
    assert registry.problems() == registry.backbones.problems() == {}


def test_out_as_a_zip_file_and_in_again(registry: Registry, tmp_path: Path) -> None:
    mine = make_backbone(tmp_path / "scanner", 1)
    file = registry.backbones.export(mine, tmp_path / "out" / "scanner.zip")
    taken = registry.take_in(file)
    assert taken.path == registry.backbones.folder / "scanner"
    assert taken.hash == mine.hash
    assert [m.path.name for m in registry.list()] == ["nuclei"]


def test_a_model_is_taken_in_as_a_model(
    registry: Registry, write: WriteModel, tmp_path: Path
) -> None:
    model = write("mine", 1)
    assert registry.take_in(model.path).path == registry.models_dir / "mine"
    file = registry.export(write("other", 2), tmp_path / "other.zip")
    assert registry.take_in(file).path == registry.models_dir / "other"


def test_one_is_not_taken_for_the_other(
    registry: Registry, write: WriteModel, tmp_path: Path
) -> None:
    mine, model = make_backbone(tmp_path / "scanner", 1), write("mine", 1)
    with pytest.raises(ModelFileError, match="is a diffusion backbone, which answers no task"):
        registry.resolve(mine.path)
    with pytest.raises(ModelFileError, match="is a diffusion backbone, which answers no task"):
        registry.import_(registry.backbones.export(mine, tmp_path / "scanner.zip"))
    with pytest.raises(ModelFileError, match="is a model of a task, not a diffusion backbone"):
        read_backbone(model.path)
    assert registry.backbones.find(model.path) is None
    assert registry.backbones.find("mine") is None
    assert list(registry.models_dir.iterdir()) == []


def test_another_network_than_the_card_says_is_refused(registry: Registry, tmp_path: Path) -> None:
    mine = make_backbone(tmp_path / "scanner", 1)
    before = registry.backbones.active().hash
    card = json.loads((mine.path / CARD_FILE).read_text())
    card["architecture"]["dims"] = [8, 32]
    (mine.path / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelFileError, match="holds another network than"):
        registry.backbones.use(read_backbone(mine.path))
    card["architecture"]["fourier"] = True
    (mine.path / CARD_FILE).write_text(json.dumps(card))
    with pytest.raises(ModelFileError, match="does not fit this version"):
        registry.backbones.use(read_backbone(mine.path))
    assert registry.backbones.active().hash == before


@pytest.mark.parametrize("spoil", ["gone", "weights", "card", "choice"])
def test_a_damaged_choice_is_never_replaced_silently(
    registry: Registry, tmp_path: Path, spoil: str
) -> None:
    backbones = registry.backbones
    used = backbones.use(make_backbone(tmp_path / "scanner", 1))
    words = {
        "gone": "is gone",
        "weights": "altered or damaged",
        "card": "its card was altered",
        "choice": "is damaged",
    }
    if spoil == "gone":
        used.path.rename(tmp_path / "elsewhere")
    elif spoil == "weights":
        data = used.weights.read_bytes()
        used.weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif spoil == "card":
        card = json.loads((used.path / CARD_FILE).read_text())
        (used.path / CARD_FILE).write_text(json.dumps({**card, "prediction": "v"}))
    else:
        (registry.root / "backbone.json").write_text("{")
    with pytest.raises(ModelFileError, match=words[spoil]) as caught:
        backbones.active()
    assert "\n" not in str(caught.value)
    found = backbones.find("backbone")
    assert found is not None
    backbones.use(found)
    assert backbones.is_shipped(backbones.active())


def test_deleting(registry: Registry, tmp_path: Path) -> None:
    backbones = registry.backbones
    used = backbones.use(make_backbone(tmp_path / "scanner", 1))
    other = backbones.add(make_backbone(tmp_path / "other", 2).path)
    with pytest.raises(ConfigError, match="came with the program"):
        backbones.delete("backbone")
    with pytest.raises(ConfigError, match="in use for new tasks"):
        backbones.delete("scanner")
    with pytest.raises(ConfigError, match="There is no backbone"):
        backbones.delete("../other")
    backbones.delete("other")
    assert not other.path.exists()
    assert [p.name for p in backbones.folder.iterdir()] == ["scanner"]
    assert backbones.active().hash == used.hash


def test_what_a_killed_copy_left_is_removed(registry: Registry, tmp_path: Path) -> None:
    registry.backbones.add(make_backbone(tmp_path / "scanner", 1).path)
    left = registry.backbones.folder / ".other.0123.partial"
    left.mkdir()
    (left / WEIGHTS_FILE).write_bytes(b"half")
    (registry.root / ".backbone.json.0123.partial").write_text("{")
    registry.clean()
    assert [p.name for p in registry.backbones.folder.iterdir()] == ["scanner"]
    assert not list(registry.root.glob(".*.partial"))
