"""The verb doctor: is all well, and if not, what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medi.cli.help import add
from medi.cli.next_step import next_step
from medi.cli.terminal import say

if TYPE_CHECKING:
    from medi.study.doctor import Finding

MARKS = {"fine": "ok    ", "note": "note  ", "stopped": "note  ", "broken": "BROKEN"}


def doctor(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Folders of runs, cohorts or models to examine.")
    ] = None,
) -> None:
    """Check the installation, and whether folders are sound.

    Tells what is installed, which device and encoders there are, and for each problem its remedy. Every checksum of a
    cohort's pixels is gone through. Exit code 1 where something is broken.

    Example: medi doctor medi-demo
    """
    from medi.study.doctor import examine

    found = [_tell(finding) for finding in examine(paths or [])]
    if broken := found.count("broken"):
        say(f"{broken} of these are broken")
        raise typer.Exit(1)
    say("nothing is broken; what is not finished goes on" if "stopped" in found else "all is well")
    _say_next(paths or [])


def _say_next(paths: list[Path]) -> None:
    for path in paths:
        for file, verb in {
            "run.json": "status",
            ".run.json": "status",
            "cohort.json": "audit",
            "model.safetensors": "export",
        }.items():
            if (path / file).exists():
                next_step(verb, path)
                return
    if not paths:
        next_step("demo", "--quick")


def _tell(finding: "Finding") -> str:
    say(f"{MARKS[finding.state]}  {finding.topic}: {finding.text}")
    if finding.remedy:
        say(f"        -> {finding.remedy}")
    return finding.state


def register(app: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(app, doctor)
