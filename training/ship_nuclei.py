"""Make the shipped model of a fine-tuning run: python -m training.ship_nuclei RUN|--again|--tiles.

Scores it on the development lists, draws 20 random fields, and adds the keep-working, replay
and reserve tiles (crops of openly licensed images with their true masks). ``--again`` keeps the
weights and tiles of the shipped model, gives it the tile, halo and thresholds of this file, and
scores it anew. Run ``python -m training.calibrate`` afterwards. ``--tiles`` stores its tiles anew.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from napari_genselfdiff.annotation.window import HUMAN
from napari_genselfdiff.backbone.heads import build_segmenter
from napari_genselfdiff.backbone.unet import PRESETS
from napari_genselfdiff.backbone.weights import read_weights
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import pair_folders, read_pair
from napari_genselfdiff.evaluation.pictures import montage_fields
from napari_genselfdiff.evaluation.report import build_report, table
from napari_genselfdiff.evaluation.run import Answer, score_folder
from napari_genselfdiff.learning.corrections import CorrectionTile, pack_tiles
from napari_genselfdiff.learning.lesson import KEEP, REPLAY, RESERVE
from napari_genselfdiff.learning.recipe import FinetuneRecipe, data_root
from napari_genselfdiff.learning.sources import left_out, read_list
from napari_genselfdiff.prediction.picture import segment_picture
from napari_genselfdiff.prediction.profile import Profile, available_cores
from napari_genselfdiff.registry.card import ModelCard
from napari_genselfdiff.registry.files import write_whole
from napari_genselfdiff.registry.folder import CARD_FILE, Model, read_model, with_card, write_model
from napari_genselfdiff.registry.registry import BUNDLED, bundled_backbone
from training.licences import sources_of

TileT = TypeVar("TileT")

READING: dict[str, Any] = {
    "tile": 304,
    "halo": 24,  # at least the reach that `python -m training.reach` measures
    "marker_threshold": 0.4,  # best true AJI on the MoNuSeg training list
}
SCORED = {"tnbc_dev": ("labelled/tnbc", 0.25), "monuseg_test_dev": ("labelled/monuseg", 0.25)}
STARTER_BELOW = 0.78
JPEG = 92  # quality of the stored tiles
FOLDERS = {KEEP, REPLAY, RESERVE}
NOTES = (
    "Pre-trained and fine-tuned on two CPU cores. Trained on breast (TNBC) and mixed, mostly "
    "haematoxylin-only images; other organs and stainings are new to it. Two patients and "
    "14 mixed images were left out for its keep-working and reserve tiles. Research use only."
)


def main(run: Path) -> None:
    """Write ``registry/bundled/nuclei`` from a run folder."""
    recipe = FinetuneRecipe(**json.loads((run / "recipe.json").read_text()))
    segmenter = build_segmenter(PRESETS[recipe.preset], recipe.task.n_classes, recipe.timestep)
    read_weights(run / "weights.safetensors", segmenter)
    seen = (run / "log.csv").read_text().splitlines()[-1].split(",")[0]
    lists = [part.list or "" for part in recipe.data.sets]
    backbone = json.loads((bundled_backbone() / "model.json").read_text())
    fields = {
        "name": "nuclei",
        "task": recipe.task,
        "mpp_range": (0.25, 0.5),
        **READING,
        "min_object_um2": recipe.min_object_um2,
        "data": sources_of(lists, tuple(part.folder for part in recipe.data.sets)),
        "recipe": {
            **recipe.model_dump(mode="json"),
            "start": "bundled",  # the run's own path means nothing elsewhere
            "images_seen": int(float(seen)),
        },
        "notes": f"{NOTES} Backbone {backbone['weights_sha256'][:12]}.",
    }
    extras: dict[str, bytes] = {}
    for name, tiles in stored_tiles(recipe).items():
        print(name, len(tiles), "tiles")
        extras |= pack_tiles(name, tiles, quality=JPEG)
    with (
        tempfile.TemporaryDirectory() as scratch
    ):  # scored as it will be on disk: in half precision
        draft = write_model(Path(scratch) / "nuclei", fields, segmenter, half=True)
        metrics = {name: score(draft, *place, name) for name, place in SCORED.items()}
    lowest = min(part["dice"]["value"] for part in metrics.values())
    fields.update(metrics=metrics, starter=lowest < STARTER_BELOW)
    shutil.rmtree(BUNDLED / "nuclei", ignore_errors=True)
    write_model(BUNDLED / "nuclei", fields, segmenter, half=True, extras=extras)


def again() -> None:
    """Give the shipped model the present way of reading tissue, and its scores with it."""
    folder = BUNDLED / "nuclei"
    card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8")) | READING
    card.pop("calibration", None)
    write_whole(folder / CARD_FILE, ModelCard.model_validate(card).to_json().encode())
    model = read_model(folder)
    metrics = {name: score(model, *place, name) for name, place in SCORED.items()}
    lowest = min(part["dice"]["value"] for part in metrics.values())
    if (lowest < STARTER_BELOW) != model.card.starter:
        raise ConfigError(f"a Dice of {lowest:.3f} makes it another kind of model; ship it anew")
    with_card(model, metrics=metrics)


def store_tiles() -> None:
    """Store the shipped model's tiles anew; what the model is stays the same."""
    model = read_model(BUNDLED / "nuclei", verify=False)
    own = FinetuneRecipe.model_fields
    recipe = FinetuneRecipe(**{k: v for k, v in model.card.recipe.items() if k in own})
    files: dict[str, bytes] = {}
    for name, tiles in stored_tiles(recipe).items():
        shutil.rmtree(model.path / name)
        (model.path / name).mkdir()
        files |= pack_tiles(name, tiles, quality=JPEG)
    for name, data in files.items():
        write_whole(model.path / name, data)
    old = {k: v for k, v in model.card.files.items() if k.split("/")[0] not in FOLDERS}
    now = old | {name: sha256(data).hexdigest() for name, data in files.items()}
    card = json.loads((model.path / CARD_FILE).read_text()) | {"files": now}
    write_whole(model.path / CARD_FILE, (json.dumps(card, indent=1) + "\n").encode())


def stored_tiles(recipe: FinetuneRecipe) -> dict[str, list[CorrectionTile]]:
    """Crops with their truth: replay from the images trained on, the others from those left out.

    What Refine may forget is judged on images the model never saw. Keep-working and reserve tiles
    are crops of the same ones, in turn, never the same crop: the reserve is to foretell what the
    keep-working tiles will say. Of the images trained on, about every third is used.
    """
    root, tiles = data_root(""), {name: list[CorrectionTile]() for name in (KEEP, REPLAY, RESERVE)}
    for part in recipe.data.sets:
        stems = read_list(root / (part.list or ""))
        found = pair_folders(root / part.folder / "images", root / part.folder / "masks")
        pairs = {pair.name: pair for pair in found}
        aside = [pairs[stem] for stem in stems if left_out(stem, part)]
        taught = [pairs[stem] for stem in stems if not left_out(stem, part)]
        mpp = part.mpp or 0.25
        for tile, is_kept in in_turn([quarters(pair, mpp) for pair in aside]):
            tiles[KEEP if is_kept else RESERVE].append(tile)
        for pair in taught[::3]:
            tiles[REPLAY] += quarters(pair, mpp)[::2]
    return tiles


def in_turn(crops: Sequence[Sequence[TileT]]) -> Iterator[tuple[TileT, bool]]:
    """Crops by image, every second one marked, beginning with another one each image."""
    for number, of_image in enumerate(crops):
        for place, crop in enumerate(of_image):
            yield crop, (number + place) % 2 == 0


def quarters(pair: Any, mpp: float, size: int = 256) -> list[CorrectionTile]:
    """The image cut into squares from its upper left corner; what is left over is not used."""
    image, mask = read_pair(pair)
    height, width = mask.labels.shape
    tiles = []
    for y in range(0, height - size + 1, size):
        for x in range(0, width - size + 1, size):
            place = (slice(y, y + size), slice(x, x + size))
            ids = mask.labels[place].astype(np.uint32)
            human = np.full(ids.shape, HUMAN, np.uint8)
            classes = (ids > 0).astype(np.uint8)
            source = f"{pair.name}:{y},{x}"
            tiles.append(CorrectionTile(image[place], classes, ids, human, mpp, source))
    return tiles


def score(model: Model, folder: str, mpp: float, name: str) -> dict[str, Any]:
    """Metrics on one development list, and a picture of its fields beside the card."""
    root, segmenter = data_root(""), model.load()
    profile = Profile(threads=available_cores())
    stems = set(read_list(root / "splits" / f"{name}.txt"))
    everything = pair_folders(root / folder / "images", root / folder / "masks")
    pairs = [pair for pair in everything if pair.name in stems]

    def segment(image: np.ndarray[Any, np.dtype[np.uint8]]) -> Answer:
        return Answer(*_labels(segment_picture(image, mpp, model, segmenter, profile)))

    scored = [(item.image, item.scores) for item in score_folder(pairs, segment)]
    report = build_report(model.card.name, mpp, scored)
    print(name, table(report), sep="\n")
    if name == "tnbc_dev":  # openly licensed, so its pixels may be shown
        draw_fields(pairs, segment)
    return dict(report["mean"])


def draw_fields(pairs: list[Any], segment: Any) -> None:
    """20 random fields of 256 pixels, truth and prediction outlined, into docs/images."""
    rng, fields = np.random.default_rng(1), []
    answers = {pair.name: (*read_pair(pair), None) for pair in pairs}
    labels = {name: segment(image).objects for name, (image, _, _) in answers.items()}
    for _ in range(20):
        name = str(rng.choice(sorted(answers)))
        image, mask, _ = answers[name]
        y, x = (int(rng.integers(0, side - 255)) for side in mask.labels.shape)
        place = (slice(y, y + 256), slice(x, x + 256))
        fields.append((image[place], labels[name][place], mask.labels[place]))
    images, predicted, truths = zip(*fields, strict=True)
    out = Path(__file__).parents[1] / "docs" / "images" / "nuclei-fields.jpg"
    Image.fromarray(montage_fields(images, predicted, truths)).save(out, quality=88)


def _labels(answer: Any) -> tuple[Any, Any]:
    return answer.classes, answer.objects


if __name__ == "__main__":
    if sys.argv[1:] == ["--again"]:
        again()
    elif sys.argv[1:] == ["--tiles"]:
        store_tiles()
    else:
        main(Path(sys.argv[1]))
