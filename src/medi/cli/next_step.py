"""The last line of a verb that wrote something: the verb that usually follows, ready to paste."""

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
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


def model_beside(folder: Path) -> Path:
    """The newest trained model beside a folder; the usual name where there is none yet."""
    found = _newest(folder.parent.glob("*/model.safetensors"))
    return found.parent if found else Path("medi-model")


def packed_beside(folder: Path) -> Path:
    """The newest packed cohort beside a folder; the usual name where there is none yet."""
    found = _newest(path for path in folder.parent.glob("*/cohort.json") if _is_packed(path))
    return found.parent if found else Path("medi-packed")


def fidelity_beside(folder: Path) -> Path | None:
    """The newest tables of `medi fidelity` beside a folder."""
    found = _newest(folder.parent.glob("*/fidelity.parquet"))
    return found.parent if found else None


def _newest(paths: Iterable[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


def _is_packed(head: Path) -> bool:
    try:
        return "packing" in json.loads(head.read_text(encoding="utf-8")).get("info", {})
    except (OSError, ValueError):
        return False
