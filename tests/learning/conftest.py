"""What several test modules of learning share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.learning import tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows the usual tissue; nothing may ever change it."""
    folder = tmp_path_factory.mktemp("models") / "base"
    tiny.trained_model(folder)
    return folder
