"""``genselfdiff COMMAND``: everything the plugin does, without a window."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import napari_genselfdiff
from napari_genselfdiff.commands import (
    cluster,
    cohort,
    console,
    doctor,
    evaluate,
    exchange,
    learn,
    measure,
    models,
    refine,
    refine_bundle,
    segment,
)
from napari_genselfdiff.engine.heap import keep_freed_memory

app = typer.Typer(
    cls=console.Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Annotate whole-slide histology: Predict, Correct, Refine. Research use only.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.say(napari_genselfdiff.__version__)
        raise typer.Exit


@app.callback()
def main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Annotate whole-slide histology: Predict, Correct, Refine. Research use only."""
    keep_freed_memory()


@app.command()
def info(
    slide: Annotated[Path, typer.Argument(help="Slide.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a slide is: levels, pixel size, reader, what is wrong with it."""
    from napari_genselfdiff.slides.slide import open_slide, slide_info

    with open_slide(slide) as opened:
        facts = slide_info(opened)
    if as_json:
        console.say_json(facts)
        return
    unknown = "not stated in the file"
    console.say(f"{slide.name}, read as {facts['reader']}")
    console.say(f"µm per pixel: {unknown if facts['mpp'] is None else format(facts['mpp'], 'g')}")
    for number, level in enumerate(facts["levels"]):
        size = f"{level['height']} x {level['width']}"
        console.say(f"level {number}: {size}, downsample {level['downsample']:g}")
    console.say(f"identity: {facts['hash']}")
    for warning in facts["warnings"]:
        console.say(f"careful: {warning}")


@app.command()
def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Run the whole journey by itself.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for pictures, annotations, report.")] = Path(
        "demo-output"
    ),
) -> None:
    """See it work: a window to try, or the whole journey with a picture of every step."""
    from napari_genselfdiff.demo import run

    run(out, headless=headless)


app.command("doctor")(doctor.doctor)
app.command("segment")(segment.segment)
app.command("cohort")(cohort.cohort)
app.command("refine")(refine.refine)
app.command("bundle")(refine_bundle.bundle)
app.command("pretrain")(learn.pretrain)
app.command("finetune")(learn.finetune)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(exchange.export)
app.command("import")(exchange.import_)
app.command("measure")(measure.measure)
app.add_typer(models.app, name="models")
app.add_typer(cluster.app, name="cluster")
