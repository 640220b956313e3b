"""What a store tells those who listen."""

from __future__ import annotations

from psygnal import Signal, SignalGroup


class StoreEvents(SignalGroup):
    """What a store tells.

    ``changed(task, region of the task's grid)``: pixels are others now. ``tasks_changed(task)``:
    the task is new or its list of classes another one. ``history_changed()``: something was done,
    undone or can no longer be. ``notice(text)``: one or two sentences a user has to hear at once.
    """

    changed = Signal(str, object)
    tasks_changed = Signal(str)
    history_changed = Signal()
    notice = Signal(str)
