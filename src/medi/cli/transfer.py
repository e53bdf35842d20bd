"""The verb transfer: real patches as they would look at other levels."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Attribute, Model, Shard, folder, model_file, with_device
from medi.cli.patches import Known, Patches, default_attribute, levels_of, read_patches
from medi.cli.terminal import Terminal, say
from medi.cli.values import shard_of
from medi.core.errors import MediError

if TYPE_CHECKING:
    from medi.models.style import StyleModel
    from medi.sampling.transfer import TransferSettings

Own = Annotated[bool, typer.Option("--own", help="Also back to a patch's own level: what the method costs.")]
Common = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="One change per pair of levels, learned from N patches of each.", show_default="off"
    ),
]


def transfer(
    model: Model,
    patches: Patches,
    to: Annotated[list[str], typer.Option("--to", metavar="LEVEL", help="Target levels: a,b or repeated; or all.")],
    out: Annotated[Path, folder("the translated cohort")] = Path("medi-transfer"),
    attribute: Attribute = None,
    known: Known = None,
    strength: Annotated[float, typer.Option(help="Share of the way to noise, 0 to 1; less keeps more.")] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps up and steps down at strength 1.")] = 15,
    solver: Annotated[str, typer.Option(help="dpm_solver_2m, ipndm, heun (twice the work) or ddim.")] = "dpm_solver_2m",
    own: Own = False,
    common: Common = None,
    shard: Shard = "0/1",
    batch: Annotated[int, typer.Option(min=1, help="Patches at once; part of what makes them repeatable.")] = 64,
) -> None:
    """Real patches as they would look at another hospital.

    Their tissue is kept; the attribute may be any. The same command goes on where it stopped. PATCHES must have the
    model's size. What is not known of an image counts as missing: say it with --known. With --common all patches
    between two levels get the same change of colour and focus, which is closer to the truth where a level has many
    patches, and costs as much as the N that it is learned from. MODEL may also be the style model of a study,
    RUN/style-model. Writes a cohort like any other, and grid.png: a row per patch, the patch itself, then each level.

    Example: medi transfer my-model my-packed --to Asterand,Christiana
    """
    from medi.cohort.loose_images import IMAGES
    from medi.models.checkpoint import load_checkpoint
    from medi.models.style import STYLE, STYLE_FILE, is_style, load_style
    from medi.sampling import transfer as bridge
    from medi.sampling.common import transfer_in_common
    from medi.sampling.style import style_transfer
    from medi.sampling.translated import write_images, write_sheet

    file = model / STYLE_FILE if (model / STYLE_FILE).is_file() else model_file(model)
    style, started = load_style(file) if is_style(file) else None, time.perf_counter()
    schema = style.schema if style else load_checkpoint(file).schema
    name = attribute or (style.attribute if style else default_attribute(schema))
    cohort = read_patches(patches, schema, known)
    levels, part = levels_of(schema, name, to), shard_of(shard)
    rows = bridge.at_levels(cohort, schema, name, levels, own)
    settings = bridge.TransferSettings(steps, strength, solver=solver, batch=min(batch, len(cohort)))
    _check_style(style, name, common, settings)
    with Terminal().bars("transfer") as (advance,):
        if style:
            made = style_transfer(file, cohort, rows, out, advance, part)
        elif common is None:
            made = bridge.transfer(file, cohort, rows, out, settings, advance, part)
        else:
            made = transfer_in_common(file, cohort, rows, name, out, settings, common, 0, advance, part)
    took = f"{time.perf_counter() - started:.0f} s"
    if made is None:
        say(f"shard {shard} is done ({took}); the last of the others joins all: {out}")
        return
    write_sheet(cohort, made, name, levels, out / "grid.png")
    as_images = cohort.info.get("source") == IMAGES
    if as_images:
        write_images(made, out / "images")
    how = STYLE if style else settings
    say(f"translated: {len(made):,} patches to {name} {', '.join(levels)}, {how} ({took}): {out}")
    next_step(*(("doctor", out) if as_images else ("fidelity", patches, f"translated={out}")))


def _check_style(style: "StyleModel | None", name: str, common: int | None, settings: "TransferSettings") -> None:
    """Refuse what a style model would pass over."""
    if style and name != style.attribute:
        raise MediError(f"--attribute {name}: the style model was trained between the levels of {style.attribute}")
    if style and (common is not None or settings != replace(type(settings)(), batch=settings.batch)):
        raise MediError("--strength, --steps, --solver and --common are of a MeDi model; leave them out")


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(transfer))
