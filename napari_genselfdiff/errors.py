"""Every exception this package raises on purpose.

None of them is a ``RuntimeError``: generator workers of Qt libraries swallow that one silently.
"""

from __future__ import annotations


class GenSelfDiffError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(GenSelfDiffError, ValueError):
    """A setting or an argument has a value we cannot work with."""


class SlideError(GenSelfDiffError, OSError):
    """A slide cannot be opened or read."""


class ModelFileError(GenSelfDiffError, OSError):
    """A model folder or weights file is missing something or was altered."""


class StoreError(GenSelfDiffError, OSError):
    """Annotations cannot be read or written."""


class StoreLockedError(StoreError):
    """Another window or process owns the annotations of this slide."""


class StoreMismatchError(StoreError):
    """The annotations belong to another slide."""


class StoreCorruptError(StoreError):
    """The annotations on disk are damaged."""


class ExchangeError(GenSelfDiffError, ValueError):
    """A file to import is not what it claims to be, or an export cannot be made."""


class TrainingError(GenSelfDiffError):
    """Training stopped because going on would not give a usable model."""


class StoppedError(GenSelfDiffError):
    """Work ended early because somebody asked for that; nothing of it is left."""


class JobFailedError(GenSelfDiffError):
    """A background job stopped early; the message or ``__cause__`` says why."""
