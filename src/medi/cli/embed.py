"""The verb embed: features of every patch."""

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Cache, EncoderName, one_of, with_device
from medi.cli.terminal import Terminal, say
from medi.cli.values import shard_of
from medi.core.errors import MediError


def embed(
    packed: Annotated[Path, typer.Argument(metavar="PACKED", help="Packed cohort, real or synthetic.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Table to write.")] = Path("embeddings.parquet"),
    encoder: EncoderName = "colour-texture",
    cache: Cache = None,
    jpeg: Annotated[
        int | None, typer.Option(min=1, max=100, help="Quality of a JPEG round trip before.", show_default="none")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, or mixed: bf16, fp16.", autocompletion=one_of("fp32", "bf16", "fp16"))
    ] = "fp32",
    shard: Annotated[str, typer.Option(metavar="I/N", help="Part I of N, from 0, with one --cache.")] = "0/1",
) -> None:
    """Features of every patch as a table.

    The Parquet table has sample_id and a column per number. ENCODER is a name (uni), a name with its weights
    (uni:PATH), timm:ARCHITECTURE:PATH or torchscript:PATH. The same command goes on where it stopped.

    Example: medi embed my-packed --encoder uni --cache embeddings
    """
    from medi.api.measures import embed_part
    from medi.cohort.loose_images import read_packed
    from medi.core.locks import locked, part_of
    from medi.core.progress import Show, Silent
    from medi.core.sharding import process
    from medi.evaluation.encoders import encoder as named

    cohort, extractor, part = read_packed(packed), named(encoder, jpeg, precision), shard_of(shard)
    sharers = part[1] * process("WORLD_SIZE", 1)
    if cache is None and sharers > 1:
        raise MediError("shards need --cache, one folder for all of them")
    _refuse_other(out, cohort.table["sample_id"].tolist(), extractor.dimension)
    store, started = cache or out.with_name(f".{out.name}.parts"), time.perf_counter()
    show: Show = Silent() if process("RANK", 0) else Terminal()
    with locked(out.parent, f"{out.name}-{part_of(part)}"), show.bars("embedding") as (advance,):
        found = embed_part(cohort, extractor, store, part, advance)
    took = time.perf_counter() - started
    if found is None:
        say(f"shard {shard} is done ({took:.0f} s); the last of the others writes all: {out}")
        return
    found.save(out)
    if cache is None:
        shutil.rmtree(store, ignore_errors=True)
    rate = f"{len(cohort) / took:,.0f} images/s" if sharers == 1 else f"{took:.0f} s"
    say(f"{len(cohort):,} patches, {extractor.dimension} numbers each by {extractor.label} ({rate}): {out}")
    next_step("fidelity", packed)


def _refuse_other(out: Path, ids: list[str], dimension: int) -> None:
    """Refuse to write over a file that holds anything but embeddings of these patches in as many numbers."""
    from medi.core.files import read_table

    if not out.exists():
        return
    try:
        found = read_table(out)
    except MediError:
        found = None
    if found is None or not {"sample_id", "f0"} <= set(found.columns):
        raise MediError(f"{out}: is no table of embeddings; choose another --out")
    if found["sample_id"].tolist() != ids or len(found.columns) != dimension + 1:
        raise MediError(f"{out}: holds embeddings of another cohort or encoder; choose another --out, or delete it")


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(embed))
