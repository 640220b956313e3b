"""A whole-slide run with a tiny model, which may die where it is told to."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch

from napari_genselfdiff.annotation import disk
from napari_genselfdiff.annotation.runs import RunFolder
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.annotation.window import Window
from napari_genselfdiff.backbone.heads import build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.engine.headless import SlideOutcome, segment_whole
from napari_genselfdiff.engine.slide_request import SlideRequest
from napari_genselfdiff.engine.workers import HereWorkers, Workers
from napari_genselfdiff.prediction import plan as plan_module
from napari_genselfdiff.prediction.plan import Plan
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.registry.folder import Model, read_model, write_model
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide

BLOCK, MARGIN, SIDE = 128, 64, (420, 390)
PROFILE = Profile(threads=1)
TASK = {
    "name": "Nuclei",
    "kind": "objects",
    "mpp": 0.5,
    "classes": [{"value": 1, "name": "Nucleus", "color": "#00aa00"}],
}
Moment = Literal["write_tile", "write_block", "take", "drop_tiles", "installed"]


class Death(NamedTuple):
    """Where a process kills itself: the so-many-th time it comes to this."""

    where: Moment
    times: int


def balanced_model(
    path: Path, make_tissue: Callable[..., Any], *, foreground: float = 0.3, tile: int = 96
) -> Model:
    """A real network with random weights, balanced so that this share is foreground."""
    torch.manual_seed(0)
    config = replace(PRESETS["fast"], dims=(8, 16), init_dim=8, attention=("none", "linear"))
    segmenter = build_segmenter(config, 1, 50)
    probe = torch.from_numpy(make_tissue(160, 160)[0]).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        background, nucleus = segmenter(probe).logits[0]
        assert segmenter.head.out.bias is not None
        segmenter.head.out.bias[0] += (nucleus - background).quantile(1 - foreground)
    fields = {
        "task": TASK,
        "mpp_range": (0.5, 0.5),
        "tile": tile,
        "halo": 16,
        "min_object_um2": 2.0,
    }
    return write_model(path, fields, segmenter)


def whole(
    slide_path: Path,
    store_path: Path,
    model: Model | Path,
    make_workers: Callable[[Plan], Workers] = lambda _: HereWorkers(),
    *,
    profile: Profile = PROFILE,
    region0: Region | None = None,
    **options: Any,
) -> SlideOutcome:
    """Segment a slide into a store of its own, with small blocks and a small margin."""
    plan_module.MARGIN = MARGIN  # also in a child process, which no fixture reaches
    found = model if isinstance(model, Model) else read_model(model)
    with open_slide(slide_path) as slide, opened(slide_path, store_path) as store:
        store.add_task(found.card.task)
        request = SlideRequest(slide, store, "Nuclei", found, profile, region0, block=BLOCK)
        return segment_whole(request, make_workers, **options)


def opened(slide_path: Path, store_path: Path) -> AnnotationStore:
    with open_slide(slide_path) as slide:
        return AnnotationStore.open(
            store_path,
            slide_path=slide_path,
            slide_hash=slide.hash,
            shape=slide.shape,
            mpp=0.5,
            mpp_assumed=False,
        )


def labels(store_path: Path) -> Window:
    store = AnnotationStore.open_read_only(store_path)
    return store.read("Nuclei", Region(0, 0, *store.shape("Nuclei")))


def canonical(objects: np.ndarray) -> np.ndarray:
    """Objects numbered in the order of their first pixel."""
    ids, first, where = np.unique(objects, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(np.where(ids == 0, -1, first)))
    return np.asarray((rank + (0 if ids[0] == 0 else 1))[where].reshape(objects.shape))


def assert_same(one: Window, other: Window) -> None:
    np.testing.assert_array_equal(one.classes, other.classes)
    np.testing.assert_array_equal(one.provenance, other.provenance)
    np.testing.assert_array_equal(canonical(one.ids), canonical(other.ids))
    pixels = np.unique(one.ids[one.ids > 0], return_counts=True)[1]
    others = np.unique(other.ids[other.ids > 0], return_counts=True)[1]
    np.testing.assert_array_equal(np.sort(pixels), np.sort(others))


def die(slide_path: Path, store_path: Path, model_path: Path, death: Death) -> None:
    """What a child process runs: it kills itself on the way."""
    torch.set_num_threads(1)
    _arm(death)
    whole(slide_path, store_path, model_path)


def _arm(death: Death) -> None:
    patch = pytest.MonkeyPatch()  # never undone: the process ends
    left = death.times

    def count_down() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    if death.where == "installed":  # a block is in the annotations, but that is not noted yet
        original = AnnotationStore.write_prediction

        def after(self: AnnotationStore, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            count_down()
            return result

        patch.setattr(AnnotationStore, "write_prediction", after)
        return
    if death.where in ("write_tile", "write_block"):  # in the middle of the bytes
        folder = "tiles" if death.where == "write_tile" else "blocks"
        write = disk.write_file

        def torn(path: Path, data: bytes) -> None:
            if path.parent.name == folder:
                write(path, data[: len(data) // 2])
                count_down()
            write(path, data)

        patch.setattr(disk, "write_file", torn)
        return
    original_method = getattr(RunFolder, death.where)

    def before(self: RunFolder, *args: Any) -> Any:
        count_down()
        return original_method(self, *args)

    patch.setattr(RunFolder, death.where, before)
