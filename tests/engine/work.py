"""Tasks for the tests of the engine, run in its workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator
from typing import Any

import numpy as np

from napari_genselfdiff.engine.tasks import Context
from napari_genselfdiff.errors import ConfigError


def count(context: Context, up_to: int, pause: float) -> Generator[Any, None, Any]:
    for number in range(up_to):
        if context.should_stop():
            return None
        if context.should_conclude():
            return f"counted to {number} and was asked for it"
        yield number
        time.sleep(pause)
    return f"counted to {up_to}"


def who(context: Context) -> Generator[Any, None, Any]:
    yield from ()
    return os.getpid(), os.nice(0)


def array(context: Context, side: int) -> Generator[Any, None, Any]:
    yield np.ones((side, side), np.uint32)
    return np.arange(side * side, dtype=np.uint32).reshape(side, side)


def take(context: Context, values: Any) -> Generator[Any, None, Any]:
    yield from ()
    return int(values.sum())


def fail(context: Context, kind: str) -> Generator[Any, None, Any]:
    yield "before"
    if kind == "ours":
        raise ConfigError("the region is too small; choose a larger one")
    if kind == "memory":
        raise MemoryError
    if kind == "torch":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")
    if kind == "stop":
        raise StopIteration
    raise KeyError("nobody thought of this")


def unsendable(context: Context) -> Generator[Any, None, Any]:
    yield from ()
    return lambda: None


def die(context: Context) -> Generator[Any, None, Any]:
    yield "alive"
    os.kill(os.getpid(), signal.SIGKILL)


def stubborn(context: Context, seconds: float) -> Generator[Any, None, Any]:
    yield os.getpid()
    time.sleep(seconds)
    return "finished all the same"


def busy(context: Context) -> Generator[Any, None, Any]:
    """Compute for ever without looking up."""
    yield os.getpid()
    while True:
        sum(range(100_000))
