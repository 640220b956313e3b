"""Writing on another thread: everything else waits for it, and is told in its own thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from napari_genselfdiff.annotation.store import ACCEPTED, MODEL, AnnotationStore
from napari_genselfdiff.errors import StoreError
from napari_genselfdiff.slides.geometry import Region
from tests.annotation.builders import disks, new_store, reopen

VIEW = Region(400, 400, 250, 300)


@pytest.fixture
def store(tmp_path: Path) -> AnnotationStore:
    return new_store(tmp_path)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def test_a_change_waits_for_the_one_before(
    store: AnnotationStore, pool: ThreadPoolExecutor
) -> None:
    may_go = threading.Event()

    def work() -> int:
        may_go.wait(5)
        window = disks(VIEW, (500, 500, 30))
        return store.write_prediction("Nuclei", window, model_hash="m").changed_pixels

    future = store.background.start(pool, work)
    assert store.read("Nuclei", VIEW).provenance.max() == 0
    threading.Timer(0.05, may_go.set).start()
    store.accept("Nuclei", VIEW)
    assert future.done()
    assert future.result() > 0
    now = store.read("Nuclei", VIEW)
    assert (now.provenance == ACCEPTED).all()
    assert now.ids[100, 100] > 0, "what was accepted is what the prediction said"
    assert [step.what for step in store.history] == ["Predict", "Accept view"]
    store.undo()
    assert (store.read("Nuclei", VIEW).provenance == MODEL).all()


def test_listeners_hear_of_it_in_their_own_thread(
    store: AnnotationStore, pool: ThreadPoolExecutor
) -> None:
    heard: list[tuple[int, Region]] = []
    store.events.changed.connect(
        lambda _task, region: heard.append((threading.get_ident(), region))
    )
    window = disks(VIEW, (500, 500, 30))
    future = store.background.start(
        pool, lambda: store.write_prediction("Nuclei", window, model_hash="m")
    )
    future.result()
    assert heard == []
    store.background.settle()
    assert heard == [(threading.get_ident(), VIEW)]
    store.background.settle()
    assert len(heard) == 1


def test_closing_waits_and_nothing_is_lost(
    store: AnnotationStore, pool: ThreadPoolExecutor
) -> None:
    window = disks(VIEW, (500, 500, 30))
    store.background.start(pool, lambda: store.write_prediction("Nuclei", window, model_hash="m"))
    store.close()
    again = reopen(Path(store.path))
    assert again.read("Nuclei", VIEW).ids[100, 100] > 0
    again.close()


def test_what_goes_wrong_is_told_to_who_began_it(
    store: AnnotationStore, pool: ThreadPoolExecutor
) -> None:
    def work() -> None:
        raise StoreError("the disk is full")

    future = store.background.start(pool, work)
    assert store.accept("Nuclei", VIEW) > 0
    with pytest.raises(StoreError, match="full"):
        future.result()
