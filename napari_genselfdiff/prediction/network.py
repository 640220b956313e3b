"""Run a segmenter on tiles: uint8 pixels in, probabilities out."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from napari_genselfdiff.backbone.fold import fold_time
from napari_genselfdiff.errors import JobFailedError
from napari_genselfdiff.prediction.packed import packed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_genselfdiff.backbone.heads import Segmenter
    from napari_genselfdiff.prediction.profile import Profile


FLIPS = ((), (3,), (2,), (2, 3))
"""Axes along which a batch (B, C, H, W) is flipped, in the order they are used."""


class Probabilities(NamedTuple):
    """What the network says of a batch: float32, rounded to what float16 can hold.

    ``classes`` is ``(B, 1 + C, H, W)``, background first; ``distance`` is ``(B, H, W)``. Both in
    [0, 1]. ``mean`` is like ``classes``, averaged over the profile's flips; the same array where
    there is one only.
    """

    classes: NDArray[np.float32]
    distance: NDArray[np.float32]
    mean: NDArray[np.float32]


class Network:
    """A segmenter set up for one profile.

    Every call runs batches of exactly ``profile.batch`` images, the last one filled up, so that
    the answer for a tile does not depend on how many others were asked for at the same time.

    Parameters
    ----------
    segmenter
        Taken over: put into eval mode, on the profile's device, channels last, its time folded.
    profile
        Device, precision, threads and batch.
    """

    def __init__(self, segmenter: Segmenter, profile: Profile) -> None:
        self._device = torch.device(profile.device)
        self._profile = profile
        # type: channels-last is an overload of nn.Module.to that its stubs leave out
        self._segmenter: Segmenter = (
            fold_time(segmenter.eval()).to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        )
        self._weights = list(self._segmenter.parameters())

    def __call__(self, tiles: NDArray[np.uint8]) -> Probabilities:
        """Answer for tiles ``(B, H, W, 3)``, B up to ``profile.batch``.

        Raises
        ------
        JobFailedError
            If the memory is not enough.
        """
        missing = self._profile.batch - len(tiles)
        if missing > 0:
            tiles = np.concatenate([tiles, np.repeat(tiles[:1], missing, axis=0)])
        try:
            found = self._run(tiles)
        except torch.OutOfMemoryError as err:
            raise JobFailedError(
                f"the memory of {self._device} is not enough for {len(tiles)} tiles at once; "
                "close other programs or use a profile with a smaller batch"
            ) from err
        kept = len(tiles) - max(missing, 0)
        classes, distance, mean = (values[:kept].numpy() for values in found)
        return Probabilities(classes, distance, classes if found[2] is found[0] else mean)

    def _run(self, tiles: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        if torch.get_num_threads() != self._profile.threads:
            torch.set_num_threads(self._profile.threads)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._profile.precision == "bf16":
                stack.enter_context(torch.autocast(self._device.type, torch.bfloat16))
            if self._device.type == "cuda":
                stack.enter_context(torch.backends.cudnn.flags(deterministic=True))
            # A contiguous (B, H, W, 3) array seen as (B, 3, H, W) is channels last already.
            pixels = torch.from_numpy(np.ascontiguousarray(tiles)).to(self._device)
            x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
            segmenter = self._packed(x)
            answer = segmenter(x)
            classes = answer.logits.float().softmax(dim=1)
            distance = answer.distance.float().sigmoid()[:, 0]
            plain = _rounded(classes)
            mean = plain if self._profile.flips == 1 else self._mean(segmenter, x, classes)
            return plain, _rounded(distance), mean

    def _packed(self, x: Tensor) -> Segmenter:
        """What answers a batch: on a CPU with weights that are laid out for its size."""
        if self._device.type != "cpu":
            return self._segmenter
        dtype = torch.bfloat16 if self._profile.precision == "bf16" else torch.float32
        return packed(self._segmenter, dtype, tuple(x.shape), self._weights)

    def _mean(self, segmenter: Segmenter, x: Tensor, classes: Tensor) -> Tensor:
        """Class probabilities averaged over the flips; the labels come from the first alone."""
        total = classes
        for axes in FLIPS[1 : self._profile.flips]:
            seen = segmenter(x.flip(axes)).logits.float().softmax(dim=1)
            total = total + seen.flip(axes)
        return _rounded(total / self._profile.flips)


def _rounded(values: Tensor) -> Tensor:
    """Values as float16 holds them, which is fine enough to decide and half of the disk."""
    return values.half().contiguous().cpu().float()
