"""Stages of a study in a run folder: each done once, taken up again after a kill, done anew when it is stale (P12).

A stage is declared, not programmed: what it writes, what it reads, what decides it, and the function that does it.
"""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

from medi.core.errors import MediError
from medi.core.files import RUN_FORMAT, check_format, content_hash, read_json, write_json
from medi.core.locks import NAME as LOCK
from medi.core.progress import Show

RECORD = "run.json"
OURS = (LOCK, "log.txt")  # what a run writes before its first stage
Study = TypeVar("Study")


@dataclass(frozen=True)
class Stage(Generic[Study]):
    """One step of a study.

    name: the folder or file of the run folder that it writes. work: called with the study and that path, and gives the
    line to show. reads: the stages whose output it reads. settings: what else decides the result. version: one more
    whenever the code of this stage gives other results, so that run folders from before do it again.
    """

    name: str
    work: Callable[[Study, Path], str]
    reads: tuple[str, ...] = ()
    settings: object = None
    version: int = 1


@dataclass
class Record:
    """What run.json keeps of a stage: what decided it, how long it took, and what it said when it was done."""

    key: str
    seconds: float = 0.0
    line: str | None = None


class Run:
    """The stages that are recorded in one run folder.

    The key of a stage is a hash of its version, its settings and the keys of the stages that it reads. With the same
    key it is skipped where it is done and its output is there; else it goes on. With another key it is stale: that is
    refused, or done again where `redo` is set.
    """

    def __init__(self, folder: Path, show: Show, redo: bool = False) -> None:
        self.folder, self.show, self.redo = folder, show, redo
        self.records = _open(folder, redo)

    def do(self, stage: Stage[Study], study: Study) -> None:
        """Do a stage unless it is done, and show its line."""
        record = self._record(stage)
        if record.line is not None and (self.folder / stage.name).exists():
            self.show.line(f"{stage.name}: {record.line} (done before)")
            return
        record.line = None
        self._write()
        before, started = record.seconds, time.perf_counter()
        try:
            record.line = stage.work(study, self.folder / stage.name)
        finally:
            record.seconds = round(before + time.perf_counter() - started, 2)
            self._write()
        self.show.line(f"{stage.name}: {record.line} ({record.seconds:.0f} s)")

    @property
    def seconds(self) -> dict[str, float]:
        """The time that each stage took, in all its attempts."""
        return {name: record.seconds for name, record in self.records.items()}

    def _record(self, stage: Stage[Study]) -> Record:
        """The record of a stage under its key of today, a new one where it was never begun or is stale."""
        read = [self.records[name].key for name in stage.reads]
        key = content_hash(stage.name, stage.version, stage.settings, read)
        found = self.records.get(stage.name)
        if found is not None and found.key != key:
            if not self.redo:
                raise MediError(
                    f"{self.folder}: stage {stage.name!r} was run with other settings or by another version of medi; "
                    "choose another --out, or --redo to run it and what follows again"
                )
            discard(self.folder / stage.name)
            found = None
        if found is None:
            found = self.records[stage.name] = Record(key)
        return found

    def _write(self) -> None:
        stages = {name: asdict(record) for name, record in self.records.items()}
        write_json(self.folder / RECORD, {"format_version": RUN_FORMAT, "stages": stages})


def discard(path: Path) -> None:
    """Delete what a stage wrote."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def read_records(path: Path) -> dict[str, Record]:
    """The stages that a run.json lists, of this version or an older one."""
    content = read_json(path)
    check_format(content.get("format_version"), RUN_FORMAT, path)
    return {name: Record(**stage) for name, stage in content["stages"].items()}


def _open(folder: Path, redo: bool) -> dict[str, Record]:
    """The stages recorded in a folder; a new, empty or finished run folder is fine, anything else is refused."""
    if folder.exists() and not folder.is_dir():
        raise MediError(f"{folder}: is a file; choose a folder for --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    if not os.access(folder, os.W_OK):
        raise MediError(f"{folder}: is not writable; choose another --out")
    if (folder / RECORD).exists():
        return _of_today(folder, redo)
    if any(path.name not in OURS for path in folder.iterdir()):
        raise MediError(f"{folder}: is not empty and holds no run of medi; choose another --out")
    return {}


def _of_today(folder: Path, redo: bool) -> dict[str, Record]:
    """The stages of a run folder; those of an older version are read by report and app, but cannot go on."""
    records = read_records(folder / RECORD)
    if read_json(folder / RECORD)["format_version"] == RUN_FORMAT:
        return records
    if not redo:
        raise MediError(
            f"{folder}: a run of an older version of medi, which cannot go on; choose another --out, or --redo to "
            "delete it and run everything again"
        )
    for name in records:
        discard(folder / name)
    return {}
