"""What a worker of a whole-slide run does, wherever it is: one function, plain values in and out.

A worker may run another version of this package than the owner of the run, so nothing but plain
values crosses, and the version is looked at first.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari_genselfdiff
from napari_genselfdiff.engine.spawn import settle_in
from napari_genselfdiff.errors import ConfigError, ModelFileError, SlideError

if TYPE_CHECKING:
    from napari_genselfdiff.annotation.runs import RunFolder
    from napari_genselfdiff.prediction.whole_slide import SlideWork, Spent
    from napari_genselfdiff.slides.slide import Slide

_KEPT = 2  # runs a worker stays prepared for


@dataclass(slots=True)
class _Open:
    work: SlideWork
    slide: Slide
    run: RunFolder
    stamp: tuple[int, int]


_open: OrderedDict[str, _Open] = OrderedDict()
_lock = threading.Lock()


def work(spec: dict[str, Any]) -> dict[str, Any]:
    """Do one task of a run.

    Parameters
    ----------
    spec
        From :meth:`~napari_genselfdiff.engine.slide_run.SlideRun`: which run, slide, model and
        profile, and either ``"predict"`` or ``"decide"`` with its tiles.

    Returns
    -------
    dict
        ``tiles``, ``objects``, ``stopped`` and ``seconds`` by step.

    Raises
    ------
    ConfigError
        If this worker has another version of the package.
    ModelFileError, SlideError
        If the model or the slide is not there, is another one, or has changed.
    StoreError
        If the disk refuses.
    """
    if spec.get("version") != napari_genselfdiff.__version__:
        raise ConfigError(
            f"the worker on {socket.gethostname()} has napari-genselfdiff "
            f"{napari_genselfdiff.__version__}, but the run was begun with {spec.get('version')}; "
            f"install that version there and run the same command again to go on"
        )
    with _lock:  # a worker with several threads does one task after the other
        there = _prepared(spec)
        spent = _do(there, spec)
        _check_unchanged(there, spec)
    return {
        "tiles": spent.tiles,
        "objects": spent.objects,
        "stopped": spent.stopped,
        "seconds": spent.seconds,
    }


def forget() -> None:
    """Close every slide this process keeps open for tasks."""
    with _lock:
        while _open:
            _open.popitem()[1].slide.close()


def _do(there: _Open, spec: dict[str, Any]) -> Spent:
    from napari_genselfdiff.slides.geometry import Region

    places = [(int(row), int(column)) for row, column in spec["places"]]
    if spec["what"] == "predict":
        return there.work.predict(places, lambda: there.run.should_stop)
    return there.work.decide(spec["block"], Region(*spec["area"]), Region(*spec["around"]), places)


def _prepared(spec: dict[str, Any]) -> _Open:
    """Slide, model and network for a run, opened once."""
    key = spec["run"]
    found = _open.get(key)
    if found is None:
        found = _opened(spec)
        _open[key] = found
        while len(_open) > _KEPT:
            _open.popitem(last=False)[1].slide.close()
    _open.move_to_end(key)
    return found


def _opened(spec: dict[str, Any]) -> _Open:
    import torch

    from napari_genselfdiff.annotation.runs import RunFolder
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.prediction.whole_slide import SlideWork
    from napari_genselfdiff.registry.folder import read_model
    from napari_genselfdiff.slides.geometry import Region
    from napari_genselfdiff.slides.slide import open_slide

    run = RunFolder(Path(spec["run"]))
    if not run.path.is_dir():
        raise ConfigError(
            f"the worker on {socket.gethostname()} does not see the folder {run.path}; slides, "
            "annotations and models must lie on a drive that all workers share"
        )
    profile = Profile.from_dict(spec["profile"])
    torch.set_num_threads(profile.threads)
    try:
        model = read_model(Path(spec["model"]), verify=False)
    except ModelFileError as err:
        raise ModelFileError(
            f"the worker on {socket.gethostname()} does not have the model: {err}"
        ) from err
    if model.hash != spec["model_hash"]:
        raise ModelFileError(
            f"the model {model.path} on {socket.gethostname()} is another one "
            f"({model.hash[:12]}) than the run was begun with ({spec['model_hash'][:12]})"
        )
    stamp = slide_stamp(Path(spec["slide"]))
    slide = open_slide(Path(spec["slide"]), mpp=spec["mpp"], colors=spec["colors"])
    if slide.hash != spec["slide_hash"]:
        slide.close()
        raise SlideError(_changed(spec))
    work = SlideWork(
        slide,
        model,
        model.load(),
        profile,
        run,
        Region(*spec["region"]),
        float(spec["store_downsample"]),
    )
    return _Open(work, slide, run, stamp)


def _check_unchanged(there: _Open, spec: dict[str, Any]) -> None:
    """Refuse what was computed if the slide's file is not the same any more."""
    if slide_stamp(Path(spec["slide"])) != there.stamp:
        _open.pop(spec["run"], None)
        there.slide.close()
        raise SlideError(_changed(spec))


def slide_stamp(path: Path) -> tuple[int, int]:
    """Size and time of change of a slide; SlideError if it is gone."""
    try:
        found = path.stat()
    except OSError as err:
        raise SlideError(
            f"{path.name} is gone: {err.strerror or err}. What was finished is kept; connect its "
            "drive and run the same command again to go on"
        ) from err
    return found.st_size, found.st_mtime_ns


def _changed(spec: dict[str, Any]) -> str:
    return (
        f"{Path(spec['slide']).name} has changed since the run began; put the file back to go on, "
        "or discard the run (--fresh) and start anew"
    )


def begin(niceness: int) -> None:
    """Prepare a local worker process: it gives way to others and ends with its owner."""
    import multiprocessing

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch reads it when it is imported
    settle_in(niceness)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)  # nobody wants a result any more

    threading.Thread(target=watch, name="watch-owner", daemon=True).start()
