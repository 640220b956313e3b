"""``genselfdiff evaluate``: how good a model is on images with known masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_genselfdiff.commands import console
from napari_genselfdiff.commands.segment import ModelOption, ProfileOption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.evaluation.run import Answer


def evaluate(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    masks: Annotated[
        Path,
        typer.Option(help="Folder of masks of the same stems: 16 bits objects, 8 bits classes."),
    ],
    out: Annotated[Path, typer.Option(help="Report (JSON).")],
    model: ModelOption = "default",
    mpp: Annotated[
        float | None, typer.Option(help="Micrometre per pixel of the images; the model's own.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder for the predicted labels (PNG).")
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder for the best, median and worst image, truth and answer drawn."),
    ] = None,
    profile: ProfileOption = None,
) -> None:
    """Score a model on images and masks paired by file stem."""
    from napari_genselfdiff.evaluation.report import table, write_report

    report = evaluate_model(
        model,
        images,
        masks,
        mpp=mpp,
        predictions=predictions,
        pictures=pictures,
        profile=profile,
    )
    write_report(report, out)
    console.say(table(report))


def evaluate_model(
    name: str,
    images: Path,
    masks: Path,
    *,
    mpp: float | None = None,
    predictions: Path | None = None,
    pictures: Path | None = None,
    profile: Path | None = None,
) -> dict[str, Any]:
    """Give the report of a model on two folders; see ``evaluation.report.build_report``.

    ``predictions`` and ``pictures`` are folders for the predicted labels, and for the best,
    median and worst image by Dice with truth and answer outlined.
    """
    from napari_genselfdiff.commands.segment import pick_model, pick_profile
    from napari_genselfdiff.evaluation.folders import pair_folders
    from napari_genselfdiff.evaluation.report import build_report
    from napari_genselfdiff.evaluation.run import Answer, score_folder, write_examples
    from napari_genselfdiff.prediction.picture import segment_picture

    pairs = pair_folders(images, masks)
    model = pick_model(name, None)
    segmenter, speed = model.load(), pick_profile(profile)
    if mpp is None:
        mpp = model.card.task.mpp
        console.note(f"No --mpp given: the images are taken to have {mpp:g} µm per pixel.")

    def segment(image: NDArray[np.uint8]) -> Answer:
        labels = segment_picture(image, mpp, model, segmenter, speed)
        return Answer(labels.classes, labels.objects)

    for folder in (predictions, pictures):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    scored = []
    with console.progress("Evaluating") as show:
        for step in score_folder(pairs, segment, predictions):
            scored.append((step.image, step.scores))
            show(step.done / step.total, step.image)
    report = build_report(model.card.name, mpp, scored)
    if pictures is not None:
        write_examples(report, pairs, segment, pictures)
    return report
