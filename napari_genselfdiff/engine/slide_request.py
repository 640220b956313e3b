"""Beginning a whole-slide run, or going on with one, and taking its blocks into the annotations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import napari_genselfdiff
from napari_genselfdiff.annotation.runs import (
    Manifest,
    ModelInRun,
    RunFolder,
    SlideInRun,
    pack_tiles,
    unfinished_runs,
    unpack_tiles,
)
from napari_genselfdiff.errors import ConfigError, StoreCorruptError
from napari_genselfdiff.prediction.plan import BLOCK, Plan, Tissue, plan_slide
from napari_genselfdiff.prediction.profile import Profile
from napari_genselfdiff.prediction.tiles import model_downsample
from napari_genselfdiff.prediction.whole_slide import pieces
from napari_genselfdiff.slides.geometry import Region

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_genselfdiff.annotation.store import AnnotationStore
    from napari_genselfdiff.annotation.window import Written
    from napari_genselfdiff.registry.folder import Model
    from napari_genselfdiff.slides.slide import Slide

WHAT = "Segment slide"
"""How a block taken over is called in the history."""


@dataclass(frozen=True)
class SlideRequest:
    """What is asked for: a slide, a model, and the annotations it goes into."""

    slide: Slide
    store: AnnotationStore
    task: str
    model: Model
    profile: Profile
    region0: Region | None = None
    threshold: float | None = None
    block: int = BLOCK

    def unfinished(self) -> RunFolder | None:
        """The newest unfinished run of the task and region in the annotations."""
        wanted = _box(self.region0)
        for run in reversed(unfinished_runs(self.store.path)):
            found = run.manifest()
            if found.task == self.task and found.region == wanted:
                return run
        return None

    def discard_unfinished(self) -> None:
        """Forget unfinished runs of the task and region, and those that are damaged."""
        for run in unfinished_runs(self.store.path):
            try:
                found = run.manifest()
            except StoreCorruptError:
                run.discard()
                continue
            if found.task == self.task and found.region == _box(self.region0):
                run.discard()

    def begin(self, tissue: Tissue | None = None) -> tuple[RunFolder, Plan]:
        """Plan a run and write it down; errors as for ``plan_slide``, which takes ``tissue``."""
        slide, card = self.slide, self.model.card
        plan = plan_slide(
            slide,
            card,
            self.region0,
            block=self.block,
            threshold=self.threshold,
            tissue=tissue,
        )
        rows, columns = plan.wanted.shape
        manifest = Manifest(
            app_version=napari_genselfdiff.__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            slide=self._slide(),
            model=ModelInRun(
                path=str(self.model.path.absolute()), name=card.name, hash=self.model.hash
            ),
            task=self.task,
            profile=self.profile.to_dict(),
            region=_box(self.region0),
            threshold=self.threshold,
            block=self.block,
            tile_rows=rows,
            tile_columns=columns,
            tiles=pack_tiles(plan.wanted),
        )
        return RunFolder.create(self.store.path, manifest), plan

    def go_on(self, run: RunFolder) -> Plan:
        """Give the plan of an unfinished run, if this request is the same.

        Raises
        ------
        ConfigError
            If slide, model, profile or version are not those the run was begun with.
        """
        found = run.manifest()
        _check_same(found, self._slide(), self.model, self.profile)
        scale = model_downsample(self.slide.mpp, self.model.card.mpp_range)
        region0 = Region(*found.region) if found.region is not None else None
        whole = Region(0, 0, *self.slide.shape)
        inside = whole if region0 is None else region0.clipped(self.slide.shape) or whole
        card, wanted = self.model.card, unpack_tiles(found)
        region = inside.to_grid(scale.downsample)
        core = card.tile - 2 * card.halo
        if wanted.shape != (-(-region.y1 // core), -(-region.x1 // core)):
            raise ConfigError(_other(run, "a plan for another size of slide"))
        return Plan(region, scale, card.tile, card.halo, found.block, wanted)

    def spec(self, run: RunFolder, plan: Plan) -> dict[str, Any]:
        """What every worker of the run needs to know, as plain values."""
        return {
            "version": napari_genselfdiff.__version__,
            "run": str(run.path.absolute()),
            "slide": str(Path(self.slide.path).absolute()),
            "slide_hash": self.slide.hash,
            "mpp": self.slide.mpp if self.slide.mpp_assumed else None,
            "colors": self.slide.colors,
            "model": str(self.model.path.absolute()),
            "model_hash": self.model.hash,
            "profile": self.profile.to_dict(),
            "region": list(_box(plan.region) or ()),
            "store_downsample": self.store.downsample(self.task),
        }

    def take_over(
        self, run: RunFolder, number: int, side: int | None = None
    ) -> Iterator[Written | None]:
        """Put a finished block into the annotations, around everything a person stands behind.

        Parameters
        ----------
        run, number
            Which block.
        side
            Pixels of the task's grid written at once; None is all. The block is then kept until
            the run ends, for an undo may take it away again.

        Yields
        ------
        Written or None
            After every part; None alone if the block is damaged and has to be computed again.
        """
        found = run.read_block(number)
        if found is None:
            yield None
            return
        window, facts = found
        for part in [window] if side is None else pieces(window, side):
            yield self.store.write_prediction(
                self.task, part, model_hash=self.model.hash, what=WHAT
            )
        run.take(number, facts, keep=side is not None)

    def _slide(self) -> SlideInRun:
        slide = self.slide
        return SlideInRun(
            path=str(Path(slide.path).absolute()),
            hash=slide.hash,
            height=slide.shape[0],
            width=slide.shape[1],
            mpp=slide.mpp if slide.mpp_assumed else None,
            colors=slide.colors,
        )


def objects_in(run: RunFolder) -> int:
    """Objects of the blocks that were taken over."""
    return sum(int(facts.get("objects", 0)) for facts in run.taken().values())


def _check_same(found: Manifest, slide: SlideInRun, model: Model, profile: Profile) -> None:
    """Refuse to mix the answers of different runs."""
    version = napari_genselfdiff.__version__
    pairs = {
        "the slide's content": (found.slide.hash[:12], slide.hash[:12]),
        "µm per pixel": (found.slide.mpp, slide.mpp),
        "the colours": (found.slide.colors, slide.colors),
        "the model": (
            f"{found.model.name} ({found.model.hash[:12]})",
            f"{model.card.name} ({model.hash[:12]})",
        ),
        "the package version": (found.app_version, version),
    }
    profiles = Profile.from_dict(found.profile).to_dict(), profile.to_dict()
    for name in sorted(profiles[0].keys() | profiles[1].keys()):
        pairs[f"the profile's {name}"] = profiles[0].get(name), profiles[1].get(name)
    for what, (was, now) in pairs.items():
        if was != now:
            raise ConfigError(
                f"an unfinished run of this slide was begun {found.created} with another value of "
                f"{what}: {was}, now {now}. Go on with the old value, or discard that run "
                "(--fresh) and start anew; what it finished stays in the annotations"
            )


def _other(run: RunFolder, what: str) -> str:
    return f"the unfinished run {run.path.name} holds {what}; discard it (--fresh) and start anew"


def _box(region: Region | None) -> tuple[int, int, int, int] | None:
    return None if region is None else (region.y, region.x, region.height, region.width)
