"""Telling how far an export is, and stopping it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Watch = Callable[[float], None]
    """Hears how far the work is, 0..1; what it raises ends the work, and nothing is written."""

T = TypeVar("T")


def nobody(_share: float) -> None:
    """Let the work go on, told to nobody."""


def watched(items: Sequence[T], watch: Watch) -> Iterator[T]:
    """Give one item after the other, and tell before each how far that is."""
    for number, item in enumerate(items):
        watch(number / len(items))
        yield item


def part_of(watch: Watch, low: float, high: float) -> Watch:
    """Tell of one part of the work, from ``low`` to ``high``."""
    return lambda share: watch(low + share * (high - low))
