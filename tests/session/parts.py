"""A session without worker processes: jobs end when the test says so."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np

from napari_genselfdiff.engine.job import Job
from napari_genselfdiff.learning.before_after import BeforeAfter
from napari_genselfdiff.learning.gate import Verdict
from napari_genselfdiff.learning.refine import RefineResult
from napari_genselfdiff.learning.verdict_words import Decision
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.region import RegionDone, TileDone
from napari_genselfdiff.registry.folder import Model, write_model
from napari_genselfdiff.registry.registry import Registry
from napari_genselfdiff.session.session import Session
from napari_genselfdiff.slides.geometry import Region
from tests.registry.networks import network, task

Disk = tuple[float, float, float]


class Inline(Executor):
    """Does work at once, in the thread that asks for it."""

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(work(*arguments, **named))
        except Exception as err:  # noqa: BLE001  (a future carries whatever was raised)
            future.set_exception(err)
        return future


class FakeEngine:
    """Takes jobs and leaves them lying; remembers what was asked."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.concluded: list[Job] = []
        self.requests: list[tuple[Any, ...]] = []
        self.closed = False

    def _job(self, title: str, *request: Any) -> Job:
        self.requests.append((title, *request))
        job = Job(
            len(self.jobs) + 1,
            title,
            lambda job: job.on_end("cancelled"),
            lambda _: None,
            self.concluded.append,
        )
        self.jobs.append(job)
        return job

    def predict(self, *request: Any) -> Job:
        return self._job("Predict", *request)

    def measure(self, *request: Any) -> Job:
        return self._job("Measure", *request)

    def export(self, *request: Any) -> Job:
        return self._job("Export", *request)

    def refine(self, *request: Any) -> Job:
        return self._job("Refine", *request)

    def warm_up(self, *request: Any) -> None:
        self.requests.append(("Warm-up", *request))

    def poll(self) -> None:
        """Nothing comes by itself."""

    def close(self) -> None:
        self.closed = True


def make_model(folder: Path, seed: int = 0, *, classes: int = 1, **fields: Any) -> Model:
    """Write a tiny model, of the task Nuclei unless ``fields`` names another, into this folder."""
    values = {"task": task(), "mpp_range": (0.25, 0.5), "tile": 128, "halo": 16, **fields}
    return write_model(folder, values, network(seed, classes))


def make_session(folder: Path, bundled: Path) -> tuple[Session, FakeEngine]:
    """A session whose jobs the test drives, with the models of ``bundled`` as the shipped ones."""
    engine = FakeEngine()
    registry = Registry(folder / "home", bundled=bundled)
    session = Session(registry, lambda: engine, Profile())  # type: ignore[arg-type, return-value]
    session.predicting.pool = Inline()
    return session, engine


def region_done(region: Region, *disks: Disk, downsample: float = 1.0) -> RegionDone:
    """What a model says that sees circles (y, x, radius)."""
    classes = np.zeros(region.shape, np.uint8)
    objects = np.zeros(region.shape, np.uint32)
    rows, columns = np.ogrid[region.y : region.y1, region.x : region.x1]
    for number, (y, x, radius) in enumerate(disks, start=1):
        inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        classes[inside], objects[inside] = 1, number
    confidence = np.ones(region.shape, np.float16)
    return RegionDone(region, downsample, 0.25, classes, objects, confidence, {"total": 0.4})


def tile_done(region: Region, done: int = 1, total: int = 4) -> TileDone:
    """A tile in which everything is an object."""
    return TileDone(region, 1.0, np.ones(region.shape, np.uint8), done, total, 2.0)


def predict(session: Session, engine: FakeEngine, region0: Region, *disks: Disk) -> None:
    """Predict circles from the request to the annotations."""
    session.predicting.start(region0)
    job = engine.jobs[-1]
    job.on_end("done", region_done(region0, *disks))
    session.poll()


def verdict(decision: Decision = "better") -> Verdict:
    """A verdict as the gate gives it."""
    return Verdict(
        decision=decision,
        sentence=f"{decision}: on corrections kept aside, Dice 0.61 → 0.79.",
        old=0.61,
        new=0.79,
        interval=(0.1, 0.26),
        classes={"Nucleus": (0.61, 0.79)},
        keep=(0.84, 0.84, -0.002),
        blocks=12,
    )


def refine_result(model: Model, decision: Decision = "better") -> RefineResult:
    """What a refine gives whose picture shows one object, found afterwards only."""
    image = np.full((96, 96, 3), 220, np.uint8)
    truth = np.zeros((96, 96), np.uint8)
    truth[30:60, 30:60] = 1
    known = np.zeros((96, 96), bool)
    known[16:80, 16:80] = True
    picture = BeforeAfter(image, truth, known, np.zeros_like(truth), truth)
    return RefineResult(model.path, model.hash, verdict(decision), picture, 31.0, 480, 3)
