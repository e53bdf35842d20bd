"""The verb export: a trained model as a pipeline of diffusers, or patches as images for other programs."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import model_file, one_of
from medi.cli.terminal import Terminal, say
from medi.cli.values import refuse_beside
from medi.core.errors import MediError, did_you_mean

if TYPE_CHECKING:
    from medi.export.images import Form

FORMS: "tuple[Form, ...]" = ("folder", "webdataset", "csv")


def export(
    source: Annotated[Path, typer.Argument(metavar="MODEL|SAMPLES", help="A trained model, or a packed cohort.")],
    form: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="SAMPLES: folder (one a class), webdataset (tars) or csv (PNG and table).",
            autocompletion=one_of(*FORMS),
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="New folder.", show_default="medi-pipeline, medi-images"),
    ] = None,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="SAMPLES: names of real patches, slides and patients as they are.")
    ] = False,
    class_name: Annotated[str, typer.Option(help="MODEL: keyword of the class: pipe(cancer=...).")] = "class_",
    data_licence: Annotated[str, typer.Option(help="MODEL: licence of the data, for its card.")] = "",
    untested: Annotated[
        bool, typer.Option("--untested", help="MODEL: also where its images were not tested for copies.")
    ] = False,
) -> None:
    """A model for diffusers, or patches as images.

    MODEL becomes a folder that DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True) loads where medi is
    not installed, with a model card; it takes conditions by the names of their levels. The verb shows how many of its
    images repeat training patches, as `medi fidelity` or a run beside the model found it. SAMPLES, or any packed
    cohort, become PNG files with their table, or tars. Codes stand there for the names of real patches, slides and
    patients; their key, ids.key, stays beside the cohort.

    Example: medi export my-samples --as folder --out my-images
    """
    is_cohort = (source / "cohort.json").exists()
    of_model = {"--untested": untested, "--data-licence": data_licence, "--class-name": class_name != "class_"}
    if form is not None:
        refuse_beside("--as", of_model)
        _export_images(source, form, out or Path("medi-images"), keep_ids)
    elif is_cohort:
        raise MediError(f"{source}: is a cohort; say how its images are written: --as {', '.join(FORMS)}")
    else:
        refuse_beside("a model", {"--keep-ids": keep_ids})
        _export_model(model_file(source), out or Path("medi-pipeline"), class_name, data_licence, untested)


def _export_images(source: Path, form: str, out: Path, keep_ids: bool) -> None:
    from medi.cohort.loose_images import read_packed
    from medi.core.codes import key_of
    from medi.export.images import check_new, export_images

    known = next((name for name in FORMS if name == form), None)
    if known is None:
        raise MediError(f"--as {form!r}: expected {', '.join(FORMS)}{did_you_mean(form, FORMS)}")
    cohort = read_packed(source)
    check_new(out)
    with Terminal().bars("writing") as (advance,):
        export_images(cohort, out, known, advance, None if keep_ids else key_of(source))
    say(f"{len(cohort):,} images: {out}")
    next_step("audit", out)


def _export_model(model: Path, out: Path, class_name: str, data_licence: str, untested: bool) -> None:
    from medi.export.export import export as write
    from medi.export.tested import memorisation_of

    written = write(model, out, class_name, data_licence, untested)
    for line in memorisation_of(model).lines:
        say(line)
    say(f"pipeline and model card: {written}")
    load = f"from diffusers import DiffusionPipeline as P; P.from_pretrained({str(out)!r}, trust_remote_code=True)"
    say("next: " + shlex.join(["python", "-c", load]))


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, export)
