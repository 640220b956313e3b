"""Layer-wise learning rates: what is far from the answer changes less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def parameter_groups(model: nn.Module, decay: float, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: one for each depth, biases and norms apart, without weight decay.

    Every group's ``rate`` is its share of the learning rate: ``decay`` to the power of its depth
    (discriminative fine-tuning, Howard & Ruder 2018, section 3.1, by levels instead of layers).
    With a decay of 1 there is one depth.
    """
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    levels = _levels(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            away = 0 if decay == 1 else depth(name, levels)
            found.setdefault((away, parameter.ndim <= 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": 0.0 if plain else weight_decay,
            "rate": decay**away,
        }
        for (away, plain), parameters in sorted(found.items(), key=lambda item: item[0])
    ]


def depth(name: str, levels: int) -> int:
    """How far a parameter lies from the answer, in levels of a U-Net with so many of them.

    0 is all that is no U-Net (the heads); then come the decoder from the finest level on, the
    middle, the encoder from the coarsest level on, and last the stem and the embedded timestep.
    """
    _, found, inside = f".{name}".partition(".unet.")
    if not found:
        return 0
    part, *rest = inside.split(".")
    if part == "join":
        return 1
    if part in ("decoder", "up"):  # the first of them is the coarsest
        return levels - 1 - int(rest[0])
    if part.startswith("middle"):
        return levels
    if part in ("encoder", "down"):
        return 2 * levels - int(rest[0])
    return 2 * levels + 1


def _levels(model: nn.Module) -> int:
    """Levels of the U-Net in a model, by the names of its parameters; 0 without one."""
    names = (f".{name}".partition(".unet.encoder.")[2] for name, _ in model.named_parameters())
    return len({name.partition(".")[0] for name in names if name})
