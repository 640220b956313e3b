"""Pixel classifiers of a study: on frozen features of a backbone, and on plain image filters.

Baranchuk et al. (2022), "Label-efficient semantic segmentation with diffusion models": features
of several decoder levels at several timesteps, an ensemble of small networks on single pixels.
With a backbone pre-trained on masked images this is how MDM (arXiv 2308.05695) uses its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.folders import read_pair
from napari_genselfdiff.evaluation.run import Answer
from napari_genselfdiff.learning.masking import MaskConfig, Masking
from napari_genselfdiff.learning.objectives import Denoising
from napari_genselfdiff.learning.start import BUNDLED, start_file
from napari_genselfdiff.prediction.picture import Picture
from napari_genselfdiff.registry.files import sha256_of
from napari_genselfdiff.registry.folder import read_backbone
from napari_genselfdiff.slides.geometry import Region, grid_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_genselfdiff.backbone.heads import Denoiser
    from napari_genselfdiff.backbone.noise import Schedule
    from napari_genselfdiff.evaluation.folders import Pair
    from napari_genselfdiff.evaluation.run import Segment
    from napari_genselfdiff.learning.study.plan import Arm, StudySet

    Floats = NDArray[np.float32]

PIXELS = 40_000  # that a classifier learns from, over all images of a subset
MEMBERS, STEPS, BATCH = 5, 600, 1024  # of the ensemble on frozen features
_CPU = torch.device("cpu")
_CORE, _HALO = 192, 32  # a window keeps its middle


Place = tuple[slice, slice]


class Describer(Protocol):
    """Gives the pixels of an image ``(H, W, 3)`` uint8 their features, window by window.

    Every pixel is in one window; a window's features are ``(h, w, C)`` float32.
    """

    def __call__(self, image: NDArray[np.uint8]) -> Iterator[tuple[Place, Floats]]: ...


class Classifier(Protocol):
    """Says 0 or 1 of pixels with features ``(N, C)``."""

    def __call__(self, features: Floats) -> NDArray[np.uint8]: ...


def config(arm: Arm) -> dict[str, Any]:
    """What decides the outcome of a pixel arm, as plain values."""
    shared = {"kind": arm.kind, "native": arm.native, "pixels": PIXELS}
    if arm.kind == "filters":
        return {**shared, "trees": 100, "depth": 16}
    weights = sha256_of(start_file(arm.backbone))
    sizes = {"members": MEMBERS, "steps": STEPS, "batch": BATCH}
    return {**shared, **sizes, "timesteps": list(arm.timesteps), "start": weights}


def learn_pixels(
    arm: Arm,
    data: StudySet,
    taught: Sequence[Pair],
    seed: int,
    device: torch.device = _CPU,
) -> Segment:
    """Learn from the labels of some images; gives what segments others."""
    work = data.mpp if arm.native else data.work_mpp
    describe: Describer = (
        FrozenFeatures(arm.backbone, arm.timesteps, device)
        if arm.kind == "features"
        else filter_features
    )
    x, y = _sampled(describe, taught, (data.mpp, work), seed)
    if y.min() == y.max():
        raise ConfigError(f"the labels of {taught[0].name} show one class only; two are needed")
    classify = (
        fit_ensemble(x, y, seed, device) if arm.kind == "features" else fit_forest(x, y, seed)
    )

    def segment(image: NDArray[np.uint8]) -> Answer:
        shown, _, _ = _at_work(image, data.mpp, work)
        found = np.zeros(shown.shape[:2], np.uint8)
        for place, values in describe(shown):
            flat = values.reshape(-1, values.shape[-1])
            found[place] = classify(flat).reshape(values.shape[:2])
        back = [
            np.minimum(np.arange(side) * found.shape[axis] // side, found.shape[axis] - 1)
            for axis, side in enumerate(image.shape[:2])
        ]
        return Answer(found[np.ix_(*back)], None)

    return segment


def _sampled(
    describe: Describer, taught: Sequence[Pair], mpps: tuple[float, float], seed: int
) -> tuple[Floats, NDArray[np.uint8]]:
    """Features and truth of random pixels, as many of every image."""
    rng, share = np.random.default_rng(seed), PIXELS // len(taught)
    features, classes = [], []
    for pair in taught:
        image, mask = read_pair(pair)
        shown, rows, columns = _at_work(image, *mpps)
        truth = (mask.labels[np.ix_(rows, columns)] > 0).astype(np.uint8)
        chosen = np.zeros(truth.shape, np.bool_)
        chosen.ravel()[rng.permutation(truth.size)[:share]] = True
        for place, found in describe(shown):
            features.append(found[chosen[place]])
            classes.append(truth[place][chosen[place]])
    return np.concatenate(features), np.concatenate(classes)


def _at_work(
    image: NDArray[np.uint8], mpp: float, work: float
) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.intp]]:
    """The image at the resolution worked at, and which of its rows and columns lie there."""
    downsample = work / mpp
    shape = grid_shape(image.shape[:2], downsample)
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * downsample).astype(np.intp), side - 1)
        for n, side in zip(shape, image.shape[:2], strict=True)
    )
    if downsample == 1:
        return image, rows, columns
    return Picture(image, mpp).read(Region(0, 0, *shape), downsample), rows, columns


class FrozenFeatures:
    """All decoder levels of a backbone, at several timesteps, brought to the image's size."""

    def __init__(
        self, backbone: str, timesteps: Sequence[int], device: torch.device = _CPU
    ) -> None:
        folder = start_file(backbone).parent if backbone == BUNDLED else start_file(backbone)
        found = read_backbone(folder if folder.is_dir() else folder.parent)
        self._network: Denoiser = found.load().to(device)
        self._device = device
        self._timesteps = list(timesteps)
        card = found.card
        if not self._timesteps or max(self._timesteps) >= card.timesteps:
            raise ConfigError(
                f"timesteps {self._timesteps} do not fit a backbone of {card.timesteps}"
            )
        self._damage: Denoising | Masking
        if card.schedule == "masked":
            self._damage = Masking(MaskConfig(timesteps=card.timesteps))
        else:
            self._damage = _denoising(card.schedule, card.timesteps)

    def __call__(self, image: NDArray[np.uint8]) -> Iterator[tuple[Place, Floats]]:
        height, width = image.shape[:2]
        pad = [(_HALO, _HALO + (-side) % _CORE) for side in (height, width)]
        mirrored = np.pad(image, [*pad, (0, 0)], mode="symmetric")
        side = _CORE + 2 * _HALO
        for y in range(0, height, _CORE):
            for x in range(0, width, _CORE):
                found = self._window(mirrored[y : y + side, x : x + side])
                place = slice(y, min(y + _CORE, height)), slice(x, min(x + _CORE, width))
                yield place, found[: height - y, : width - x]

    @torch.inference_mode()
    def _window(self, pixels: NDArray[np.uint8]) -> Floats:
        x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        x = x.to(self._device).float() / 127.5 - 1
        parts = [level for t in self._timesteps for level in self._levels(x, t)]
        inside = slice(_HALO, _HALO + _CORE)
        raised = [
            F.interpolate(part, x.shape[-2:], mode="bilinear")[0, :, inside, inside]
            for part in parts
        ]
        return np.asarray(torch.cat(raised).permute(1, 2, 0).cpu().numpy())

    def _levels(self, x: Tensor, t: int) -> list[Tensor]:
        seen: list[Tensor] = []
        unet = self._network.unet
        watched = [*unet.decoder, *([] if unet.join is None else [unet.join])]
        hooks = [
            part.register_forward_hook(lambda _, __, answer: seen.append(answer))
            for part in watched
        ]
        try:
            damaged, times = damaged_at(self._damage, x, t)
            unet(damaged, times)
        finally:
            for hook in hooks:
                hook.remove()
        return seen


def damaged_at(pretext: Denoising | Masking, x: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Images damaged as the pretext does at timestep ``t``, always in the same way."""
    indices = range(len(x))
    if isinstance(pretext, Masking):
        hidden = pretext.hide(x, indices, t)
        return hidden.images, hidden.t
    noise, _ = pretext.draw(indices, tuple(x.shape[1:]))
    times = torch.full((len(x),), t, device=x.device)
    return pretext.schedule.add_noise(x, noise.to(x), times), times


def _denoising(schedule: str, timesteps: int) -> Denoising:
    from typing import cast

    from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule

    known = cast("Schedule", schedule)  # NoiseConfig refuses what it does not know
    return Denoising(NoiseSchedule(NoiseConfig(schedule=known, timesteps=timesteps)))


def filter_features(image: NDArray[np.uint8]) -> Iterator[tuple[Place, Floats]]:
    """Intensities, edges and textures at several scales: scikit-image's set, in one window."""
    from skimage import feature

    # its functions carry no types
    describe: Any = feature.multiscale_basic_features
    found = describe(image, sigma_min=1, sigma_max=16, channel_axis=-1)
    yield (slice(0, image.shape[0]), slice(0, image.shape[1])), np.asarray(found, np.float32)


def fit_ensemble(
    x: Floats, y: NDArray[np.uint8], seed: int, device: torch.device = _CPU
) -> Classifier:
    """Several small networks on single pixels, their probabilities averaged."""
    mean, spread, inputs, truth = (
        torch.from_numpy(values).to(device)
        for values in (x.mean(0), x.std(0) + 1e-6, x, y.astype(np.int64))
    )
    members = []
    for member in range(MEMBERS):
        generator = torch.Generator().manual_seed(1000 * seed + member)
        torch.manual_seed(1000 * seed + member)
        net = nn.Sequential(
            nn.Linear(x.shape[1], 128), nn.ReLU(), nn.BatchNorm1d(128),
            nn.Linear(128, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 2),
        ).to(device)  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(STEPS):
            some = torch.randint(len(inputs), (BATCH,), generator=generator).to(device)
            loss = F.cross_entropy(net((inputs[some] - mean) / spread), truth[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        members.append(net.eval())

    @torch.inference_mode()
    def classify(features: Floats) -> NDArray[np.uint8]:
        found = []
        for part in torch.from_numpy(features).split(65_536):
            given = (part.to(device) - mean) / spread
            found.append(sum(net(given).softmax(1)[:, 1] for net in members) > MEMBERS / 2)
        return np.asarray(torch.cat(found).cpu().numpy().astype(np.uint8))

    return classify


def fit_forest(x: Floats, y: NDArray[np.uint8], seed: int) -> Classifier:
    """scikit-image's trainable segmenter with its usual classifier, a random forest."""
    from skimage import future

    fit: Any = future.fit_segmenter  # carries no types
    forest = fit(y + 1, x, _forest(seed))  # 0 would mean unlabelled

    def classify(features: Floats) -> NDArray[np.uint8]:
        parts = np.array_split(features, max(len(features) // 200_000, 1))
        return np.concatenate([forest.predict(p) for p in parts]).astype(np.uint8) - np.uint8(1)

    return classify


def _forest(seed: int) -> Any:
    from importlib import import_module

    try:
        ensemble = import_module("sklearn.ensemble")
    except ImportError as err:
        raise ConfigError(
            "the arm of filters needs scikit-learn; install napari-genselfdiff[bench]"
        ) from err
    return ensemble.RandomForestClassifier(
        n_estimators=100, max_depth=16, n_jobs=1, random_state=seed
    )
