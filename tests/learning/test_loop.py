from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_genselfdiff.backbone.heads import Denoiser, Segmenter
from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule
from napari_genselfdiff.errors import ConfigError, ModelFileError, TrainingError
from napari_genselfdiff.learning import checkpoint, guard, place
from napari_genselfdiff.learning.checkpoint import Stateful, load_checkpoint, save_checkpoint
from napari_genselfdiff.learning.data import Batch, PatchConfig, PatchSampler
from napari_genselfdiff.learning.guard import PATIENCE, Guard
from napari_genselfdiff.learning.loop import LoopConfig, TrainState, train
from napari_genselfdiff.learning.objectives import Denoising, Objective, Segmentation
from tests.backbone.networks import TINY
from tests.learning import tiny

Make = Callable[[LoopConfig], tuple[TrainState, PatchSampler, Objective]]


def denoising(config: LoopConfig) -> tuple[TrainState, PatchSampler, Objective]:
    torch.manual_seed(0)
    sampler = PatchSampler([tiny.source(1)], PatchConfig(size=32), 0)
    schedule = NoiseSchedule(NoiseConfig(timesteps=50))
    return TrainState.create(Denoiser(TINY), config), sampler, Denoising(schedule)


def segmentation(config: LoopConfig) -> tuple[TrainState, PatchSampler, Objective]:
    torch.manual_seed(0)
    sampler = PatchSampler([tiny.source(1)], PatchConfig(size=32), 0)
    return TrainState.create(Segmenter(TINY, 1, 50), config), sampler, Segmentation()


def weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {
        **state.model.state_dict(),
        **{f"ema.{k}": v for k, v in state.ema.model.state_dict().items()},
    }


@pytest.mark.parametrize("make", [denoising, segmentation])
def test_resumed_equals_uninterrupted_bit_for_bit(make: Make, tmp_path: Path) -> None:
    config = LoopConfig(total_images=24, batch=4, warmup_images=8)
    whole, sampler, objective = make(config)
    list(train(whole, sampler.batch, objective, config))

    first, sampler, objective = make(config)
    for report in train(first, sampler.batch, objective, config):
        if report.images_seen == 12:
            break
    parts: dict[str, Stateful] = {
        "model": first.model,
        "optimizer": first.optimizer,
        "ema": first.ema,
    }
    save_checkpoint(tmp_path / "c.pt", parts, images_seen=first.images_seen)
    second, sampler, objective = make(config)
    with torch.no_grad():  # what is loaded must not be what happened to be there
        for parameter in second.model.parameters():
            parameter.add_(1)
    parts = {"model": second.model, "optimizer": second.optimizer, "ema": second.ema}
    second.images_seen = load_checkpoint(tmp_path / "c.pt", parts)["images_seen"]
    list(train(second, sampler.batch, objective, config))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name


@pytest.mark.parametrize("make", [denoising, segmentation])
def test_micro_batches_give_the_same_gradient(make: Make) -> None:
    gradients = []
    for micro in (8, 3):
        config = LoopConfig(total_images=8, batch=8, micro_batch=micro, clip=1e9)
        state, sampler, objective = make(config)
        state.model.double()
        state.ema.model.double()

        def batch(indices: Sequence[int], sampler: PatchSampler = sampler) -> Batch:
            single = sampler.batch(indices)
            distance = None if single.distance is None else single.distance.double()
            return single._replace(images=single.images.double(), distance=distance)

        list(train(state, batch, objective, config))
        gradients.append([p.grad.clone() for p in state.model.parameters() if p.grad is not None])
    one, other = (torch.cat([g.flatten() for g in part]) for part in gradients)
    assert float((one - other).norm()) <= 1e-6 * float(one.norm())


def test_it_learns_to_segment_one_picture() -> None:
    config = LoopConfig(total_images=480, batch=8, lr=3e-3, warmup_images=16, ema_decay=0.9)
    state, sampler, objective = segmentation(config)
    reports = list(train(state, sampler.batch, objective, config))
    start = np.mean([r.loss for r in reports[:5]])
    end = np.mean([r.loss for r in reports[-5:]])
    assert end < 0.35 * start
    assert reports[-1].images_seen == 480
    assert reports[-1].eta_s == 0


def test_stop_is_honoured_before_the_next_step() -> None:
    config = LoopConfig(total_images=80, batch=4)
    state, sampler, objective = segmentation(config)
    reports = train(
        state, sampler.batch, objective, config, should_stop=lambda: state.images_seen >= 8
    )
    seen = [report.images_seen for report in reports]
    assert seen == [4, 8]


def test_diverging_loss_stops_and_keeps_the_average() -> None:
    config = LoopConfig(total_images=40, batch=4)
    state, sampler, objective = segmentation(config)

    def spoiled(indices: Sequence[int]) -> Batch:
        batch = sampler.batch(indices)
        if state.images_seen >= 8:
            batch.images.fill_(float("nan"))
        return batch

    with pytest.raises(TrainingError, match="image 8"):
        list(train(state, spoiled, objective, config))
    assert all(bool(torch.isfinite(v).all()) for v in weights(state).values())


def test_noise_of_a_sample_depends_on_its_index_alone() -> None:
    schedule = NoiseSchedule(NoiseConfig())
    noise, t = Denoising(schedule).draw([7, 8], (3, 4, 4))
    again, t_again = Denoising(schedule).draw([8], (3, 4, 4))
    assert torch.equal(noise[1], again[0])
    assert int(t[1]) == int(t_again[0])


class TestCheckpoint:
    def test_a_file_that_is_none_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "c.pt").write_bytes(b"nothing of ours")
        with pytest.raises(ModelFileError, match="cannot be read"):
            load_checkpoint(tmp_path / "c.pt", {})

    def test_another_network_is_refused(self, tmp_path: Path) -> None:
        save_checkpoint(tmp_path / "c.pt", {"model": Denoiser(TINY)})
        with pytest.raises(ConfigError, match="another network"):
            load_checkpoint(tmp_path / "c.pt", {"model": Segmenter(TINY, 3, 0)})

    def test_a_failed_write_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, model = tmp_path / "c.pt", Denoiser(TINY)
        save_checkpoint(path, {"model": model})
        before = path.read_bytes()

        def full(target: Path, data: bytes) -> None:
            target.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoint, "write_file", full)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(path, {"model": model})
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_too_little_memory_halves_the_micro_batch_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = LoopConfig(total_images=24, batch=8, warmup_images=0, lr=1e-3)
    whole, sampler, objective = denoising(config)
    wanted = [report.loss for report in train(whole, sampler.batch, objective, config)]

    def greedy(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        if len(batch.indices) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return objective(model, batch)

    split, _, _ = denoising(config)
    losses = [report.loss for report in train(split, sampler.batch, greedy, config)]
    assert losses == pytest.approx(wanted, rel=1e-4)
    assert split.micro_batch == 2
    assert [r.getMessage() for r in caplog.records] == [
        "too little memory for 8 images at once; going on with 2 at a time, the batch stays "
        "the same"
    ]


def test_too_little_memory_for_one_image_is_explained() -> None:
    config = LoopConfig(total_images=8, batch=4)
    state, sampler, _ = denoising(config)

    def impossible(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    with pytest.raises(TrainingError, match=r"one image at a time.*patch\.size"):
        list(train(state, sampler.batch, impossible, config))


def test_an_error_of_another_kind_is_not_taken_for_little_memory() -> None:
    config = LoopConfig(total_images=8, batch=4)
    state, sampler, _ = denoising(config)

    def broken(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        list(train(state, sampler.batch, broken, config))


class TestGuard:
    def test_a_loss_far_above_its_best_for_long_is_a_divergence(self) -> None:
        guard = Guard(4.0)
        losses = [1.0] * 60 + [0.1] * 300 + [0.9] * 300
        states = []
        for loss in losses:
            guard.see(loss)
            states.append((guard.is_suspicious, guard.has_diverged))
        first = next(i for i, (_, diverged) in enumerate(states) if diverged)
        suspected = next(i for i, (suspicious, _) in enumerate(states) if suspicious)
        assert 360 < suspected < 400
        assert first == suspected + PATIENCE - 1

    @pytest.mark.parametrize("factor", [0.0, 4.0])
    def test_a_noisy_loss_and_a_short_peak_are_none(self, factor: float) -> None:
        guard, rng = Guard(factor), np.random.default_rng(0)
        for step in range(3000):
            level = 1e-4 + math.exp(-step / 200)  # below 2 % of the start, ratios mean nothing
            guard.see(level * rng.lognormal(0, 0.7) * (3 if step == 1500 else 1))
            assert not guard.has_diverged

    def test_never_where_it_is_switched_off(self) -> None:
        guard = Guard(0.0)
        for loss in [0.1] * 100 + [100.0] * 400:
            guard.see(loss)
        assert not guard.has_diverged


def test_diverging_run_stops_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MEMORY", 3)
    monkeypatch.setattr(guard, "PATIENCE", 4)
    config = LoopConfig(total_images=400, batch=4)
    state, sampler, objective = denoising(config)

    def worse(model: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        losses, parts = objective(model, batch)
        return losses * (20 if batch.indices[0] >= 24 else 1), parts

    with pytest.raises(TrainingError, match=r"times its best for long, at image \d+"):
        list(train(state, sampler.batch, worse, config))
    assert state.images_seen < 80


def test_bf16_falls_back_with_one_notice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(place, "has_cpu_bf16", lambda: False)
    assert place.usable_precision("bf16", cpu) == "fp32"
    assert [r.getMessage() for r in caplog.records] == [
        "this cpu does not calculate in bf16; going on in fp32"
    ]
    monkeypatch.setattr(place, "has_cpu_bf16", lambda: True)
    assert place.usable_precision("bf16", cpu) == "bf16"
    assert place.usable_precision("fp32", cpu) == "fp32"
    assert len(caplog.records) == 1


@pytest.mark.parametrize("name", ["tpu", "cuda:first", "cuda:99"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"device|CUDA"), place.open_place(name):
        pass


def test_no_average_means_the_weights_themselves() -> None:
    config = LoopConfig(total_images=12, batch=4, ema_decay=0.0, clip=None, optimizer="adam")
    state, sampler, objective = denoising(config)
    list(train(state, sampler.batch, objective, config))
    for name, value in state.model.state_dict().items():
        assert torch.equal(state.ema.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    "bad",
    [{"batch": 0}, {"lr": -1.0}, {"micro_batch": 0}, {"ema_decay": 1.0}, {"divergence": 0.5}],
)
def test_settings_no_run_can_have_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        LoopConfig(**{"total_images": 8, **bad})


def test_constant_rate_stays_after_the_warm_up() -> None:
    config = LoopConfig(total_images=100, warmup_images=10, lr_schedule="constant")
    assert [config.lr_share(seen) for seen in (0, 4, 10, 99)] == [0.1, 0.5, 1.0, 1.0]
