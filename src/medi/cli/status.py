"""The verbs status and clean: how far a run is, what it takes on the disk, and what of that can go."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from medi.cli.help import add
from medi.cli.jobs import show_states
from medi.cli.next_step import next_step
from medi.cli.terminal import console, printable, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medi.study.upkeep import RunState, Waste

AnyRun = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, finished or not.")]


def status(
    folder: AnyRun,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel the run's jobs that are in a queue.")] = False,
) -> None:
    """How far a run is, and what it takes on the disk.

    A row per stage: what became of it, its seconds, its size; of a run with --on a row per job, and where it prints.
    Says whether a process works in the folder now.

    Example: medi status my-run
    """
    from medi.study.upkeep import command_of, state_of

    if cancel:
        from medi.study.watching import cancel as cancel_jobs

        say(cancel_jobs(folder))
    found = state_of(folder)
    console.print(_stages(found))
    is_open = show_states(folder)
    if found.working is not None:
        by = found.working
        say(f"in work: process {by.pid} on {by.host} ({by.command})")
        next_step("status", folder)
        return
    if is_open:
        next_step("status", folder)
        return
    if found.finished:
        say("finished")
        next_step("report", folder)
        return
    say("nobody works in this folder; the same command goes on where it stopped")
    if command := command_of(folder):
        say(f"next: {command}")


def _stages(found: "RunState") -> Table:
    table = Table(title=printable(f"{found.folder}: {decimal(found.size)}"), title_justify="left")
    for name in ("stage", "state", "seconds", "size"):
        table.add_column(name, justify="right" if name in ("seconds", "size") else "left", no_wrap=name != "stage")
    for stage in found.stages:
        seconds, size = (f"{stage.seconds:,.0f}", decimal(stage.size)) if stage.seconds or stage.size else ("", "")
        table.add_row(printable(stage.name), stage.state, seconds, size)
    return table


def clean(
    folder: AnyRun,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")] = False,
) -> None:
    """Free the disk of what a run does not need any more.

    Lists features, packed samples, states of optimisers and leftovers, and asks before it deletes them. Results,
    tables, report, certificate, study file, cohort and models always stay.

    Example: medi clean my-run
    """
    from medi.study.upkeep import clean as delete
    from medi.study.upkeep import waste_of

    found = waste_of(folder)
    size = sum(waste.size for waste in found)
    _show(found)
    if found and (yes or _agreed(size)):
        delete(folder, found)
        say(f"deleted: {decimal(size)}")
    next_step("status", folder)


def _show(found: "Sequence[Waste]") -> None:
    if not found:
        say("there is nothing to delete")
    for waste in found:
        say(f"{waste.name}: {decimal(waste.size)}, {waste.what}; lost with it: {waste.cost}")


def _agreed(size: int) -> bool:
    if not sys.stdin.isatty():
        say(f"nothing was deleted; --yes deletes these {decimal(size)}")
        return False
    return typer.confirm(f"Delete these {decimal(size)}?", default=False)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command `medi`."""
    add(app, status)
    add(app, clean)
