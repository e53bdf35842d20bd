"""The verb stress: what a classifier does when only the hospital changes."""

from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Attribute, Seed, folder, model_file, with_device
from medi.cli.patches import default_attribute, levels_of, read_patches
from medi.cli.terminal import Terminal, say
from medi.cli.values import three_numbers
from medi.core.lists import split_commas

RGB = "R,G,B"


def stress(
    classifier: Annotated[
        str, typer.Argument(metavar="CLASSIFIER", help="FILE.onnx, FILE.pt, FILE.py:FUNCTION or probe:COHORT.")
    ],
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="A packed cohort.")],
    model: Annotated[Path, typer.Option("--model", help="Trained model that knows the cohort's levels.")],
    classes: Annotated[
        list[str] | None, typer.Option(help="Order of the scores: a,b.", show_default="the model's classes")
    ] = None,
    attribute: Attribute = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="LEVEL", help="Levels to show.", show_default="all")
    ] = None,
    patches: Annotated[
        int | None, typer.Option(min=1, help="At most so many, drawn at random.", show_default="all")
    ] = None,
    mean: Annotated[str, typer.Option(metavar=RGB, help="Subtracted from patches of 0 to 1 (onnx, pt).")] = "0,0,0",
    std: Annotated[str, typer.Option(metavar=RGB, help="What they are divided by then.")] = "1,1,1",
    steps: Annotated[int, typer.Option(min=1, help="Steps up and steps down.")] = 15,
    seed: Seed = 0,
    out: Annotated[Path, folder("report and tables")] = Path("medi-stress"),
) -> None:
    """What a classifier does when only the hospital changes.

    It is shown its patches at every level of an attribute: flips, changes of score, calibration, worst pairs. A
    function takes uint8 patches [n, h, w, 3] and returns a score per class; onnx and pt (TorchScript) take float32 [n,
    3, h, w]. Scores that are no probabilities count as logits. probe:COHORT trains a probe of ours.

    Example: medi stress my-classifier.onnx my-packed --model my-model
    """
    from medi.models.checkpoint import load_checkpoint
    from medi.sampling.transfer import TransferSettings
    from medi.stress.classifiers import Normalisation, load_classifier
    from medi.stress.stress import some_of
    from medi.stress.stress import stress as question

    schema = load_checkpoint(model_file(model)).schema
    name = attribute or default_attribute(schema)
    shown = some_of(read_patches(cohort, schema, None), patches, seed)
    levels = levels_of(schema, name, to or ["all"])
    named = split_commas(classes or []) or schema.classes.levels
    asked = load_classifier(
        classifier, named, Normalisation(three_numbers(mean, "--mean"), three_numbers(std, "--std")), seed
    )
    with Terminal().bars("transfer") as (advance,):
        found = question(asked, model_file(model), shown, name, levels, out, TransferSettings(steps), advance, seed)
    change, floor = (found.figures[f"flip_rate {kind}"][0] for kind in ("change", "floor"))
    say(f"{found.translated:,} translated patches: {change:.1%} flip; {floor:.1%} flip without a change of {name}")
    say(f"report: {out / 'stress.html'}")
    next_step("utility" if "split" in shown.table else "holdout", cohort)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(stress))
