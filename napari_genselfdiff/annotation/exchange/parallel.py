"""Objects of large slides as text of a GeoJSON file, written by several processes.

Blocks of a slide are independent but for objects that reach far beyond one, so every process takes
blocks and gives their text; the caller puts the texts together in order.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import BrokenExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from napari_genselfdiff.annotation.exchange.features import SEPARATOR, FeatureWriter, as_json
from napari_genselfdiff.annotation.exchange.geojson import write_features
from napari_genselfdiff.annotation.exchange.measured import object_measurer
from napari_genselfdiff.annotation.exchange.origin import origin
from napari_genselfdiff.annotation.exchange.shapes import (
    BLOCK,
    large_objects,
    objects_of_block,
    shapes_in,
)
from napari_genselfdiff.annotation.store import AnnotationStore
from napari_genselfdiff.errors import JobFailedError
from napari_genselfdiff.slides.slide import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

    from napari_genselfdiff.annotation.window import Window
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

    Submit = Callable[..., Future[Any]]

_AHEAD = 8  # blocks handed out before their turn: enough for some processes, little memory


class _Export(NamedTuple):
    """Which export a block belongs to; ``token`` tells two of the same annotations apart.

    ``slide`` is where stains are measured, ``mpp`` what was stated of it if it does not say.
    """

    path: str
    token: str
    task_name: str
    slide: str | None = None
    mpp: float | None = None


class _Part(NamedTuple):
    text: str
    number: int
    cut: dict[int, Region]


def write_objects(
    store: AnnotationStore,
    task_name: str,
    path: Path,
    submit: Submit,
    *,
    provenance: Mapping[str, Any] | None = None,
    slide: Slide | None = None,
) -> int:
    """Write the very file that ``write_geojson`` writes of a task of objects, with many hands.

    Parameters
    ----------
    store
        Is read again by other processes, so its folder must be there for them.
    path, provenance, slide
        See ``write_geojson``. The slide is opened again by other processes.
    submit
        Hands a task to another process, as ``concurrent.futures.Executor.submit`` does.

    Returns
    -------
    int
        Number of objects.

    Raises
    ------
    JobFailedError
        If a process dies; nothing is written then.
    SlideError
        If the slide is gone; nothing is written then.
    StoreError
        If the file cannot be written; an older one is then still there.
    """
    about = origin(store, task_name, frame="level0", offset=(0, 0), provenance=provenance)
    export = _Export(str(store.path.absolute()), uuid4().hex, task_name)
    if slide is not None:
        mpp = slide.mpp if slide.mpp_assumed else None
        export = export._replace(slide=str(slide.path.absolute()), mpp=mpp)
    writer = FeatureWriter(store, task_name, (0, 0))
    rois = [writer.roi(roi) for roi in store.rois]
    return write_features(path, about, rois, _texts(store, export, submit, slide))


def _texts(
    store: AnnotationStore, export: _Export, submit: Submit, slide: Slide | None
) -> Iterator[tuple[str, int]]:
    waiting: deque[Future[_Part]] = deque()
    cut: dict[int, Region] = {}
    try:
        for block in store.annotated_blocks(export.task_name, BLOCK):
            waiting.append(submit(block_text, export, block))
            if len(waiting) == _AHEAD:
                yield from _received(waiting.popleft(), cut)
        while waiting:
            yield from _received(waiting.popleft(), cut)
    finally:
        for future in waiting:
            future.cancel()
    for window, ids in large_objects(store, export.task_name, cut):
        yield _text(store, export, slide, window, ids)


def _received(future: Future[_Part], cut: dict[int, Region]) -> Iterator[tuple[str, int]]:
    try:
        part = future.result()
    except BrokenExecutor as err:
        raise JobFailedError(
            "a process that helped to write the file died, perhaps because the memory was not "
            "enough; the annotations are unharmed, export them again"
        ) from err
    cut.update(part.cut)
    if part.number:
        yield part.text, part.number


def block_text(export: _Export, block: Region) -> _Part:
    """What one process does: the features that belong to a block."""
    store, slide = _opened(export)
    window, ids, cut = objects_of_block(store, export.task_name, block)
    return _Part(*_text(store, export, slide, window, ids), cut)


@lru_cache(maxsize=1)
def _opened(export: _Export) -> tuple[AnnotationStore, Slide | None]:
    store = AnnotationStore.open_read_only(Path(export.path))
    return store, None if export.slide is None else open_slide(Path(export.slide), mpp=export.mpp)


def _text(
    store: AnnotationStore,
    export: _Export,
    slide: Slide | None,
    window: Window,
    ids: NDArray[np.uint32],
) -> tuple[str, int]:
    writer = FeatureWriter(store, export.task_name, (0, 0))
    measurer = object_measurer(store, export.task_name, slide)
    found = [as_json(writer.feature(shape)) for shape in shapes_in(window, ids, measurer)]
    return SEPARATOR.join(found), len(found)
