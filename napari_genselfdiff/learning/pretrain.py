"""Pre-training: the backbone learns to mend damaged tissue, without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_genselfdiff.backbone.weights import write_weights
from napari_genselfdiff.learning.data import PatchSampler
from napari_genselfdiff.learning.loop import Report, TrainState
from napari_genselfdiff.learning.prefetch import Prefetch
from napari_genselfdiff.learning.run import RunFolder, run, write_text
from napari_genselfdiff.learning.sources import unlabelled_sources
from napari_genselfdiff.learning.start import start_denoiser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_genselfdiff.learning.objectives import Pretext
    from napari_genselfdiff.learning.recipe import PretrainRecipe


def pretrain(
    recipe: PretrainRecipe,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Report]:
    """Pre-train after ``recipe`` into ``out``, yielding one report per step.

    Writes ``weights.safetensors`` (the moving average, for use), ``checkpoint.pt`` (full state,
    for ``resume``), ``log.csv``, ``recipe.json`` and ``denoised.png``, and where pictures had to be
    passed over ``skipped.txt``.
    """
    folder = RunFolder(out, recipe, resume=resume)
    torch.manual_seed(recipe.loop.seed)
    model = start_denoiser(recipe)
    sampler = PatchSampler(unlabelled_sources(recipe.data), recipe.patch, recipe.loop.seed)
    objective = recipe.build(recipe.loop.seed)
    state = TrainState.create(model, recipe.loop, device)

    def snapshot() -> None:
        write_weights(out / "weights.safetensors", state.ema.model)
        write_denoised(out / "denoised.png", state.ema.model, objective, sampler)
        if sampler.skipped:
            write_text(out / "skipped.txt", "\n".join(sampler.skipped.values()) + "\n")

    with Prefetch.of(sampler, recipe.loop.total_images, device) as make_batch:
        yield from run(
            folder,
            state,
            make_batch,
            objective,
            recipe.loop,
            every_images=recipe.snapshots.every_images,
            snapshot=snapshot,
            should_stop=should_stop,
        )


def write_denoised(
    path: Path, model: torch.nn.Module, pretext: Pretext, sampler: PatchSampler
) -> None:
    """Picture of real patches, the same damaged, and what the network makes of them.

    Sample indices far beyond any run are used, so the patches are not the ones trained on.
    """
    from skimage.io import imsave

    indices = range(2**40, 2**40 + 6)
    device = next(model.parameters()).device
    clean = sampler.batch(indices).images.to(device)
    damaged, restored = pretext.restore(model, clean, indices)
    rows = [torch.cat(list(images), dim=2) for images in (clean, damaged, restored)]
    picture = ((torch.cat(rows, dim=1).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    imsave(path, picture.permute(1, 2, 0).cpu().numpy(), check_contrast=False)
