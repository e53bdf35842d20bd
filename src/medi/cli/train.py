"""The verb train: a diffusion model on class and metadata."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Compile, Seed, folder, given, one_of, with_device
from medi.cli.source import show_notes, training_cohort
from medi.cli.terminal import Terminal, say
from medi.cli.values import named_numbers
from medi.core.errors import MediError

if TYPE_CHECKING:
    from medi.models.conditioning import Dropout

PRESETS = ("laptop32", "laptop64", "demo", "tiny", "patch64", "patch128", "patch256", "paper")
OF_PRESET = "the preset's"
ShardModel = Annotated[bool, typer.Option("--shard-model", help="Cut weights and moments among torchrun's processes.")]


def train(
    packed: Annotated[Path, typer.Argument(metavar="PACKED", help="Packed cohort with a split (holdout, then pack).")],
    out: Annotated[Path, folder("the model; the same command goes on")] = Path("medi-model"),
    preset: Annotated[str, typer.Option(help=f"{', '.join(PRESETS)}.", autocompletion=one_of(*PRESETS))] = "laptop64",
    class_alone: Annotated[bool, typer.Option("--cls", help="Condition on the class alone: the baseline.")] = False,
    images: Annotated[int | None, typer.Option(min=1, help="Training images drawn.", show_default=OF_PRESET)] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per update.", show_default=OF_PRESET)] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Images at once, where a batch does not fit.", show_default="the batch")
    ] = None,
    dropout: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]RATE", help="Drop conditions at random, for guidance.", show_default=OF_PRESET),
    ] = None,
    autoencoder: Annotated[
        str | None,
        typer.Option(metavar="KIND:FOLDER", help="Train on latents: diffusers:FOLDER.", show_default="pixels"),
    ] = None,
    least_psnr: Annotated[
        float | None,
        typer.Option(help="dB that its round trip must keep; 0 takes any.", show_default="28"),
    ] = None,
    compile: Compile = False,
    shard_model: ShardModel = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained; write nothing.")] = False,
    seed: Seed = 0,
) -> None:
    """Train a diffusion model on class and metadata.

    The same command goes on where it stopped, to the same weights bit for bit. Writes model.safetensors (with
    vocabularies and settings) and log.jsonl; the validation split gives the loss in it.

    Example: medi train my-packed --preset laptop64 --out my-model
    """
    from medi.training.presets import preset as named

    chosen = named(preset)
    cohort = training_cohort(packed, "medi train", chosen.network.size)
    changes = given(images=images, batch=batch, micro_batch=micro_batch, compile=compile or None)
    changes |= given(autoencoder=autoencoder, least_psnr=least_psnr, shard_model=shard_model or None)
    recipe = chosen.recipe.changed(**changes, **({"dropout": _dropout(dropout)} if dropout else {}))
    chosen, patches = replace(chosen, recipe=recipe), cohort.where(split="train")
    schema = cohort.schema.restrict([]) if class_alone else cohort.schema
    show_notes(cohort, guesses=dry_run)
    conditions = ", ".join(attribute.name for attribute in schema.conditions)
    say(f"{len(patches):,} patches; conditions: {conditions}; {recipe.images:,} images in batches of {recipe.batch}")
    if dry_run:
        from medi.training.cost import cost_of
        from medi.training.loop import check_size

        check_size(patches, chosen.network)
        say(str(cost_of(chosen, schema)))
        return
    from medi.api.model import encode_split, train_split

    encode_split(cohort, chosen, out, Terminal())
    with Terminal().bars("training") as (advance,):
        model = train_split(cohort, chosen, out, seed, not class_alone, advance)
    say(f"model: {model}; {_speed(out)}{_round_trip(model)}")
    next_step("plan", packed)


def _round_trip(model: Path) -> str:
    """How good the autoencoder of a model on latents is."""
    from medi.models.checkpoint import load_checkpoint

    found = load_checkpoint(model).latents
    return f"; the patches come back from {found['autoencoder']} with {found['psnr']:.1f} dB" if found else ""


def _speed(folder: Path) -> str:
    from medi.training.log import read_log

    last = read_log(folder)[-1]
    use = "" if last.utilisation is None else f", {last.utilisation:.0%} of the GPU's dense bf16 rate"
    return f"{last.images_per_second:,.0f} images/s, {last.gflop_per_image:.2f} GFLOP an image{use}"


def _dropout(rates: list[str]) -> "Dropout":
    """--dropout 0.1 for all conditions, or --dropout class=0.1 --dropout site=0.2."""
    named = named_numbers(rates, "--dropout", "0.1 or site=0.1")
    if "" in named and len(rates) > 1:
        raise MediError("--dropout: give one rate for all conditions, or each with its name, such as site=0.1")
    return named.get("", named)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(train))
