"""A model on disk: a folder of ``model.json``, ``weights.safetensors`` and listed extra files.

Nothing else in the folder is ever read, so a training run may keep its checkpoint and log there.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import nn

import napari_genselfdiff
from napari_genselfdiff.backbone.heads import Denoiser, Segmenter, build_segmenter
from napari_genselfdiff.backbone.unet import UNetConfig
from napari_genselfdiff.backbone.weights import read_weights, write_weights
from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.registry.card import (
    MAX_CARD_BYTES,
    VOLATILE,
    BackboneCard,
    Card,
    ModelCard,
    card_kind,
    checked,
    checked_name,
    read_card,
)
from napari_genselfdiff.registry.files import (
    MAX_EXTRA_BYTES,
    MAX_WEIGHTS_BYTES,
    beside,
    check_sha256,
    checked_size,
    plain_errors,
    sha256_of,
    tensor_shapes,
    write_whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CARD_FILE, WEIGHTS_FILE = "model.json", "weights.safetensors"
CORRECTIONS = "corrections"  # folder of the tiles a person corrected; they show tissue

CardT = TypeVar("CardT", bound=Card)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Folder(Generic[CardT]):
    """A folder with a card; ``hash`` names what the model is, whatever it is called."""

    path: Path
    card: CardT
    hash: str

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS_FILE

    def verify(self) -> None:
        """ModelFileError unless every file is there and is the one the card names."""
        checked_size(self.weights, MAX_WEIGHTS_BYTES)
        tensor_shapes(self.weights)
        check_sha256(self.weights, self.card.weights_sha256)
        for name, digest in self.card.files.items():
            checked_size(self.path / name, MAX_EXTRA_BYTES)
            check_sha256(self.path / name, digest)

    def _load(self, build: Callable[[UNetConfig], ModuleT]) -> ModuleT:
        """Check the card's network against the weights' header before allocating either."""
        config = _config(self.card, self.path)
        with torch.device("meta"):
            wanted = {k: tuple(v.shape) for k, v in build(config).state_dict().items()}
        if tensor_shapes(self.weights) != wanted:
            raise ModelFileError(
                f"{self.weights} holds another network than {CARD_FILE} describes; "
                "import the model again"
            )
        check_sha256(self.weights, self.card.weights_sha256)
        module = build(config)
        read_weights(self.weights, module)
        return module.eval()


@dataclass(frozen=True, slots=True)
class Model(Folder[ModelCard]):
    """A segmentation model in its folder."""

    def load(self) -> Segmenter:
        """Build the network with its weights: eval mode, CPU, fp32. Every call gives a new one."""
        n_classes, timestep = self.card.task.n_classes, self.card.timestep
        return self._load(lambda config: build_segmenter(config, n_classes, timestep))


@dataclass(frozen=True, slots=True)
class Backbone(Folder[BackboneCard]):
    """A diffusion backbone in its folder: the U-Net and its noise head."""

    def load(self) -> Denoiser:
        """Build the denoiser with its weights: eval mode, CPU, fp32."""
        return self._load(Denoiser)


def read_model(path: Path, *, verify: bool = True) -> Model:
    """Read a model folder; ModelFileError in one line if a file is missing, altered or foreign.

    Without ``verify`` only the card is checked now; :meth:`Model.load` checks the weights anyway.
    """
    card = _read_card(path, ModelCard)
    model = Model(path, card, card.identity())
    if verify:
        model.verify()
    return model


def read_backbone(path: Path, *, verify: bool = True) -> Backbone:
    """Read the folder of a diffusion backbone; errors and ``verify`` as :func:`read_model`."""
    card = _read_card(path, BackboneCard)
    backbone = Backbone(path, card, card.identity())
    if verify:
        backbone.verify()
    return backbone


def write_model(
    path: Path,
    card_fields: Mapping[str, Any],
    segmenter: Segmenter,
    half: bool = False,
    *,
    extras: Mapping[str, bytes] | None = None,
) -> Model:
    """Write a model folder and read it back as it is on disk.

    Name, architecture, timestep, date, version and hashes are filled in unless given. ``half``
    stores fp16. ``extras`` are further files by relative name (``fields.png``,
    ``corrections/0.png``). A folder that exists may hold a training run, but no model.
    """
    task = card_fields.get("task")
    classes = getattr(task, "classes", None) or (task or {}).get("classes", ())
    if len(classes) != segmenter.n_classes:
        raise ConfigError(
            f"the network answers {segmenter.n_classes} classes, its task has {len(classes)}; "
            "they must be equal"
        )
    fields = {"timestep": segmenter.timestep, **card_fields}
    if tiles := {k: v for k, v in (extras or {}).items() if k.startswith(f"{CORRECTIONS}/")}:
        fields["data_sha256"] = data_hash(tiles)
    _write(path, ModelCard, _filled(path, fields, segmenter.config), segmenter, half, extras or {})
    return read_model(path)


def write_backbone(
    path: Path,
    card_fields: Mapping[str, Any],
    denoiser: Denoiser,
    half: bool = False,
    *,
    extras: Mapping[str, bytes] | None = None,
) -> Backbone:
    """Write the folder of a diffusion backbone; as :func:`write_model`."""
    fields = _filled(path, card_fields, denoiser.config)
    _write(path, BackboneCard, fields, denoiser, half, extras or {})
    return read_backbone(path)


def with_card(model: Model, **fields: Any) -> Model:
    """Write new notes, metrics or a verdict into a model's card; what it is stays the same."""
    fixed = fields.keys() - (VOLATILE - {"files", "data_sha256"})
    if fixed:
        raise ConfigError(f"{', '.join(sorted(fixed))} cannot change once a model is written")
    values = {**model.card.model_dump(), **fields}
    card = checked(ModelCard, values, f"The card of {model.card.name}", ConfigError)
    with plain_errors(f"Writing {model.path / CARD_FILE}"):
        write_whole(model.path / CARD_FILE, card.to_json().encode())
    return Model(model.path, card, model.hash)


def copy_folder(source: Folder[CardT], target: Path) -> None:
    """Copy a verified folder to a new one and call it by that name; only what its card lists."""
    card = source.card.model_copy(update={"name": checked_name(target.name)})
    with plain_errors(f"Adding {target.name}"), beside(target) as partial:
        for file in (WEIGHTS_FILE, *card.files):
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / file, partial / file)
        write_whole(partial / CARD_FILE, card.to_json().encode())


def is_backbone(path: Path) -> bool:
    """Whether a folder's card is that of a diffusion backbone; ModelFileError without a card."""
    return card_kind(_card_bytes(path)) == "backbone"


def data_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256 of the names and contents of correction files, whatever their order."""
    parts = [f"{name} {hashlib.sha256(files[name]).hexdigest()}" for name in sorted(files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read_card(path: Path, record: type[CardT]) -> CardT:
    data = _card_bytes(path)
    kind = card_kind(data)
    if kind == "backbone" and record is ModelCard:
        raise ModelFileError(
            f"{path} is a diffusion backbone, which answers no task yet; make a model from it with "
            f"`genselfdiff finetune RECIPE start={path}`, or let new tasks start from it with "
            f"`genselfdiff models use {path}`"
        )
    if kind == "model" and record is BackboneCard:
        raise ModelFileError(f"{path} is a model of a task, not a diffusion backbone")
    return read_card(data, record, str(path / CARD_FILE))


def _card_bytes(path: Path) -> bytes:
    if not path.is_dir():
        raise ModelFileError(f"{path} is not a model folder; give a folder with {CARD_FILE}")
    file = path / CARD_FILE
    checked_size(file, MAX_CARD_BYTES)
    with plain_errors(f"Reading {file}"):
        return file.read_bytes()


def _config(card: Card, path: Path) -> UNetConfig:
    """The network a card describes, within sizes that can be built in reasonable time."""
    values = card.architecture
    sizes = [values.get("init_dim"), values.get("head_dim"), *(values.get("dims") or ())]
    sane = all(isinstance(n, int) and 0 < n <= 4096 for n in sizes) and len(sizes) <= 10
    kernel = values.get("stem_kernel")
    if not sane or not isinstance(kernel, int) or not 0 < kernel <= 31:
        raise ModelFileError(f"{path / CARD_FILE} describes no network that can be built")
    try:
        return UNetConfig.from_dict(values)
    except ConfigError as err:
        raise ModelFileError(f"{path / CARD_FILE}: {err}") from err


def _filled(path: Path, fields: Mapping[str, Any], config: UNetConfig) -> dict[str, Any]:
    return {
        "name": path.name,
        "architecture": config.to_dict(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "app_version": napari_genselfdiff.__version__,
        **fields,
    }


def _write(
    path: Path,
    record: type[CardT],
    fields: dict[str, Any],
    module: nn.Module,
    half: bool,
    extras: Mapping[str, bytes],
) -> None:
    """Fill ``path``; the card comes last, so a folder without one was interrupted."""
    if (path / CARD_FILE).exists():
        raise ConfigError(f"{path} already holds a model; choose another folder")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in extras.items()}
    # Everything but the weights' digest is known: complain before writing anything.
    draft = {**fields, "files": digests, "weights_sha256": "0" * 64}
    card = checked(record, draft, "The model card", ConfigError)
    card.to_json()
    with plain_errors(f"Writing the model {path}"):
        if path.is_dir():
            _fill(path, card, module, half, extras)
            return
        with beside(path) as partial:
            _fill(partial, card, module, half, extras)


def _fill(
    folder: Path,
    card: Card,
    module: nn.Module,
    half: bool,
    extras: Mapping[str, bytes],
) -> None:
    for name, data in extras.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, data)
    write_weights(folder / WEIGHTS_FILE, module, half=half)
    final = card.model_copy(update={"weights_sha256": sha256_of(folder / WEIGHTS_FILE)})
    write_whole(folder / CARD_FILE, final.to_json().encode())
