from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_genselfdiff.backbone.heads import Denoiser
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry import folder as folder_module
from napari_genselfdiff.registry.files import tensor_shapes
from napari_genselfdiff.registry.folder import (
    Model,
    read_backbone,
    read_model,
    with_card,
    write_backbone,
    write_model,
)
from tests.registry.networks import TINY, WriteModel, network, task

BACKBONE = {
    "mpp_range": (0.25, 1.0), "schedule": "quadratic", "timesteps": 1000, "prediction": "epsilon",
    "images_seen": 64,
}  # fmt: skip


def test_comes_back_as_it_went(write: WriteModel, tmp_path: Path) -> None:
    model = write(extras={"corrections/0.png": b"tile", "fields.png": b"picture"})
    again = read_model(model.path)
    assert again == model
    wanted, loaded = network().state_dict(), again.load()
    assert not loaded.training
    assert all(torch.equal(wanted[k], v) for k, v in loaded.state_dict().items())
    assert (model.path / "corrections" / "0.png").read_bytes() == b"tile"
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["nuclei"]  # nothing left beside


def test_half_is_stored_small_and_loaded_fp32(write: WriteModel) -> None:
    full, half = write("full"), write("half", half=True)
    assert half.weights.stat().st_size < 0.7 * full.weights.stat().st_size
    tensors = half.load().state_dict().items()
    assert {v.dtype for _, v in tensors} == {torch.float32}
    wanted = network().state_dict()
    assert all(torch.equal(wanted[k].half().float(), v) for k, v in tensors)


def test_hash_knows_weights_not_names(write: WriteModel) -> None:
    a, b, c = write("a"), write("b", notes="n"), write("c", seed=1)
    assert a.hash == b.hash
    assert a.hash != c.hash


def test_every_load_is_a_new_network(write: WriteModel) -> None:
    model = write()
    assert model.load() is not model.load()


def test_a_training_folder_becomes_a_model(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"never read")
    fields = {"task": task(), "mpp_range": (0.25, 0.5)}
    model = write_model(tmp_path / "run", fields, network())
    assert (read_model(model.path).hash, model.card.name) == (model.hash, "run")
    with pytest.raises(ConfigError, match="already holds a model"):
        write_model(tmp_path / "run", fields, network())


def test_nothing_is_written_for_a_wrong_card(tmp_path: Path) -> None:
    for fields, words in (
        ({"task": task(), "mpp_range": (2, 1)}, "lower end"),
        ({"task": task(), "mpp_range": (0.2, 1), "metrics": {"d": float("inf")}}, "JSON"),
        ({"mpp_range": (0.2, 1)}, "classes"),
    ):
        with pytest.raises(ConfigError, match=words):
            write_model(tmp_path / "m", fields, network())
    fields = {"task": task(), "mpp_range": (0.2, 1)}
    with pytest.raises(ConfigError, match="files"):
        write_model(tmp_path / "m", fields, network(), extras={"../x.png": b""})
    assert list(tmp_path.iterdir()) == []


def test_interrupted_writing_leaves_no_model(
    write: WriteModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "weights")

    monkeypatch.setattr(folder_module, "write_weights", full_disk)
    with pytest.raises(ModelFileError, match="No space left on device"):
        write()
    assert list((tmp_path / "made").iterdir()) == []


def remove(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def flip_a_byte(path: Path) -> None:
    data = bytearray((path / "weights.safetensors").read_bytes())
    data[-5] ^= 1
    (path / "weights.safetensors").write_bytes(data)


def cut(path: Path) -> None:
    data = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(data[:-100])


def link(path: Path) -> None:
    target = path.with_name("elsewhere")
    (path / "weights.safetensors").rename(target)
    (path / "weights.safetensors").symlink_to(target)


def fifo(path: Path) -> None:
    (path / "weights.safetensors").unlink()
    os.mkfifo(path / "weights.safetensors")


def change_extra(path: Path) -> None:
    (path / "fields.png").write_bytes(b"other")


def pickle(path: Path) -> None:
    (path / "weights.safetensors").write_bytes(b"\x80\x04}\x94.")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove("model.json"), "model.json is missing"),
        (remove("weights.safetensors"), "weights.safetensors is missing"),
        (remove("fields.png"), "fields.png is missing"),
        (flip_a_byte, "was altered or damaged"),
        (change_extra, "was altered or damaged"),
        (cut, "cut off or was altered"),
        (link, "not a plain file"),
        (fifo, "not a plain file"),
        (pickle, "no safetensors file"),
    ],
)
def test_harmed_folders(write: WriteModel, harm: Callable[[Path], None], words: str) -> None:
    model = write(extras={"fields.png": b"picture"})
    harm(model.path)
    with pytest.raises(ModelFileError, match=words) as caught:
        read_model(model.path)
    assert "\n" not in str(caught.value)


def test_altered_after_reading(write: WriteModel) -> None:
    model = write()
    flip_a_byte(model.path)
    with pytest.raises(ModelFileError, match="altered"):
        model.load()


def edit_card(model: Model, **changed: Any) -> Model:
    values = json.loads((model.path / "model.json").read_text())
    (model.path / "model.json").write_text(json.dumps({**values, **changed}))
    return read_model(model.path)


@pytest.mark.parametrize(
    "changed",
    [
        {"dims": [16, 32]},
        {"dims": [4096] * 9},
        {"dims": [2**40, 2**40]},
        {"dims": "ab"},
        {"dims": None},
        {"preset": "tiny", "surprise": 1},
        {"stem_kernel": 10**6},
        {"patch": 3},
    ],
)
def test_a_card_cannot_ask_for_another_network(write: WriteModel, changed: dict[str, Any]) -> None:
    model = edit_card(write(), architecture={**TINY.to_dict(), **changed})
    with pytest.raises(ModelFileError):
        model.load()


def test_not_a_folder_and_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a model folder"):
        read_model(tmp_path / "nowhere")
    write_backbone(tmp_path / "backbone", BACKBONE, Denoiser(TINY))
    with pytest.raises(ModelFileError, match="task"):
        read_model(tmp_path / "backbone")


def test_with_card(write: WriteModel) -> None:
    model = with_card(write(), gate={"accepted": True}, notes="better on lymphocytes")
    assert read_model(model.path) == model
    assert model.card.gate == {"accepted": True}
    with pytest.raises(ConfigError, match="halo cannot change"):
        with_card(model, halo=16)


def test_backbone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(TINY).eval()
    backbone = write_backbone(tmp_path / "backbone", BACKBONE, denoiser, half=True)
    loaded = read_backbone(backbone.path).load()
    assert all(
        torch.equal(v.half().float(), loaded.state_dict()[k])
        for k, v in denoiser.state_dict().items()
    )


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 5) + b"{}",
        safetensors(b"\xff\xfe"),
        safetensors([1]),
        safetensors({"a": 3}, b"8" * 8),
        safetensors({"a": entry()}, b"8" * 7),
        safetensors({"a": entry()}, b"8" * 9),
        safetensors({"a": entry(shape=[2**62, 4])}, b"8" * 8),
        safetensors({"a": entry(shape=[-2])}, b"8" * 8),
        safetensors({"a": entry(shape=[2.0])}, b"8" * 8),
        safetensors({"a": entry(dtype="PY")}, b"8" * 8),
        safetensors({"a": entry(), "b": entry()}, b"8" * 8),
        safetensors({"a": entry(), "b": entry(offsets=[4, 12])}, b"8" * 12),
        safetensors({"a": entry(offsets=[8, 16])}, b"8" * 16),
        safetensors(b"[" * 100_000),
    ],
)
def test_headers_that_lie(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(ModelFileError):
        tensor_shapes(tmp_path / "w")


def test_header_that_does_not(tmp_path: Path) -> None:
    data = safetensors({"__metadata__": {"a": "b"}, "a": entry(), "b": entry("F16", [], [8, 10])})
    (tmp_path / "w").write_bytes(data + b"x" * 10)
    assert tensor_shapes(tmp_path / "w") == {"a": (2,), "b": ()}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), file=st.sampled_from(["model", "weights"]))
def test_no_flipped_bit_goes_unnoticed(
    write: WriteModel, tmp_path: Path, at: int, bit: int, file: str
) -> None:
    """Either the model is refused, or only its card changed and its hash or card tells."""
    path = tmp_path / "made" / "nuclei"
    model = read_model(path) if path.is_dir() else write()
    target = path / {"model": "model.json", "weights": "weights.safetensors"}[file]
    good = target.read_bytes()
    bad = bytearray(good)
    bad[at % len(bad)] ^= 1 << bit
    target.write_bytes(bad)
    try:
        again = read_model(path)
    except ModelFileError:
        return
    finally:
        target.write_bytes(good)
    assert file == "model"
    assert again.card != model.card or json.loads(bytes(bad)) == json.loads(good)
