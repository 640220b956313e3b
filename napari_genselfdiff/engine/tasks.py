"""What workers can do. Every task is a generator: partial results are yielded, the result returned.

Tasks run in the worker's process; heavy imports wait until one of them needs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.learning.refine import RefineRequest, RefineResult
    from napari_genselfdiff.prediction.cache import Shelf, TileCache
    from napari_genselfdiff.prediction.measuring import Measured
    from napari_genselfdiff.prediction.plan import Tissue
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.prediction.region import RegionDone
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.color_names import Colors
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import Slide

Result = TypeVar("Result")
_KEPT = 2  # slides and models that stay open: the ones in use and the ones before


class Context:
    """What a worker keeps between jobs: open slides, loaded models, the profile.

    ``tell`` sends a partial result of a job that cannot yield it where it is.
    """

    def __init__(self) -> None:
        self.should_stop: Callable[[], bool] = lambda: False
        self.should_conclude: Callable[[], bool] = lambda: False
        self.tell: Callable[[Any], None] = _unheard
        self._slides: dict[Any, Slide] = {}
        self._models: dict[Any, tuple[Model, Segmenter]] = {}
        self._profile: Profile | None = None
        self._cache: TileCache | None = None

    def slide(self, path: Path, mpp: float | None, colors: Colors = "stored") -> Slide:
        """The slide, opened once; opened again when the file has changed."""
        from napari_genselfdiff.slides.slide import open_slide

        key = (str(path), mpp, _stamp(path))
        found = self._slides.pop(key, None) or open_slide(path, mpp=mpp)
        self._slides[key] = found  # the newest last
        while len(self._slides) > _KEPT:
            self._slides.pop(next(iter(self._slides))).close()
        return found.in_colors(colors)

    def model(self, path: Path) -> tuple[Model, Segmenter]:
        """The model and its network, loaded once; loaded again when its files have changed."""
        from napari_genselfdiff.registry.folder import CARD_FILE, WEIGHTS_FILE, read_model

        key = (str(path), _stamp(path / CARD_FILE), _stamp(path / WEIGHTS_FILE))
        found = self._models.pop(key, None)
        if found is None:
            model = read_model(path, verify=False)
            found = model, model.load()
        self._models[key] = found
        while len(self._models) > _KEPT:
            self._models.pop(next(iter(self._models)))
        return found

    def profile(self, wanted: Profile | None) -> Profile:
        """The profile asked for, or this machine's."""
        if wanted is not None:
            return wanted
        if self._profile is None:
            from napari_genselfdiff.prediction.profile import default_profile

            self._profile = default_profile()
        return self._profile

    def shelf(self, slide: Slide, model: Model, profile: Profile) -> Shelf:
        """Where the answers for a slide's tiles are kept."""
        if self._cache is None:
            from napari_genselfdiff.prediction.cache import TileCache
            from napari_genselfdiff.registry.home import cache_home

            self._cache = TileCache(cache_home() / "tiles")
        return self._cache.shelf(slide.hash, slide.mpp, model.hash, model.card, profile)

    def close(self) -> None:
        """Close the slides."""
        for slide in self._slides.values():
            slide.close()
        self._slides.clear()


def predict(
    context: Context,
    slide_path: Path,
    mpp: float | None,
    model_path: Path,
    region0: Region,
    profile: Profile | None,
) -> Generator[Any, None, RegionDone | None]:
    """Segment a region; yields TileDone, returns RegionDone."""
    from napari_genselfdiff.prediction.region import RegionDone, predict_region

    model, segmenter = context.model(model_path)
    slide = context.slide(slide_path, mpp, model.card.colors)
    chosen = context.profile(profile)
    steps = predict_region(
        slide,
        model,
        segmenter,
        region0,
        chosen,
        shelf=context.shelf(slide, model, chosen),
        should_stop=context.should_stop,
    )
    return (yield from _result(steps, RegionDone))


def measure(
    context: Context,
    store_path: Path,
    aside: Path | None,
    task_name: str,
    slide_path: Path,
    mpp: float | None,
    threshold: float | None,
) -> Generator[Any, None, Measured | None]:
    """Measure a task; yields MeasuringDone, returns Measured."""
    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.prediction.measuring import Measured, measure_task

    slide = context.slide(slide_path, mpp)
    store = AnnotationStore.open_read_only(store_path, aside)
    steps = measure_task(
        store, task_name, slide, threshold=threshold, should_stop=context.should_stop
    )
    return (yield from _result(steps, Measured))


def refine(
    context: Context, request: RefineRequest, profile: Profile | None
) -> Generator[Any, None, RefineResult | None]:
    """Refine a model; yields RefineProgress and a RefinePreview, returns RefineResult."""
    import torch

    from napari_genselfdiff.learning import refine as learning

    chosen = context.profile(profile)
    torch.set_num_threads(chosen.cores)
    steps = learning.refine(
        request,
        chosen,
        should_stop=context.should_stop,
        should_conclude=context.should_conclude,
    )
    return (yield from _result(steps, learning.RefineResult))


def _result(steps: Iterable[Any], kind: type[Result]) -> Generator[Any, None, Result | None]:
    """Yield steps as they come but the one of a kind, which is the result; None without one."""
    result: Result | None = None
    for step in steps:
        if isinstance(step, kind):
            result = step
        else:
            yield step
    return result


def tissue(
    context: Context, slide_path: Path, mpp: float | None, threshold: float | None
) -> Generator[Any, None, tuple[Tissue, float]]:
    """Find the tissue; returns it and the threshold, the one found where none was given."""
    from napari_genselfdiff.prediction.plan import find_tissue
    from napari_genselfdiff.slides.tissue import tissue_threshold

    yield from ()
    found = find_tissue(context.slide(slide_path, mpp), threshold)
    return found, tissue_threshold(found.picture) if threshold is None else threshold


def warm_up(
    context: Context,
    slide_path: Path | None,
    mpp: float | None,
    model_path: Path | None,
    profile: Profile | None,
) -> Generator[Any, None, None]:
    """Do beforehand what the first Predict would have to wait for; returns nothing."""
    import numpy as np

    from napari_genselfdiff.prediction.network import Network

    chosen = context.profile(profile)
    if context.should_stop():
        return
    if slide_path is not None:
        context.slide(slide_path, mpp)  # in other colours it is the same open file
    if model_path is not None and not context.should_stop():
        model, segmenter = context.model(model_path)
        side = model.card.tile
        Network(segmenter, chosen)(np.full((1, side, side, 3), 230, np.uint8))
    yield from ()


def _unheard(_value: Any) -> None:
    """Tell nobody."""


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file, to notice another one; None if it is not there."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
