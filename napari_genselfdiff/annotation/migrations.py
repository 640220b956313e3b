"""Older versions of the root record, brought up to date step by step.

Each step turns the raw values of one version into those of the next and never touches the disk, so
annotations of any version can be looked at as they are. ``schema.upgrade_record`` writes the result
when they are opened for writing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Values = dict[str, Any]


def _to_2(values: Values) -> Values:
    """Version 2: classes can be added, renamed and merged, and looks outlive dropped steps."""
    tasks = {
        name: {**task, "merged": {}, "used": [spec["value"] for spec in task["spec"]["classes"]]}
        for name, task in values.get("tasks", {}).items()
    }
    return {**values, "schema_version": 2, "tasks": tasks}


MIGRATIONS: Final[dict[int, Callable[[Values], Values]]] = {1: _to_2}
"""By the version they start from; each gives the next one."""


def migrated(values: Values) -> Values:
    """Raw values of any known version as those of the newest; newest ones come back as they are.

    Raises
    ------
    KeyError, TypeError, AttributeError
        If they are not what their version promises; nothing in them is trusted.
    """
    version = values.get("schema_version")
    while isinstance(version, int) and version in MIGRATIONS:
        values = MIGRATIONS[version](values)
        version += 1
    return values
