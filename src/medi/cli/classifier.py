"""The verb classifier: a classifier of noisy patches, which draws samples towards their class."""

from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.options import Seed, folder, given, with_device
from medi.cli.source import show_notes, training_cohort
from medi.cli.terminal import Terminal, say


def classifier(
    packed: Annotated[Path, typer.Argument(metavar="PACKED", help="Packed cohort with a split (holdout, then pack).")],
    out: Annotated[Path, folder("the classifier; the same command goes on")] = Path("medi-classifier"),
    images: Annotated[int | None, typer.Option(min=1, help="Noisy patches shown.", show_default="160,000")] = None,
    colour: Annotated[float | None, typer.Option(min=0, help="Spread of random colours.", show_default="0.25")] = None,
    seed: Seed = 0,
) -> None:
    """Train a classifier that draws samples towards their class.

    A model may show the hospital that was asked for and miss the class. This small network learns the class of noisy
    training patches, whatever their colours. `medi sample --classifier` follows it while it makes an image.

    Example: medi classifier my-packed --out my-classifier
    """
    from medi.api.guiding import train_in_split
    from medi.training.classifier import ClassifierSettings

    cohort = training_cohort(packed, "medi classifier")
    settings = ClassifierSettings(**given(images=images, colour=colour))
    show_notes(cohort)
    with Terminal().bars("training the classifier") as (advance,):
        file = train_in_split(cohort, out, settings, seed, advance)
    say(f"classifier: {file}; it guides with `medi sample MODEL PLAN --classifier {out}`")


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(classifier))
