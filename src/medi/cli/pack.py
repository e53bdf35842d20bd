"""The verb pack: images decoded once into the store that training reads."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import after_reading
from medi.cli.options import folder, one_of
from medi.cli.source import Source, with_source
from medi.cli.terminal import Terminal, say, warn
from medi.core.errors import MediError


def pack(
    source: Source,
    size: Annotated[int, typer.Option(min=1, help="Side of the packed patches in pixels.")],
    out: Annotated[Path, folder("the packed cohort; the same command goes on where it stopped")] = Path("medi-packed"),
    mode: Annotated[
        str,
        typer.Option(
            help="resize (square images), crop (the centre) or tile.", autocompletion=one_of("resize", "crop", "tile")
        ),
    ] = "resize",
    to_mpp: Annotated[
        float | None, typer.Option(help="crop, tile: resample to these micrometres per pixel.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one a core")] = None,
) -> None:
    """Decode the images of a cohort once, for training to read.

    The same command goes on after an interruption.

    Example: medi pack my-holdout --size 64 --out my-packed
    """
    from medi.cohort.depth import UNSTATED

    cohort = source.read()
    if cohort.pixels is not None:
        remedy = "give it to the next verb as it is" if size == cohort.pixels.size else "pack its source again"
        raise MediError(f"{source.path} is packed already, at {cohort.pixels.size} pixels; {remedy}")
    if not cohort.info.get("root"):
        if cohort.has_features:
            raise MediError(f"{source.path}: {cohort.no_images('medi pack')}")
        raise MediError(f"{source.path}: no images are known here; name their column (--image) when reading the source")
    fit = partial(cohort.pack, mode=mode, mpp=to_mpp, workers=workers, on_error=source.on_error)  # type: ignore[arg-type]
    with Terminal().bars("packing") as (advance,):
        packed = fit(out, size, progress=advance)
    skipped = packed.info["packing"]["skipped"]
    for found in skipped:
        say(f"left out: {found['image']}: {found['reason']}")
    if dark := packed.info["packing"].get("dark", []):
        warn(f"{len(dark):,} images of 16 bits are dark, the first {dark[0]}: {UNSTATED}")
    say(f"packed: {len(packed):,} patches of {size} px, {len(skipped):,} images left out: {out}")
    after_reading(packed, out)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_source(pack))
