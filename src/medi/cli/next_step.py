"""The last line of a verb that wrote something: the verb that usually follows, ready to paste."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from medi.cli.terminal import say

NAME = "medi"


def next_step(verb: str, *words: object) -> None:
    """Print the command, with paths quoted as a shell wants them."""
    say("next: " + shlex.join([program(), verb, *map(str, words)]))


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
