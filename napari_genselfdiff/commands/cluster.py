"""``genselfdiff cluster``: what scheduler, workers and owner need to trust each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_genselfdiff.commands import console

app = typer.Typer(
    cls=console.Commands, no_args_is_help=True, help="Whole slides on a dask cluster, over TLS."
)


@app.callback()
def main() -> None:
    """Whole slides on a dask cluster, over TLS."""


@app.command()
def certificates(
    folder: Annotated[Path, typer.Argument(help="Where to write ca.pem, cert.pem and key.pem.")],
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of a machine; may be repeated.")
    ] = None,
) -> None:
    """Make the certificates of a cluster; keep the folder private."""
    from napari_genselfdiff.engine.cluster import make_certificates

    for path in make_certificates(folder, host or []):
        console.say(str(path))
