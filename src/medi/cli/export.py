"""The verb export: a trained model as a pipeline of diffusers."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.options import Model, folder, model_file
from medi.cli.terminal import say


def export(
    model: Model,
    out: Annotated[Path, folder("the pipeline")] = Path("medi-pipeline"),
    class_name: Annotated[str, typer.Option(help="Keyword of the class: pipe(cancer=...).")] = "class_",
    data_licence: Annotated[str, typer.Option(help="Licence of the training data, for the model card.")] = "",
) -> None:
    """A folder that diffusers loads, with a model card.

    medi needs not be installed there. DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True) takes
    conditions by the names of their levels.

    Example: medi export my-model --class-name cancer --out my-pipeline
    """
    from medi.export.export import export as write

    say(f"pipeline and model card: {write(model_file(model), out, class_name, data_licence)}")
    load = f"from diffusers import DiffusionPipeline as P; P.from_pretrained({str(out)!r}, trust_remote_code=True)"
    say("next: " + shlex.join(["python", "-c", load]))


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, export)
