"""Work on annotations on a disk that fills up, until it is full; run by ``test_real_disks.py``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.annotation.builders import new_store, reopen
from tests.annotation.checks import check_store
from tests.annotation.strokes import work
from tests.annotation.test_journal import content, equal


def fill(folder: Path) -> None:
    """Work until the disk is full and beyond, undo, make room, and find everything at home."""
    ballast = folder / "ballast"
    store = new_store(folder, (720, 700))
    ballast.write_bytes(b"x" * 2**20)
    store.quota = 2**40
    notices: list[str] = []
    store.events.notice.connect(notices.append)
    seed = 0
    while store.kept_aside is None:
        work(store, seed)
        seed += 1
    assert "disk is full" in notices[-1], notices
    for more in range(seed, seed + 10):
        work(store, more)
    check_store(store)
    assert store.undo() is not None
    now, steps = content(store), [(op.what, op.undone) for op in store.history]
    ballast.unlink()
    store.close()  # there is room again, so everything goes home by itself
    store = reopen(store.path)
    assert store.kept_aside is None
    assert store.recovery is None
    assert equal(content(store), now)
    assert [(op.what, op.undone) for op in store.history] == steps
    check_store(store)
    print(f"full after {seed} steps")  # noqa: T201  (the test reads it)


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
