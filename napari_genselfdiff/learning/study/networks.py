"""Network arms of a study: recipe, training with a curve, and answers on whole images."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy import ndimage

from napari_genselfdiff import __version__
from napari_genselfdiff.backbone.heads import SegmentationOutput, Segmenter
from napari_genselfdiff.errors import ConfigError, TrainingError
from napari_genselfdiff.evaluation.run import Answer
from napari_genselfdiff.learning.companion import without_companion
from napari_genselfdiff.learning.data import ArraySource, Labels, PatchSampler
from napari_genselfdiff.learning.finetune import start
from napari_genselfdiff.learning.loop import TrainState, train
from napari_genselfdiff.learning.place import usable_precision
from napari_genselfdiff.learning.prefetch import Prefetch
from napari_genselfdiff.learning.recipe import (
    FinetuneRecipe,
    LabelledData,
    LabelledSet,
    read_recipe,
)
from napari_genselfdiff.learning.study.images import subset_file
from napari_genselfdiff.learning.targets import distance_target
from napari_genselfdiff.prediction.network import FLIPS
from napari_genselfdiff.prediction.picture import Picture
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import RegionDone, predict_region, to_store_window
from napari_genselfdiff.registry.card import ModelCard
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.evaluation.run import Segment
    from napari_genselfdiff.learning.place import Place
    from napari_genselfdiff.learning.study.plan import Arm, Row, StudySet

SURE = 0.9  # confidence from which a pseudo-label is believed


def recipe_for(data: StudySet, row: Row, subset: int, seed: int, arm: Arm) -> FinetuneRecipe:
    """Complete recipe of one run of a network arm.

    The arm's recipe says how; data, task, seed and length come from the row. A recipe's
    ``free_zoom`` is taken as relative to the resolution worked at.
    """
    settings = arm.settings_for(row)
    recipe = read_recipe(FinetuneRecipe, arm.recipe, settings)
    scale = 1.0 if arm.native else data.work_mpp / data.mpp
    low, high = recipe.patch.free_zoom
    images = LabelledSet(folder=data.folder, list=subset_file(data, row, subset))
    return recipe.model_copy(
        update={
            "name": f"{row.name}-{subset}-{seed}",
            "data": LabelledData(sets=(images,)),
            "task": data.task,
            "patch": replace(recipe.patch, free_zoom=(low * scale, high * scale)),
            "loop": replace(recipe.loop, total_images=row.images, seed=seed),
        }
    )


class Learnt(NamedTuple):
    """A network on its way: images seen, averaged and raw weights, why it stopped early."""

    images_seen: int
    averaged: Segmenter
    raw: Segmenter
    stopped: str | None = None


def learn(
    recipe: FinetuneRecipe,
    sources: Sequence[ArraySource],
    place: Place,
    marks: Sequence[int] = (),
    begin: Segmenter | None = None,
) -> Iterator[Learnt]:
    """Train after a recipe, giving the network at every mark (images seen) and at the end.

    ``begin`` goes on from a network instead of the recipe's start. What is given is the live
    network: use it before asking for the next. A loss that diverges or is no number ends the
    training with the last good weights; ``stopped`` then says so.
    """
    loop = replace(recipe.loop, precision=usable_precision(recipe.loop.precision, place.device))
    torch.manual_seed(loop.seed)
    model, objective = start(recipe)
    if begin is not None:
        without_companion(model).load_state_dict(begin.state_dict())
    sampler = PatchSampler(sources, recipe.patch, loop.seed)
    state = TrainState.create(model, loop, place.device)
    left = sorted(m for m in marks if m < loop.total_images)
    stopped = None
    try:
        with Prefetch.of(sampler, loop.total_images, str(place.device)) as make_batch:
            for report in train(state, make_batch, objective, loop):
                if left and report.images_seen == state.images_seen >= left[0]:
                    left = [m for m in left if m > state.images_seen]
                    yield _learnt(state, None)
    except TrainingError as err:
        stopped = str(err)
    yield _learnt(state, stopped)


def _learnt(state: TrainState, stopped: str | None) -> Learnt:
    averaged, raw = (without_companion(m) for m in (state.ema.model, state.model))
    if not isinstance(averaged, Segmenter) or not isinstance(raw, Segmenter):
        raise ConfigError("a study trains segmenters; the recipe builds something else")
    return Learnt(state.images_seen, averaged, raw, stopped)


class FlippedSegmenter(Segmenter):
    """A segmenter that answers the mean over four mirror images; its weights are a copy."""

    def __init__(self, inner: Segmenter) -> None:
        super().__init__(inner.config, inner.n_classes, inner.timestep)
        self.load_state_dict(inner.state_dict())

    def forward(self, x: torch.Tensor) -> SegmentationOutput:
        classes, distance = torch.zeros(()), torch.zeros(())
        for axes in FLIPS:
            seen = super().forward(x.flip(axes))
            classes = seen.logits.softmax(dim=1).flip(axes) + classes.to(x)
            distance = seen.distance.sigmoid().flip(axes) + distance.to(x)
        mean = distance / len(FLIPS)
        return SegmentationOutput((classes / len(FLIPS)).log(), torch.logit(mean, eps=1e-6))


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads whole images with a network, as the program reads a slide.

    ``unit`` networks want [0, 1] instead of [-1, 1], as those of the released code do.
    """

    card: ModelCard
    mpp: float
    profile: Profile
    unit: bool = False

    @classmethod
    def of(cls, data: StudySet, native: bool, recipe: FinetuneRecipe, place: Place) -> Reader:
        """Reader at the resolution the recipe's network learned at."""
        work = data.mpp if native else data.work_mpp
        # Without a distance cue there is nothing to part objects by: connected pieces are.
        kind = "objects" if recipe.loss.distance else "areas"
        card = ModelCard(
            name="study",
            architecture={"preset": recipe.preset},
            created="study",
            app_version=__version__,
            weights_sha256="0" * 64,
            task=data.task.model_copy(update={"kind": kind}),
            timestep=recipe.timestep,
            mpp_range=(work, work),
            min_object_um2=data.min_object_um2,
        )
        on_cpu = place.device.type == "cpu"
        threads = torch.get_num_threads() if on_cpu else 1
        profile = Profile(device=str(place.device), threads=threads, batch=1 if on_cpu else 8)
        return cls(card, data.mpp, profile, recipe.patch.input_range == "unit")

    def segment(self, network: Segmenter, *, flips: bool = False) -> Segment:
        """What the network says of images, one after the other."""
        fixed = self._fixed(FlippedSegmenter(network) if flips else copy.deepcopy(network))

        def answer(image: NDArray[np.uint8]) -> Answer:
            done = self._read(image, fixed)
            window = to_store_window(done, image.shape[:2], 1)
            return Answer(window.classes, window.objects)

        return answer

    def pseudo_label(self, image: NDArray[np.uint8], network: Segmenter) -> Labels:
        """The network's own answer as a truth; only where it is sure (0.9) it counts as known."""
        done = self._read(image, self._fixed(copy.deepcopy(network)))
        window = to_store_window(done, image.shape[:2], 1)
        rows, columns = (
            np.minimum((np.arange(side) / done.downsample).astype(int), most - 1)
            for side, most in zip(image.shape[:2], done.confidence.shape, strict=True)
        )
        sure = np.asarray(done.confidence[np.ix_(rows, columns)] >= SURE)
        objects = window.objects
        ids = ndimage.label(window.classes)[0] if objects is None else objects
        return Labels(window.classes, distance_target(ids.astype(np.int32)), sure)

    def _read(self, image: NDArray[np.uint8], network: Segmenter) -> RegionDone:
        picture = Picture(image, self.mpp)
        whole = Region(0, 0, *picture.shape)
        for step in predict_region(picture, self, network, whole, self.profile):
            if isinstance(step, RegionDone):
                return step
        raise ConfigError("a picture without a pixel cannot be segmented")

    def _fixed(self, network: Segmenter) -> Segmenter:
        if self.unit:
            network.register_forward_pre_hook(lambda _, given: ((given[0] + 1) / 2,))
        return network.eval()
