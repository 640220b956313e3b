from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry.card import (
    VOLATILE,
    BackboneCard,
    ModelCard,
    TaskSpec,
    checked,
    read_card,
)

NUCLEUS = {"value": 1, "name": "Nucleus", "color": "#0072b2", "key": "1"}
TASK = {"name": "Nuclei", "kind": "objects", "classes": [NUCLEUS], "mpp": 0.25}
CARD = {
    "name": "nuclei",
    "task": TASK,
    "architecture": {"preset": "fast"},
    "timestep": 0,
    "mpp_range": [0.25, 0.5],
    "created": "2026-11-23T00:00:00+00:00",
    "app_version": "0.1.0",
    "weights_sha256": "0" * 64,
}


def card(**changed: Any) -> ModelCard:
    return checked(ModelCard, {**CARD, **changed}, "The card", ConfigError)


def test_json_round_trip() -> None:
    made = card(metrics={"dice": 0.8}, data=[{"name": "TNBC", "licence": "CC BY"}])
    assert read_card(made.to_json().encode(), ModelCard, "x") == made


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"colour": 1}, "colour: Extra inputs"),
        ({"name": "../evil"}, "name: String should match"),
        ({"name": "a/b"}, "name"),
        ({"weights_sha256": "zz"}, "weights_sha256"),
        ({"mpp_range": [0.5, 0.25]}, "lower end 0.5 is above"),
        ({"mpp_range": [0.0, 0.25]}, "mpp_range"),
        ({"halo": 128}, "leaves nothing of a tile of 256"),
        ({"tile": 250}, "tile"),
        ({"marker_threshold": 1.0}, "marker_threshold"),
        ({"min_object_um2": float("nan")}, "min_object_um2"),
        ({"research_use_only": False}, "research_use_only"),
        ({"schema_version": 2}, "schema_version"),
        ({"files": {"../x.png": "0" * 64}}, "files"),
        ({"files": {"a/../../x.png": "0" * 64}}, "files"),
        ({"files": {"run.py": "0" * 64}}, "files"),
        ({"files": {"model.json": "0" * 64}}, "not an extra file"),
        ({"task": {**TASK, "classes": [NUCLEUS, NUCLEUS]}}, "same value"),
        ({"task": {**TASK, "name": "a/b"}}, "task.name"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match="The card is not valid: ") as caught:
        card(**changed)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_background_is_no_class() -> None:
    with pytest.raises(ConfigError, match=r"classes\.0\.value"):
        TaskSpec.parse({**TASK, "classes": [{**NUCLEUS, "value": 0}]})


def test_free_fields_must_be_json() -> None:
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        card(metrics={"dice": float("nan")}).to_json()
    with pytest.raises(ConfigError, match="cannot be written as JSON"):
        card(recipe={"path": object()}).to_json()


def test_identity_is_what_changes_an_answer() -> None:
    base = card().identity()
    same = card(name="other", notes="n", metrics={"dice": 1}, gate={"ok": True}, created="2020")
    assert same.identity() == base
    for changed in ({"halo": 16}, {"weights_sha256": "1" * 64}, {"foreground_threshold": 0.4}):
        assert card(**changed).identity() != base


@given(data=st.binary(max_size=200))
def test_garbage_is_one_clear_line(data: bytes) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_card(data, ModelCard, "x/model.json")
    assert "x/model.json" in str(caught.value)


def test_deep_and_huge_json() -> None:
    with pytest.raises(ModelFileError):
        read_card(b"[" * 100_000, ModelCard, "x")
    with pytest.raises(ModelFileError, match="more than any model card"):
        read_card(b" " * (5 * 2**20), ModelCard, "x")


def test_backbone_card() -> None:
    fields = {k: v for k, v in CARD.items() if k not in ("task", "timestep")}
    made = BackboneCard.model_validate(
        {**fields, "schedule": "quadratic", "timesteps": 1000, "prediction": "epsilon",
         "images_seen": 10}
    )  # fmt: skip
    assert made.timesteps == 1000


def test_identity_counts_colours_only_where_they_are_not_as_stored() -> None:
    """Models older than the choice of colours keep their identity."""
    before = card().model_dump(mode="json", exclude={*VOLATILE, "colors"})
    old = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    assert card().identity() == card(colors="stored").identity() == old
    assert card(colors="srgb").identity() != old
