"""Damaged and hostile files of every kind: one clear error or pixels, never a crash or a hang.

A seeded corpus: each number gives a file to start from and how it is spoilt, so that a failure can
be repeated with ``-k "[17]"``. Every batch runs in a process of its own whose memory is bounded.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from napari_genselfdiff.annotation.exchange.incoming import import_file
from napari_genselfdiff.annotation.exchange.roi_in import ROI_MARK
from napari_genselfdiff.errors import GenSelfDiffError, SlideError
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import open_slide
from tests.annotation.builders import new_store
from tests.hostile import ATTACKS, READ, SIDE, a_million_vertices_of_a_tangle, attacks
from tests.slides.dicom import write_dicom
from tests.slides.scn import write_scn
from tests.slides.test_zarr_reader import write_ome
from tests.slides.vendors import write_bif, write_mrxs, write_ndpi, write_vms

LIMIT_S, LIMIT_BYTES = 10.0, 2 * 2**30
DEFAULT, SLOW, BATCH = 200, 2000, 250


def make_seeds(folder: Path) -> list[Path]:
    """One small sound file of each kind we read."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    tiled: dict[str, Any] = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
    kinds: dict[str, dict[str, Any]] = {
        "jpeg.tif": {**tiled, "compression": "jpeg"},
        "jpeg2000.tif": {**tiled, "compression": "jpeg2000"},
        "lzw.tif": {**tiled, "compression": "lzw"},
        "strips.tif": {"rowsperstrip": 16, "photometric": "rgb", "compression": "zlib"},
        "big.svs": {**tiled, "compression": "jpeg", "description": "Aperio |MPP = 0.5"},
    }
    for name, options in kinds.items():
        with tifffile.TiffWriter(folder / name, bigtiff=name == "big.svs") as tif:
            tif.write(rgb, **options)
            tif.write(rgb[::2, ::2], **{**options, "description": None})
    ome = {"axes": "YX", "PhysicalSizeX": 0.3, "PhysicalSizeXUnit": "µm"}
    grey = rgb[..., 0].astype(np.uint16)
    tifffile.imwrite(folder / "grey16.ome.tif", grey, tile=(64, 64), metadata=ome)
    tifffile.imwrite(folder / "labels.label.tif", grey, tile=(64, 64), compression="zlib")
    for suffix in ("png", "jpg", "bmp"):
        Image.fromarray(rgb).save(folder / f"a.{suffix}")
    write_scn(folder / "a.scn", rgb[:159, :159], corner=(6, 9), glass=(201, 210), nm=300)
    _vendors(folder, rgb)
    write_ome(folder / "a.zarr", [rgb.transpose(2, 0, 1)], "cyx")
    write_ome(folder / "b.zarr", [rgb.transpose(2, 0, 1)], "cyx", version="0.4")
    features = [outline(3), *(square(i) for i in range(20)), outline(90)]
    (folder / "a.geojson").write_text(json.dumps({"features": features}))
    (folder / "a.xml").write_text(_xml())
    element = {"type": "circle", "center": [50, 50, 0], "radius": 9, "group": "Nucleus"}
    (folder / "a.json").write_text(json.dumps({"annotation": {"elements": [element] * 20}}))
    return sorted(folder.iterdir())


def _vendors(folder: Path, rgb: NDArray[np.uint8]) -> None:
    """Scanner formats; those of several files in a folder each."""
    whole = np.ascontiguousarray(rgb[:128, :128])
    write_ndpi(folder / "a.ndpi", [rgb, np.ascontiguousarray(rgb[::2, ::2])], mpp=0.3)
    write_bif(folder / "a.bif", [whole], tile=64, mpp=0.3)
    for name in ("mrxs", "vms", "rle.dicom", "raw.dicom"):
        (folder / name).mkdir()
    write_mrxs(folder / "mrxs", [whole], tile=64, mpp=0.3)
    write_vms(folder / "vms", whole, whole)
    if importlib.util.find_spec("wsidicom"):
        write_dicom(folder / "rle.dicom", [rgb], tile=(64, 64), syntax="rle")
        write_dicom(folder / "raw.dicom", [rgb], tile=(64, 64), syntax="raw", sparse=True)


def square(at: int) -> dict[str, Any]:
    ring = [[at, at], [at + 9.5, at], [at + 9, at + 9], [at, at + 9], [at, at]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": {"label": "Nucleus"}}


def outline(at: int) -> dict[str, Any]:
    """A region of interest as we write it."""
    feature = square(at)
    about = {"name": f"ROI {at}", "metadata": {"genselfdiff": ROI_MARK}}
    return {**feature, "properties": about}


def _xml() -> str:
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((1, 1), (40, 2), (30, 50)))
    region = f'<Region Type="0" Text="Nucleus"><Vertices>{vertices}</Vertices></Region>'
    layer = f'<Annotation Name="a"><Regions>{region * 20}</Regions></Annotation>'
    return f"<Annotations>{layer}</Annotations>"


Spoil = Callable[[bytearray, np.random.Generator], bytes]


def flip_bits(data: bytearray, rng: np.random.Generator) -> bytes:
    for at in rng.integers(0, len(data), rng.integers(1, 20)):
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def flip_head(data: bytearray, rng: np.random.Generator) -> bytes:
    """Most of what a file says of itself is at its beginning."""
    for at in rng.integers(0, min(len(data), 600), rng.integers(1, 6)):
        data[at] = int(rng.integers(256))
    return bytes(data)


def cut(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[: rng.integers(0, len(data))])


def garble(data: bytearray, rng: np.random.Generator) -> bytes:
    at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 2000))
    data[at : at + n] = rng.integers(0, 256, len(data[at : at + n]), dtype=np.uint8).tobytes()
    return bytes(data)


def extremes(data: bytearray, rng: np.random.Generator) -> bytes:
    """Write 0, -1 or other limits over whole words: sizes, counts, offsets, links to themselves."""
    words = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0", b"\x08\0\0\0")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, max(len(data) // 2 - 4, 1))) * 2
        data[at : at + 4] = words[int(rng.integers(len(words)))]
    return bytes(data)


def numbers(data: bytearray, rng: np.random.Generator) -> bytes:
    """Put impossible values where a text has digits; other files lose some bytes there."""
    values = (b"NaN", b"-Infinity", b"1e999", b"-7", b"9" * 30, b'"x"', b"null", b"[[]]", b"\xe9")
    places = [i for i, byte in enumerate(data) if byte in b"0123456789"]
    for at in sorted(rng.choice(places, min(3, len(places)), replace=False), reverse=True):
        data[at : at + 1] = values[int(rng.integers(len(values)))]
    return bytes(data)


def repeat(data: bytearray, rng: np.random.Generator) -> bytes:
    at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 200))
    return bytes(data[:at]) + bytes(data[at : at + n]) * 500 + bytes(data[at:])


def recode(data: bytearray, _: np.random.Generator) -> bytes:
    return bytes(data).decode("latin-1").encode("utf-16")


SPOILS: tuple[Spoil, ...] = (
    flip_bits, flip_head, cut, garble, extremes, numbers, repeat, recode,
)  # fmt: skip


def spoil(seed: Path, folder: Path, number: int) -> tuple[Path, str]:
    """Copy a sound file and spoil it (of a folder, one file); the copy, and what was done."""
    rng = np.random.default_rng(number)
    how = SPOILS[number // 21 % len(SPOILS)] if number % 3 else SPOILS[rng.integers(len(SPOILS))]
    copy = folder / f"{number}{seed.name}"
    target = copy
    if seed.is_dir():
        shutil.copytree(seed, copy)
        files = sorted(file for file in copy.rglob("*") if file.is_file())
        target = files[int(rng.integers(len(files)))]
    else:
        shutil.copy(seed, copy)
    target.write_bytes(how(bytearray(target.read_bytes()), rng))
    return copy, f"{number}: {how.__name__} of {target.relative_to(folder)}"


def use(path: Path, store: Any) -> str:
    """Do with a file what a user would; what came of it in a word."""
    is_slide = not path.name.endswith((".geojson", ".json", ".xml", ".label.tif"))
    try:
        if is_slide:
            look_at(path)
        else:
            import_file(path, store, "Nuclei")
            store.go_to(None)
    except GenSelfDiffError as error:
        text = str(error)
        assert text, "an error without words"
        assert "\n" not in text, f"an error of several lines: {text!r}"
        return "refused"
    return "read" if is_slide else "imported"


def look_at(path: Path) -> None:
    named = [file for kind in ("*.mrxs", "*.vms") for file in path.glob(kind)]
    with open_slide(named[0] if named else path) as slide:
        slide.thumbnail(64)
        slide.read(Region(-5, -5, 200, 200))
        _ = slide.hash, slide.warnings
        for name in slide.associated_names:
            with suppress(SlideError):
                slide.associated(name)
        with suppress(SlideError):
            slide.in_colors("srgb").read(Region(0, 0, 40, 40))


Made = Iterable[tuple[Path, str]]


def spoilt(seeds: list[Path], folder: Path, first: int, last: int) -> Made:
    return (spoil(seeds[number % len(seeds)], folder, number) for number in range(first, last))


def run_batch(
    make: Callable[..., Made], arguments: tuple[Any, ...], folder: Path, pipe: Any
) -> None:
    """Use each file; report what went wrong. Memory beyond the limit is refused by the system."""
    (folder / "store").mkdir(parents=True)
    store = new_store(folder / "store", (SIDE, SIDE))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES, hard))
    for path, what in make(*arguments):
        pipe.send(("begins", what))
        began = time.process_time()
        try:
            outcome = use(path, store)
        except BaseException as error:  # noqa: BLE001  whatever it is, it is what we look for
            outcome = f"{type(error).__name__}: {error}"
        spent = time.process_time() - began
        if spent > LIMIT_S:
            outcome = f"{spent:.0f} s"
        pipe.send(("ends", outcome))
    pipe.send(("done", ""))


def check_batch(
    make: Callable[..., Made], arguments: tuple[Any, ...], folder: Path
) -> dict[str, list[str]]:
    """Files by outcome; fails at a crash, a hang, or an error that is none of ours."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=run_batch, args=(make, arguments, folder, theirs))
    process.start()
    theirs.close()
    outcomes: dict[str, list[str]] = {"imported": [], "read": [], "refused": []}
    what, wrong = "starting", []
    try:
        while True:
            if not ours.poll(120):  # the machine may be busy; the process counts its own seconds
                pytest.fail(f"hangs at {what}")
            kind, text = ours.recv()
            if kind == "done":
                break
            if kind == "begins":
                what = text
            elif text in outcomes:
                outcomes[text].append(what)
            else:
                wrong.append(f"{what}: {text}")
    except EOFError:
        pytest.fail(f"the process died at {what}")
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()
    assert not wrong, "\n".join(wrong)
    return outcomes


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_seeds(tmp_path_factory.mktemp("seeds"))


def test_sound_files_are_read(seeds: list[Path], tmp_path: Path) -> None:
    """Else the corpus would only show that everything is refused."""
    store = new_store(tmp_path, (SIDE, SIDE))
    assert {use(path, store) for path in seeds} == {"read", "imported"}
    store.close()


on_linux = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="bounds memory as Linux does"
)


@on_linux
def test_corpus(seeds: list[Path], tmp_path: Path) -> None:
    outcomes = check_batch(spoilt, (seeds, tmp_path, 0, DEFAULT), tmp_path / "work")
    assert sum(map(len, outcomes.values())) == DEFAULT
    assert min(len(outcomes["refused"]), len(outcomes["read"])) > DEFAULT // 10


@on_linux
def test_attacks(tmp_path: Path) -> None:
    outcomes = check_batch(attacks, (tmp_path, ATTACKS), tmp_path / "work")
    assert {*outcomes["read"], *outcomes["imported"]} == READ


@pytest.mark.slow
@on_linux
def test_a_million_vertices(tmp_path: Path) -> None:
    which = (a_million_vertices_of_a_tangle,)
    outcomes = check_batch(attacks, (tmp_path, which), tmp_path / "work")
    assert outcomes["imported"] == ["a_million_vertices_of_a_tangle"]


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("first", range(DEFAULT, DEFAULT + SLOW, BATCH))
def test_large_corpus(seeds: list[Path], tmp_path: Path, first: int) -> None:
    check_batch(spoilt, (seeds, tmp_path, first, first + BATCH), tmp_path / "work")
