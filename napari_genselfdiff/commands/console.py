"""What the commands say: results to stdout, everything else to stderr, errors in one line."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from napari_genselfdiff.errors import GenSelfDiffError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

FAILED = 1


class Commands(TyperGroup):
    """Commands whose failures are one clear line and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; its errors made on purpose, and the disk's, become one line."""
        try:
            return super().invoke(ctx)
        except (GenSelfDiffError, OSError) as err:
            complain(reason(err))
            raise typer.Exit(FAILED) from err


def reason(err: GenSelfDiffError | OSError) -> str:
    """Say in one line why something failed."""
    if isinstance(err, GenSelfDiffError) or not err.strerror:
        text = str(err)
    else:
        text = f"{err.strerror}: {err.filename}" if err.filename else err.strerror
    return " ".join(text.split())


def complain(text: str) -> None:
    """Write one line about what went wrong to stderr."""
    typer.echo(f"Error: {text}", err=True)


def note(text: str) -> None:
    """Write a line that is not a result to stderr."""
    typer.echo(text, err=True)


def say(text: str) -> None:
    """Write a line of the result to stdout."""
    typer.echo(text)


def say_json(values: Any) -> None:
    """Write a result as JSON, alone, to stdout."""
    typer.echo(json.dumps(values, indent=1, allow_nan=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout, plain where that is not a terminal."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def facts(values: Mapping[str, str]) -> None:
    """Write facts below each other, names and values in two columns."""
    width = max(map(len, values))
    for what, value in values.items():
        say(f"{what.ljust(width)}  {value}")


@contextmanager
def progress(title: str) -> Iterator[Callable[[float, str], None]]:
    """Show how far something is: call what is given with a share 0..1 and a few words.

    A terminal gets a bar; a log gets a line at every tenth part.
    """
    if not sys.stderr.isatty():
        yield _logger(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[words]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0, words="")
        yield lambda done, words: bar.update(task, completed=done, words=words)


def _logger(title: str) -> Callable[[float, str], None]:
    told = -1

    def tell(done: float, words: str) -> None:
        nonlocal told
        tenth = int(done * 10)
        if tenth > told:
            told = tenth
            note(f"{title}: {done:.0%} {words}".rstrip())

    return tell


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Give a question that is answered yes after Ctrl+C, so that work can be saved first.

    A second Ctrl+C stops at once. torchrun passes the first one on as a second, and SIGTERM
    after it: under it every signal only asks, and torchrun kills what takes too long.
    """
    stopped = threading.Event()
    managed = "TORCHELASTIC_RUN_ID" in os.environ

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()
        if not managed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield stopped.is_set  # signals reach the main thread only
        return
    asked = (signal.SIGINT, signal.SIGTERM) if managed else (signal.SIGINT,)
    before = {number: signal.signal(number, stop) for number in asked}
    try:
        yield stopped.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all.

    Raises
    ------
    ConfigError
        If the disk refuses.
    """
    from uuid import uuid4

    from napari_genselfdiff.errors import ConfigError

    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as err:
        raise ConfigError(
            f"{path} cannot be written: {err.strerror or err}; choose another place"
        ) from err
    finally:
        partial.unlink(missing_ok=True)
