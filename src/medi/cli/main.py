"""The command line: one verb per function, thin: parse, call, print. A user's mistake is one line and exit code 2."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.table import Table

from medi.cli import adapt, cohort, diffusion, doctor, evaluation, stress, transfer
from medi.cli import app as browser
from medi.cli.terminal import Terminal, console, printable, say
from medi.core.errors import MediError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
INTERRUPTED = 130  # what typer makes of Ctrl-C, by an exception or by its return value
USAGE_ERROR: Any = typer.BadParameter.__base__  # click's UsageError, wherever typer keeps it

Out = Annotated[Path, typer.Option("--out", help="Run folder; the same command goes on where it stopped.")]
Redo = Annotated[bool, typer.Option("--redo", help="Run stages again whose settings have changed.")]


@app.callback()
def root() -> None:
    """MeDi: audit a cohort of patches, generate the combinations it lacks, and measure what that buys."""


@app.command()
def demo(
    out: Out = Path("medi-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="The same road with a tiny budget, about a minute.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of cohort, hold-out and models.")] = 0,
    redo: Redo = False,
) -> None:
    """The whole study on the embedded phantom cohort, about eight minutes on two cores.

    Example: medi demo --out my-demo
    """
    from medi.study.settings import embedded_study

    _run(embedded_study(quick).model_copy(update={"seed": seed}), out, redo)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Study file, or the name of one that medi brings.")],
    out: Out = Path("medi-run"),
    source: Annotated[
        Path | None, typer.Option(help="Cohort in place of the study file's.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed in place of the study file's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    redo: Redo = False,
) -> None:
    """A study from cohort to report, stage after stage, on the phantom or on a cohort of your own.

    STUDY is a YAML file, every key of which is optional, or one of: demo, quick, ami_br, ami_br_2, ami_br_long,
    ami_br_64, ami_br_2_64, ami_br_128, tcga_fields, tcga_ut.

    Example: medi run my-study.yaml --out my-run
    """
    from medi.study.settings import find_study

    settings = find_study(study, source, seed)
    if dry_run:
        from medi.study.study import rehearse

        for line in rehearse(settings):
            say(line)
        return
    _run(settings, out, redo)


@app.command()
def report(folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a finished study.")]) -> None:
    """Write RUN/report.html again from the result tables of a run.

    Example: medi report medi-demo
    """
    from medi.report.page import build

    console.print(f"report: {build(folder)}", markup=False, soft_wrap=True)


for verbs in (cohort, diffusion, evaluation, transfer, adapt, stress, browser, doctor):
    verbs.register(app)


def _run(settings: Any, out: Path, redo: bool) -> None:
    from medi.study import study

    results = study.run(settings, out, Terminal(), redo)
    console.print(_summary(results))
    gap = results["gap_closed"]
    console.print(f"gap closed on unseen combinations: {'undefined' if gap is None else f'{gap:.2f}'}")
    console.print(f"report: {out / 'report.html'}", markup=False, soft_wrap=True)


def _summary(results: dict[str, Any]) -> Table:
    """Accuracy and distance, one row per arm."""
    table = Table(title=results["title"], title_justify="left")
    for name in ("", "accuracy seen", "accuracy unseen", "Frechet seen", "Frechet unseen"):
        table.add_column(name, justify="right" if name else "left")
    accuracy, frechet = results["balanced_accuracy"], results["frechet"]
    labels = {"floor": "real against real", "real": "real only", "cls": "CLS", "medi": "MeDi", "oracle": "oracle"}
    for arm, label in labels.items():
        cells = [accuracy["seen"].get(arm), accuracy["unseen"].get(arm)]
        table.add_row(label, *map(_three, cells), _two(frechet["seen"].get(arm)), _two(frechet["unseen"].get(arm)))
    return table


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def main() -> None:
    """The `medi` command."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        code = app(prog_name="medi", standalone_mode=False) or 0
    except MediError as error:
        _stop(str(error))
    except USAGE_ERROR as error:
        _stop_usage(error)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("medi: interrupted; the same command goes on where it was", file=sys.stderr)
    sys.exit(code)


def _stop(message: str) -> NoReturn:
    print(f"medi: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def _stop_usage(error: Any) -> NoReturn:
    """A wrong option in one line; a verb without its arguments shows its help."""
    message, context = error.format_message(), error.ctx
    if context is not None and message == context.get_help():
        print(message, file=sys.stderr)
        sys.exit(2)
    _stop(message.rstrip(".") + (f"; see {context.command_path} --help" if context else ""))
