"""Training patches cut on demand: the same index always gives the same patch."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.augment import (
    DEFAULT_JITTER,
    Placement,
    StainJitter,
    cut_image,
    jitter_stain,
    resample,
)
from napari_genselfdiff.slides.geometry import Region
from napari_genselfdiff.slides.slide import Slide, open_slide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


InputRange = Literal["signed", "unit"]


class Batch(NamedTuple):
    """Patches and what is known about them.

    ``images`` (B, 3, H, W) in [-1, 1] (or the recipe's [0, 1]); ``classes`` (B, H, W) int64,
    0 = background; ``distance`` (B, H, W) in [0, 1]; ``known`` (B, H, W) bool; ``indices`` the
    global sample indices. Unlabelled batches have no classes, distance or known pixels.
    """

    images: Tensor
    indices: tuple[int, ...]
    classes: Tensor | None = None
    distance: Tensor | None = None
    known: Tensor | None = None

    def part(self, start: int, stop: int) -> Batch:
        """Samples ``start`` to ``stop`` of this batch."""
        cut = [
            None if v is None else v[start:stop] for v in (self.classes, self.distance, self.known)
        ]
        return Batch(self.images[start:stop], self.indices[start:stop], *cut)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device, images in channels-last order."""
        images = self.images.to(device, memory_format=torch.channels_last)
        rest = [
            None if v is None else v.to(device) for v in (self.classes, self.distance, self.known)
        ]
        return Batch(images, self.indices, *rest)


class Labels(NamedTuple):
    """Truth of one image: classes uint8, normalised distance float32, known bool, all (H, W)."""

    classes: NDArray[np.uint8]
    distance: NDArray[np.float32]
    known: NDArray[np.bool_]


class Source(Protocol):
    """One picture that patches can be cut from."""

    mpp: float | None
    stretch_x: float
    weight: float

    @property
    def shape(self) -> tuple[int, int]: ...

    def window(self, region: Region) -> NDArray[np.uint8]:
        """Pixels of a region that lies inside the picture, ``(h, w, 3)``."""
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

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def window(self, region: Region) -> NDArray[np.uint8]:
        return self.image[region.slices]

    def labels(self) -> Labels | None:
        return self.truth


class SlideCache:
    """Keeps the most recently used slides open, so that any number of them costs the same."""

    def __init__(self, limit: int = 1200) -> None:
        self._slides: OrderedDict[Path, Slide] = OrderedDict()
        self._limit = limit

    def get(self, path: Path) -> Slide:
        slide = self._slides.pop(path, None) or open_slide(path)
        self._slides[path] = slide
        if len(self._slides) > self._limit:
            self._slides.popitem(last=False)[1].close()
        return slide


@dataclass
class FileSource:
    """A slide or plain image on disk, opened when it is first needed."""

    path: Path
    cache: SlideCache = field(repr=False)
    mpp: float | None = None
    stretch_x: float = 1.0
    weight: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        return self.cache.get(self.path).shape

    def window(self, region: Region) -> NDArray[np.uint8]:
        return self.cache.get(self.path).read(region)

    def labels(self) -> Labels | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """What patches look like: side in pixels, range of µm/px, how much they are varied.

    ``stride`` puts patches on a fixed grid of that many patch pixels inside the picture, as the
    released code cuts them; None puts them anywhere. ``flips`` mirrors them, along both axes where
    ``rotate`` is off. ``input_range`` is [-1, 1] (``signed``) or the released code's [0, 1].
    """

    size: int = 256
    stride: int | None = None
    mpp_range: tuple[float, float] = (0.25, 0.5)
    free_zoom: tuple[float, float] = (0.7, 1.4)
    max_zoom: float = 4.0
    rotate: bool = True
    flips: bool = True
    stain: StainJitter | None = DEFAULT_JITTER
    skip_glass: bool = True
    input_range: InputRange = "signed"

    def __post_init__(self) -> None:
        """Refuse sizes and ranges that no patch can have."""
        if self.size < 8:
            raise ConfigError(f"patch.size must be 8 or more, got {self.size}")
        if self.stride is not None and self.stride < 1:
            raise ConfigError(f"patch.stride must be 1 or more, or left out, got {self.stride}")
        for name in ("mpp_range", "free_zoom"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"patch.{name} must be (low, high) above 0, got {(low, high)}")


class PatchSampler:
    """Cuts patch number ``index``: which picture, where and how depend on (seed, index) alone."""

    def __init__(self, sources: Sequence[Source], config: PatchConfig, seed: int) -> None:
        if not sources:
            raise ConfigError("there is no image to train on; check the data list of the recipe")
        self.sources, self.config, self.seed = list(sources), config, seed
        weights = np.array([source.weight for source in sources], np.float64)
        self._edges = np.cumsum(weights / weights.sum())

    def batch(self, indices: Sequence[int]) -> Batch:
        """Patches of these global sample indices."""
        samples = [self.sample(index) for index in indices]
        images = torch.stack([image for image, _ in samples])
        if samples[0][1] is None:
            return Batch(images, tuple(indices))
        truths = [truth for _, truth in samples if truth is not None]
        classes, distance, known = (torch.stack(parts) for parts in zip(*truths, strict=True))
        return Batch(images, tuple(indices), classes, distance, known)

    def sample(self, index: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor] | None]:
        """Image ``(3, H, W)`` in the input range and (classes, distance, known) of one index."""
        rng = np.random.default_rng([self.seed, index])
        source = self.sources[
            int(np.searchsorted(self._edges, rng.random()).clip(0, len(self.sources) - 1))
        ]
        for _ in range(8):
            placement = self._place(source, rng)
            image, top, left, window = self._cut(source, placement)
            if not self.config.skip_glass or float(image.mean()) < 230:
                break
        truth = source.labels()
        cut = None if truth is None else self._cut_labels(truth, placement, top, left, window)
        if self.config.stain is not None:
            image = jitter_stain(image, self.config.stain, rng)
        return (image / 127.5 - 1 if self.config.input_range == "signed" else image / 255), cut

    def _place(self, source: Source, rng: np.random.Generator) -> Placement:
        config = self.config
        if source.mpp is None:
            zoom = math.exp(rng.uniform(*np.log(config.free_zoom)))
        else:
            zoom = math.exp(rng.uniform(*np.log(config.mpp_range))) / source.mpp
        zoom = min(max(zoom, 1 / config.max_zoom), config.max_zoom)
        angle = rng.uniform(0, 2 * math.pi) if config.rotate else 0.0
        height, width = source.shape
        y, x = (self._centre(side, zoom, rng) for side in (height, width))
        mirror = config.flips and bool(rng.random() < 0.5)
        if config.flips and not config.rotate and rng.random() < 0.5:
            angle, mirror = math.pi, not mirror  # upside down: a half turn of the mirror image
        return Placement(y, x, zoom, angle, mirror, source.stretch_x)

    def _centre(self, side: int, zoom: float, rng: np.random.Generator) -> float:
        """Where along a picture's side the patch has its centre, in pixels of the picture."""
        half = zoom * self.config.size / 2
        if self.config.stride is None or side < 2 * half:
            return rng.uniform(min(half, side / 2), max(side - half, side / 2))
        step = zoom * self.config.stride
        places = int((side - 2 * half) / step + 1e-9) + 1
        # pixel i has its centre at i, so the first patch, from pixel 0 on, has it at half - 0.5
        return int(rng.integers(places)) * step + half - 0.5

    def _cut(
        self, source: Source, placement: Placement
    ) -> tuple[Tensor, int, int, tuple[slice, slice]]:
        reach_y, reach_x = placement.reach(self.config.size)
        around = Region(
            int(placement.y) - reach_y, int(placement.x) - reach_x, 2 * reach_y, 2 * reach_x
        )
        region = around.clipped(source.shape)
        if region is None:
            raise ConfigError(f"a patch was placed outside of its image of {source.shape} pixels")
        window = source.window(region)
        image = cut_image(window, placement, self.config.size, region.y, region.x)
        return image, region.y, region.x, region.slices

    def _cut_labels(
        self, truth: Labels, placement: Placement, top: int, left: int, window: tuple[slice, slice]
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = placement.source_grid(self.config.size, top, left)
        classes = torch.from_numpy(np.ascontiguousarray(truth.classes[window]))[None]
        known = torch.from_numpy(np.ascontiguousarray(truth.known[window]))[None]
        distance = torch.from_numpy(np.ascontiguousarray(truth.distance[window]))[None]
        height, width = classes.shape[-2:]
        inside = (rows > -0.5) & (rows < height - 0.5) & (columns > -0.5) & (columns < width - 0.5)
        return (
            resample(classes, rows, columns, nearest=True)[0].long(),
            # interpolation may round to just above 1, where the loss has no value
            resample(distance, rows, columns, nearest=False)[0].clamp(0, 1),
            (resample(known, rows, columns, nearest=True)[0] > 0.5) & inside,
        )
