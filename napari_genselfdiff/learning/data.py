"""Training patches cut on demand: the same index always gives the same patch."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from napari_genselfdiff.errors import ConfigError, SlideError
from napari_genselfdiff.learning.augment import (
    Placement,
    cut_image,
    resample,
)
from napari_genselfdiff.learning.camera import CameraJitter, Draw, draw_look, vary
from napari_genselfdiff.learning.jitter import DEFAULT_JITTER, StainJitter
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


InputRange = Literal["signed", "unit"]

_MAX_TRIES = 8
_GLASS, _BLACK = 230.0, 15.0  # of 255; mean of a patch with nothing in it
_FAILURES_TOLD = 10
_log = logging.getLogger(__name__)


class Pending(NamedTuple):
    """What is left to do to uint8 patches: stain as drawn per sample (or None), and scaling."""

    draws: tuple[Draw, ...] | None
    input_range: InputRange

    def part(self, start: int, stop: int) -> Pending:
        """The same for samples ``start`` to ``stop``."""
        return self._replace(draws=None if self.draws is None else self.draws[start:stop])

    def finish(self, images: Tensor) -> Tensor:
        """Float patches ``(B, 3, H, W)`` in the input range from uint8 ones, on their device."""
        values = images.float()
        if self.draws is not None:
            values = vary(values, self.draws)
        if self.input_range == "unit":
            return values.div_(255)
        return values.div_(127.5).sub_(1)


class Batch(NamedTuple):
    """Patches and what is known about them.

    ``images`` (B, 3, H, W) in [-1, 1] (or the recipe's [0, 1]); ``classes`` (B, H, W) int64,
    0 = background; ``distance`` (B, H, W) in [0, 1]; ``known`` (B, H, W) bool; ``indices`` the
    global sample indices. Unlabelled batches have no classes, distance or known pixels.

    With ``pending``, images are uint8 in [0, 255] and `to` finishes them on the device.
    """

    images: Tensor
    indices: tuple[int, ...]
    classes: Tensor | None = None
    distance: Tensor | None = None
    known: Tensor | None = None
    pending: Pending | None = None

    def part(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` of this batch."""
        pending = None if self.pending is None else self.pending.part(start, stop)
        cut = [
            None if v is None else v[start:stop] for v in (self.classes, self.distance, self.known)
        ]
        images, indices = self.images[start:stop], self.indices[start:stop]
        return Batch(images, indices, cut[0], cut[1], cut[2], pending)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device, finished, images in channels-last order."""
        images = self.images.to(device)
        if self.pending is not None:
            images = self.pending.finish(images)
        images = images.contiguous(memory_format=torch.channels_last)
        rest = [
            None if v is None else v.to(device) for v in (self.classes, self.distance, self.known)
        ]
        return Batch(images, self.indices, rest[0], rest[1], rest[2])


class Labels(NamedTuple):
    """Truth of one image: classes uint8, normalised distance float32, known bool, all (H, W)."""

    classes: NDArray[np.uint8]
    distance: NDArray[np.float32]
    known: NDArray[np.bool_]


Truth = tuple[Tensor, Tensor, Tensor]  # classes, distance and known pixels of one patch


class Source(Protocol):
    """One picture that patches can be cut from; SlideError from any of it skips the picture."""

    stretch_x: float
    weight: float

    @property
    def name(self) -> str: ...

    @property
    def mpp(self) -> float | None: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def spot(self, rng: np.random.Generator) -> tuple[float, float] | None:
        """A random place (y, x) worth learning from, or None: anywhere."""
        ...

    def downsample_for(self, zoom: float) -> float:
        """Downsample of the grid to read for patch pixels of ``zoom`` of the picture's."""
        ...

    def window(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        """Pixels of a region of that grid that lies inside the picture, ``(h, w, 3)``."""
        ...

    def labels(self) -> Labels | None: ...


@dataclass
class ArraySource:
    """A picture that is already in memory."""

    image: NDArray[np.uint8]
    mpp: float | None
    truth: Labels | None = None
    stretch_x: float = 1.0
    weight: float = 1.0
    name: str = "picture in memory"

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def spot(self, rng: np.random.Generator) -> tuple[float, float] | None:
        return None

    def downsample_for(self, zoom: float) -> float:
        return 1.0

    def window(self, region: Region, downsample: float = 1.0) -> NDArray[np.uint8]:
        return self.image[region.slices]

    def labels(self) -> Labels | None:
        return self.truth


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """What patches look like: side in pixels, range of µm/px, how much they are varied.

    ``stride`` puts patches on a fixed grid of that many patch pixels inside the picture, as the
    released code cuts them; None puts them anywhere, in slides on tissue. ``mpp_range`` is for
    pictures that say their pixel size, ``free_zoom`` (picture pixels per patch pixel) for others;
    none is enlarged more than ``max_zoom`` times. ``skip_glass`` passes over empty and black
    places. ``flips`` mirrors patches, along both axes where ``rotate`` is off. ``input_range`` is
    [-1, 1] (``signed``) or the released code's [0, 1]. ``camera`` varies brightness, contrast and
    sharpness as that code does; it takes the place of ``stain``.
    """

    size: int = 256
    stride: int | None = None
    mpp_range: tuple[float, float] = (0.25, 0.5)
    free_zoom: tuple[float, float] = (0.7, 1.4)
    max_zoom: float = 4.0
    rotate: bool = True
    flips: bool = True
    stain: StainJitter | None = DEFAULT_JITTER
    camera: CameraJitter | None = None
    skip_glass: bool = True
    input_range: InputRange = "signed"

    def __post_init__(self) -> None:
        """Refuse sizes and ranges that no patch can have."""
        if self.size < 8:
            raise ConfigError(f"patch.size must be 8 or more, got {self.size}")
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"patch.stride must be 1 or more, or left out, got {self.stride}")
        if self.stain is not None and self.camera is not None:
            raise ConfigError('patch.camera takes the place of the stain; pass patch.stain="none"')
        for name in ("mpp_range", "free_zoom"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"patch.{name} must be (low, high) above 0, got {(low, high)}")


class PatchSampler:
    """Cuts patch number ``index``: which picture, where and how depend on (seed, index) alone.

    A picture that cannot be read is reported once and passed over: the index then goes on with
    its own stream of random numbers, so that every run over the same files has the same patches.
    """

    def __init__(self, sources: Sequence[Source], config: PatchConfig, seed: int) -> None:
        if not sources:
            raise ConfigError("there is no image to train on; check the data list of the recipe")
        self.sources, self.config, self.seed = list(sources), config, seed
        self.skipped: dict[str, str] = {}
        self._told: dict[str, object] = {}
        weights = np.array([source.weight for source in sources], np.float64)
        self._edges = np.cumsum(weights / weights.sum())

    def batch(self, indices: Sequence[int]) -> Batch:
        """Patches of these global sample indices."""
        samples = [self.sample(index) for index in indices]
        finished = [
            Pending(None if draw is None else (draw,), self.config.input_range).finish(image[None])
            for image, draw, _ in samples
        ]
        return _gathered(torch.cat(finished), indices, [truth for _, _, truth in samples])

    def raw_batch(self, indices: Sequence[int]) -> Batch:
        """The same patches as uint8, to be finished by ``Batch.to`` where the network is."""
        samples = [self.sample(index) for index in indices]
        draws = tuple(draw for _, draw, _ in samples if draw is not None)
        batch = _gathered(
            torch.stack([image for image, _, _ in samples]),
            indices,
            [truth for _, _, truth in samples],
        )
        return batch._replace(pending=Pending(draws or None, self.config.input_range))

    def sample(self, index: int) -> tuple[Tensor, Draw | None, Truth | None]:
        """Image ``(3, H, W)`` uint8, its stain, and (classes, distance, known) of one index.

        Raises
        ------
        ConfigError
            If none of the pictures can be used; says why.
        """
        for source, rng in self._tries(index):
            try:
                return self._cut_from(source, rng)
            except (SlideError, OSError) as error:
                self._skip(source, error)
        raise ConfigError(self._nothing_left())

    def _tries(self, index: int) -> Iterator[tuple[Source, np.random.Generator]]:
        """Pictures drawn by weight; after some, all the others in order."""
        number = 0
        for attempt in range(_MAX_TRIES):
            rng = np.random.default_rng([self.seed, index, attempt])
            number = int(np.searchsorted(self._edges, rng.random(), side="right"))
            number = min(number, len(self.sources) - 1)
            yield self.sources[number], rng
        for step in range(1, len(self.sources)):
            rng = np.random.default_rng([self.seed, index, _MAX_TRIES + step])
            yield self.sources[(number + step) % len(self.sources)], rng

    def _cut_from(
        self, source: Source, rng: np.random.Generator
    ) -> tuple[Tensor, Draw | None, Truth | None]:
        truth = source.labels()
        for _ in range(_MAX_TRIES):
            placement = self._place(source, rng)
            image, top, left, window = self._cut(source, placement)
            # whole numbers add up to the same on any machine
            mean = int(image.numpy().sum(dtype=np.int64)) / image.numel()
            if not self.config.skip_glass or _BLACK < mean < _GLASS:
                break
        else:
            if truth is None:
                raise SlideError(f"{source.name}: nothing but glass or black where it was read")
        cut = None if truth is None else self._cut_labels(truth, placement, top, left, window)
        return image, draw_look(self.config.stain, self.config.camera, rng), cut

    def _place(self, source: Source, rng: np.random.Generator) -> Placement:
        config = self.config
        mpp = source.mpp
        low, high = config.free_zoom if mpp is None else (m / mpp for m in config.mpp_range)
        low = max(low, 1 / config.max_zoom)
        if high < low * 0.999:
            raise SlideError(
                f"{source.name} has {mpp or 1:g} µm per pixel, more than {config.max_zoom:g} times "
                f"too coarse for patches of {config.mpp_range[0]:g}-{config.mpp_range[1]:g}"
            )
        zoom = math.exp(rng.uniform(math.log(low), math.log(max(low, high))))
        angle = rng.uniform(0, 2 * math.pi) if config.rotate else 0.0
        spot = source.spot(rng) if config.skip_glass and config.stride is None else None
        # Corners of a turned patch stay inside the picture; outside of labelled ones is unknown.
        turned = abs(math.cos(angle)) + abs(math.sin(angle)) if source.labels() is None else 1.0
        half = zoom * config.size / 2 * turned
        y, x = (
            self._centre(
                side, zoom / stretch, half / stretch, None if spot is None else spot[axis], rng
            )
            for axis, (side, stretch) in enumerate(
                zip(source.shape, (1.0, source.stretch_x), strict=True)
            )
        )
        mirror = config.flips and bool(rng.random() < 0.5)
        if config.flips and not config.rotate and rng.random() < 0.5:
            angle, mirror = math.pi, not mirror  # upside down: a half turn of the mirror image
        return Placement(y, x, zoom, angle, mirror, source.stretch_x)

    def _centre(
        self, side: int, zoom: float, half: float, wanted: float | None, rng: np.random.Generator
    ) -> float:
        """Where along a picture's side the patch has its centre, in pixels of the picture.

        ``half`` is how far the patch reaches to either side, ``wanted`` where tissue is.
        """
        low, high = min(half, side / 2), max(side - half, side / 2)
        if wanted is not None:
            return min(max(wanted, low), high)
        if self.config.stride is None or side < 2 * half:
            return rng.uniform(low, high)
        step = zoom * self.config.stride
        places = int((side - 2 * half) / step + 1e-9) + 1
        # pixel i has its centre at i, so the first patch, from pixel 0 on, has it at half - 0.5
        return int(rng.integers(places)) * step + half - 0.5

    def _cut(
        self, source: Source, placement: Placement
    ) -> tuple[Tensor, int, int, tuple[slice, slice]]:
        downsample = source.downsample_for(placement.zoom)
        shape = tuple(max(int(side / downsample), 1) for side in source.shape)
        placement = placement.on_level(downsample)
        reach_y, reach_x = placement.reach(self.config.size)
        around = Region(
            int(placement.y) - reach_y, int(placement.x) - reach_x, 2 * reach_y, 2 * reach_x
        )
        region = around.clipped((shape[0], shape[1]))
        if region is None:
            raise ConfigError(f"a patch was placed outside of its image of {source.shape} pixels")
        window = source.window(region, downsample)
        image = cut_image(window, placement, self.config.size, region.y, region.x)
        pixels = torch.from_numpy(np.rint(image.numpy()).astype(np.uint8))
        return pixels, region.y, region.x, region.slices

    def _skip(self, source: Source, error: Exception) -> None:
        mark = object()
        if self._told.setdefault(source.name, mark) is not mark:  # in one step: threads meet here
            return
        self.skipped[source.name] = str(error)
        if len(self.skipped) <= _FAILURES_TOLD:
            _log.warning("skipped: %s", error)
        elif len(self.skipped) == _FAILURES_TOLD + 1:
            _log.warning("more pictures are skipped; all are listed in the run's skipped.txt")

    def _nothing_left(self) -> str:
        reasons = list(self.skipped.values())
        more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        return f"none of {len(self.sources)} pictures can be used: {'; '.join(reasons[:3])}{more}"

    def _cut_labels(
        self, truth: Labels, placement: Placement, top: int, left: int, window: tuple[slice, slice]
    ) -> Truth:
        rows, columns = placement.source_grid(self.config.size, top, left)
        classes = torch.from_numpy(np.ascontiguousarray(truth.classes[window]))[None]
        known = torch.from_numpy(np.ascontiguousarray(truth.known[window]))[None]
        distance = torch.from_numpy(np.ascontiguousarray(truth.distance[window]))[None]
        height, width = classes.shape[-2:]
        inside = (rows > -0.5) & (rows < height - 0.5) & (columns > -0.5) & (columns < width - 0.5)
        return (
            resample(classes, rows, columns, nearest=True)[0].long(),
            _known_mean(distance, known, rows, columns),
            (resample(known, rows, columns, nearest=True)[0] > 0.5) & inside,
        )


def _known_mean(distance: Tensor, known: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Distance between known pixels; what stands at unknown ones must not reach beside them."""
    if bool(known.all()):
        mean = resample(distance, rows, columns, nearest=False)[0]
    else:
        total = resample(distance * known, rows, columns, nearest=False)[0]
        mean = total / resample(known, rows, columns, nearest=False)[0].clamp_min(1e-3)
    return mean.clamp(0, 1)  # may round to just above 1, where the loss has no value


def _gathered(images: Tensor, indices: Sequence[int], truths: Sequence[Truth | None]) -> Batch:
    known = [truth for truth in truths if truth is not None]
    if not known:
        return Batch(images, tuple(indices))
    classes, distance, pixels = (torch.stack(parts) for parts in zip(*known, strict=True))
    return Batch(images, tuple(indices), classes, distance, pixels)
