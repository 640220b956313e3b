"""The part of a store whose state of one moment can be read elsewhere while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_genselfdiff.annotation.moment import FilesThen, LevelThen
from napari_genselfdiff.annotation.predicted import PredictedStore
from napari_genselfdiff.annotation.schema import StoreRecord, read_record

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


class HeldStore(PredictedStore):
    """A store that keeps, for a time, the files of all steps somebody may need to look back."""

    _holds = 0
    _forgotten: tuple[int, ...] = ()

    @classmethod
    def open_then(cls, path: Path, record: StoreRecord, aside: Path | None) -> Self:
        """Open annotations to read them as they were at one moment, whatever is done meanwhile.

        Only :meth:`levels`, which are for the screen, show them as they are now.

        Parameters
        ----------
        path
            Folder of the annotations.
        record
            What :meth:`moment` gave then.
        aside
            Folder of this computer where work was kept then; None if it was not.

        Raises
        ------
        StoreError
            Here or while reading: if a disk refuses, or if the journal does not reach back to that
            moment. It does for as long as :meth:`hold_steps` was not let go.
        """
        files = FilesThen(path, record, aside)
        store = cls(path, record, None, "", files)
        for arrays in store._arrays.values():
            for levels in arrays.pyramids.values():
                for at in range(1, len(levels)):
                    levels[at] = LevelThen(levels[at - 1], levels[at], files)
        return store

    def moment(self) -> StoreRecord:
        """Give what names the present state, all of which is on disk, for :meth:`open_then`."""
        self.background.settle()
        return read_record(self.files.folder) if self.read_only else self._record

    def hold_steps(self) -> None:
        """Keep the files of all steps from now on; each call asks for a :meth:`release_steps`."""
        self._holds += 1

    def release_steps(self) -> None:
        """Let go of steps nobody can undo or redo any more."""
        self._holds -= 1
        if not self._holds and not self.read_only:
            forgotten, self._forgotten = self._forgotten, ()
            self._make_room(forgotten)

    def _make_room(self, dropped: tuple[int, ...]) -> None:
        if self._holds:
            self._forgotten += dropped
        else:
            super()._make_room(dropped)
