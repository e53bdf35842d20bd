"""A run folder: every stage once, skipped while its inputs are unchanged, taken up again after a kill (P12)."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medi.core.errors import MediError
from medi.core.files import check_format, content_hash, read_json, write_json
from medi.core.progress import Show

FORMAT_VERSION = 1


class Run:
    """The stages of one study in one folder; run.json records each stage's input key and seconds.

    A stage owns the folder or file of its name. Its key is a hash of its settings and of the keys of the stages it
    reads: with the same key it is skipped (finished) or goes on (unfinished); with another one it is refused, or done
    anew where `redo` is set.
    """

    def __init__(self, folder: Path, show: Show, redo: bool = False) -> None:
        self.folder, self.show, self.redo = folder, show, redo
        self.stages: dict[str, dict[str, Any]] = _open(folder)

    def stage(self, name: str, work: Callable[[Path], str], settings: object = None, reads: Sequence[str] = ()) -> Path:
        """Let `work(path)` write the stage's folder or file unless that is done; it returns the line to show."""
        key = content_hash(name, settings, [self.stages[other]["key"] for other in reads])
        path, entry = self.folder / name, self.stages.get(name, {})
        if entry and entry["key"] != key:
            self._discard(name)
            entry = {}
        if entry.get("line") is not None:
            self.show.line(f"{name}: {entry['line']} (done before)")
            return path
        entry = self.stages[name] = {"key": key, "seconds": entry.get("seconds", 0.0), "line": None}
        self._write()
        started = time.perf_counter()
        try:
            entry["line"] = work(path)
        finally:
            entry["seconds"] = round(entry["seconds"] + time.perf_counter() - started, 2)
            self._write()
        self.show.line(f"{name}: {entry['line']} ({entry['seconds']:.0f} s)")
        return path

    @property
    def seconds(self) -> dict[str, float]:
        return {name: entry["seconds"] for name, entry in self.stages.items()}

    def _discard(self, name: str) -> None:
        if not self.redo:
            raise MediError(
                f"{self.folder}: stage {name!r} was run with other settings; choose another --out, "
                "or --redo to run it and what follows again"
            )
        path = self.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        del self.stages[name]

    def _write(self) -> None:
        write_json(self.folder / "run.json", {"format_version": FORMAT_VERSION, "stages": self.stages})


def _open(folder: Path) -> dict[str, dict[str, Any]]:
    """The stages recorded in a folder; a new, empty or finished run folder is fine, anything else is refused."""
    if folder.exists() and not folder.is_dir():
        raise MediError(f"{folder}: is a file; choose a folder for --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    if not os.access(folder, os.W_OK):
        raise MediError(f"{folder}: is not writable; choose another --out")
    record = folder / "run.json"
    if not record.exists():
        if any(folder.iterdir()):
            raise MediError(f"{folder}: is not empty and holds no run of medi; choose another --out")
        return {}
    content = read_json(record)
    check_format(content.get("format_version"), FORMAT_VERSION, record)
    return content["stages"]
