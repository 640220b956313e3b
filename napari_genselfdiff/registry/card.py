"""What a task asks of the tissue and what a model says about itself; checked, frozen records."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from napari_genselfdiff.errors import ConfigError, ModelFileError
from napari_genselfdiff.slides.color_names import Colors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_genselfdiff.errors import GenSelfDiffError

MPP_MIN, MPP_MAX = 0.05, 20.0  # micrometre per pixel; outside nothing is a microscope slide
MAX_CARD_BYTES = 4 * 2**20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Mpp = Annotated[float, Field(ge=MPP_MIN, le=MPP_MAX)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
# Names become file, zarr and zip names, so nothing that could leave a folder gets in.
TaskName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _-]{0,62}[A-Za-z0-9]$")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$")]
# Pictures, correction tiles and texts; never what a program could run.
ExtraFile = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99}/){0,2}[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
        r"\.(png|jpg|json|md|txt|csv|toml)$"
    ),
]
VOLATILE = frozenset(
    {
        "name",
        "notes",
        "created",
        "app_version",
        "metrics",
        "gate",
        "files",
        "data_sha256",
        "calibration",
    }
)

RecordT = TypeVar("RecordT", bound="Record")


class Record(BaseModel):
    """Base of everything read from a card: frozen, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClassSpec(Record):
    """One class of a task; ``value`` is what the label arrays hold (1..255, 0 is background)."""

    value: int = Field(ge=1, le=255)
    name: str = Field(min_length=1, max_length=64)
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")
    key: str = Field(default="", max_length=16)


class TaskSpec(Record):
    """One question asked of the tissue, answered with objects or with areas.

    ``mpp`` is the working resolution in micrometre per pixel.
    """

    name: TaskName
    kind: Literal["objects", "areas"]
    classes: tuple[ClassSpec, ...] = Field(min_length=1, max_length=255)
    mpp: Mpp

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        for field in ("value", "name", "key"):
            taken = [getattr(spec, field) for spec in self.classes if getattr(spec, field) != ""]
            if len(set(taken)) < len(taken):
                raise ValueError(f"two classes of task {self.name!r} have the same {field}")
        return self

    @property
    def n_classes(self) -> int:
        """Number of classes without background."""
        return len(self.classes)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> TaskSpec:
        """Check a task given as a mapping; ConfigError in one line if it is not one."""
        return checked(cls, values, "The task", ConfigError)


class DataSource(Record):
    """Data a model learned from; ``licence`` as its manifest states it."""

    name: str = Field(min_length=1, max_length=200)
    licence: str = Field(min_length=1, max_length=200)
    note: str = ""
    sha256: Sha256 | None = None


class Calibration(Record):
    """How far a model's confidence can be trusted, measured on images it never learned from.

    ``temperature`` by the number of averaged flips ("1", "2", "4"): what the logits are divided by.
    ``ece_before`` and ``ece_after`` are the expected calibration error without and with it;
    ``auroc`` the probability that a wrong pixel is less sure than a right one. Of one view.
    """

    temperature: dict[Literal["1", "2", "4"], Annotated[float, Field(ge=0.05, le=20.0)]]
    ece_before: float = Field(ge=0.0, le=1.0)
    ece_after: float = Field(ge=0.0, le=1.0)
    auroc: float | None = Field(default=None, ge=0.0, le=1.0)
    images: int = Field(ge=1)
    data: str = ""


class Card(Record):
    """What every model folder states: where the weights come from and what they are.

    ``colors`` says which colours of slides it learned from; prediction reads the same.
    """

    schema_version: Literal[1] = 1
    name: ModelName
    architecture: dict[str, Any] = Field(min_length=1)
    data: tuple[DataSource, ...] = ()
    recipe: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    created: str = Field(min_length=4, max_length=64)
    app_version: str = Field(min_length=1, max_length=64)
    weights_sha256: Sha256
    colors: Colors = "stored"
    files: dict[ExtraFile, Sha256] = {}
    notes: str = ""
    research_use_only: Literal[True] = True

    @field_validator("files")
    @classmethod
    def _files_are_extra(cls, value: dict[str, str]) -> dict[str, str]:
        if any(name.lower() == "model.json" for name in value):
            raise ValueError("model.json is the card itself, not an extra file")
        return value

    def identity(self) -> str:
        """Give the SHA-256 of what the model is: its weights and all that changes an answer.

        Its name, notes, date, scores, verdict and extra files do not count.
        """
        usual = ("colors",) if self.colors == "stored" else ()  # younger than the first models
        text = json.dumps(self.model_dump(mode="json", exclude={*VOLATILE, *usual}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Give the card as JSON text; ConfigError if a free field holds what JSON cannot."""
        try:
            return json.dumps(self.model_dump(), indent=1, allow_nan=False) + "\n"
        except (TypeError, ValueError) as err:
            raise ConfigError(
                f"The card of model {self.name!r} cannot be written as JSON: {err}. "
                "Use only text, finite numbers, lists and mappings in recipe and metrics."
            ) from err


class ModelCard(Card):
    """Card of a segmentation model: everything needed to run it, and what is known about it.

    ``mpp_range`` is the (low, high) micrometre per pixel it was trained for; ``tile`` and ``halo``
    are pixels at the working resolution; ``parent`` is the hash of the model it was refined from;
    ``data_sha256`` names the correction tiles it learned from, also where those were left out;
    ``files`` names the extra files of the folder (pictures, correction tiles) with their SHA-256.
    """

    task: TaskSpec
    timestep: int = Field(ge=0)
    mpp_range: tuple[Mpp, Mpp]
    tile: int = Field(default=256, ge=64, le=4096, multiple_of=16)
    halo: int = Field(default=32, ge=0, le=1024)
    marker_threshold: Share = 0.5
    foreground_threshold: Share = 0.5
    min_object_um2: float = Field(default=0.0, ge=0.0)
    parent: Sha256 | None = None
    data_sha256: Sha256 | None = None
    gate: dict[str, Any] | None = None
    calibration: Calibration | None = None
    starter: bool = False

    @field_validator("mpp_range")
    @classmethod
    def _range_ascends(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the lower end {value[0]} is above the upper end {value[1]}")
        return value

    @model_validator(mode="after")
    def _halo_fits(self) -> Self:
        if 2 * self.halo >= self.tile:
            raise ValueError(f"a halo of {self.halo} leaves nothing of a tile of {self.tile}")
        return self


class BackboneCard(Card):
    """Card of a diffusion backbone (U-Net and noise head) that new tasks start from."""

    schedule: str = Field(min_length=1)
    timesteps: int = Field(ge=1)
    prediction: Literal["epsilon", "sample", "v"]
    weighting: str = ""
    mpp_range: tuple[Mpp, Mpp]
    images_seen: int = Field(ge=0)
    hours: float = Field(default=0.0, ge=0.0)


def one_line(error: ValidationError) -> str:
    """Say in one line which fields are wrong and how."""
    parts = []
    for item in error.errors(include_url=False, include_context=False)[:3]:
        where = ".".join(str(step) for step in item["loc"]) or "the whole"
        parts.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


def checked(
    record: type[RecordT], values: Any, what: str, raises: type[GenSelfDiffError]
) -> RecordT:
    """Build a record from untrusted values; ``raises`` with one line naming ``what``."""
    try:
        return record.model_validate(values)
    except ValidationError as err:
        raise raises(f"{what} is not valid: {one_line(err)}. Correct it and try again.") from err


class _Named(Record):
    name: ModelName


def checked_name(name: str) -> str:
    """Give back a name that a model's folder can have; ConfigError for any other."""
    return checked(_Named, {"name": name}, f"The name {name!r}", ConfigError).name


def card_kind(text: bytes) -> Literal["model", "backbone"] | None:
    """Which card these bytes of JSON are meant to be; None for what is neither."""
    if len(text) > MAX_CARD_BYTES:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    return "model" if "task" in values else "backbone" if "schedule" in values else None


def read_card(text: bytes, record: type[RecordT], what: str) -> RecordT:
    """Read a card from the bytes of a JSON file; ModelFileError in one line if it is none."""
    if len(text) > MAX_CARD_BYTES:
        raise ModelFileError(f"{what} has {len(text)} bytes, more than any model card. Replace it.")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise ModelFileError(f"{what} is not JSON ({err}). Import the model again.") from err
    return checked(record, values, what, ModelFileError)
