"""What ``genselfdiff models`` says about the diffusion backbones that new tasks start from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_genselfdiff.commands import console
from napari_genselfdiff.errors import ModelFileError

if TYPE_CHECKING:
    from napari_genselfdiff.registry.backbones import Backbones
    from napari_genselfdiff.registry.folder import Backbone


def list_backbones(backbones: Backbones) -> None:
    """Print a table of the backbones and which new tasks start from; problems as complaints."""
    in_use = _in_use(backbones)
    cells = [
        (
            "*" if backbone.path == in_use else "",
            backbone.path.name,
            backbone.card.created[:10],
            str(backbone.card.architecture.get("preset", "-")),
            backbone.card.schedule,
            backbone.card.prediction,
            f"{backbone.card.images_seen:,}",
        )
        for backbone in backbones.list()
    ]
    columns = ("new tasks", "backbone", "made", "network", "pretext", "predicts", "images seen")
    console.table(columns, cells)


def rows(backbones: Backbones) -> list[dict[str, Any]]:
    """Facts about every backbone, for JSON."""
    in_use = _in_use(backbones)
    return [
        {
            "name": backbone.path.name,
            "path": str(backbone.path),
            "hash": backbone.hash,
            "shipped": backbones.is_shipped(backbone),
            "in_use": backbone.path == in_use,
            "made": backbone.card.created,
            "network": backbone.card.architecture.get("preset"),
            "schedule": backbone.card.schedule,
            "prediction": backbone.card.prediction,
            "images_seen": backbone.card.images_seen,
        }
        for backbone in backbones.list()
    ]


def show_backbone(backbone: Backbone, *, as_json: bool) -> None:
    """Print what a backbone says about itself."""
    card = backbone.card
    if as_json:
        values = card.model_dump(mode="json")
        console.say_json({"path": str(backbone.path), "hash": backbone.hash, **values})
        return
    low, high = card.mpp_range
    console.facts(
        {
            "name": f"{backbone.path.name} (diffusion backbone)",
            "folder": str(backbone.path),
            "hash": backbone.hash,
            "network": str(card.architecture.get("preset", "-")),
            "pretext": f"{card.schedule}, {card.timesteps} steps, predicts {card.prediction}",
            "µm per pixel": f"{low:g}-{high:g}",
            "made": f"{card.created}, version {card.app_version}",
            "images seen": f"{card.images_seen:,}",
            "learned from": "; ".join(f"{d.name} ({d.licence})" for d in card.data) or "-",
            "notes": card.notes or "-",
            "use": "research use only",
        }
    )


def _in_use(backbones: Backbones) -> object:
    """Folder of the backbone in use; complains, and None, where that one is damaged."""
    try:
        return backbones.active().path
    except ModelFileError as err:
        console.complain(console.reason(err))
        return None
