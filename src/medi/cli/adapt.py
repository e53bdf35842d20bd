"""The verb adapt: a new level of an attribute from a few patches, and levels joined from their small files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from medi.cli.help import add_several
from medi.cli.next_step import named, next_step
from medi.cli.options import Attribute, Model, Seed, folder, model_file, with_device
from medi.cli.patches import Known, Patches, default_attribute, read_patches
from medi.cli.terminal import Terminal, say

Out = Annotated[Path, folder("the new model")]


def learn(
    model: Model,
    patches: Patches,
    name: Annotated[str, typer.Option("--name", help="The new level, such as a hospital.")],
    attribute: Attribute = None,
    rehearse: Annotated[
        Path | None,
        typer.Option(metavar="PACKED", help="Packed patches of old levels: tune weights too.", show_default=False),
    ] = None,
    known: Known = None,
    seed: Seed = 0,
    out: Out = Path("medi-adapted"),
) -> None:
    """A new level of an attribute, such as a hospital, from few patches.

    5 patches or more are needed; their class column may be empty. Without --rehearse the old levels stay as they are,
    bit for bit, and level.safetensors holds the new one alone. With it weights are tuned on new and old patches too, by
    low-rank changes and all of them; what denoises a held-back fifth of the new ones best is kept.

    Example: medi adapt my-model new-patches --name "St. Elsewhere"
    """
    from medi.cohort.table import Cohort
    from medi.models.checkpoint import load_checkpoint
    from medi.study.beside import packed_for
    from medi.training.adaptation import adapt
    from medi.training.adaptation.learning import AdaptSettings

    schema = load_checkpoint(model_file(model)).schema
    chosen = attribute or default_attribute(schema)
    cohort = read_patches(patches, schema, known)
    old = None if rehearse is None else _training(Cohort.load(rehearse))
    settings = AdaptSettings(seed=seed)
    with Terminal().bars("adapting") as (advance,):
        made = adapt.adapt(model_file(model), cohort, chosen, name, out, settings, old, advance)
    losses = _listed(made.record["held_back_loss"])
    say(f"{chosen} {name} from {len(cohort):,} patches: {made.method}; loss on held-back patches: {losses}")
    if made.record["old_loss"]:
        say("loss on old patches: " + _listed(made.record["old_loss"]))
    say(f"adapted ({made.record['seconds']:.0f} s): {made.path}")
    next_step("transfer", out, named(packed_for(model_file(model), out), "medi-packed"), "--to", name)


def _listed(losses: dict[str, float]) -> str:
    return ", ".join(f"{method} {loss:.4f}" for method, loss in losses.items())


def _training(cohort: Any) -> Any:
    """The training patches of a cohort with a split, all of one without."""
    train = cohort.where(split="train") if "split" in cohort.table else cohort
    return train if len(train) else cohort


def join(
    model: Model,
    levels: Annotated[list[Path], typer.Argument(metavar="LEVEL...", help="level.safetensors of medi adapt.")],
    out: Out = Path("medi-adapted"),
) -> None:
    """A model with several levels that were learned one by one.

    Example: medi adapt join my-model a/level.safetensors b/level.safetensors
    """
    from medi.study.beside import packed_for
    from medi.training.adaptation import adapt

    say(f"joined {len(levels)} levels: {adapt.join(model_file(model), levels, out)}")
    next_step("transfer", out, named(packed_for(model_file(model), out), "medi-packed"), "--to", "all")


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add_several(app, "adapt", [with_device(learn), join])
