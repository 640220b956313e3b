"""Reading a large slide: ours beside other readers, on the same file in the same run.

``python benchmarks/slides.py [--quick] [--json FILE]``; others are tifffile's zarr store and, where
they are installed, OpenSlide, tiffslide and fastslide.
"""

from __future__ import annotations

import importlib.util
import itertools
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from first_render import first_render
from report import Row, arguments, finish, has_screen, seconds, timing_row

from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide

TILE = 256
SIDE = 1024
RIVALS = ("tifffile.aszarr + zarr", "openslide", "tiffslide", "fastslide")
ROUNDED = {"fastslide": 3.0}  # mean difference of grey levels; its JPEG decoder is another one
Reader = Callable[[int, int], NDArray[np.uint8]]


def textures(rng: np.random.Generator, count: int = 48) -> list[bytes]:
    """Encoded tiles of synthetic tissue: pink with violet nuclei, JPEG quality 85."""
    yy, xx = np.mgrid[0:TILE, 0:TILE].astype(np.float32)
    encoded = []
    for _ in range(count):
        image = np.array([225, 170, 200]) + rng.normal(0, 9, (TILE, TILE, 1))
        for _ in range(40):
            cy, cx, ry, rx = *rng.uniform(0, TILE, 2), *rng.uniform(6, 11, 2)
            inside = ((yy - cy) / ry) ** 2 + ((xx - cx) / rx) ** 2 < 1
            image[inside] = np.array([105, 70, 140]) + rng.normal(0, 12, (int(inside.sum()), 1))
        pixels = np.clip(image, 0, 255).astype(np.uint8)
        encoded.append(bytes(imagecodecs.jpeg8_encode(pixels, level=85, subsampling="420")))
    return encoded


def write_slide(path: Path, side: int) -> None:
    """Write an Aperio-like pyramid of ``side`` pixels, tile by tile."""
    rng = np.random.default_rng(0)
    tiles = textures(rng)
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for level in itertools.count():
            here = side >> level
            number = (-(-here // TILE)) ** 2
            picks = rng.integers(0, len(tiles), number)
            tif.write(
                (tiles[int(i)] for i in picks),
                shape=(here, here, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(2, 2),
                compression="jpeg",
                subfiletype=1 if level else 0,
                description="Aperio benchmark|MPP = 0.25" if level == 0 else None,
                metadata=None,
            )
            if here <= 1024:
                return


def readers(path: Path, slide: Slide) -> Iterator[tuple[str, Reader]]:
    """Name and reader of a 1024 x 1024 region at (y, x), ours first."""
    yield "ours", lambda y, x: slide.read(Region(y, x, SIDE, SIDE))
    array: Any = zarr.open(tifffile.TiffFile(path).aszarr(level=0), mode="r")
    yield "tifffile.aszarr + zarr", lambda y, x: np.asarray(array[y : y + SIDE, x : x + SIDE])
    if has("openslide"):
        import openslide

        other = openslide.OpenSlide(str(path))
        yield "openslide", lambda y, x: rgb(other.read_region((x, y), 0, (SIDE, SIDE)))
    if has("tiffslide"):
        import tiffslide

        tiff = tiffslide.TiffSlide(path)
        yield "tiffslide", lambda y, x: rgb(tiff.read_region((x, y), 0, (SIDE, SIDE)))
    if has("fastslide"):
        import fastslide

        fast = fastslide.FastSlide.from_file_path(str(path))
        yield "fastslide", lambda y, x: rgb(fast.read_region((x, y), 0, (SIDE, SIDE)).numpy())


def has(library: str) -> bool:
    """Whether a library is installed."""
    return importlib.util.find_spec(library) is not None


def rgb(picture: Any) -> NDArray[np.uint8]:
    """A picture of any library without its opacity."""
    return np.asarray(picture)[..., :3]


@dataclass
class Clock:
    """Wall and processor milliseconds of every call of one reader."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def timed(self, reader: Reader, y: int, x: int) -> NDArray[np.uint8]:
        """Call the reader and note how long it took; all threads' processor time counts."""
        start, busy = time.perf_counter(), time.process_time()
        picture = reader(y, x)
        self.wall.append(1000 * (time.perf_counter() - start))
        self.processor.append(1000 * (time.process_time() - busy))
        return picture


def scaled_reader(slide: Slide) -> Reader:
    """Read at a downsample that is no level of the slide."""
    return lambda y, x: slide.read(Region(y, x, SIDE, SIDE), 1.9976)


def measure(path: Path, side: int, repeats: int) -> dict[str, Clock]:
    """Random unaligned reads, every reader at every place, in turns; all must agree."""
    rng = np.random.default_rng(1)
    clocks: dict[str, Clock] = defaultdict(Clock)
    with open_slide(path) as slide:
        all_readers = list(readers(path, slide))
        for turn in range(repeats):
            y, x = (int(v) for v in rng.integers(0, side - SIDE, 2))
            shift = turn % len(all_readers)
            pictures = {
                name: clocks[name].timed(reader, y, x)
                for name, reader in all_readers[shift:] + all_readers[:shift]
            }
            if not all(agree(pictures["ours"], *other) for other in pictures.items()):
                raise SystemExit(f"the readers disagree about the pixels at {y}, {x}")
            clocks["again"].timed(all_readers[0][1], y, x)
            clocks["scaled 1.9976"].timed(scaled_reader(slide), y // 3, x // 3)
    return clocks


def agree(ours: NDArray[np.uint8], name: str, theirs: NDArray[np.uint8]) -> bool:
    """Whether a reader gives the same pixels, as far as its decoder does."""
    return float(np.abs(ours.astype(np.int16) - theirs).mean()) <= ROUNDED.get(name, 0.0)


def read_rows(clocks: dict[str, Clock]) -> list[Row]:
    """Ours against the fastest other one, by wall and by processor time; then each by itself."""
    rivals = [name for name in clocks if name in RIVALS]
    rows = []
    for case, kind in (("read1024_ms", "wall"), ("read1024_cpu_ms", "processor")):
        times = {name: getattr(clock, kind) for name, clock in clocks.items()}
        medians = {name: statistics.median(times[name]) for name in rivals}
        fastest = min(medians, key=medians.__getitem__)
        against = (fastest, medians[fastest])
        rows.append(timing_row(f"{case}_vs_fastest", times["ours"], "ms", against=against))
        rows += [
            timing_row(f"{case} {name}", values, "ms")
            for name, values in times.items()
            if name != "ours"
        ]
    return rows


def first_view(path: Path) -> None:
    """What a viewer needs for its first picture: levels, the coarsest whole, one screenful."""
    with open_slide(path) as slide:
        levels = slide.levels
        np.asarray(levels[-1][:])
        middle = slide.shape[0] // 2
        np.asarray(levels[0][middle : middle + 1000, middle : middle + 1600])


def main() -> None:
    """Write the slide, read it, report."""
    options = arguments(__doc__ or "")
    side, repeats = (8_192, 15) if options.quick else (40_000, 60)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.svs"
        write_slide(path, side)
        rows = read_rows(measure(path, side, repeats))
        rows.append(timing_row(f"first_view_{side}_s", seconds(lambda: first_view(path), 5)))
        if has_screen():
            times = first_render(path, 3 if options.quick else 5)
            rows.append(timing_row(f"first_render_{side}_s", times))
        else:
            print("no display: the window's first render is left out (try xvfb-run -a)")
    finish("slides", rows, options.json)


if __name__ == "__main__":
    main()
