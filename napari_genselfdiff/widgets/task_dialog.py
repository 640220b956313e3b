"""A dialog for a task of one's own: name, kind, classes, and how sharp one must look."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QVBoxLayout,
    QWidget,
)

from napari_genselfdiff.annotation.tasks import grid_downsample, next_color
from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.card import MPP_MAX, MPP_MIN, ClassSpec, TaskSpec
from napari_genselfdiff.session.tasking import check_class_name, check_new_task
from napari_genselfdiff.session.wording import sentence
from napari_genselfdiff.widgets.colors import color_menu
from napari_genselfdiff.widgets.look import GAP, plain_button, row, swatch, text, tint

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHARPNESS: Final = (
    (0.25, "Single cells and their details: 0.25 µm/px (40×)"),
    (0.5, "Cells and glands: 0.5 µm/px (20×)"),
    (1.0, "Regions of tissue: 1 µm/px (10×)"),
    (2.0, "Large regions: 2 µm/px (5×)"),
)
_WIDTH, _FIELD = 460, 320
_OWN: Final = "Another value…"
_MOST_ASKED: Final = 9  # classes with a key; more are added in the table


class ClassLine(QWidget):
    """Name and colour of one class."""

    def __init__(self, color: str, hint: str) -> None:
        super().__init__()
        self.color = color
        self.name = QLineEdit()
        self.name.setMaxLength(64)
        self.name.setPlaceholderText(hint)
        self.color_button = plain_button("", "Choose another colour", self._ask_color)
        self.color_button.setFixedWidth(34)
        self.remove_button = plain_button("×", "Leave this class out", _nothing)
        self.remove_button.setFixedWidth(28)
        self.setMinimumHeight(self.name.sizeHint().height() + 4)
        inside = row(self.color_button, self.name, self.remove_button)
        self.setLayout(inside)
        self.set_color(color)

    def set_color(self, color: str) -> None:
        """Choose a colour."""
        self.color = color
        self.color_button.setIcon(swatch(color))

    def _ask_color(self) -> None:
        menu = color_menu(self, self.color, self.set_color)
        menu.popup(self.color_button.mapToGlobal(self.color_button.rect().bottomLeft()))


class TaskDialog(QDialog):
    """Asks for a new task; what is wrong is said while one types.

    Parameters
    ----------
    taken
        Names of the tasks there are.
    slide_mpp
        µm per pixel of the open slide, to say what the choice means for it; None without one.
    """

    def __init__(
        self, taken: Iterable[str], slide_mpp: float | None, parent: QWidget | None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("New task")
        self.setMinimumWidth(_WIDTH)
        self._taken, self._slide_mpp = tuple(taken), slide_mpp
        self.lines: list[ClassLine] = []
        outer = QVBoxLayout(self)
        outer.setSpacing(GAP)
        outer.addWidget(
            text("A task is one question asked of the tissue. Tasks never disturb one another.")
        )
        form = QFormLayout()
        form.setSpacing(GAP)
        outer.addLayout(form)
        self.name = QLineEdit()
        self.name.setMaxLength(64)
        self.name.setPlaceholderText("for example Mitoses")
        form.addRow("Name", self.name)
        form.addRow("Looks for", self._make_kinds())
        form.addRow("Classes", self._make_classes())
        form.addRow("Seen at", self._make_sharpness())
        self.problem = text()
        tint(self.problem, "warning")
        outer.addWidget(self.problem)
        self.buttons = QDialogButtonBox()  # one by one: the bindings' stubs disagree about sums
        self.ok_button = self.buttons.addButton(QDialogButtonBox.StandardButton.Ok)
        self.buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        outer.addWidget(self.buttons)
        self.name.textChanged.connect(self.check)
        self.add_class()
        self.check()

    def task(self) -> TaskSpec:
        """The task as it stands.

        Raises
        ------
        ConfigError
            What is wrong with it and what to do, in one sentence.
        """
        names = [line.name.text().strip() or line.name.placeholderText() for line in self.lines]
        for index, name in enumerate(names):
            check_class_name(name, names[:index])
        classes = tuple(
            ClassSpec(value=number, name=name, color=line.color, key=str(number))
            for number, (name, line) in enumerate(zip(names, self.lines, strict=True), start=1)
        )
        name = check_new_task(self.name.text(), self._taken)
        return TaskSpec(name=name, kind=self.kind, classes=classes, mpp=self.mpp)

    @property
    def kind(self) -> Literal["objects", "areas"]:
        """What the task looks for."""
        return "objects" if self.objects.isChecked() else "areas"

    @property
    def mpp(self) -> float:
        """Chosen µm per pixel."""
        index = self.sharpness.currentIndex()
        return _SHARPNESS[index][0] if index < len(_SHARPNESS) else float(self.own_mpp.value())

    def add_class(self) -> None:
        """Offer one more class."""
        number = len(self.lines) + 1
        line = ClassLine(next_color(one.color for one in self.lines), f"Class {number}")
        line.name.textChanged.connect(self.check)
        line.remove_button.clicked.connect(partial(self._remove, line))
        self.lines.append(line)
        self._rows.addWidget(line)
        self._show_classes()

    def check(self, _text: str = "") -> None:
        """Say what is wrong, and let nothing wrong through."""
        try:
            self.task()
            words = ""
        except ConfigError as err:
            words = sentence(str(err))
        began = bool(self.name.text())
        self.problem.setText(words or "The task can be made.")
        tint(self.problem, ("warning" if began else "plain") if words else "good")
        if self.ok_button is not None:
            self.ok_button.setEnabled(not words)
        self.own_mpp.setVisible(self.sharpness.currentIndex() == len(_SHARPNESS))
        self.about.setText(about_sharpness(self.mpp, self._slide_mpp))
        self._fit()

    def _fit(self) -> None:
        """Be as high as what is asked needs; a form does not ask its wrapped sentences."""
        for label, width in ((self.about, _FIELD), (self.problem, _WIDTH - 24)):
            label.setMinimumHeight(label.heightForWidth(width))
        layout = self.layout()
        if layout is not None:
            layout.activate()
            self.resize(self.width(), max(layout.minimumSize().height(), self.sizeHint().height()))

    def _make_kinds(self) -> QWidget:
        holder = QWidget()
        self.objects = QRadioButton("Objects to be counted, such as nuclei")
        self.areas = QRadioButton("Areas, such as tumour and stroma")
        self._kinds = QButtonGroup(self)
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 0, 0)
        for kind in (self.objects, self.areas):
            self._kinds.addButton(kind)
            inside.addWidget(kind)
        self.objects.setChecked(True)
        self.areas.toggled.connect(self._on_kind)
        return holder

    def _make_classes(self) -> QWidget:
        holder = QWidget()
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 0, 0)
        self._rows = QVBoxLayout()
        self._rows.setSpacing(2)
        inside.addLayout(self._rows)
        self.add_button = QPushButton("Add class")
        self.add_button.setToolTip("One more class; each place has one class at most.")
        self.add_button.clicked.connect(self._on_add)
        inside.addWidget(self.add_button)
        return holder

    def _make_sharpness(self) -> QWidget:
        holder = QWidget()
        self.sharpness = QComboBox()
        self.sharpness.addItems([*(words for _, words in _SHARPNESS), _OWN])
        self.sharpness.setCurrentIndex(1)
        self.own_mpp = QDoubleSpinBox()
        self.own_mpp.setRange(MPP_MIN, MPP_MAX)
        self.own_mpp.setDecimals(2)
        self.own_mpp.setValue(0.5)
        self.own_mpp.setSuffix(" µm per pixel")
        self.about = text(small=True)
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 0, 0)
        for widget in (self.sharpness, self.own_mpp, self.about):
            inside.addWidget(widget)
        self.sharpness.currentIndexChanged.connect(self._on_sharpness)
        self.own_mpp.valueChanged.connect(self._on_sharpness)
        return holder

    def _on_add(self, _checked: bool = False) -> None:
        self.add_class()
        self.check()

    def _on_kind(self, _checked: bool = False) -> None:
        """Areas are of two kinds at least as a rule, and seen from farther away."""
        self.sharpness.setCurrentIndex(2 if self.areas.isChecked() else 1)
        if self.areas.isChecked() and len(self.lines) == 1:
            self.add_class()
        self.check()

    def _on_sharpness(self, _value: float) -> None:
        self.check()

    def _remove(self, line: ClassLine, _checked: bool = False) -> None:
        self.lines.remove(line)
        self._rows.removeWidget(line)
        line.hide()
        line.deleteLater()
        self._show_classes()
        self.check()

    def _show_classes(self) -> None:
        for line in self.lines:
            line.remove_button.setEnabled(len(self.lines) > 1)
        self.add_button.setEnabled(len(self.lines) < _MOST_ASKED)


def about_sharpness(mpp: float, slide_mpp: float | None) -> str:
    """What a working resolution means, for the open slide too."""
    words = (
        "The size of a pixel the model sees. Small: fine borders, but slow and with little around. "
        "Large: fast and with much around, but fine borders are lost."
    )
    if slide_mpp is None:
        return words
    stored = slide_mpp * grid_downsample(slide_mpp, mpp)
    if stored > 1.1 * mpp:
        return f"{words} This slide has {slide_mpp:.3g} µm per pixel, so nothing finer is kept."
    return f"{words} On this slide masks are kept at {stored:.3g} µm per pixel."


def _nothing() -> None:
    """What the button does is known only where the line is."""
