"""Convolutions whose weights lie in memory as the processor wants them.

oneDNN, which computes torch's convolutions on a CPU, works on weights in blocks of its own. Plain
weights are brought into that order in every call, for a single tile a tenth of the whole time;
torch's own compiler does it once, and so do we. It also computes a SiLU along with its convolution.
The answers are the same up to rounding.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from napari_genselfdiff.backbone.blocks import ConvSiLU

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from napari_genselfdiff.backbone.heads import Segmenter

Key = tuple[torch.dtype, tuple[int, ...], int]
_kept: WeakKeyDictionary[nn.Module, dict[Key, Segmenter | None]] = WeakKeyDictionary()
_packing = threading.Lock()


class PackedConv2d(nn.Module):
    """What a convolution computes, for prediction on a CPU only.

    Parameters
    ----------
    plain
        With zero padding.
    dtype
        Of the arithmetic: torch.float32 or torch.bfloat16.
    size
        Of the input ``(B, C, H, W)``: the best order depends on it. Other sizes are slower.
    """

    def __init__(self, plain: nn.Conv2d, dtype: torch.dtype, size: list[int]) -> None:
        super().__init__()
        self._dtype = dtype
        places = (plain.padding, plain.stride, plain.dilation)
        self._places: list[Any] = [list(place) for place in places]
        self._groups = plain.groups
        weight = plain.weight.detach().to(dtype).to_mkldnn()
        # Neither is a buffer: this module is never saved, moved or cast.
        # type: the stub of this private function knows one argument only
        self._weight: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
            weight,
            *self._places,
            self._groups,
            size,
        )
        self._after = "swish" if isinstance(plain, ConvSiLU) else "none"
        self._bias = None if plain.bias is None else plain.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x.to(self._dtype),
            self._weight,
            self._bias,
            *self._places,
            self._groups,
            self._after,
            [],
            "",
        )
        return answer


def packed(
    segmenter: Segmenter,
    dtype: torch.dtype,
    size: tuple[int, ...],
    weights: Iterable[Tensor] | None = None,
) -> Segmenter:
    """A twin of a segmenter with packed convolutions, or itself where this torch cannot pack.

    Made once for every segmenter and ``size`` of its input ``(B, 3, H, W)``, and again when its
    weights were changed. ``weights`` are its parameters, which take a while to look up.
    """
    weights = segmenter.parameters() if weights is None else weights
    key = dtype, size, sum(part._version for part in weights)
    with _packing:  # tiles side by side ask for the same one
        known = _kept.setdefault(segmenter, {})
        if key not in known:
            for old in [other for other in known if other[2] != key[2]]:
                del known[old]
            # None rather than the segmenter, which would then keep itself alive.
            known[key] = _twin(segmenter, dtype, size) if _can_pack(dtype) else None
        return known[key] or segmenter


def _twin(segmenter: Segmenter, dtype: torch.dtype, size: tuple[int, ...]) -> Segmenter:
    twin = copy.deepcopy(segmenter)
    sizes = _input_sizes(twin, size)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child in sizes and child.padding_mode == "zeros":
                setattr(parent, name, PackedConv2d(child, dtype, sizes[child]))
    return twin


def _input_sizes(segmenter: Segmenter, size: tuple[int, ...]) -> dict[nn.Module, list[int]]:
    """Size of what every convolution is given, found out on the smallest of images."""
    sizes: dict[nn.Module, list[int]] = {}
    convolutions = [module for module in segmenter.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        return sizes
    small = 2 * segmenter.config.multiple

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        _, channels, height, width = given[0].shape
        sizes[module] = [size[0], channels, height * size[2] // small, width * size[3] // small]

    hooks = [module.register_forward_pre_hook(note) for module in convolutions]
    with torch.inference_mode():
        segmenter(torch.zeros(1, 3, small, small))
    for hook in hooks:
        hook.remove()
    return sizes


def _can_pack(dtype: torch.dtype) -> bool:
    """Whether torch has the operators (they are its compiler's) and they compute what they should.

    Tried on a small convolution, because they are not part of torch's public interface.
    """
    if not torch.backends.mkldnn.is_available():
        return False
    plain, x = ConvSiLU(8, 16, 3, padding=1), torch.linspace(-1, 1, 8 * 64).reshape(1, 8, 8, 8)
    plain = plain.to(dtype)
    x = x.to(dtype).contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            found, expected = PackedConv2d(plain, dtype, list(x.shape))(x), plain(x)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    return bool(torch.allclose(found.float(), expected.float(), rtol=1e-2, atol=1e-2))
