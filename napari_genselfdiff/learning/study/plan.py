"""What a study of label efficiency compares: data sets, label counts, subsets, seeds, arms."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import ClassSpec, TaskSpec, one_line

if TYPE_CHECKING:
    from pathlib import Path

ArmKind = Literal["network", "self_training", "features", "filters"]
_BLUE = "#0072B2"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StudySet(_Strict):
    """A labelled data set with official lists and fixed few-label subsets.

    ``subset`` is the list file of a subset with ``{n}`` and ``{subset}`` in its name; with
    ``full`` labels the whole training list is the only subset. ``mpp`` is that of the images,
    ``work_mpp`` the resolution at which networks learn and answer.
    """

    folder: str
    train: str
    dev: str
    subset: str
    full: int
    mpp: float
    work_mpp: float
    min_object_um2: float
    task: TaskSpec


def _objects(name: str, one: str, mpp: float) -> TaskSpec:
    classes = (ClassSpec(value=1, name=one, color=_BLUE, key="1"),)
    return TaskSpec(name=name, kind="objects", mpp=mpp, classes=classes)


SETS = {
    "monuseg": StudySet(
        folder="labelled/monuseg",
        train="splits/monuseg_train.txt",
        dev="splits/monuseg_test_dev.txt",
        subset="splits/monuseg_n{n}_subset{subset}.txt",
        full=30,
        mpp=0.25,
        work_mpp=0.25,
        min_object_um2=8.0,
        task=_objects("Nuclei", "Nucleus", 0.25),
    ),
    "glas": StudySet(
        folder="labelled/glas",
        train="splits/glas_train.txt",
        dev="splits/glas_testA.txt",
        subset="splits/glas_n{n}_subset{subset}.txt",
        full=85,
        mpp=0.62,
        work_mpp=1.0,
        min_object_um2=400.0,
        task=_objects("Glands", "Gland", 1.0),
    ),
}


class Row(_Strict):
    """One row of the table: a data set at a number of labels, its subsets and seeds.

    ``images`` is how many patches every network of the row learns from; equal for all arms.
    """

    set: str
    n: int = Field(gt=0)
    subsets: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    images: int = Field(gt=0)

    @property
    def name(self) -> str:
        """Such as ``monuseg_n3``."""
        return f"{self.set}_n{self.n}"


class Arm(_Strict):
    """One way to learn from the labels of a row.

    Parameters
    ----------
    kind
        ``network``: a fine-tuning recipe. ``self_training``: the same, the second half of it also
        on pseudo-labels of the training list's other images. ``features``: a pixel classifier on
        frozen features of a backbone. ``filters``: scikit-image's trainable segmenter.
    recipe, settings
        Of networks: a fine-tuning recipe and ``KEY=VALUE`` overrides of it.
    row_settings
        Further overrides by row (``monuseg_n1``) or data set (``glas``).
    backbone
        Of ``features``: where they come from, ``bundled`` or a folder.
    timesteps
        Of ``features``: how much noise the image is looked at through.
    native
        Learn and answer at the images' own resolution, not at the data set's ``work_mpp``.
    note
        What a reader has to know, such as that it is expensive.
    """

    kind: ArmKind = "network"
    recipe: str = "default_finetune"
    settings: tuple[str, ...] = ()
    row_settings: dict[str, tuple[str, ...]] = {}
    backbone: str = "bundled"
    timesteps: tuple[int, ...] = (50, 150, 250)
    native: bool = False
    note: str = ""

    def settings_for(self, row: Row) -> list[str]:
        """Overrides of a row: general ones first, then those of its set, then its own."""
        special = (*self.row_settings.get(row.set, ()), *self.row_settings.get(row.name, ()))
        return [*self.settings, *special]

    @model_validator(mode="after")
    def _equal_length(self) -> Self:
        every = [*self.settings, *(s for some in self.row_settings.values() for s in some)]
        fixed = ("loop.total_images", "loop.seed", "data", "task")
        wrong = [s for s in every if s.split("=")[0].strip().startswith(fixed)]
        if wrong:
            raise ValueError(
                f"{wrong[0]!r}: length, seed, data and task are the row's, not an arm's"
            )
        return self


class StudyPlan(_Strict):
    """A study: rows × arms. Read from TOML by :func:`read_plan`.

    ``curve`` lists the numbers of images seen after which networks are scored on images aside;
    ``aside`` is how many images of the training list, outside all subsets, that is. ``extras``
    are further answers scored there at the end: ``raw`` weights instead of their moving average,
    ``flips`` averaged over four mirror images. ``distances`` False leaves Hausdorff's out, which
    takes as long as all else in scoring.
    """

    name: str
    sets: dict[str, StudySet] = SETS
    rows: tuple[Row, ...] = Field(min_length=1)
    arms: dict[str, Arm] = Field(min_length=1)
    curve: tuple[int, ...] = ()
    aside: int = Field(default=4, ge=0)
    extras: tuple[Literal["raw", "flips"], ...] = ()
    distances: bool = True

    @model_validator(mode="after")
    def _known_sets(self) -> Self:
        unknown = {row.set for row in self.rows} - self.sets.keys()
        if unknown:
            raise ValueError(
                f"no data set {', '.join(sorted(unknown))}; have {', '.join(self.sets)}"
            )
        for row in self.rows:
            if row.n == self.sets[row.set].full and row.subsets != (0,):
                raise ValueError(f"{row.name} is the whole list; its only subset is 0")
        return self

    def row(self, name: str) -> Row:
        """The row of this name; ConfigError when the study has none."""
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise ConfigError(f"study {self.name} has no row {name!r}; it has {known}")

    def arm(self, name: str) -> Arm:
        """The arm of this name; ConfigError when the study has none."""
        if name not in self.arms:
            raise ConfigError(
                f"study {self.name} has no arm {name!r}; it has {', '.join(self.arms)}"
            )
        return self.arms[name]


def shortened(plan: StudyPlan, images: int = 64) -> StudyPlan:
    """The same rows and arms with one subset, one seed and few images: to see that they run."""
    rows = tuple(
        row.model_copy(
            update={"subsets": row.subsets[:1], "seeds": row.seeds[:1], "images": images}
        )
        for row in plan.rows
    )
    return plan.model_copy(
        update={"name": f"{plan.name}-short", "rows": rows, "curve": (), "aside": 1, "extras": ()}
    )


def read_plan(path: Path) -> StudyPlan:
    """Read a study from TOML; ConfigError in one line if it is none."""
    try:
        return StudyPlan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
        raise ConfigError(f"the study {path} cannot be read: {err}") from err
    except ValidationError as err:
        raise ConfigError(f"the study {path} is not valid: {one_line(err)}") from err


def digest(values: dict[str, Any]) -> str:
    """Short SHA-256 of plain values, the same on every machine."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
