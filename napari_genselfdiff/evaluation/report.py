"""The JSON report of an evaluation: every image, and means with 95 % image-bootstrap intervals."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.evaluation.bootstrap import bootstrap_interval, mean_of
from napari_genselfdiff.evaluation.metrics import score_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_genselfdiff.evaluation.overlaps import Labels

SCHEMA = 1


def score_pair(
    pred_instances: Labels, true_instances: Labels, *, distances: bool = True
) -> dict[str, float]:
    """Every metric of one image by its report name; NaN where it is not defined, or left out."""
    return score_objects(pred_instances, true_instances, distances=distances)


def build_report(
    model: str,
    mpp: float | None,
    images: Sequence[tuple[str, Mapping[str, float]]],
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise the scores of images, given as (name, metrics), as plain JSON values.

    Shares stay fractions 0-1, distances pixels. Undefined values become None; means and intervals
    leave them out (an interval needs two values). A metric an image lacks counts as undefined.
    """
    if not images:
        raise ConfigError("There is nothing to report: no image was scored. Give at least one.")
    names = list(dict.fromkeys(name for _, scores in images for name in scores))
    mean = {}
    for name in names:
        values = [scores.get(name, math.nan) for _, scores in images]
        low, high = bootstrap_interval(values, seed)
        mean[name] = {"value": _plain(mean_of(values)), "low": _plain(low), "high": _plain(high)}
    rows = [
        {"image": image, **{name: _plain(scores.get(name, math.nan)) for name in names}}
        for image, scores in images
    ]
    return {
        "schema": SCHEMA,
        "model": model,
        "mpp": mpp,
        "n": len(images),
        "mean": mean,
        "images": rows,
    }


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write a report; ``path`` is afterwards either the old file or the whole new one."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as err:
        raise ConfigError(f"Cannot write the report {path}: {err}. Choose another place.") from err
    finally:
        partial.unlink(missing_ok=True)


def table(report: Mapping[str, Any]) -> str:
    """Say the means of a report in lines of text: metric, value and 95 % interval."""
    lines = [f"{report['model']}: {report['n']} images"]
    for name, row in report["mean"].items():
        value, low, high = (
            "–" if row[k] is None else f"{row[k]:.4f}" for k in ("value", "low", "high")
        )
        lines.append(f"{name:<12} {value:>9}   {low} … {high}")
    return "\n".join(lines)


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
