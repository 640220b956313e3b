"""Work on several items at once, with the results in the items' order.

A processor's cores are used best by one thread a tile: threads that share a tile wait for each
other a few hundred times in it, and what lies between two tiles keeps only one of them busy.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], number: int
) -> Iterator[Result]:
    """Results of ``work``, in the order of the items.

    Parameters
    ----------
    work
        Called in threads, ``number`` at a time; in the caller's own where that is 1. An error of
        its ends the iterator.
    items
        Taken as they are needed: at most ``number`` + 1 are begun whose results were not asked for.
    number
        Of threads.

    Notes
    -----
    Closing the iterator waits for what runs and begins nothing more.
    """
    if number == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(number, "side-by-side")
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > number:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
