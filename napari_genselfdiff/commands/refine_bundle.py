"""``genselfdiff bundle``: corrections as one file, to refine with on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.refine import (
    SlidesArg,
    StoresOption,
    asked_in,
    opened,
    pair_stores,
)
from napari_genselfdiff.commands.segment import ModelOption, MppOption, TaskOption
from napari_genselfdiff.errors import ConfigError


def bundle(
    to: Annotated[Path, typer.Option("--to", help="FILE.gsd-bundle.zip to write.")],
    slides: SlidesArg = None,
    stores: StoresOption = None,
    task: TaskOption = None,
    model: ModelOption = "default",
    names: Annotated[
        bool, typer.Option("--names", help="With the slides' file names, which may name patients.")
    ] = False,
    mpp: MppOption = None,
) -> None:
    """Pack corrections into one file; `genselfdiff refine --bundle FILE` learns from it elsewhere.

    The corrected places themselves are in it, as pictures, with those the model had learned from.
    """
    from napari_genselfdiff.commands.segment import pick_model
    from napari_genselfdiff.learning.bundle import SUFFIX, SlideRef, write_bundle
    from napari_genselfdiff.learning.corrections import (
        collect_tiles,
        merge_tiles,
        read_tiles,
        relabelled,
    )
    from napari_genselfdiff.learning.growing import wanted_task
    from napari_genselfdiff.registry.folder import CORRECTIONS

    if not to.name.endswith(".zip"):
        raise ConfigError(f"{to.name} cannot be written; name it NAME{SUFFIX}")
    pairs = pair_stores(slides, stores)
    chosen = pick_model(model, task)
    asked = asked_in(pairs, chosen)
    tiles, refs = relabelled(read_tiles(chosen.path / CORRECTIONS), asked.merged), []
    for slide, store in opened(pairs, mpp):
        if chosen.card.task.name in store.tasks:
            tiles = merge_tiles(tiles, collect_tiles(slide, store, chosen.card))
            refs.append(SlideRef(hash=slide.hash, name=slide.path.name if names else None))
    wanted = wanted_task(chosen.card.task, *asked, tiles)
    card = write_bundle(to, tiles, chosen, refs, wanted)
    console.say(
        f"{to}: {card.n_tiles} corrected tiles of {card.task.name}, made on answers of "
        f"{card.model}. They show tissue. Research use only."
    )
