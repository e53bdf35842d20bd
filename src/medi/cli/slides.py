"""The verb slides: whole slides become a table of patches."""

from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Seed, folder, one_of
from medi.cli.terminal import Terminal, say, warn
from medi.core.requests import only

USUAL = 256


def slides(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Table with a row per slide, or folder of slides.")],
    size: Annotated[int, typer.Option(min=1, help="Side of a patch in pixels.")] = USUAL,
    mpp: Annotated[
        float | None,
        typer.Option(help="Micrometres per pixel of the patches.", show_default="that of --places, or the finest"),
    ] = None,
    out: Annotated[Path, folder("patches.parquet and slides.csv")] = Path("medi-slides"),
    slides: Annotated[
        Path | None, typer.Option("--slides", metavar="FOLDER", help="The slides.", show_default="SOURCE's folder")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="COLUMN", help="Column that names the slide.", show_default=False)
    ] = None,
    places: Annotated[
        Path | None,
        typer.Option(
            "--places",
            metavar="FOLDER",
            help="A .h5 file (CLAM, TRIDENT) or a GeoJSON file per slide.",
            show_default="where tissue is",
        ),
    ] = None,
    tissue: Annotated[float, typer.Option(help="Least share of a patch that shows tissue.")] = 0.5,
    most: Annotated[int, typer.Option(min=0, help="At most so many patches of a slide.", show_default="all")] = 0,
    keep_ids: Annotated[bool, typer.Option("--keep-ids", help="Serial numbers of scanners as they are.")] = False,
    on_error: Annotated[
        str, typer.Option("--on-error", help="Broken slides: skip or fail.", autocompletion=one_of("skip", "fail"))
    ] = "fail",
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one a core")] = None,
    seed: Seed = 0,
) -> None:
    """A table of the patches of whole slides.

    It has a row per patch, and columns of what the slide's header says of its scanner. Patches are read straight from
    the slides when they are packed. Label and overview pictures are never read; of dates the year is kept, in
    place of serial numbers stand codes that only the key in `ids.key` explains.

    Example: medi slides slides.csv --slides my-slides --size 256 --mpp 0.5
    """
    from medi.cohort.slides.planning import PATCHES, SLIDES, Field, plan_slides
    from medi.core.threads import cores

    field = Field(size, mpp, places, tissue, most, keep_ids, seed)
    home = slides or (source if source.is_dir() else source.parent)
    processes = workers or cores()
    asked = {"size": size, "mpp": mpp, "slides": str(home), "file": file, "places": str(places or ""), "tissue": tissue}
    asked |= {"most": most, "keep_ids": keep_ids, "on_error": on_error, "seed": seed}
    with only(out, "slides", {"source": source}, **asked), Terminal().bars("slides") as (advance,):
        patches, about, left_out = plan_slides(source, home, out, field, file, processes, on_error, advance)  # type: ignore[arg-type]
    for reason in left_out:
        say(f"left out: {reason}")
    empty = about[(about["patches"] == 0) & (about["reason"] == "")]
    if len(empty):
        warn(f"{len(empty):,} slides give no patch, the first {empty['slide_file'].iloc[0]}: see {out / SLIDES}")
    known = [name for name in ("scanner", "scanner_model", "vendor", "scan_year") if about[name].nunique() > 1]
    say(f"{len(patches):,} patches of {size} px from {patches['slide'].nunique():,} slides: {out / PATCHES}")
    if known:
        say(f"the headers differ in {', '.join(known)}: columns to condition on where no site is known")
    next_step("audit", out / PATCHES, *(("--attributes", known[0]) if known else ()))


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, slides)
