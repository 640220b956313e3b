"""Batches made ahead: the same ones, a bounded number, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest
import torch

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.data import Batch, PatchConfig, PatchSampler
from napari_genselfdiff.learning.prefetch import Prefetch
from tests.learning import tiny


def numbered(indices: Sequence[int]) -> Batch:
    return Batch(torch.tensor(list(indices)), tuple(indices))


class Watched:
    """Makes batches and notes what was asked for, and by whom."""

    def __init__(self, wait: threading.Event | None = None) -> None:
        self.made: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self._wait = wait

    def __call__(self, indices: Sequence[int]) -> Batch:
        if self._wait is not None:
            assert self._wait.wait(10)
        self.made.append(tuple(indices))
        self.threads.add(threading.get_ident())
        return numbered(indices)


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")


def patch_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("patches")]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_those_of_the_wrapped_function(workers: int) -> None:
    sampler = PatchSampler([tiny.source(1), tiny.source(2)], PatchConfig(size=32), 0)
    with Prefetch(sampler.batch, total=26, workers=workers) as ahead:
        for start in range(0, 26, 4):
            indices = range(start, min(start + 4, 26))
            found, wanted = ahead(indices), sampler.batch(indices)
            assert found.indices == wanted.indices
            assert torch.equal(found.images, wanted.images)


def test_work_is_done_ahead_and_on_other_threads() -> None:
    watched = Watched()
    with Prefetch(watched, total=100, workers=1, ahead=3) as ahead:
        ahead(range(4))
        until(lambda: len(watched.made) == 4)
        assert watched.made == [(i, i + 1, i + 2, i + 3) for i in (0, 4, 8, 12)]
        ahead(range(4, 8))
        until(lambda: len(watched.made) == 5)
    assert threading.get_ident() not in watched.threads


def test_each_thread_takes_one_core_and_the_caller_keeps_its_own() -> None:
    """Two threads of arithmetic per worker would wait for each other while the network computes."""
    mine, theirs = torch.get_num_threads(), []

    def make(indices: Sequence[int]) -> Batch:
        theirs.append(torch.get_num_threads())
        return numbered(indices)

    with Prefetch(make, total=100, workers=2) as ahead:
        ahead(range(4))
    assert set(theirs) == {1}
    assert torch.get_num_threads() == mine


def test_nothing_past_the_end_is_made() -> None:
    watched = Watched()
    with Prefetch(watched, total=6, ahead=5) as ahead:
        assert ahead(range(4)).indices == (0, 1, 2, 3)
        assert ahead(range(4, 6)).indices == (4, 5)
    assert watched.made == [(0, 1, 2, 3), (4, 5)]


def test_the_share_of_one_of_several_processes_is_followed() -> None:
    """Process 1 of 2 at batch 8: 4-7, 12-15, 20-23; after two batches the guess is right."""
    watched = Watched()
    with Prefetch(watched, total=64, ahead=1) as ahead:
        for start in (4, 12, 20, 28):
            assert ahead(range(start, start + 4)).indices[0] == start
        until(lambda: (36, 37, 38, 39) in watched.made)
    assert watched.made.count((20, 21, 22, 23)) == 1
    assert watched.made.count((28, 29, 30, 31)) == 1


def test_a_jump_gives_the_right_batch() -> None:
    with Prefetch(numbered, total=1000) as ahead:
        for start in (0, 500, 8, 8, 300):
            assert ahead(range(start, start + 4)).indices == tuple(range(start, start + 4))


def test_memory_is_bounded_however_slow_the_network_is() -> None:
    watched = Watched()
    with Prefetch(watched, total=10**6, workers=2, ahead=3) as ahead:
        ahead(range(2))
        time.sleep(0.2)
        assert len(watched.made) == 4


def test_an_error_comes_out_where_its_batch_is_asked_for() -> None:
    def make(indices: Sequence[int]) -> Batch:
        if 5 in indices:
            raise ConfigError("sample 5 cannot be made")
        return numbered(indices)

    with Prefetch(make, total=100) as ahead:
        ahead(range(4))
        with pytest.raises(ConfigError, match="sample 5"):
            ahead(range(4, 8))


def test_closing_drops_what_waits_and_ends_the_threads() -> None:
    before, gate = len(patch_threads()), threading.Event()
    watched = Watched(gate)
    ahead = Prefetch(watched, total=1000, workers=1, ahead=4)
    asked = threading.Thread(target=ahead, args=[range(4)])
    asked.start()
    until(lambda: len(patch_threads()) > before)
    gate.set()
    asked.join()
    ahead.close()
    assert len(patch_threads()) == before
    assert len(watched.made) <= 5
