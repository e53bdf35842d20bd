"""Arguments and options that several verbs share, each defined once."""

import inspect
from collections.abc import Callable, Collection
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from medi.core.errors import MediError, did_you_mean

TIMES = " x "  # between the levels of a combination, here and in every message


def folder(what: str, show_default: bool | str = True) -> Any:
    """--out of a verb that writes a folder."""
    return typer.Option("--out", metavar="FOLDER", help=f"Folder for {what}.", show_default=show_default)


Compile = Annotated[
    bool, typer.Option("--compile", help="torch.compile, for long work; on a CPU it needs a C++ compiler.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Start of all random draws.")]
Over = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="COLUMN",
        help="Columns of a combination: a,b or repeated.",
        show_default="class x first attribute",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="model.safetensors, or the folder of a trained model.")]
Attribute = Annotated[
    str | None, typer.Option("--attribute", help="Whose level it is.", show_default="the model's first attribute")
]
Shard = Annotated[str, typer.Option("--shard", metavar="I/N", help="Part I of N, from 0; the last to end joins all.")]
Real = Annotated[Path, typer.Argument(metavar="REAL", help="Cohort of real patches, packed or with features.")]
Synthetic = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME=COHORT", help="Synthetic cohorts, or files of their features; of any generator."),
]
OverAll = Annotated[
    list[str] | None,
    typer.Option(
        "--over",
        metavar="COLUMN",
        help="Columns whose combinations are compared: a,b or repeated.",
        show_default="class, attributes",
    ),
]
EncoderName = Annotated[str, typer.Option("--encoder", metavar="ENCODER", help="Feature extractor.")]
Features = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="PATH",
        help="File or folder of REAL's features, in place of images.",
        show_default="those that REAL was read with",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FOLDER", help="Keep embeddings here, by hash of cohort and encoder."),
]
HeldOut = Annotated[Path, typer.Argument(metavar="HOLDOUT", help="Cohort folder with a split (medi holdout).")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")]
RunOut = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Run folder; the same command goes on where it stopped.")
]
Redo = Annotated[bool, typer.Option("--redo", help="Run stages again whose settings have changed.")]


def model_file(path: Path) -> Path:
    """The checkpoint in the folder of a trained model."""
    return path / "model.safetensors" if path.is_dir() else path


def one_of(*known: str) -> Callable[[str], list[str]]:
    """What a shell completes: those of the known values that begin like this."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return complete


DEVICES = ("auto", "cpu", "cuda", "cuda:1")
Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1 ...", autocompletion=one_of(*DEVICES)),
]


def with_device(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb that computes with torch the option --device, which takes effect before it begins."""

    @wraps(verb)
    def command(**given: Any) -> None:
        if (chosen := given.pop("device")) != DEVICES[0]:
            from medi.core.devices import use_device

            use_device(chosen)
        verb(**given)

    own = inspect.signature(verb).parameters.values()
    added = inspect.Parameter("device", inspect.Parameter.KEYWORD_ONLY, default=DEVICES[0], annotation=Device)
    parameters = [*(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own), added]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    del command.__wrapped__
    return command


def given(**options: Any) -> dict[str, Any]:
    """The options that the user gave; the others keep what the library says."""
    return {name: value for name, value in options.items() if value is not None}


def check_fits(rule: str, rules: dict[str, tuple[str, ...]], options: Collection[str]) -> None:
    """Refuse a rule that is not known, and options that go with other rules only."""
    if rule not in rules:
        raise MediError(f"--rule {rule!r}: expected {', '.join(rules)}{did_you_mean(rule, rules)}")
    anywhere = {name for names in rules.values() for name in names}
    for name in options:
        if name in anywhere and name not in rules[rule]:
            fitting = ", ".join(other for other, names in rules.items() if name in names)
            raise MediError(f"--{name.replace('_', '-')} goes with --rule {fitting}, not {rule}")
