"""The verb report: the page of a run, written again."""

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.options import RunFolder
from medi.cli.terminal import say


def report(folder: RunFolder) -> None:
    """Write the report of a run again from its tables.

    The page RUN/report.html opens offline in any browser.

    Example: medi report medi-demo
    """
    from medi.report.page import build

    say(f"report: {build(folder)}")
    next_step("app", folder)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, report)
