"""The verbs of the diffusion wing: train, sample and export."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medi.cli.help import add
from medi.cli.options import Model, Seed, Shard, model_file
from medi.cli.terminal import Terminal, say
from medi.cli.values import RANGE, interval, named_numbers, shard_of
from medi.core.errors import MediError

if TYPE_CHECKING:
    import pandas as pd

    from medi.cohort.table import Cohort
    from medi.models.conditioning import Dropout
    from medi.models.denoiser import Denoiser
    from medi.sampling.guidance import Guidance
    from medi.training.recipe import Recipe


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
    dropout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]RATE", help="Drop conditions at random, for guidance.", show_default="the preset's"
        ),
    ] = None,
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile; on a CPU it needs a C++ compiler.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained; write nothing.")] = False,
    seed: Seed = 0,
) -> None:
    """Train a diffusion model on class and metadata.

    The same command goes on where it stopped, to the same weights bit for bit. Writes model.safetensors (with
    vocabularies and settings) and log.jsonl; the validation split gives the loss in it.

    Example: medi train my-packed --preset patch64 --out my-model
    """
    from medi.models.denoiser import Denoiser
    from medi.sampling.sampler import draw
    from medi.training.log import read_log
    from medi.training.loop import check_size
    from medi.training.loop import train as run
    from medi.training.presets import preset as named

    chosen = named(preset)
    cohort = _packed(packed, chosen.network.size)
    given: dict[str, Any] = {"images": images, "batch": batch, "micro_batch": micro_batch, "compile": compile or None}
    given["dropout"] = _dropout(dropout) if dropout else None
    recipe = _fitted(chosen.recipe, {name: value for name, value in given.items() if value is not None})
    schema = cohort.schema.restrict([]) if class_alone else cohort.schema
    patches, validation = cohort.where(split="train"), cohort.where(split="validation")
    conditions = ", ".join(attribute.name for attribute in schema.conditions)
    say(f"{len(patches):,} patches; conditions: {conditions}; {recipe.images:,} images in batches of {recipe.batch}")
    if dry_run:
        check_size(patches, chosen.network)
        say(_cost(Denoiser(chosen.network, schema), recipe))
        return
    with Terminal().bars("training") as (advance,):
        model = run(patches, out, chosen.network, recipe, schema, seed, validation, advance, draw)
    last = read_log(out)[-1]
    use = last.utilisation
    say(
        f"model: {model}; {last.images_per_second:,.0f} images/s, {last.gflop_per_image:.2f} GFLOP an image"
        + ("" if use is None else f", {use:.0%} of the GPU's dense bf16 rate")
    )


def sample(
    model: Model,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Folder of medi plan, or a table (see below).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the synthetic cohort.")] = Path("medi-samples"),
    steps: Annotated[int, typer.Option(min=1, help="Noise levels.")] = 16,
    sigma_min: Annotated[float, typer.Option(help="Lowest noise level of the schedules log and edm.")] = 0.02,
    sigma_max: Annotated[float, typer.Option(help="Their highest.")] = 40.0,
    solver: Annotated[str, typer.Option(help="dpm_solver_2m, ddim, ddim_clipped or heun.")] = "dpm_solver_2m",
    schedule: Annotated[str, typer.Option(help="log, edm, leading or linspace.")] = "log",
    guidance: Annotated[
        list[str] | None, typer.Option(metavar="NAME=WEIGHT", help="Draw towards class or an attribute; 0 is none.")
    ] = None,
    guidance_interval: Annotated[
        str | None, typer.Option(metavar=RANGE, help="Guide between these sigmas only.", show_default=False)
    ] = None,
    weak: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Guide away from this weaker model.", show_default=False)
    ] = None,
    weak_weight: Annotated[float, typer.Option(help="How far, with --weak.")] = 1.0,
    eta: Annotated[float, typer.Option(min=0, help="Fresh noise in each step of dpm_solver_2m; 0 is none.")] = 0.0,
    eta_interval: Annotated[
        str | None, typer.Option(metavar=RANGE, help="Fresh noise between these sigmas only.", show_default=False)
    ] = None,
    shard: Shard = "0/1",
    batch: Annotated[int, typer.Option(min=1, help="Images at once; part of what makes them repeatable.")] = 128,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="torch.compile, for long plans; on a CPU it needs a C++ compiler.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine.", show_default="one a core, on a CPU")
    ] = None,
    seed: Seed = 0,
) -> None:
    """The synthetic cohort of a plan.

    The same command goes on where it stopped. PLAN is a folder of `medi plan`, or a CSV or Parquet table with a column
    for the class and each attribute, and n, the images of each row. An entry may mix levels: Alder:0.7+Birch:0.3. Under
    torchrun or accelerate launch processes share the work.

    Example: medi sample my-model my-plan --out my-samples --steps 20
    """
    from medi.core.progress import Show, Silent
    from medi.core.sharding import process
    from medi.sampling.generate import generate, workers_worthwhile
    from medi.sampling.sampler import SamplerSettings

    asked = _guidance(guidance or [], guidance_interval, 0.0 if weak is None else weak_weight)
    within = None if eta_interval is None else interval(eta_interval, "--eta-interval")
    kind: Any = precision  # SamplerSettings refuses what is unknown
    settings = SamplerSettings(steps, sigma_min, sigma_max, batch, solver, schedule, asked, kind, compile, eta, within)
    rows, part, started = _rows(plan), shard_of(shard), time.perf_counter()
    workers = workers or workers_worthwhile(len(rows) // max(part[1], 1), batch)
    weaker = None if weak is None else model_file(weak)
    show: Show = Silent() if process("RANK", 0) else Terminal()
    with show.bars("sampling") as (advance,):
        cohort = generate(model_file(model), rows, out, seed, settings, advance, part, weaker, workers)
    took = f"{time.perf_counter() - started:.0f} s"
    if cohort is None:
        say(f"shard {shard} is done ({took}); the last of the others joins all: {out}")
    else:
        say(f"sampled: {len(cohort):,} images, {settings} ({took}): {out}")


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pipeline.")] = Path("medi-pipeline"),
    class_name: Annotated[str, typer.Option(help="Keyword of the class: pipe(cancer=...).")] = "class_",
    data_licence: Annotated[str, typer.Option(help="Licence of the training data, for the model card.")] = "",
) -> None:
    """A folder that diffusers loads, with a model card.

    medi needs not be installed there.
    DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True) takes conditions by the names of their levels.

    Example: medi export my-model --class-name cancer --out my-pipeline
    """
    from medi.export.export import export as write

    say(f"pipeline and model card: {write(model_file(model), out, class_name, data_licence)}")


def _cost(denoiser: "Denoiser", recipe: "Recipe") -> str:
    from medi.models.cost import flop, gflop_per_image

    weights, gflop = sum(p.numel() for p in denoiser.parameters()), 3 * gflop_per_image(denoiser)
    return f"{weights / 1e6:,.1f} M parameters, {flop(gflop)} an image, {flop(gflop * recipe.images)} in all"


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


def _dropout(given: list[str]) -> "Dropout":
    """--dropout 0.1 for all conditions, or --dropout class=0.1 --dropout site=0.2."""
    rates = named_numbers(given, "--dropout", "0.1 or site=0.1")
    if "" in rates and len(given) > 1:
        raise MediError("--dropout: give one rate for all conditions, or each with its name, such as site=0.1")
    return rates.get("", rates)


def _rows(path: Path) -> "pd.DataFrame":
    """The rows of a plan folder, or of a table of counts."""
    from medi.cohort.plan import images
    from medi.cohort.readers.rows import read_rows
    from medi.core.files import read_table

    return read_table(path / "rows.parquet") if path.is_dir() else images(read_rows(path))


def _guidance(given: list[str], within: str | None, weak: float) -> "Guidance":
    from medi.sampling.guidance import Guidance

    weights = named_numbers(given, "--guidance", "class=1.5")
    return Guidance(weights, weak, None if within is None else interval(within, "--guidance-interval"))


def register(app: typer.Typer) -> None:
    """Add the verbs to the command `medi`."""
    add(app, train)
    add(app, sample)
    add(app, export)
