from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.learning.augment import (
    Placement,
    StainDraw,
    cut_image,
    draw_stain,
    restain,
)
from napari_genselfdiff.learning.data import ArraySource, Labels, PatchConfig, PatchSampler
from napari_genselfdiff.learning.jitter import DEFAULT_JITTER, StainJitter
from napari_genselfdiff.learning.targets import distance_target
from napari_genselfdiff.slides.geometry import Region
from tests.learning import tiny


def sampler(seed: int = 0, **changes: object) -> PatchSampler:
    config = PatchConfig(size=64, **changes)  # type: ignore[arg-type]
    return PatchSampler([tiny.source(1), tiny.source(2)], config, seed)


@settings(max_examples=25)
@given(index=st.integers(0, 2**40))
def test_the_same_index_gives_the_same_patch(index: int) -> None:
    first, again = sampler().batch([index]), sampler().batch([index])
    assert torch.equal(first.images, again.images)
    assert first.classes is not None
    assert again.classes is not None
    assert torch.equal(first.classes, again.classes)


def test_patches_do_not_depend_on_their_batch() -> None:
    together = sampler().batch([3, 4, 5]).images
    assert torch.equal(together[1], sampler().batch([4]).images[0])
    assert not torch.equal(together[0], together[1])


def test_ranges_and_kinds() -> None:
    batch = sampler().batch(range(8))
    assert batch.images.shape == (8, 3, 64, 64)
    assert float(batch.images.min()) >= -1
    assert float(batch.images.max()) <= 1
    assert batch.classes is not None
    assert batch.distance is not None
    assert set(batch.classes.unique().tolist()) == {0, 1}
    assert 0 <= float(batch.distance.min()) <= float(batch.distance.max()) <= 1


def test_labels_move_with_the_picture() -> None:
    """A picture that is its own label map: after any placement the two still agree."""
    _, ids = tiny.tissue(5)
    classes = (ids > 0).astype(np.uint8)
    image = np.repeat((255 * (1 - classes))[..., None], 3, axis=2).astype(np.uint8)
    truth = Labels(classes, distance_target(ids.astype(np.int32)), np.ones(ids.shape, bool))
    config = PatchConfig(size=64, stain=None, skip_glass=False)
    cut = PatchSampler([ArraySource(image, 0.3, truth)], config, 0).batch(range(30))
    assert cut.classes is not None
    assert cut.known is not None
    dark = cut.images[:, 0] < 0
    agree = (dark == (cut.classes > 0))[cut.known]
    assert float(agree.float().mean()) > 0.985


def test_outside_of_the_picture_is_unknown() -> None:
    config = PatchConfig(size=64, mpp_range=(1.0, 1.0), skip_glass=False)
    known = PatchSampler([tiny.source(1, size=64)], config, 0).batch([0]).known
    assert known is not None
    assert 0 < float(known.float().mean()) < 0.5


def test_upright_unit_placement_is_the_crop_itself() -> None:
    image, _ = tiny.tissue(3)
    placement = Placement(y=47.5, x=63.5, zoom=1.0, angle=0.0, mirror=False)
    patch = cut_image(image[10:100, 20:120], placement, 32, 10, 20)
    np.testing.assert_allclose(patch.permute(1, 2, 0), image[32:64, 48:80], atol=1e-3)


def test_mirror_and_half_turn() -> None:
    image, _ = tiny.tissue(3)
    upright = cut_image(image, Placement(63.5, 63.5, 1.0, 0.0, mirror=False), 32, 0, 0)
    mirrored = cut_image(image, Placement(63.5, 63.5, 1.0, 0.0, mirror=True), 32, 0, 0)
    turned = cut_image(image, Placement(63.5, 63.5, 1.0, math.pi, mirror=False), 32, 0, 0)
    torch.testing.assert_close(mirrored, upright.flip(2), atol=1e-2, rtol=0)
    torch.testing.assert_close(turned, upright.flip(1, 2), atol=1e-2, rtol=0)


def test_stain_jitter_stays_in_range_and_changes_something() -> None:
    image, _ = tiny.tissue(4)
    plane = torch.from_numpy(image).permute(2, 0, 1).float()[None]
    rng = np.random.default_rng(0)
    for _ in range(20):
        out = restain(plane, [draw_stain(DEFAULT_JITTER, rng)])
        assert out.shape == plane.shape
        assert float(out.min()) >= 0
        assert float(out.max()) <= 255
        assert float((out - plane).abs().mean()) > 0.5


def test_distance_target_is_one_at_the_core_of_every_object() -> None:
    _, ids = tiny.tissue(6)
    target = distance_target(ids.astype(np.int32))
    assert float(target[ids == 0].max()) == 0.0
    for number in np.unique(ids[ids > 0]):
        assert float(target[ids == number].max()) == pytest.approx(1.0)


def test_no_pictures_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no image"):
        PatchSampler([], PatchConfig(), 0)


def test_interpolated_distance_never_leaves_its_range() -> None:
    """A plateau of ones is interpolated to 1.0000001 now and then, where the loss is NaN."""
    image, ids = tiny.tissue(3)
    truth = Labels(
        (ids >= 0).astype(np.uint8), np.ones(ids.shape, np.float32), np.ones(ids.shape, bool)
    )
    distance = PatchSampler([ArraySource(image, 0.3, truth)], PatchConfig(size=64), 0).batch(
        range(40)
    )[3]
    assert distance is not None
    assert float(distance.max()) == 1.0


def test_stride_cuts_on_the_grid_of_the_released_code() -> None:
    """256 px at stride 64 there; every patch is a plain crop whose corner is on the grid."""
    image = tiny.tissue(3)[0]
    plain = PatchConfig(
        size=32, stride=16, rotate=False, flips=False, stain=None, skip_glass=False,
        free_zoom=(1.0, 1.0),
    )  # fmt: skip
    patches = PatchSampler([ArraySource(image, None)], plain, 0).batch(range(60)).images
    corners = [(y, x) for y in range(0, 97, 16) for x in range(0, 97, 16)]
    crops = np.stack([image[y : y + 32, x : x + 32] for y, x in corners]).astype(np.float32)
    found = set()
    for patch in (patches.permute(0, 2, 3, 1).numpy() + 1) * 127.5:
        apart = np.abs(crops - patch).max(axis=(1, 2, 3))
        assert apart.min() < 0.01
        found.add(corners[int(apart.argmin())])
    assert len(found) > 25


def test_flips_without_turning_are_the_four_mirror_images() -> None:
    image = tiny.tissue(3, 32)[0]
    config = PatchConfig(
        size=32, stride=64, rotate=False, stain=None, skip_glass=False, free_zoom=(1.0, 1.0)
    )
    patches = PatchSampler([ArraySource(image, None)], config, 0).batch(range(40)).images
    crop = torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1
    kinds = torch.stack([crop, crop.flip(1), crop.flip(2), crop.flip(1, 2)])
    apart = (kinds[None] - patches[:, None]).abs().amax(dim=(2, 3, 4))
    assert float(apart.amin(dim=1).max()) < 1e-3
    assert apart.argmin(dim=1).unique().tolist() == [0, 1, 2, 3]


def test_unit_range_is_the_same_patch_between_0_and_1() -> None:
    signed, unit = sampler().batch([5]).images, sampler(input_range="unit").batch([5]).images
    torch.testing.assert_close(unit * 2 - 1, signed, atol=1e-6, rtol=0)


@pytest.mark.parametrize("wrong", [{"size": 2}, {"stride": 0}, {"mpp_range": (0.5, 0.2)}])
def test_impossible_patches_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PatchConfig(**wrong)  # type: ignore[arg-type]


def slow_restain(image: NDArray[np.uint8], draw: StainDraw) -> NDArray[np.float64]:
    """Stain, exposure and grain in float64 after the definition, pixel by pixel; no blur."""
    density = -np.log((image.astype(np.float64) + 1) / 256)
    out = np.exp(-(density @ draw.matrix.T.astype(np.float64) + draw.shift)) * 256 - 1
    return out * draw.brightness


def test_stain_is_what_its_definition_says() -> None:
    """Concentrations scaled and shifted, seen through the moved stain colours."""
    image, _ = tiny.tissue(4, 32)
    rng = np.random.default_rng(3)
    jitter = StainJitter(blur=0.0, noise=0.0)
    draw = draw_stain(jitter, rng)
    planes = torch.from_numpy(image).permute(2, 0, 1).float()[None]
    found = restain(planes, [draw])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, slow_restain(image, draw).clip(0, 255), atol=2e-3)
    still = draw_stain(StainJitter(concentration=0, offset=0, basis=0, brightness=0, blur=0), rng)
    np.testing.assert_allclose(still.matrix, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(still.shift, 0, atol=1e-7)


def test_staining_a_batch_is_staining_one_by_one() -> None:
    """Blur and grain fall on some samples only; the others must not notice."""
    rng = np.random.default_rng(1)
    jitter = StainJitter(blur=0.5)
    draws = [draw_stain(jitter, rng) for _ in range(12)]
    assert 0 < sum(bool(d.blur) for d in draws) < 12
    assert 0 < sum(bool(d.grain) for d in draws) < 12
    planes = torch.stack(
        [torch.from_numpy(tiny.tissue(n, 48)[0]).permute(2, 0, 1) for n in range(12)]
    ).float()
    together = restain(planes, draws)
    alone = torch.cat([restain(planes[n : n + 1], [draws[n]]) for n in range(12)])
    assert float((together - alone).abs().max()) / 127.5 <= 1e-6


@pytest.mark.parametrize("input_range", ["signed", "unit"])
def test_patches_finished_on_the_device_are_those_finished_at_once(input_range: str) -> None:
    """uint8 travels and is stained there; equal to 1e-6, also in micro-batches."""
    cuts = sampler(input_range=input_range)
    raw, whole = cuts.raw_batch(range(9)), cuts.batch(range(9))
    assert raw.images.dtype == torch.uint8
    finished = raw.to(torch.device("cpu"))
    assert finished.pending is None
    assert float((finished.images - whole.images).abs().max()) <= 1e-6
    part = raw.part(3, 7).to(torch.device("cpu"))
    assert part.indices == (3, 4, 5, 6)
    assert float((part.images - whole.images[3:7]).abs().max()) <= 1e-6
    assert finished.classes is not None
    assert whole.classes is not None
    assert torch.equal(finished.classes, whole.classes)


@pytest.mark.gpu
def test_patches_finished_on_a_gpu_are_those_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    raw = sampler().raw_batch(range(16))
    there, here = (raw.to(torch.device(d)).images.cpu() for d in ("cuda", "cpu"))
    assert float((there - here).abs().max()) <= 1e-5


class Broken(ArraySource):
    """A picture whose file fails in the middle: rows below 64 cannot be read."""

    def window(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        if region.y1 > 64:
            raise SlideError(f"{self.name} is damaged")
        return super().window(region, downsample)


def with_broken(seed: int = 0) -> PatchSampler:
    plain = PatchConfig(size=32, mpp_range=(0.25, 0.25), rotate=False)
    broken = Broken(tiny.tissue(1)[0], 0.25, name="broken.svs")
    return PatchSampler([broken, ArraySource(tiny.tissue(2)[0], 0.25)], plain, seed)


def test_a_picture_that_fails_is_reported_once_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cuts = with_broken()
    assert cuts.batch(range(40)).images.shape[0] == 40
    assert cuts.skipped == {"broken.svs": "broken.svs is damaged"}
    assert [r.message for r in caplog.records] == ["skipped: broken.svs is damaged"]


def test_a_run_that_has_met_the_failure_and_one_that_has_not_agree() -> None:
    whole, resumed = with_broken(), with_broken()
    assert torch.equal(whole.batch(range(60)).images[30:], resumed.batch(range(30, 60)).images)


def test_pictures_that_all_fail_are_an_error_that_says_why() -> None:
    dead = [Broken(tiny.tissue(1)[0][60:], 0.25, name=f"{n}.svs") for n in range(5)]
    cuts = PatchSampler(dead, PatchConfig(size=64, mpp_range=(0.25, 0.25)), 0)
    with pytest.raises(ConfigError, match=r"none of 5 pictures.*svs is damaged.*and 2 more"):
        cuts.batch([0])


def test_a_picture_far_too_coarse_is_passed_over() -> None:
    coarse = ArraySource(tiny.tissue(1)[0], 8.0, name="coarse.png")
    cuts = PatchSampler([coarse, ArraySource(tiny.tissue(2)[0], 0.3)], PatchConfig(size=32), 0)
    cuts.batch(range(8))
    assert "too coarse" in cuts.skipped["coarse.png"]


def test_a_coarse_picture_is_cut_at_the_scales_it_has() -> None:
    """1.5 µm/px enlarged four times at most: 0.375-0.5 of the wanted 0.25-0.5."""
    coarse = ArraySource(tiny.tissue(1)[0], 1.5)
    cuts = PatchSampler([coarse], PatchConfig(size=32), 0)
    zooms = [cuts._place(coarse, np.random.default_rng(n)).zoom for n in range(50)]
    assert 0.25 <= min(zooms) < 0.27
    assert 0.31 < max(zooms) <= 0.5 / 1.5
    cuts.batch(range(8))
    assert cuts.skipped == {}


def test_glass_and_black_are_not_learned_from() -> None:
    """Half of the picture is glass, a quarter black: every patch holds tissue."""
    image = np.full((512, 512, 3), 245, np.uint8)
    image[:256, :256] = np.tile(tiny.tissue(1)[0], (2, 2, 1))
    image[256:, :256] = 0
    plain = PatchConfig(size=32, mpp_range=(0.25, 0.25), stain=None)
    images = PatchSampler([ArraySource(image, 0.25)], plain, 0).batch(range(40)).images
    means = (images.mean(dim=(1, 2, 3)) + 1) * 127.5
    assert 15 < float(means.min()) <= float(means.max()) < 230


def test_turned_patches_keep_their_corners_inside_an_unlabelled_picture() -> None:
    """A black rim one pixel wide would be smeared over every corner that sticks out."""
    image = tiny.tissue(3, 256)[0]
    image[[0, -1]] = image[:, [0, -1]] = 0
    config = PatchConfig(size=64, mpp_range=(0.25, 0.25), stain=None, flips=False)
    images = PatchSampler([ArraySource(image, 0.25)], config, 0).batch(range(60)).images
    dark = (images.amax(dim=1) < -0.9).float().mean(dim=(1, 2))
    assert float(dark.max()) < 0.02
