"""The last line of a verb that wrote something: the verb that usually follows, ready to paste."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medi.cli.terminal import say

if TYPE_CHECKING:
    from medi.cohort.table import Cohort

NAME = "medi"
PRESETS = {32: "laptop32", 128: "patch128", 256: "patch256"}  # by size; for 64 px it is the usual one


def next_step(verb: str, *words: object) -> None:
    """Print the command, with paths quoted as a shell wants them."""
    say("next: " + shlex.join([program(), verb, *map(str, words)]))


def after_reading(cohort: "Cohort", folder: Path) -> None:
    """What follows for a cohort in a folder: a hold-out, and training or a comparison where it has one."""
    from medi.cohort.holdout import has_split

    if cohort.is_made and cohort.pixels is not None:
        next_step("export", folder, "--as", "folder")
    elif not has_split(cohort.table):
        next_step("holdout", folder, *(() if cohort.schema.attributes else ("--rate", 0)))
    elif cohort.pixels is not None:
        preset = PRESETS.get(cohort.pixels.size)
        next_step("train", folder, *(("--preset", preset) if preset else ()))
    elif cohort.has_features:
        next_step("utility", folder)
    elif cohort.info.get("root"):
        next_step("pack", folder, "--size", 64)
    else:
        next_step("plan", folder)


def program() -> str:
    """How this program is called again: by its name where the shell finds it, else by its path."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    if called.name != NAME or not called.is_file() or (found and Path(found).samefile(called)):
        return NAME
    return os.path.relpath(called) if called.absolute().is_relative_to(Path.cwd()) else str(called.absolute())


def named(found: Path | None, usual: str) -> Path:
    """What was found; else the usual name, or a placeholder where something else has that name."""
    if found is not None:
        return found
    return Path(usual.removeprefix("medi-").upper() if Path(usual).exists() else usual)
