from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from napari_genselfdiff.prediction.side_by_side import side_by_side

PATIENCE_S = 20.0


@pytest.mark.parametrize("number", [1, 2, 3, 8])
def test_results_come_in_the_order_of_the_items(number: int) -> None:
    gates = [threading.Event() for _ in range(7)]

    def work(item: int) -> int:
        # Of two that run at once the later one ends first, except where nobody else could run.
        if number > 1 and item % 2 == 0 and item + 1 < len(gates):
            assert gates[item + 1].wait(PATIENCE_S)
        gates[item].set()
        return 10 * item

    assert list(side_by_side(work, range(7), number)) == [0, 10, 20, 30, 40, 50, 60]


def test_they_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=PATIENCE_S)  # nobody passes alone
    assert len(set(side_by_side(lambda _: meeting.wait(), range(3), 3))) == 3


def test_no_more_is_begun_than_can_be_used_soon() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = side_by_side(lambda item: item, items(), 2)
    assert next(results) == 0
    assert taken == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert taken == [0, 1, 2]


def test_closing_waits_for_what_runs_and_begins_nothing_more() -> None:
    begun, ended = [], []
    go = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            assert go.wait(PATIENCE_S)
        ended.append(item)
        return item

    results = side_by_side(work, range(9), 2)
    assert next(results) == 0
    threading.Timer(0.05, go.set).start()
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert sorted(begun) == sorted(ended)
    assert max(begun) <= 2
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("side-by-side")]


@pytest.mark.parametrize("number", [1, 2])
def test_an_error_reaches_the_caller(number: int) -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("tile 2")
        return item

    results = side_by_side(work, range(9), number)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="tile 2"):
        next(results)
