"""A cohort on disk: what is done of it, the summary table, and the report.

``cohort.json`` in the folder says of every slide what came of it, so that the same command goes on
after an interruption: what is done is passed over, what failed is tried again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

import napari_genselfdiff
from napari_genselfdiff.annotation.disk import disk_errors, replace_file
from napari_genselfdiff.annotation.measure import measure
from napari_genselfdiff.engine.cohort_pictures import slide_pictures, tissue_mm2
from napari_genselfdiff.engine.cohort_report import build_page
from napari_genselfdiff.engine.slide_tasks import slide_stamp
from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.registry.card import Record, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.slide import Slide

STATE, TABLE, PARQUET, PAGE = "cohort.json", "summary.csv", "summary.parquet", "report.html"
_MAX_STATE = 256 * 2**20
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Entry(Record):
    """What came of one slide; ``stamp`` is size and time of change of its file."""

    key: Key
    path: str
    stamp: tuple[int, int] | None
    status: Literal["waiting", "done", "failed"] = "waiting"
    error: str = ""
    store: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)


class State(Record):
    """What a cohort is computed with; all slides by key."""

    schema_version: Literal[1] = 1
    app_version: str
    task: str
    model: str
    model_hash: str
    entries: dict[str, Entry] = Field(default_factory=dict)


class Cohort:
    """A folder that a cohort is computed into.

    Parameters
    ----------
    folder
        Made if it is not there.
    model
        The model every slide is segmented with.

    Raises
    ------
    ConfigError
        If the folder holds a cohort of another model or task, or its state is damaged.
    """

    def __init__(self, folder: Path, model: Model) -> None:
        self.folder = folder
        name = model.card.task.name
        self.state = _read_state(folder / STATE) or State(
            app_version=napari_genselfdiff.__version__,
            task=name,
            model=model.card.name,
            model_hash=model.hash,
        )
        if (self.state.model_hash, self.state.task) != (model.hash, name):
            raise ConfigError(
                f"{folder} holds a cohort of the model {self.state.model} "
                f"({self.state.model_hash[:12]}), now it is {model.card.name} ({model.hash[:12]}); "
                "choose another folder, or the old model"
            )
        with disk_errors(f"make the folder {folder}"):
            (folder / "pictures").mkdir(parents=True, exist_ok=True)

    def add(self, slides: Iterable[Path]) -> list[Entry]:
        """Give an entry for every slide, known ones with what came of them, each once."""
        entries = dict(self.state.entries)
        wanted: list[Entry] = []
        names = {entry.store for entry in entries.values()}
        for path in slides:
            key = _key(path)
            if any(entry.key == key for entry in wanted):
                continue
            found = entries.get(key)
            if found is None:
                name = f"{path.name}.gsd.zarr"
                if name in names:  # another slide of that name, from another folder
                    name = f"{path.name}-{key[:8]}.gsd.zarr"
                names.add(name)
                found = Entry(key=key, path=str(path.absolute()), stamp=None, store=name)
            elif found.status == "done" and found.stamp != _stamp(path):
                found = found.model_copy(update={"status": "waiting"})  # another file by now
            entries[key] = found
            wanted.append(found)
        self.state = self.state.model_copy(update={"entries": entries})
        self._save()
        return wanted

    def store_of(self, entry: Entry) -> Path:
        """Folder of a slide's annotations."""
        return self.folder / entry.store

    def failed(self, entry: Entry, why: str) -> None:
        """Note that a slide could not be segmented."""
        self._note(entry.model_copy(update={"status": "failed", "error": " ".join(why.split())}))

    def done(
        self, entry: Entry, slide: Slide, store: AnnotationStore, seconds: float, notes: list[str]
    ) -> None:
        """Measure and draw a segmented slide, and note that it is done."""
        facts = _facts(slide, store, self.state.task, seconds) | {"warnings": notes}
        for name, data in slide_pictures(slide, store, self.state.task).items():
            with disk_errors("write a picture of the report"):
                replace_file(self.folder / "pictures" / f"{entry.key}-{name}.jpg", data)
        update = {
            "status": "done",
            "error": "",
            "facts": facts,
            "stamp": _stamp(Path(entry.path)),
        }
        self._note(entry.model_copy(update=update))

    def write_report(self, things: str) -> Path:
        """Write the summary tables and the page; ``things`` is what was looked for."""
        rows = [_row(entry) for entry in self.state.entries.values()]
        self._write_tables(rows)
        about = {
            "title": f"{self.state.task}: {self.folder.resolve().name}",
            "things": things,
            "task": self.state.task,
            "model": self.state.model,
            "model_hash": self.state.model_hash,
            "version": self.state.app_version,
            "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        }
        pictures = {str(row["key"]): self._pictures(str(row["key"])) for row in rows}
        with disk_errors(f"write {PAGE}"):
            page = build_page(about, rows, pictures)
            replace_file(self.folder / PAGE, page.encode("utf-8"))
        return self.folder / PAGE

    def _pictures(self, key: str) -> dict[str, bytes]:
        paths = sorted((self.folder / "pictures").glob(f"{key}-*.jpg"))
        return {path.stem.partition("-")[2]: path.read_bytes() for path in paths}

    def _write_tables(self, rows: list[dict[str, Any]]) -> None:
        import io

        import pandas as pd

        flat = []
        for row in rows:
            plain = {k: v for k, v in row.items() if k not in ("areas_mm2", "counts", "warnings")}
            plain |= {f"objects {name}": number for name, number in row["counts"].items()}
            plain |= {f"mm2 {name}": area for name, area in row["areas_mm2"].items()}
            plain["warnings"] = "; ".join(row["warnings"])
            flat.append(plain)
        table, buffer = pd.DataFrame(flat).convert_dtypes(), io.BytesIO()
        table.to_parquet(buffer, index=False)
        safe = table.map(_harmless)
        with disk_errors("write the summary"):
            replace_file(self.folder / PARQUET, buffer.getvalue())
            replace_file(self.folder / TABLE, safe.to_csv(index=False).encode("utf-8"))

    def _note(self, entry: Entry) -> None:
        entries = {**self.state.entries, entry.key: entry}
        self.state = self.state.model_copy(update={"entries": entries})
        self._save()

    def _save(self) -> None:
        text = json.dumps(self.state.model_dump(mode="json"), indent=1, allow_nan=False)
        with disk_errors(f"write {STATE}"):
            replace_file(self.folder / STATE, text.encode())


def _facts(slide: Slide, store: AnnotationStore, task: str, seconds: float) -> dict[str, Any]:
    """What is in the annotations of a slide, as plain values."""
    found, tissue = measure(store, task), tissue_mm2(slide)
    counts = {c.name: c.objects for c in found.classes if c.objects is not None}
    objects = sum(counts.values()) if counts else None
    per_mm2 = objects / tissue if objects is not None and tissue else None
    return {
        "height": slide.shape[0],
        "width": slide.shape[1],
        "mpp": slide.mpp,
        "mpp_assumed": slide.mpp_assumed,
        "tissue_mm2": tissue,
        "objects": objects,
        "objects_per_mm2": per_mm2,
        "counts": counts,
        "areas_mm2": {c.name: c.area_um2 / 1e6 for c in found.classes},
        "checked_share": found.checked_share,
        "seconds": round(seconds, 2),
    }


_EMPTY: dict[str, Any] = {
    **dict.fromkeys(("height", "width", "mpp", "mpp_assumed", "tissue_mm2", "objects")),
    **dict.fromkeys(("objects_per_mm2", "checked_share", "seconds")),
    "counts": {},
    "areas_mm2": {},
    "warnings": [],
}


def _row(entry: Entry) -> dict[str, Any]:
    facts = {name: entry.facts.get(name, empty) for name, empty in _EMPTY.items()}
    return {
        "slide": Path(entry.path).name,
        "status": entry.status,
        "error": entry.error,
        **facts,
        "path": entry.path,
        "annotations": entry.store,
        "key": entry.key,
    }


def _harmless(value: Any) -> Any:
    """A text that begins like a formula, which a spreadsheet would run, begins with a quote."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def _key(path: Path) -> str:
    return hashlib.sha256(str(path.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        return slide_stamp(path)
    except SlideError:
        return None


def _read_state(path: Path) -> State | None:
    """What a folder says of its cohort; None if there is none."""
    try:
        if not path.exists():
            return None
        if path.stat().st_size > _MAX_STATE:
            raise ConfigError(f"{path} is far too large; choose another folder")
        with disk_errors(f"read {path}"):
            return State.model_validate(json.loads(path.read_bytes()))
    except ValidationError as err:
        raise ConfigError(f"{path} is damaged ({one_line(err)}); choose another folder") from err
    except (ValueError, RecursionError) as err:
        if isinstance(err, ConfigError):
            raise
        raise ConfigError(f"{path} is not JSON ({err}); choose another folder") from err
