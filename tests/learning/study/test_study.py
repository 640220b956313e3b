"""The whole protocol on a toy set: it learns, scores, resumes and refuses what it should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.heads import Segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.errors import ConfigError, TrainingError
from napari_genselfdiff.evaluation.folders import Pair, read_pair
from napari_genselfdiff.learning.place import ON_CPU
from napari_genselfdiff.learning.sources import labelled_sources
from napari_genselfdiff.learning.study.images import aside_stems, subset_stems
from napari_genselfdiff.learning.study.leaks import check_start, shared_images
from napari_genselfdiff.learning.study.networks import FlippedSegmenter, Reader, learn
from napari_genselfdiff.learning.study.plan import StudyPlan, read_plan, shortened
from napari_genselfdiff.learning.study.run import Run, StudyOptions, run_study
from napari_genselfdiff.learning.study.table import aside_lines, difference, summary
from tests.learning import tiny
from tests.learning.study.small import (
    DEV,
    NETWORK,
    TINY_NETWORK,
    plan,
    write_set,
    write_tiny_backbone,
)

ONE_SUBSET = {"set": "toy", "n": 1, "subsets": [0], "seeds": [0], "images": 8}
STUDIES = Path(__file__).parents[3] / "benchmarks" / "studies"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(PRESETS, "tiny", NETWORK)
    monkeypatch.setenv("GENSELFDIFF_DATA", str(tmp_path / "data"))
    write_set(tmp_path / "data")
    return tmp_path


def arms(root: Path) -> dict[str, Any]:
    backbone = root / "backbone"
    if not backbone.exists():
        write_tiny_backbone(backbone)
    scratch = {"settings": [*TINY_NETWORK, "start=scratch"]}
    return {
        "default": {"settings": [*TINY_NETWORK, f"start={backbone}"]},
        "scratch": scratch,
        "self": {"kind": "self_training", **scratch},
        "frozen": {"kind": "features", "backbone": str(backbone), "timesteps": [5, 50]},
        "masked": {"kind": "features", "backbone": str(root / "masked"), "timesteps": [50]},
    }


def carried_out(study: StudyPlan, root: Path, **options: Any) -> list[dict[str, Any]]:
    chosen = StudyOptions(**{"phase": "score", "scored": root / "scored.jsonl", **options})
    return list(run_study(study, root / "out", chosen))


def test_from_plan_to_table(root: Path) -> None:
    two = {name: arm for name, arm in arms(root).items() if name in ("default", "scratch")}
    study = plan(two, curve=[4], extras=["raw", "flips"])
    records = carried_out(study, root)
    assert [(r["arm"], r["subset"]) for r in records] == [
        (arm, subset) for subset in (0, 1) for arm in ("default", "scratch")
    ]
    for record in records:
        assert set(record["scores"]) == set(DEV)
        assert 0 <= record["scores"]["y"]["dice"] <= 1
        assert len(record["aside"]) == 1
    assert [seen for seen, _ in records[0]["curve"]] == [4, 8]
    assert records[0]["aside_raw"].keys() == records[0]["aside_flips"].keys()
    assert records[0]["config"]["start"] is not None
    assert records[1]["config"]["start"] is None
    found, less = summary(records, "toy_n1", "default"), difference(records, "toy_n1", "default")
    assert found is not None
    assert less is not None
    assert (found.subsets, found.images, less.subsets) == (2, 2, 2)
    assert len(aside_lines(records)) == 4
    json.dumps(records, allow_nan=False)
    assert carried_out(study, root) == []  # everything is done


@pytest.mark.parametrize("name", ["self", "frozen", "masked"])
def test_the_other_arms(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("napari_genselfdiff.learning.study.pixels.STEPS", 20)
    write_tiny_backbone(root / "masked", "masked")
    records = carried_out(plan({name: arms(root)[name]}, rows=[ONE_SUBSET], aside=0), root)
    assert set(records[0]["scores"]) == set(DEV)
    kind = "self_training" if name == "self" else "features"
    assert records[0]["config"]["kind"] == kind


def test_tuning_never_looks_at_the_list_that_is_scored(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def watched(pair: Pair) -> Any:
        seen.append(pair.name)
        return read_pair(pair)

    monkeypatch.setattr("napari_genselfdiff.learning.study.run.read_pair", watched)
    study = plan({"scratch": arms(root)["scratch"]})
    records = carried_out(study, root, phase="tune")
    assert len(records) == 2
    assert not any("scores" in record for record in records)
    assert not set(seen) & set(DEV)
    assert not (root / "scored.jsonl").exists()


def test_it_goes_on_after_an_interruption(root: Path) -> None:
    study, out = plan({"scratch": arms(root)["scratch"]}, aside=0), root / "out"
    options = StudyOptions(phase="score", scored=root / "scored.jsonl")
    first = next(run_study(study, out, options))
    rest = list(run_study(study, out, options))
    assert [first["subset"], *(r["subset"] for r in rest)] == [0, 1]
    alone = carried_out(study, root / "elsewhere", scored=root / "scored.jsonl")
    assert [r["scores"] for r in alone] == [first["scores"], rest[0]["scores"]]


def test_a_changed_configuration_is_not_scored_on_the_same_list(root: Path) -> None:
    scratch = arms(root)["scratch"]
    one = {"rows": [ONE_SUBSET], "aside": 0}
    carried_out(plan({"scratch": scratch}, **one), root)
    lr = [*scratch["settings"], "loop.lr=2e-3"]
    faster = plan({"scratch": {**scratch, "settings": lr}}, **one)
    with pytest.raises(ConfigError, match="scored once"):
        carried_out(faster, root)
    again = carried_out(faster, root, again=True)
    assert [record["again"] for record in again] == [True]
    assert len(carried_out(faster, root, phase="tune")) == 1


def test_arms_and_rows_can_be_chosen(root: Path) -> None:
    study = plan(arms(root))
    chosen = carried_out(study, root, arms=("scratch",), rows=("toy_n1",), phase="tune")
    assert {record["case"] for record in chosen} == {"toy_n1_scratch"}
    with pytest.raises(ConfigError, match="no arm 'scratsh'; it has default"):
        carried_out(study, root, arms=("scratsh",))
    with pytest.raises(ConfigError, match="no row 'toy_n2'"):
        carried_out(study, root, rows=("toy_n2",))


class TestImages:
    def test_images_aside_are_in_no_subset(self, root: Path) -> None:
        study = plan({"scratch": {}}, aside=3)
        assert aside_stems(root / "data", study, study.rows[0]) == ["c", "d"]

    def test_a_subset_outside_of_the_training_list_is_refused(self, root: Path) -> None:
        (root / "data/splits/toy_n1_subset1.txt").write_text("z\n")
        study = plan({"scratch": arms(root)["scratch"]})
        with pytest.raises(ConfigError, match="1 are no training images"):
            subset_stems(root / "data", study.sets["toy"], study.rows[0], 1)

    def test_a_scored_image_in_the_training_list_is_refused(self, root: Path) -> None:
        (root / "data/splits/toy_dev.txt").write_text("z\nb\n")
        with pytest.raises(ConfigError, match=r"b is in splits/toy_train\.txt and in"):
            carried_out(plan({"scratch": arms(root)["scratch"]}), root, phase="tune")


class TestLeaks:
    def test_a_copy_under_another_name_is_found(self, root: Path) -> None:
        images, copy = root / "data/labelled/toy/images", root / "data/elsewhere/pictures"
        copy.mkdir(parents=True)
        (copy / "q.png").write_bytes((images / "z.png").read_bytes())
        assert shared_images([copy / "q.png"], [images / "y.png", images / "z.png"])
        assert not shared_images([images / "a.png"], [images / "y.png", images / "z.png"])

    def test_a_backbone_that_saw_a_scored_image_is_refused(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study = plan({"default": {"settings": ["start=bundled"]}})
        scored = root / "data/labelled/toy/images/y.png"
        target = "napari_genselfdiff.learning.study.leaks.learned_files"
        monkeypatch.setattr(target, lambda *_: [scored])
        with pytest.raises(ConfigError, match=r"learned from .*y\.png"):
            list(check_start(study))

    @pytest.mark.slow
    def test_the_shipped_backbone_saw_no_list_that_is_scored(self, data_dir: Path) -> None:
        lines = list(check_start(read_plan(STUDIES / "full.toml")))
        assert lines == [
            "bundled: 1006 images learned from, none of the 67 scored",
            # its labelled images are among the backbone's
            "bundled_nuclei: 1006 images learned from, none of the 67 scored",
        ]


class TestNetworks:
    def test_flips_give_the_mean_of_what_mirror_images_give(self, root: Path) -> None:
        run = Run(plan(arms(root)), plan(arms(root)).rows[0], 0, 0, "scratch")
        (*_, learnt) = learn(run.recipe(), labelled_sources(run.recipe().data), ON_CPU)
        x = torch.rand(1, 3, 32, 32) * 2 - 1
        with torch.no_grad():
            found = FlippedSegmenter(learnt.averaged).eval()(x)
            alone = learnt.averaged(x)
            mirrored = learnt.averaged(x.flip((2, 3)))
            both = FlippedSegmenter(learnt.averaged).eval()(x.flip((2, 3)))
        torch.testing.assert_close(found.logits.exp().sum(1), torch.ones(1, 32, 32))
        torch.testing.assert_close(both.logits, found.logits.flip((2, 3)), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(alone.logits, mirrored.logits.flip((2, 3)), atol=1e-3)

    def test_a_network_for_zero_to_one_gets_zero_to_one(self, root: Path) -> None:
        values = arms(root)
        values["unit"] = {"settings": [*TINY_NETWORK, "patch.input_range=unit", "start=scratch"]}
        run = Run(plan(values), plan(values).rows[0], 0, 0, "unit")
        recipe = run.recipe()
        reader = Reader.of(run.data, False, recipe, ON_CPU)
        (*_, learnt) = learn(recipe, labelled_sources(recipe.data), ON_CPU)
        given: list[torch.Tensor] = []
        learnt.averaged.unet.register_forward_pre_hook(lambda _, x: given.append(x[0]))
        reader.segment(learnt.averaged)(tiny.tissue(0, 64)[0])
        assert given
        assert min(float(x.min()) for x in given) >= 0
        assert max(float(x.max()) for x in given) <= 1

    def test_without_a_distance_cue_connected_pieces_are_objects(self, root: Path) -> None:
        values = arms(root)
        values["plain"] = {"settings": [*TINY_NETWORK, "loss.distance=0.0", "start=scratch"]}
        for name, cue in (("plain", False), ("scratch", True)):
            run = Run(plan(values), plan(values).rows[0], 0, 0, name)
            reader = Reader.of(run.data, False, run.recipe(), ON_CPU)
            network = Segmenter(NETWORK, 1, 50)
            answer = reader.segment(network)(tiny.tissue(0, 64)[0])
            assert (answer.objects is not None) is cue

    def test_a_run_that_breaks_down_is_scored_as_it_is(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any, **__: Any) -> Any:
            raise TrainingError("the loss became nan at image 4")

        monkeypatch.setattr("napari_genselfdiff.learning.study.networks.train", broken)
        records = carried_out(plan({"scratch": arms(root)["scratch"]}), root)
        assert records[0]["stopped"] == "the loss became nan at image 4"
        assert set(records[0]["scores"]) == set(DEV)


class TestPlan:
    @pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda p: p.stem)
    def test_every_shipped_study_gives_complete_recipes(self, path: Path) -> None:
        study = read_plan(path)
        for row in study.rows:
            for name in study.arms:
                run = Run(study, row, row.subsets[0], row.seeds[0], name)
                if run.arm.kind in ("network", "self_training"):
                    recipe = run.recipe()
                    assert recipe.loop.total_images == row.images
                    assert recipe.task == study.sets[row.set].task

    def test_scratch_differs_from_default_in_start_and_tuned_knobs_only(self) -> None:
        study = read_plan(STUDIES / "full.toml")
        for row in study.rows:
            two = [Run(study, row, 0, 0, name).recipe() for name in ("default", "scratch")]
            one, other = (recipe.model_dump(mode="json") for recipe in two)
            assert {key for key in one if one[key] != other[key]} <= {"start", "timestep", "loop"}
            loops = {k for k in one["loop"] if one["loop"][k] != other["loop"][k]}
            assert loops <= {"lr", "layer_decay"}

    def test_a_study_cut_short_keeps_rows_and_arms(self) -> None:
        whole = read_plan(STUDIES / "full.toml")
        short = shortened(whole, images=32)
        assert [row.name for row in short.rows] == [row.name for row in whole.rows]
        assert short.arms == whole.arms
        assert {(len(row.subsets), len(row.seeds), row.images) for row in short.rows} == {
            (1, 1, 32)
        }

    def test_an_arm_may_not_learn_longer_than_the_others(self) -> None:
        with pytest.raises(ValueError, match="length, seed, data and task"):
            plan({"default": {"settings": ["loop.total_images=99999"]}})

    def test_what_is_no_study_is_refused_in_one_line(self, tmp_path: Path) -> None:
        file = tmp_path / "s.toml"
        file.write_text("name = 'x'\nrows = []\narms = {}\n")
        with pytest.raises(ConfigError, match="is not valid: rows"):
            read_plan(file)


def test_pixel_arms_learn_colour(root: Path) -> None:
    pytest.importorskip("sklearn")
    study = plan({"filters": {"kind": "filters"}})
    records = carried_out(study, root)
    found = summary(records, "toy_n1", "filters")
    assert found is not None
    assert found.value > 0.9
    assert np.isfinite(found.low)
