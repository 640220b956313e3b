"""Block *Slide*: open, how large a pixel is, where annotations lie, export and import."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAction,
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QMenu,
    QVBoxLayout,
    QWidget,
)

from napari_genselfdiff.registry.card import MPP_MAX, MPP_MIN
from napari_genselfdiff.registry.home import data_home
from napari_genselfdiff.session.coloring import choose_colors, colors_note
from napari_genselfdiff.widgets.associated import AssociatedPictures
from napari_genselfdiff.widgets.class_mapping import ClassMapping, unknown_classes
from napari_genselfdiff.widgets.look import GAP, Block, is_tall, notice, plain_button, row, text
from napari_genselfdiff.widgets.status import Progress

if TYPE_CHECKING:
    from napari_genselfdiff.session.session import Session
    from napari_genselfdiff.slides.slide import Slide
    from napari_genselfdiff.widgets.controller import Controller

SYNTHETIC = "synthetic_slide"
SAMPLES = {
    "cmu_small_region": "CMU-1: a piece of a slide to look at",
    "tnbc_pyramid": "TNBC: breast tumour, 10 fields",
    SYNTHETIC: "A large slide, 49,152 × 49,152 pixels, made on the spot",
}
_SRGB_TIP = (
    "Show this slide in sRGB, by the colour profile its scanner stored. A first model made here"
    " learns from what is shown; other models read the colours they learned from."
)
_FILTER = (
    "Slides (*.svs *.tif *.tiff *.ndpi *.mrxs *.scn *.bif *.vms *.dcm *.qptiff *.png *.jpg"
    " *.jpeg);;All files (*)"
)
_FRAMES = {
    "QuPath GeoJSON (*.geojson)": (".geojson", "level0"),
    "QuPath GeoJSON of a slide QuPath crops to its bounds (*.geojson)": (".geojson", "qupath"),
    "Table for spreadsheets (*.csv)": (".csv", "level0"),
    "Table as Parquet (*.parquet)": (".parquet", "level0"),
    "Labels as OME-TIFF (*.ome.tif)": (".ome.tif", "level0"),
}
_IMPORTED = (
    "Annotations (*.geojson *.json *.gz *.xml);;Label images of the slide (*.tif *.tiff *.png);;"
    "All files (*)"
)


class SlideBlock(Block):
    """Shows the open slide; opens others."""

    def __init__(self, session: Session, controller: Controller) -> None:
        super().__init__("Slide", 1)
        self._session, self._controller = session, controller
        self.open_button = plain_button(
            "Open slide…", "Open a slide; one can also drop the file on the window.", self._ask_file
        )
        self.samples_button = plain_button(
            "Samples", "Slides that come with the program.", _nothing
        )
        menu = QMenu(self.samples_button)
        for name, title in SAMPLES.items():
            entry = QAction(title, menu)
            entry.triggered.connect(partial(self.open_sample, name))
            menu.addAction(entry)
        self.samples_button.setMenu(menu)
        self.body.addLayout(row(self.open_button, self.samples_button))
        self.name = text(bold=True)
        self.facts = text(small=True)
        self.ask = self._make_ask()
        self.srgb = QCheckBox("True colours (sRGB)")
        self.srgb.setToolTip(_SRGB_TIP)
        self.srgb.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.srgb.toggled.connect(self._choose_colors)
        self.colors_note = text(small=True)
        self.pictures = AssociatedPictures(session)
        self.saved = text(small=True)
        self.warning = notice("warning")
        for widget in (
            self.name,
            self.facts,
            self.srgb,
            self.colors_note,
            self.pictures,
            self.ask,
            self.saved,
            self.warning,
        ):
            self.body.addWidget(widget)
        self.export_button = plain_button(
            "Export…",
            "Write the annotations as QuPath GeoJSON, a table or labels.",
            self._ask_export,
        )
        self.import_button = plain_button(
            "Import…",
            "Read GeoJSON, Aperio XML, HistomicsUI JSON or a label image.",
            self._ask_import,
        )
        self.body.addLayout(row(self.export_button, self.import_button))
        self.progress = Progress(session.exporting.cancel)
        self.body.addWidget(self.progress)
        events = session.events
        self._connections = [
            (events.slide_changed, self.show_slide),
            (events.colors_changed, self.show_colors),
            (events.model_changed, self.show_colors),
            (events.exporting_changed, self.show_export),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)
        self.show_slide()

    def cleanup(self) -> None:
        """Let go of the session."""
        for signal, slot in self._connections:
            signal.disconnect(slot)

    def show_slide(self) -> None:
        """Show what is open."""
        session, slide = self._session, self._session.slide
        self.name.setText("No slide open" if slide is None else slide.path.name)
        self.name.setToolTip("" if slide is None else str(slide.path))
        self.facts.setVisible(slide is not None)
        self.facts.setText("" if slide is None else _facts(slide))
        self.ask.setVisible(slide is not None and slide.mpp is None)
        self.show_colors()
        self.pictures.show_slide()
        store = session.store
        self.saved.setVisible(store is not None)
        if store is not None:
            how = "Only to look at" if store.read_only else "Saved by itself"
            self.saved.setText(f"{how}: {store.path.name}")
            self.saved.setToolTip(f"Annotations lie in\n{store.path}")
        self.show_warning()
        self.say_folded("" if slide is None else slide.path.name)
        if slide is not None and not is_tall():
            self.set_open(slide.mpp is None)  # a question must be seen; the rest is in the way
        self.show_export()
        self.import_button.setEnabled(store is not None and not store.read_only)

    def show_export(self) -> None:
        """Show the export that goes on; another one has to wait."""
        activity = self._session.exporting.activity
        self.progress.show_activity(activity)
        self.export_button.setEnabled(self._session.store is not None and activity is None)

    def show_colors(self) -> None:
        """Show which colours are read, and whether the model reads others."""
        slide = self._session.slide
        self.srgb.setVisible(slide is not None and slide.icc_profile is not None)
        self.srgb.blockSignals(True)  # it follows the session here
        self.srgb.setChecked(slide is not None and slide.colors == "srgb")
        self.srgb.blockSignals(False)
        note = colors_note(self._session)
        self.colors_note.setText(note)
        self.colors_note.setVisible(bool(note))

    def _choose_colors(self, wanted: bool) -> None:
        with self._session.attempt():
            choose_colors(self._session, "srgb" if wanted else "stored")
        self.show_colors()

    def show_warning(self) -> None:
        """Show what is wrong with the slide or its annotations, as known so far."""
        session = self._session
        found = [] if session.slide is None else list(session.slide.warnings)
        if session.store_problem:
            found.insert(0, session.store_problem)
        words = "\n".join(found)
        if words != self.warning.text() or self.warning.isHidden() == bool(words):
            self.warning.setText(words)
            self.warning.setVisible(bool(words))

    def open_sample(self, name: str, _checked: bool = False) -> None:
        """Open a slide that came with the program, from a copy in the user's folder."""
        from napari_genselfdiff.samples import copy_sample
        from napari_genselfdiff.samples.synthetic import make_synthetic_slide

        folder = data_home() / "samples"
        with self._session.attempt():
            is_shipped = name != SYNTHETIC
            path = copy_sample(name, folder) if is_shipped else make_synthetic_slide(folder)
            self._controller.open_slide(str(path))

    def export_to(self, path: str, kind: str = "") -> None:
        """Begin to write what the name asks for, or ``kind`` where the name asks for nothing."""
        from napari_genselfdiff.annotation.exchange.outgoing import KINDS

        suffix, frame = _FRAMES.get(kind, (".geojson", "level0"))
        if not path.lower().endswith(tuple(KINDS)):
            path += suffix
        self._controller.save()
        with self._session.attempt():
            self._session.exporting.start(Path(path), "qupath" if frame == "qupath" else "level0")

    def import_from(self, path: str) -> None:
        """Read annotations; where a class is not known, ask which it is."""
        from napari_genselfdiff.annotation.exchange.incoming import classes_in

        self._controller.leave()
        with self._session.attempt():
            found, mapping = classes_in(Path(path)), None
            if unknown_classes(found, self._session.task):
                dialog = ClassMapping(found, self._session.task, self)
                answered, mapping = dialog.exec(), dialog.mapping()
                dialog.deleteLater()
                if not answered:
                    return
            self._session.import_file(Path(path), mapping)

    def _make_ask(self) -> QWidget:
        """Ask for the size of a pixel, with the two usual answers."""
        holder = QWidget()
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(GAP)
        question = notice("warning")
        question.setText("The file does not say how large a pixel is. What was the scan?")
        inside.addWidget(question)
        self.usual = [
            plain_button(
                f"{mpp:g} µm ({lens}×)",
                f"Scanned with the {lens}× lens: {mpp:g} µm per pixel.",
                partial(self.assume, mpp),
            )
            for mpp, lens in ((0.25, 40), (0.5, 20))
        ]
        inside.addLayout(row(*self.usual))
        self.mpp = QDoubleSpinBox()
        self.mpp.setRange(MPP_MIN, MPP_MAX)
        self.mpp.setDecimals(3)
        self.mpp.setSingleStep(0.05)
        self.mpp.setValue(0.25)
        self.mpp.setSuffix(" µm")
        self.mpp.setToolTip("Micrometres per pixel at full resolution")
        self.own_button = plain_button(
            "Use this", "Use the value on the left.", lambda: self.assume(self.mpp.value())
        )
        inside.addLayout(row(self.mpp, self.own_button))
        return holder

    def assume(self, mpp: float) -> None:
        """Take the user's word for the size of a pixel."""
        with self._session.attempt():
            self._session.assume_mpp(mpp)

    def _ask_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open slide", "", _FILTER)
        if path:
            self._controller.open_slide(path)

    def _ask_export(self) -> None:
        slide = self._session.slide
        if slide is None:
            return
        proposal = slide.path.with_name(f"{slide.path.stem}.{self._session.task.name}.geojson")
        kinds = ";;".join(_FRAMES)
        path, kind = QFileDialog.getSaveFileName(self, "Export", str(proposal), kinds)
        if path:
            self.export_to(path, kind)

    def _ask_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import", "", _IMPORTED)
        if path:
            self.import_from(path)


def _facts(slide: Slide) -> str:
    height, width = slide.shape
    pixels = f"{width:,} × {height:,} px"
    if slide.mpp is None:
        return f"{pixels} · µm per pixel unknown"
    size = f"{width * slide.mpp / 1000:.2f} × {height * slide.mpp / 1000:.2f} mm"
    assumed = " (assumed)" if slide.mpp_assumed else ""
    return f"{size} · {slide.mpp:.4g} µm/px{assumed} · {pixels}"


def _nothing() -> None:
    """A button with a menu does nothing by itself."""
