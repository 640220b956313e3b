"""Annotation files of any kind we read, told apart by their content."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from napari_genselfdiff.annotation.exchange.aperio_xml import read_aperio
from napari_genselfdiff.annotation.exchange.dsa_json import is_dsa, read_dsa
from napari_genselfdiff.annotation.exchange.geojson_in import read_geojson, stated_class
from napari_genselfdiff.annotation.exchange.json_features import read_features
from napari_genselfdiff.annotation.exchange.label_image import read_label_image
from napari_genselfdiff.annotation.exchange.roi_in import is_roi
from napari_genselfdiff.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from napari_genselfdiff.annotation.store import AnnotationStore

Kind = Literal["geojson", "aperio", "dsa", "labels"]

IMPORTED = (".geojson", ".json", ".gz", ".xml", ".tif", ".tiff", ".png")
_IMAGES = (b"\x89PNG", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_HEAD = 2**16


def kind_of(path: Path) -> Kind:
    """Which of our readers is meant for a file; what looks like nothing else is GeoJSON.

    Raises
    ------
    ExchangeError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as err:
        raise ExchangeError(f"{path} is not there; choose a file that is") from err
    except OSError as err:
        raise ExchangeError(f"{path} cannot be read: {err.strerror or err}") from err
    if head.startswith(_IMAGES):
        return "labels"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "aperio"
    return "dsa" if is_dsa(head) else "geojson"


def import_file(
    path: Path,
    store: AnnotationStore,
    task_name: str,
    *,
    classes: Mapping[str, str | None] | None = None,
) -> int:
    """Draw a file of annotations into a task, as one step that can be undone.

    GeoJSON, Aperio XML, JSON of the Digital Slide Archive, or a label image of the whole slide;
    ``classes`` and errors as for :func:`~.geojson_in.read_geojson` and
    :func:`~.label_image.read_label_image`.

    Returns
    -------
    int
        Shapes drawn; for label images of areas, classes.
    """
    kind = kind_of(path)
    if kind == "labels":
        return read_label_image(path, store, task_name, classes=classes)
    features = None if kind == "geojson" else _features(path, kind)
    return read_geojson(path, store, task_name, classes=classes, features=features)


def classes_in(path: Path) -> Counter[str]:
    """Classes a file of shapes states and how often, ``""`` for none; empty for label images.

    Raises
    ------
    ExchangeError
        If the file cannot be read or is not what it looks like.
    """
    kind = kind_of(path)
    if kind == "labels":
        return Counter()
    found: Counter[str] = Counter()
    for _, feature in _features(path, kind):
        if is_roi(feature):
            continue
        properties = feature.get("properties") if isinstance(feature, dict) else None
        found[stated_class(properties) or ""] += 1
    return found


def _features(path: Path, kind: Kind) -> Iterator[tuple[dict[str, Any], Any]]:
    if kind == "aperio":
        return read_aperio(path)
    return read_dsa(path) if kind == "dsa" else read_features(path)
