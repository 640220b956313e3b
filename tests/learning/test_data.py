from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.augment import DEFAULT_JITTER, Placement, cut_image, jitter_stain
from napari_genselfdiff.learning.data import ArraySource, Labels, PatchConfig, PatchSampler
from napari_genselfdiff.learning.targets import distance_target
from tests.learning import tiny


def sampler(seed: int = 0, **changes: object) -> PatchSampler:
    config = PatchConfig(size=64, **changes)  # type: ignore[arg-type]
    return PatchSampler([tiny.source(1), tiny.source(2)], config, seed)


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
    plane = torch.from_numpy(image).permute(2, 0, 1).float()
    rng = np.random.default_rng(0)
    for _ in range(20):
        out = jitter_stain(plane, DEFAULT_JITTER, rng)
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
