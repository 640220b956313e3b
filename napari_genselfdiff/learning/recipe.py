"""Recipes: what a training run does, as a checked TOML file with KEY=VALUE overrides."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_genselfdiff.backbone.init import Init
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.companion import CompanionConfig
from napari_genselfdiff.learning.data import PatchConfig
from napari_genselfdiff.learning.jitter import StainJitter
from napari_genselfdiff.learning.loop import LoopConfig
from napari_genselfdiff.learning.objectives import Segmentation
from napari_genselfdiff.learning.pretext import PretextConfig
from napari_genselfdiff.registry.card import TaskSpec
from napari_genselfdiff.slides.color_names import Colors

RECIPES = Path(__file__).parent / "recipes"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSet(_Strict):
    """How the images of one folder are to be read; ``weight`` is each image's share of patches.

    ``list`` names a file of stems: only these images of the folder are read. ``stretch_x`` undoes
    a squeeze of the columns at the source (1.33 = widen by a third).
    """

    folder: str
    list: str | None = None
    mpp: float | None = Field(default=None, gt=0.05, lt=20)
    stretch_x: float = Field(default=1.0, gt=0.2, lt=5)
    weight: float = Field(default=1.0, gt=0)


class UnlabelledData(_Strict):
    """Images or slides: a list of paths under ``root``, the sets' lists, or all of ``folders``.

    Folders that are not full paths are taken from ``root`` where there is one. ``mpp`` (µm per
    pixel) holds for files that do not say theirs; with ``need_mpp`` those are left out without
    it, else they are cut at any zoom. ``colors = "srgb"`` uses the files' colour profiles.
    """

    root: str = ""
    list: str | None = None
    folders: tuple[str, ...] = ()
    sets: tuple[ImageSet, ...] = ()
    mpp: float | None = Field(default=None, gt=0.05, lt=20)
    need_mpp: bool = False
    colors: Colors = "stored"

    @model_validator(mode="after")
    def _one_way_to_name_the_images(self) -> Self:
        if (self.list or self.folders) and any(part.list for part in self.sets):
            raise ValueError(
                "the sets list their images, so list and folders have no say; pass data.sets=[] "
                "to read other images"
            )
        return self


class LabelledSet(_Strict):
    """A folder with ``images/`` and ``masks/`` paired by stem, and the list of stems to use.

    ``leave_out`` names stems of the list, or patterns of them (``05_*``), that are not trained on:
    the shipped model's keep-working and reserve tiles come from there.
    """

    folder: str
    list: str | None = None
    leave_out: tuple[str, ...] = ()
    mpp: float | None = Field(default=None, gt=0.05, lt=20)
    weight: float = Field(default=1.0, gt=0)


class LabelledData(_Strict):
    """Labelled sets under one root; ``colors = "srgb"`` uses the files' colour profiles."""

    root: str = ""
    sets: tuple[LabelledSet, ...]
    colors: Colors = "stored"


class Snapshots(_Strict):
    """How often, in images seen, the full state and the usable weights are written.

    ``tiles`` is how many patches the picture of the progress shows; 0 leaves it out.
    """

    every_images: int = Field(default=2000, gt=0)
    tiles: int = Field(default=5, ge=0, le=16)


class PretrainRecipe(PretextConfig):
    """Pre-training without labels: the network learns to mend damaged images.

    ``start`` is ``scratch``, ``bundled`` for the shipped backbone, or a folder or file with
    backbone weights. With another pretext than the start's, ``start_head = "new"`` takes only its
    U-Net, and ``"reuse"`` its head, too: a head that tells the noise nearly tells ``v`` where there
    is little of it, since v = √ᾱ ε - √(1 - ᾱ) x₀ (Salimans & Ho 2022). ``init`` draws the first
    weights as PyTorch does or as the released code did.
    """

    name: str
    preset: str = "fast"
    start: str = "scratch"
    start_head: Literal["keep", "new", "reuse"] = "keep"
    init: Init = "default"
    data: UnlabelledData
    patch: PatchConfig = PatchConfig()
    loop: LoopConfig
    snapshots: Snapshots = Snapshots()


class FinetuneRecipe(_Strict):
    """Fine-tuning of a backbone for one task.

    ``start`` is a folder or file with weights of a backbone or model, whose U-Net is taken,
    ``bundled`` or ``bundled_nuclei`` for the shipped ones, or ``scratch``. ``timestep`` is what
    the network is told about the (absent) noise. ``init`` is how weights that do not come from
    the start are drawn. ``companion`` goes on pre-training on the same images beside the task.
    """

    name: str
    preset: str = "fast"
    start: str = "bundled"
    task: TaskSpec
    timestep: int = Field(default=0, ge=0)
    init: Init = "default"
    data: LabelledData
    loss: Segmentation = Segmentation()
    companion: CompanionConfig | None = None
    patch: PatchConfig = PatchConfig()
    loop: LoopConfig
    snapshots: Snapshots = Snapshots()
    min_object_um2: float = 8.0

    @model_validator(mode="after")
    def _companion_sees_the_pretexts_range(self) -> Self:
        if self.companion is not None and self.patch.input_range != "signed":
            raise ValueError(
                "a companion mends images in [-1, 1], got patch.input_range = "
                f"{self.patch.input_range!r}; use 'signed' or leave the companion out"
            )
        return self


Recipe = TypeVar("Recipe", PretrainRecipe, FinetuneRecipe)


def read_recipe(kind: type[Recipe], name: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a shipped recipe by name, or a TOML file by path, and apply ``KEY=VALUE`` overrides.

    Keys are dotted (``loop.batch=16``); values are TOML, a bare word is a string, ``none`` means
    that there is no such thing (``patch.stain=none``). ConfigError for a missing file, a misspelt
    key or a value that does not fit.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = RECIPES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise ConfigError(f"there is no recipe {name!s}; shipped are {known}, or give a .toml file")
    try:
        values = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path} is not valid TOML: {err}") from err
    for text in overrides or []:
        _override(values, text)
    try:
        return kind(**_without_none(values))
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        unknown = first["type"] == "extra_forbidden"
        wrong = "there is no such setting; check the spelling" if unknown else first["msg"]
        raise ConfigError(f"recipe {path.name}: {place}: {wrong}") from err


def data_root(root: str, *, needed: bool = True) -> Path:
    """Folder that lists and images are relative to: the recipe's, or ``GENSELFDIFF_DATA``."""
    chosen = root or os.environ.get("GENSELFDIFF_DATA", "")
    if not chosen and not needed:
        return Path()
    if not chosen or not Path(chosen).is_dir():
        raise ConfigError(
            f"the data folder {chosen or '(none)'} does not exist; set GENSELFDIFF_DATA or pass "
            "data.root=FOLDER or 'data.folders=[\"FOLDER\"]'"
        )
    return Path(chosen)


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    """The word none as null, which TOML does not have."""
    return {
        key: _without_none(value) if isinstance(value, dict) else None if value == "none" else value
        for key, value in values.items()
    }


def _override(values: dict[str, Any], text: str) -> None:
    key, sep, raw = text.partition("=")
    if not sep or not key:
        raise ConfigError(f"an override must read KEY=VALUE, got {text!r}")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    *parents, last = key.split(".")
    table = values
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{key}: {parent} is a value, not a group of settings")
    table[last] = value


__all__ = [
    "FinetuneRecipe",
    "PretrainRecipe",
    "StainJitter",
    "data_root",
    "read_recipe",
]
