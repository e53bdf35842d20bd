"""The verb stress: what a classifier does when only the hospital changes."""

from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import Attribute, Seed, folder, model_file, with_device
from medi.cli.patches import default_attribute, levels_of, read_patches
from medi.cli.terminal import Terminal, say
from medi.cli.values import folders, refuse_beside, three_numbers
from medi.core.errors import MediError
from medi.core.lists import split_commas

RGB, ZEROS, ONES, STEPS = "R,G,B", "0,0,0", "1,1,1", 15
PROBE = "probe"
Model = Annotated[
    Path | None, typer.Option("--model", help="Trained model that knows the cohort's levels.", show_default="none")
]
Changed = Annotated[
    list[str] | None,
    typer.Option(
        "--changed", metavar="LEVEL=PATH", help="Features of the same patches at this level.", show_default="none"
    ),
]
OfCohort = Annotated[
    Path | None,
    typer.Option("--features", metavar="PATH", help="COHORT's own, with --changed.", show_default="as it was read"),
]
Mean = Annotated[str, typer.Option(metavar=RGB, help="Subtracted from patches of 0 to 1 (onnx, pt).")]
Std = Annotated[str, typer.Option(metavar=RGB, help="What they are divided by then.")]


def stress(
    classifier: Annotated[
        str, typer.Argument(metavar="CLASSIFIER", help="FILE.onnx, FILE.pt, FILE.py:FUNCTION, probe:COHORT or probe.")
    ],
    cohort: Annotated[Path, typer.Argument(metavar="COHORT", help="A packed cohort, or one with features.")],
    model: Model = None,
    changed: Changed = None,
    features: OfCohort = None,
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
    mean: Mean = ZEROS,
    std: Std = ONES,
    steps: Annotated[int, typer.Option(min=1, help="Steps up and steps down.")] = STEPS,
    seed: Seed = 0,
    out: Annotated[Path, folder("report and tables")] = Path("medi-stress"),
) -> None:
    """What a classifier does when only the hospital changes.

    It is shown its patches at every level of an attribute: flips, changes of score, calibration, worst pairs. A
    function takes uint8 patches [n, h, w, 3] and returns a score per class; onnx and pt (TorchScript) take float32 [n,
    3, h, w]. Scores that are no probabilities count as logits. probe:COHORT trains a probe of ours. Without images
    `--changed` names features of the same patches, scanned or stained again, or translated elsewhere. The classifier
    is `probe` then. It learns from the training patches of COHORT and is shown the others.

    Example: medi stress my-classifier.onnx my-packed --model my-model
    """
    if changed:
        others = {"--model": model, "--to": to, "--classes": classes, "--mean": mean != ZEROS, "--std": std != ONES}
        refuse_beside("--changed", others | {"--steps": steps != STEPS})
        _on_features(classifier, cohort, changed, features, attribute, patches, seed, out)
        return
    if features:
        raise MediError("--features goes with --changed LEVEL=PATH alone; add that, or leave --features out")
    if model is None:
        raise MediError(
            "what changes the patches? --model MODEL translates images; --changed LEVEL=PATH names features of the "
            "same patches at another level, beside --features of COHORT"
        )
    numbers = three_numbers(mean, "--mean"), three_numbers(std, "--std")
    named = split_commas(classes or [])
    _translated(classifier, cohort, model_file(model), named, attribute, to, patches, numbers, steps, seed, out)


def _translated(
    classifier: str,
    cohort: Path,
    model: Path,
    classes: list[str],
    attribute: str | None,
    to: list[str] | None,
    patches: int | None,
    numbers: tuple[tuple[float, ...], tuple[float, ...]],
    steps: int,
    seed: int,
    out: Path,
) -> None:
    """Images that a model translates."""
    from medi.cohort.holdout import has_split
    from medi.models.checkpoint import load_checkpoint
    from medi.sampling.transfer import TransferSettings
    from medi.stress.classifiers import Normalisation, load_classifier
    from medi.stress.measuring import some_of
    from medi.stress.stress import stress as question

    schema = load_checkpoint(model).schema
    name = attribute or default_attribute(schema)
    shown = some_of(read_patches(cohort, schema, None), patches, seed)
    levels = levels_of(schema, name, to or ["all"])
    asked = load_classifier(classifier, classes or schema.classes.levels, Normalisation(*numbers), seed)
    with Terminal().bars("transfer") as (advance,):
        found = question(asked, model, shown, name, levels, out, TransferSettings(steps), advance, seed)
    change, floor = (found.figures[f"flip_rate {kind}"][0] for kind in ("change", "floor"))
    say(f"{found.translated:,} translated patches: {change:.1%} flip; {floor:.1%} flip without a change of {name}")
    say(f"report: {out / 'stress.html'}")
    next_step("utility" if has_split(shown.table) else "holdout", cohort)


def _on_features(
    classifier: str,
    cohort: Path,
    changed: list[str],
    features: Path | None,
    attribute: str | None,
    patches: int | None,
    seed: int,
    out: Path,
) -> None:
    """Features of patches that were made again elsewhere."""
    from medi.figures.names import known, share
    from medi.stress.features import stress_features

    kind, _, other = classifier.partition(":")
    if kind != PROBE:
        raise MediError(f"--changed gives features, which only a probe of ours takes: probe, not {classifier!r}")
    train = Path(other) if other and Path(other).resolve() != cohort.resolve() else None
    found = stress_features(
        cohort,
        folders(changed, "LEVEL=PATH, such as scanner-B=features-b.h5"),
        out,
        attribute=attribute or "",
        features=features,
        train=train,
        most=patches,
        seed=seed,
    )
    change, floor = (found.figures[f"flip_rate {kind}"][0] for kind in ("change", "floor"))
    back = f"; {share(floor)} flip at their own, made again" if known(floor) else ""
    say(f"{found.translated:,} patches at another {found.attribute}: {share(change)} flip{back}")
    for line in found.remarks:
        say(line)
    say(f"report: {out / 'stress.html'}")
    next_step("holdout" if train else "utility", cohort)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, with_device(stress))
