from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry import folder as folder_module
from napari_genselfdiff.registry.active import read_active
from napari_genselfdiff.registry.registry import Registry
from tests.registry.networks import WriteModel, task


def names(registry: Registry, task: str | None = None) -> list[str]:
    return [m.path.name for m in registry.list(task)]


def test_home_is_named_by_the_environment(home: Path) -> None:
    assert Registry().root == home


def test_the_shipped_model_is_the_default(registry: Registry) -> None:
    assert names(registry) == ["nuclei"]
    assert registry.resolve("default") == registry.active("Nuclei") == registry.resolve("nuclei")
    assert registry.is_bundled(registry.resolve("default"))


def test_resolve_by_folder(registry: Registry, write: WriteModel) -> None:
    model = write("mine", 1)
    assert registry.resolve(model.path) == registry.resolve(str(model.path)) == model
    with pytest.raises(ModelFileError, match="no model 'x'; give one of default, nuclei"):
        registry.resolve("x")
    for outside in ("../made/mine", "..", "", "nuclei/../nuclei"):
        with pytest.raises(ModelFileError):
            registry.resolve(outside)


def test_added_names_are_unique(registry: Registry, write: WriteModel) -> None:
    first = registry.add(write("nuclei", 1).path)
    second = registry.add(write("nuclei", 2, folder=write("x", 3).path.parent / "b").path)
    stem, number = first.path.name.rsplit("-", 1)
    assert stem.startswith("nuclei-20")
    assert (number, second.path.name) == ("1", f"{stem}-2")
    assert first.card.name == first.path.name
    assert registry.new_name(first.path.name) == f"{stem}-3"  # one date, however often refined
    assert registry.new_name("glands") == "glands"
    assert registry.new_name("Default").startswith("Default-20")


def test_adding_twice_stores_once(registry: Registry, write: WriteModel) -> None:
    model = write("mine", 1, extras={"corrections/0.png": b"x"})
    assert registry.add(model.path) == registry.add(model.path)
    assert names(registry) == ["nuclei", "mine"]
    assert (registry.models_dir / "mine" / "corrections" / "0.png").read_bytes() == b"x"


def test_only_what_the_card_lists_is_copied(registry: Registry, write: WriteModel) -> None:
    model = write("mine", 1)
    (model.path / "checkpoint.pt").write_bytes(b"x")
    copied = sorted(p.name for p in registry.add(model.path).path.iterdir())
    assert copied == ["model.json", "weights.safetensors"]


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "", "a\\b"])
def test_names_stay_inside(registry: Registry, write: WriteModel, name: str) -> None:
    model = write("mine", 1)
    if name == "":
        assert registry.add(model.path, name).path.name == "mine"
        return
    with pytest.raises((ConfigError, ModelFileError)):
        registry.add(model.path, name)
    assert names(registry) == ["nuclei"]


def test_use_and_go_back(registry: Registry, write: WriteModel) -> None:
    a, b = write("a", 1), write("b", 2)
    in_a = registry.use(a, why="scored worse, used anyway")
    in_b = registry.use(b)
    registry.use(in_b)  # twice is once
    assert registry.active("Nuclei") == in_b
    assert registry.rollback("Nuclei") == in_a
    assert registry.resolve("default") == in_a
    assert registry.is_bundled(registry.rollback("Nuclei"))
    assert registry.is_bundled(registry.active("Nuclei"))
    with pytest.raises(ConfigError, match="no earlier model"):
        registry.rollback("Nuclei")
    log = read_active(registry.root / "active.json").log
    assert [e.what for e in log] == ["use", "use", "rollback", "rollback"]
    assert log[0].why == "scored worse, used anyway"
    assert Registry(registry.root, bundled=registry.resolve("nuclei").path.parent).active(
        "Nuclei"
    ) == registry.resolve("nuclei")


def test_tasks_do_not_mix(registry: Registry, write: WriteModel) -> None:
    with pytest.raises(ModelFileError, match="no model for the task Glands yet"):
        registry.active("Glands")
    glands = registry.use(write("glands", 4, task=task("Glands")))
    assert registry.active("Glands") == glands
    assert registry.resolve("default").card.task.name == "Nuclei"
    assert names(registry, "Glands") == ["glands"]
    with pytest.raises(ConfigError, match="no earlier"):
        registry.rollback("Glands")


def test_delete(registry: Registry, write: WriteModel) -> None:
    a, b = registry.use(write("a", 1)), registry.use(write("b", 2))
    with pytest.raises(ConfigError, match="in use"):
        registry.delete("b")
    with pytest.raises(ConfigError, match="came with the program"):
        registry.delete("nuclei")
    with pytest.raises(ConfigError, match="There is no model"):
        registry.delete("../made/a")
    registry.delete("a")
    assert not a.path.exists()
    assert registry.active("Nuclei") == b
    assert registry.is_bundled(registry.rollback("Nuclei"))


def test_a_model_removed_by_hand(registry: Registry, write: WriteModel) -> None:
    a, b = registry.use(write("a", 1)), registry.use(write("b", 2))
    shutil.rmtree(b.path)
    with pytest.raises(ModelFileError, match="'b', is gone"):
        registry.active("Nuclei")
    assert registry.rollback("Nuclei") == a


def test_a_damaged_model_hides_no_other(registry: Registry, write: WriteModel) -> None:
    a, b = registry.add(write("a", 1).path), registry.use(write("b", 2))
    (a.path / "model.json").write_text("{")
    b.weights.write_bytes(b"")
    assert names(registry) == ["nuclei", "b"]
    assert set(registry.problems()) == {"a", "b"}
    with pytest.raises(ModelFileError):
        registry.active("Nuclei")  # never another one silently


def test_a_card_edited_after_it_was_chosen(registry: Registry, write: WriteModel) -> None:
    model = registry.use(write("a", 1))
    card = model.path / "model.json"
    card.write_text(card.read_text().replace('"halo": 32', '"halo": 16'))
    with pytest.raises(ModelFileError, match="its card was altered"):
        registry.active("Nuclei")


def test_lineage(registry: Registry, write: WriteModel) -> None:
    shipped = registry.resolve("nuclei")
    child = registry.add(write("child", 1, parent=shipped.hash).path)
    grandchild = registry.add(write("grandchild", 2, parent=child.hash).path)
    assert registry.lineage(grandchild) == [grandchild, child, shipped]
    assert registry.lineage(shipped) == [shipped]


@pytest.mark.parametrize("text", ["", "{", '{"used": {"Nuclei": [{"name": "../x"}]}}', "[]"])
def test_a_damaged_choice_is_said(registry: Registry, text: str) -> None:
    registry.root.mkdir()
    (registry.root / "active.json").write_text(text)
    with pytest.raises(ModelFileError, match=r"active\.json is damaged") as caught:
        registry.active("Nuclei")
    assert "\n" not in str(caught.value)
    assert names(registry) == ["nuclei"]


def test_killed_while_adding(
    registry: Registry, write: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed process leaves is never listed and never in the way."""
    model = write("mine", 1)
    (registry.models_dir / ".mine.0123.partial").mkdir(parents=True)
    shutil.copy(model.path / "model.json", registry.models_dir / ".mine.0123.partial")
    assert names(registry) == ["nuclei"]

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "write_whole", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.add(model.path)
    assert names(registry) == ["nuclei"]
    assert registry.add(model.path).path.name == "mine"


def test_a_folder_that_cannot_be_written(
    registry: Registry, write: WriteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write("mine", 1)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(registry.models_dir))

    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(ModelFileError, match="Permission denied"):
        registry.add(model.path)


class TestVersions:
    def test_a_model_others_came_from_is_kept_unless_forced(
        self, registry: Registry, write: WriteModel
    ) -> None:
        a = registry.add(write("a", 1, parent=registry.resolve("nuclei").hash).path)
        b = registry.add(write("b", 2, parent=a.hash).path)
        registry.use(registry.add(write("c", 3, parent=b.hash).path))
        assert [m.card.name for m in registry.descendants(a)] == ["b", "c"]
        for name in ("a", "b"):
            with pytest.raises(ConfigError, match="from it came"):
                registry.delete(name)
        registry.delete("a", force=True)
        assert names(registry) == ["nuclei", "b", "c"]
        for force in (False, True):
            with pytest.raises(ConfigError, match="in use"):
                registry.delete("c", force=force)
            with pytest.raises(ConfigError, match="came with the program"):
                registry.delete("nuclei", force=force)

    def test_refining_begins_with_what_the_line_began_with(
        self, registry: Registry, write: WriteModel
    ) -> None:
        shipped = registry.resolve("nuclei")
        assert registry.base(shipped) == shipped
        a = registry.add(write("a", 1, parent=shipped.hash).path)
        b = registry.add(write("b", 2, parent=a.hash, recipe={"base": shipped.hash}).path)
        orphan = registry.add(write("orphan", 3, parent="1" * 64).path)
        registry.delete("a", force=True)
        assert registry.base(b) == shipped
        assert registry.base(orphan) == shipped  # the shipped one has changed since
        mine = registry.add(write("mine", 4).path)
        assert registry.base(mine) == mine
        glands = registry.add(write("glands", 5, parent="1" * 64, task=task("Glands")).path)
        assert registry.base(glands) == glands

    def test_the_hash_of_the_data_stays_when_the_data_does_not(
        self, registry: Registry, write: WriteModel, tmp_path: Path
    ) -> None:
        tiles = {"corrections/0.png": b"a", "corrections/1.png": b"b"}
        model = write("mine", 1, extras={**tiles, "fields.png": b"x"})
        same = write("same", 2, extras=dict(reversed(tiles.items())))
        other = write("other", 1, extras={**tiles, "corrections/1.png": b"c"})
        assert model.card.data_sha256 is not None
        assert model.card.data_sha256 == same.card.data_sha256 != other.card.data_sha256
        assert model.hash == other.hash  # what it answers is the same
        imported = registry.import_(registry.export(model, tmp_path / "mine.zip"))
        assert imported.card.data_sha256 == model.card.data_sha256
        assert write("none", 3).card.data_sha256 is None
