"""The verbs of the diffusion wing: train."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi.cli_terminal import Terminal, say
from medi.errors import MediError

if TYPE_CHECKING:
    from medi.cohort.table import Cohort
    from medi.diffusion.training import Recipe


def train(
    packed: Annotated[Path, typer.Argument(metavar="PACKED", help="Packed cohort with a split (holdout, then pack).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the model; the same command goes on.")] = Path("model"),
    preset: Annotated[str, typer.Option(help="paper, demo, patch64, patch128 or patch256.")] = "patch64",
    class_alone: Annotated[bool, typer.Option("--cls", help="Condition on the class alone: the baseline.")] = False,
    images: Annotated[int | None, typer.Option(min=1, help="Length of training.", show_default="the preset's")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per update.", show_default="the preset's")] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Images at once, where a batch does not fit.", show_default="the batch")
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile; on a CPU it needs a C++ compiler.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a diffusion model on the class and metadata of a cohort's training patches; resumes bitwise.

    Writes model.safetensors (with vocabularies and settings) and log.jsonl; the validation split gives the loss in it.

    Example: medi train my-packed --preset patch64 --out my-model
    """
    from medi.diffusion import training
    from medi.diffusion.presets import preset as named

    chosen = named(preset)
    cohort = _packed(packed, chosen.network.size)
    given = {"images": images, "batch": batch, "micro_batch": micro_batch, "compile": compile or None}
    recipe = _fitted(chosen.recipe, {name: value for name, value in given.items() if value is not None})
    schema = cohort.schema.restrict([]) if class_alone else cohort.schema
    patches, validation = cohort.where(split="train"), cohort.where(split="validation")
    conditions = ", ".join(attribute.name for attribute in schema.conditions)
    say(f"{len(patches):,} patches; conditions: {conditions}; {recipe.images:,} images in batches of {recipe.batch}")
    with Terminal().bars("training") as (advance,):
        model = training.train(patches, out, chosen.network, recipe, schema, seed, validation, advance)
    last = training.read_log(out)[-1]
    use = last["utilisation"]
    say(
        f"model: {model}; {last['images_per_second']:,.0f} images/s, {last['gflop_per_image']:.2f} GFLOP an image"
        + ("" if use is None else f", {use:.0%} of the GPU's dense bf16 rate")
    )


def _packed(folder: Path, size: int) -> "Cohort":
    """A packed cohort that has training patches of the wanted size."""
    from medi.cohort.table import Cohort

    if not (folder / "cohort.json").exists():
        raise MediError(f"{folder}: no cohort folder; `medi pack SOURCE --size {size} --out {folder}` writes one")
    cohort = Cohort.load(folder)
    if cohort.pixels is None:
        raise MediError(f"{folder}: not packed; `medi pack {folder} --size {size} --out packed` decodes its images")
    if "split" not in cohort.table or not (cohort.table["split"] == "train").any():
        raise MediError(f"{folder}: no patch is for training; run `medi holdout` first, then pack what it wrote")
    return cohort


def _fitted(recipe: "Recipe", given: dict[str, Any]) -> "Recipe":
    """The recipe as the user changes it; states are saved at whole batches."""
    batch = given.get("batch", recipe.batch)
    return replace(recipe, **given, save_every=max(recipe.save_every // batch, 1) * batch)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command `medi`."""
    app.command()(train)
