"""How far a run folder is, what it takes on the disk, and what in it can be deleted without loss of a result."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medi.core.errors import MediError
from medi.core.locks import Holder, holder, is_lock, locked
from medi.study.stages import COPY, RECORD, Record, read_records

DONE, MISSING, WORKING, STOPPED, TO_DO = "done", "output missing", "in work", "stopped", "to do"
LOG = "log.txt"  # in a run folder: all that was shown, below the commands that were typed
TYPED = "  $ "  # before a command in a log
JOBS, JOBS_LIST = "jobs", "jobs.json"  # in a run folder: what was submitted
AGAIN = "the app needs it; the same `medi run` makes it again"
TRAINING = ("state.safetensors", "snapshots", "sheets")  # of a model, beside what it became
WASTE = {  # what can be deleted: patterns within a run folder, what it is, and what that costs
    "embeddings": (("embeddings", "embeddings-*"), "features of all patches", AGAIN),
    "samples": (
        ("samples", "translated", "transferred", "style"),
        "images of the models, packed",
        f"{AGAIN}, bit for bit",
    ),
    "references": (("references",), "real patches drawn beside the cohort", f"{AGAIN}, bit for bit"),
    "training": (
        (
            *(f"{home}/*/{what}" for home in ("models", "inner-models") for what in TRAINING),
            *("style-model/state.safetensors", "classifier/state.safetensors", "cohort/latents"),
        ),
        "optimiser state, earlier averages, sheets and latents of the trainings",
        "the models stay; an unfinished training begins anew, a finished one cannot be continued for longer",
    ),
    "leftovers": ((".app-*", "**/.*.tmp"), "files of processes that were killed", "nothing"),
}


@dataclass(frozen=True)
class StageState:
    """A stage of a run: what became of it, the seconds it took, the bytes of what it wrote."""

    name: str
    state: str
    seconds: float
    size: int


@dataclass(frozen=True)
class RunState:
    """The stages of a run in their order, and the process that works in its folder now, if one does."""

    folder: Path
    stages: Sequence[StageState]
    working: Holder | None
    size: int

    @property
    def finished(self) -> bool:
        """Whether all stages are done."""
        return bool(self.stages) and all(stage.state == DONE for stage in self.stages)


@dataclass(frozen=True)
class Waste:
    """Something that can be deleted: its name, what it is, what is lost with it, the paths and their bytes."""

    name: str
    what: str
    cost: str
    paths: Sequence[Path]
    size: int


def state_of(folder: Path) -> RunState:
    """How far a run is. MediError where the folder holds no run."""
    records, working = _records(folder), holder(folder)
    names = list(dict.fromkeys([*_expected(folder), *records]))
    current = next((name for name in names if name not in records or records[name].line is None), "")
    stages = [_stage(folder, name, records.get(name), working, name == current) for name in names]
    return RunState(folder, stages, working, size_of([folder]))


def command_of(folder: Path) -> str:
    """The command that made a run, as it was typed last; "" where its log does not say."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    typed = [line.partition(TYPED)[2] for line in lines if TYPED in line]
    return next((command for command in reversed(typed) if command.startswith(("medi run", "medi demo"))), "")


def waste_of(folder: Path) -> list[Waste]:
    """What in a run folder can be deleted, nothing that is a result. MediError where it holds no run."""
    _records(folder)
    return list(_found(folder))


def clean(folder: Path, wastes: Iterable[Waste]) -> None:
    """Delete what `waste_of` found. MediError where another process works in the folder."""
    if (working := holder(folder)) is not None:
        raise MediError(f"{folder}: process {working.pid} on {working.host} works here; wait until it ends")
    with locked(folder):
        for path in (path for waste in wastes for path in waste.paths):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of files and of everything in folders; links count as nothing."""
    return sum(_sizes(path for start in paths for path in (start, *start.rglob("*"))))


def _sizes(paths: Iterable[Path]) -> Iterator[int]:
    for path in paths:
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                yield path.stat().st_size


def _records(folder: Path) -> dict[str, Record]:
    for name in (RECORD, COPY):
        if (folder / name).exists():
            return read_records(folder / name)
    if (folder / JOBS / JOBS_LIST).exists():
        return {}  # the first job has not begun
    raise MediError(f"{folder}: holds no run of medi (no {RECORD}); name the folder that `medi run --out` wrote")


def _expected(folder: Path) -> list[str]:
    """The stages that the settings of a run ask for; none where they cannot be read here."""
    from medi.study.context import reopen
    from medi.study.study import road

    with suppress(MediError):
        return [stage.name for stage in road(reopen(folder).settings)]
    return []


def _stage(folder: Path, name: str, record: Record | None, working: Holder | None, is_current: bool) -> StageState:
    path = folder / name
    is_waiting = record is not None and record.line is None and not path.exists() and not record.seconds
    if record is None or (is_waiting and not (working and is_current)):
        return StageState(name, TO_DO, 0.0, 0)
    state = STOPPED if working is None else WORKING
    if record.line is not None:
        state = DONE if path.exists() else MISSING
    return StageState(name, state, record.seconds, size_of([path]))


def _found(folder: Path) -> Iterator[Waste]:
    for name, (patterns, what, cost) in WASTE.items():
        paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if not is_lock(path))
        if paths:
            yield Waste(name, what, cost, paths, size_of(paths))
