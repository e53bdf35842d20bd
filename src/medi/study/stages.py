"""Stages of a study in a run folder: each done once, taken up again after a kill, done anew when it is stale (P12).

A stage is declared, not programmed: what it writes, what it reads, what decides it, and the function that does it.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from medi.core.errors import MediError
from medi.core.files import RUN_FORMAT, check_format, content_hash, file_hash, read_json, write_json
from medi.core.locks import is_lock
from medi.core.processes import Call, has_gpu, shared
from medi.core.progress import Show
from medi.core.registry import registered_here
from medi.core.threads import cores

RECORD, COPY = "run.json", ".run.json"
BEFORE = ("log.txt", "jobs")  # what is written before the first stage: all that was shown, and what was submitted
PASSING_FOLDERS = {"snapshots", "sheets", "parts"}  # what is used up on the way to a stage's output
SPARE_FILES = {"state.safetensors"}  # what a done stage can do without: deleted where it is damaged
LARGE = 1 << 28  # bytes
AT_ONCE = 2  # stages; each holds all features
Worker = Callable[..., tuple[str, str]]  # of folder, name, work and `Advance`: the name, and the line to show
Study = TypeVar("Study")


@dataclass(frozen=True)
class Ahead:
    """How processes of their own, on any machine, do the work of a stage before it: the stage then finds it done.

    worker: called with the run folder, an item and an `Advance`, and with a shard where the work is cut. items: each a
    folder of the stage's output; "" where it is all one. is_cut: whether any number of processes share an item.
    """

    worker: Callable[..., None]
    items: tuple[str, ...] = ("",)
    is_cut: bool = True


@dataclass(frozen=True)
class Stage(Generic[Study]):
    """One step of a study.

    name: the folder or file of the run folder that it writes. work: called with the study and that path, and gives the
    line to show. reads: the stages whose output it reads. settings: what else decides the result. version: one more
    whenever the code of this stage gives other results, so that run folders from before do it again. also: what else
    it writes into the run folder. discard: called with the run folder and the files of the output that are missing or
    damaged, named from it, deletes what has to be made again; all of the output where there is none. ahead: where other
    processes can do its work before it. beside: whether it can be done beside its neighbours that can, as none of them
    reads another, and takes no processes of its own.
    """

    name: str
    work: Callable[[Study, Path], str]
    reads: tuple[str, ...] = ()
    settings: object = None
    version: int = 1
    also: tuple[str, ...] = ()
    discard: Callable[[Path, Iterable[str]], None] | None = None
    ahead: Ahead | None = None
    beside: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """All that it writes, from the run folder."""
        return (self.name, *self.also)

    def clear(self, folder: Path, bad: Iterable[str]) -> None:
        """Delete what has to be made again where these files are missing or damaged."""
        if self.discard is not None:
            self.discard(folder, bad)
            return
        for name in self.outputs:
            discard(folder / name)


@dataclass
class Record:
    """What run.json keeps of a stage: what decided it, how long it took, and what it said when it was done."""

    key: str
    seconds: float = 0.0
    line: str | None = None
    files: dict[str, str] = field(default_factory=dict)  # what it wrote, and a hash of each; none of older runs


@dataclass
class Clock:
    """The time of things that are done in their order, so many at once: these share it, so that all add up to what
    passed.

    >>> clock = Clock({"a": 0.0, "b": 0.0, "c": 0.0}, at_once=2)
    >>> times = [clock.ended(name) for name in "bca"]
    >>> sum(times) <= time.perf_counter() - clock.started
    True
    """

    spent: dict[str, float]
    at_once: int
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.before = self.started

    def ended(self, name: str) -> float:
        """The seconds of one that ends now."""
        working, now = list(self.spent)[: self.at_once], time.perf_counter()
        for each in working:
            self.spent[each] += (now - self.before) / len(working)
        self.before = now
        return self.spent.pop(name)


class Run:
    """The stages that are recorded in one run folder.

    The key of a stage is a hash of its version, its settings and the keys of the stages that it reads. With the same
    key it is skipped where it is done and its output is there; else it goes on. With another key it is stale: that is
    refused, or done again where `redo` is set.
    """

    def __init__(self, folder: Path, show: Show, redo: bool = False) -> None:
        self.folder, self.show, self.redo = folder, show, redo
        self.records = _open(folder, redo)
        self.lost = [name for name in (RECORD, COPY) if self.records and not _is_sound(folder / name)]

    def do(self, stage: Stage[Study], study: Study) -> None:
        """Do a stage unless it is done, and show its line."""
        if self._is_due(stage):
            record, started = self.records[stage.name], time.perf_counter()
            try:
                record.line = stage.work(study, self.folder / stage.name)
            finally:
                self._end(stage, time.perf_counter() - started)

    def do_beside(self, stages: Sequence[Stage[Study]], study: Study, worker: Worker) -> None:
        """The same for stages that may be done beside each other, by two processes; one after another where a GPU would
        have to be shared, or these would not know what was registered here. What is done stays where one fails."""
        due = {stage.name: stage for stage in stages if self._is_due(stage)}
        if len(due) < 2 or cores() < 2 or has_gpu() or registered_here():
            for stage in due.values():
                self.do(stage, study)
            return
        calls: dict[str, Call] = {
            Path(name).stem: (worker, (self.folder, name, stage.work)) for name, stage in due.items()
        }
        clock = Clock(dict.fromkeys(due, 0.0), AT_ONCE)
        try:
            for name, line in shared(calls, self.show, AT_ONCE):
                self.records[name].line = line
                self._end(due.pop(name), clock.ended(name))
        finally:
            for stage in due.values():
                self._end(stage, clock.ended(stage.name))

    def _is_due(self, stage: Stage[Study]) -> bool:
        """Whether a stage has to be done; then its record is open, and what is damaged of its output is gone."""
        record = self._record(stage)
        if self.lost:
            self.show.line(f"{self.lost[0]} is missing or damaged; written again from its copy")
            self._write()
            self.lost = []
        if record.line is not None:
            bad = altered(self.folder, stage.outputs[:1], record.files)
            if not bad:
                self.show.line(f"{stage.name}: {record.line} (done before)")
                return False
            (name, what), more = next(iter(bad.items())), len(bad) - 1
            mended = "deleted" if all(map(_is_spare, bad)) else "made again"
            self.show.line(f"{stage.name}: {name} is {what}{f' and {more} more' if more else ''}; {mended}")
            stage.clear(self.folder, bad)
        record.line, record.files = None, {}
        self._write()
        return True

    def _end(self, stage: Stage[Study], seconds: float) -> None:
        """Record that a stage was worked on for so long, and, where it has a line, that it is done."""
        record = self.records[stage.name]
        record.seconds = round(record.seconds + seconds, 2)
        if record.line is not None:
            record.files = contents(self.folder, stage.outputs)
        self._write()
        if record.line is not None:
            self.show.line(f"{stage.name}: {record.line} ({record.seconds:.0f} s)")

    def is_done(self, stage: Stage[Study]) -> bool:
        """Whether a stage was done to its end and what it wrote is there; whether that is whole `do` looks."""
        found = self.records.get(stage.name)
        return found is not None and found.line is not None and (self.folder / stage.name).exists()

    def begin(self, stage: Stage[Study]) -> None:
        """Record that others work on a stage, unless it is done; what a stale one left is deleted, or refused, as in
        `do`."""
        self._record(stage)
        self._write()

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
            for name in stage.outputs:
                discard(self.folder / name)
            found = None
        if found is None:
            found = self.records[stage.name] = Record(key)
        return found

    def _write(self) -> None:
        """Write the record, and a copy that stands in for it where it is lost."""
        stages = {name: asdict(record) for name, record in self.records.items()}
        for name in (RECORD, COPY):
            write_json(self.folder / name, {"format_version": RUN_FORMAT, "stages": stages})


def contents(folder: Path, outputs: Iterable[str]) -> dict[str, str]:
    """The files that a stage wrote, each with a hash; those that only an unfinished stage needs are left out."""
    places = [folder / name for name in outputs]
    files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    kept = (path for path in files if path.is_file() and not _passes(path.relative_to(folder)))
    return {str(path.relative_to(folder)): _fingerprint(path) for path in kept}


def altered(folder: Path, outputs: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """What is "missing" or "damaged" of a stage's outputs, by file; of an older run only whether they are there."""
    lost = {name: "missing" for name in outputs if not (folder / name).exists()}
    there = [name for name in known if (folder / name).is_file()]
    missing = {name: "missing" for name in known if name not in there and not _is_spare(name)}
    damaged = (name for name in there if _fingerprint(folder / name) != known[name])
    return lost or missing | dict.fromkeys(damaged, "damaged")


def discard_parts(folder: Path, names: Iterable[str]) -> None:
    """Delete the folders of the output that hold these files: of a stage whose parts do not need each other."""
    for part in {Path(*Path(name).parts[:2]) for name in names}:
        discard(folder / part)


def _passes(path: Path) -> bool:
    return bool(PASSING_FOLDERS & set(path.parts)) or path.name.startswith(".")


def _is_spare(name: str) -> bool:
    return Path(name).name in SPARE_FILES


def _fingerprint(path: Path) -> str:
    """A hash of a file; of a large one its size, as a pixel store has checksums of its own."""
    size = path.stat().st_size
    return f"{size} bytes" if size > LARGE else file_hash(path)


def discard(path: Path) -> None:
    """Delete what a stage wrote."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def read_records(path: Path) -> dict[str, Record]:
    """The stages that a run.json lists, of this version or an older one."""
    content = read_json(path)
    try:
        check_format(content.get("format_version"), RUN_FORMAT, path)
        return {name: Record(**stage) for name, stage in content["stages"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise MediError(f"{path}: lists no stages of a run; choose another folder") from error


def _open(folder: Path, redo: bool) -> dict[str, Record]:
    """The stages recorded in a folder; a new, empty or finished run folder is fine, anything else is refused."""
    return _of_today(folder, redo) if holds_run(folder) else {}


def holds_run(folder: Path) -> bool:
    """Whether a run has begun in a folder, which is made where it is not there; one that holds anything else is
    refused."""
    usable(folder)
    if any((folder / name).exists() for name in (RECORD, COPY)):
        return True
    if any(path.name not in BEFORE and not is_lock(path) for path in folder.iterdir()):
        raise MediError(f"{folder}: is not empty and holds no run of medi; choose another --out")
    return False


def usable(folder: Path) -> Path:
    """The folder, made where it is not there; refused where it cannot be written."""
    if folder.exists() and not folder.is_dir():
        raise MediError(f"{folder}: is a file; choose a folder for --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from error
    if not os.access(folder, os.W_OK):
        raise MediError(f"{folder}: is not writable; choose another --out")
    return folder


def _of_today(folder: Path, redo: bool) -> dict[str, Record]:
    """The stages of a run folder; those of an older version are read by report and app, but cannot go on."""
    path = _sound_record(folder)
    records = read_records(path)
    if read_json(path)["format_version"] == RUN_FORMAT:
        return records
    if not redo:
        raise MediError(
            f"{folder}: a run of an older version of medi, which cannot go on; choose another --out, or --redo to "
            "delete it and run everything again"
        )
    for name in records:
        discard(folder / name)
    return {}


def _sound_record(folder: Path) -> Path:
    """run.json, or its copy where it is missing or damaged."""
    is_lost = (folder / COPY).exists() and not _is_sound(folder / RECORD)
    return folder / (COPY if is_lost else RECORD)


def _is_sound(path: Path) -> bool:
    try:
        read_json(path)
    except MediError:
        return False
    return True
