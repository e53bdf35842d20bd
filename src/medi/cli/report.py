"""The verb report: the page of a run, or of a study that was done verb by verb."""

from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import folder
from medi.cli.terminal import say
from medi.cli.values import folders
from medi.core.errors import MediError

OF_VERBS = "A study done verb by verb"
OUT = "medi-report"


def report(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="Run folder; with --real: NAME=COHORT of samples.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(metavar="COHORT", help="The packed real cohort.", rich_help_panel=OF_VERBS)
    ] = None,
    fidelity: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What medi fidelity wrote.", rich_help_panel=OF_VERBS)
    ] = None,
    utility: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What medi utility wrote.", rich_help_panel=OF_VERBS)
    ] = None,
    out: Annotated[
        Path | None, folder("the page; with --real its parts too", show_default=f"RUN; {OUT} with --real")
    ] = None,
) -> None:
    """The page of a run, or of a study done verb by verb.

    RUN/report.html is written again from the tables of a run; with --out the page goes into that folder instead. With
    --real the parts are brought together in a folder of their own; what was not measured is left out. The page opens
    offline in any browser.

    Example: medi report --real my-packed medi=my-samples --utility my-utility
    """
    from medi.core.locks import locked
    from medi.report.page import build

    if real is None:
        run = _run_folder(parts or [], {"--fidelity": fidelity, "--utility": utility})
        with locked(run), locked(out or run):
            say(f"report: {build(run, out)}")
        next_step("app", run)
        return
    from medi.core.files import read_json
    from medi.study.assembling import Parts, assemble

    page = assemble(Parts(real, folders(parts or []), fidelity, utility), out or Path(OUT))
    for sentence in read_json(page.with_name("results.json"))["verdict"]:
        say(sentence)
    say(f"report: {page}")
    shown = [folder for folder in (*folders(parts or []).values(), real) if (folder / "pixels.npy").exists()]
    next_step(*(("export", shown[0], "--as", "folder") if shown else ("recommend", real)))


def _run_folder(parts: list[str], others: dict[str, Path | None]) -> Path:
    if named := [name for name, value in others.items() if value is not None]:
        raise MediError(f"{named[0]} goes with --real COHORT; a run folder has its own tables")
    if len(parts) != 1:
        raise MediError("expected one run folder, or --real COHORT with the sampled cohorts as NAME=COHORT")
    return Path(parts[0])


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, report)
