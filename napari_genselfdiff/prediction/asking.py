"""Ask the network about tiles, or the disk where it was asked before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.prediction.side_by_side import side_by_side
from napari_genselfdiff.prediction.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_genselfdiff.prediction.answers import TileAnswer, TileReader
    from napari_genselfdiff.prediction.cache import Shelf
    from napari_genselfdiff.prediction.network import Network, Probabilities
    from napari_genselfdiff.prediction.profile import Profile
    from napari_genselfdiff.prediction.tiles import Tile


def answers_for(
    tiles: list[Tile],
    reader: TileReader,
    network: Network,
    profile: Profile,
    shelf: Shelf | None,
    watch: Stopwatch,
) -> Iterator[list[TileAnswer]]:
    """Answers for tiles, those known already first, each group in the given order.

    Those a shelf does not know are read, computed and decided as many at once as the profile says,
    and then kept there. Their time is added to ``watch``.
    """
    missing = []
    for tile in tiles:
        known = None if shelf is None else shelf.get(tile)
        watch.lap("read")
        if known is None:
            missing.append(tile)
        else:
            decided = reader.decide([tile], known)
            watch.lap("instances")
            yield decided

    def ask(some: list[Tile]) -> tuple[Probabilities, list[TileAnswer], dict[str, float]]:
        own = Stopwatch()
        pixels = reader.read(some)
        own.lap("read")
        found = network(pixels)
        own.lap("network")
        decided = reader.decide(some, found)
        own.lap("instances")
        return found, decided, own.seconds

    groups = list(batches(missing, profile.batch))
    for some, (found, decided, seconds) in zip(
        groups, side_by_side(ask, groups, profile.parallel), strict=True
    ):
        watch.share(seconds, profile.parallel)
        for number, tile in enumerate(some):
            if shelf is not None:
                shelf.put(tile, found, number)
        watch.lap("keep")
        yield decided


def batches(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    """Tiles in the given order, ``size`` at a time."""
    for start in range(0, len(tiles), size):
        yield tiles[start : start + size]
