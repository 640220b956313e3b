"""Where this program keeps what belongs to the user: models, profiles, annotations."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path


def data_home() -> Path:
    """Folder named by the environment variable GENSELFDIFF_HOME, or the user's data folder."""
    named = os.environ.get("GENSELFDIFF_HOME", "").strip()
    return (
        Path(named).expanduser() if named else user_data_path("napari-genselfdiff", "genselfdiff")
    )


def cache_home() -> Path:
    """Folder for what can be computed again: ``cache`` of GENSELFDIFF_HOME, or the user's own."""
    named = os.environ.get("GENSELFDIFF_HOME", "").strip()
    if named:
        return Path(named).expanduser() / "cache"
    return user_cache_path("napari-genselfdiff", "genselfdiff")
