"""What a run folder keeps of its jobs: which were submitted, what became of each task, and what each printed.

All of it is plain JSON and text beside the results, so that nobody has to ask a scheduler that has forgotten.
"""

import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from medi.core.errors import MediError
from medi.core.files import check_format, read_json, write_json
from medi.study.jobs import Job, Task
from medi.study.upkeep import JOBS, JOBS_LIST

FOLDER, LIST, JOBS_FORMAT = JOBS, JOBS_LIST, 1
LOCAL, SLURM = "local", "slurm"
TAIL = 4000  # bytes of a log that are looked at for its last words
OURS = "medi: "  # how a line begins that tells a user what went wrong


@dataclass(frozen=True)
class Entry:
    """A job as it was submitted. id: of Slurm, "" on this machine; log: of the task {shard}, from the run folder."""

    name: str
    command: str
    after: tuple[str, ...]
    shards: int
    id: str = ""
    log: str = ""

    def task(self, shard: int) -> str:
        """The name of a task."""
        return self.name if self.shards == 1 else f"{self.name}-{shard}"

    def id_of(self, shard: int) -> str:
        """The number that Slurm has for a task."""
        return self.id if self.shards == 1 else f"{self.id}_{shard}"

    def log_of(self, shard: int) -> str:
        """Where a task prints to, from the run folder."""
        return self.log.format(shard=shard)


@dataclass(frozen=True)
class Ledger:
    """The jobs of a run, and where they run: LOCAL or SLURM."""

    on: str
    jobs: Sequence[Entry]

    def write(self, run: Path) -> None:
        """Keep it in the run folder; what became of earlier jobs of these names is forgotten."""
        for entry in self.jobs:
            for shard in range(entry.shards):
                outcome_file(run, entry.task(shard)).unlink(missing_ok=True)
        content = {"format_version": JOBS_FORMAT, "on": self.on, "jobs": [asdict(entry) for entry in self.jobs]}
        write_json(run / FOLDER / LIST, content)

    @classmethod
    def read(cls, run: Path) -> "Ledger | None":
        """The jobs of a run; None where it never had any."""
        path = run / FOLDER / LIST
        if not path.exists():
            return None
        content = read_json(path)
        try:
            check_format(content.get("format_version"), JOBS_FORMAT, path)
            entries = [Entry(**entry | {"after": tuple(entry["after"])}) for entry in content["jobs"]]
            return cls(content["on"], entries)
        except (AttributeError, KeyError, TypeError) as error:
            raise MediError(f"{path}: lists no jobs of a run; delete it, and give the same `medi run` again") from error


def entry(job: Job, id: str = "", log: str = "") -> Entry:
    """A job as the ledger keeps it."""
    return Entry(job.name, job.shown, tuple(job.after), job.shards, id, log)


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its exit code, None while it works or where it was killed; on which machine."""

    code: int | None
    host: str


def note(run: Path, name: str, code: int | None = None) -> None:
    """Keep that a task has begun, or how it ended."""
    write_json(outcome_file(run, name), {"format_version": JOBS_FORMAT, "code": code, "host": socket.gethostname()})


def outcome(run: Path, name: str) -> Outcome | None:
    """What is known of a task; None where it has not begun."""
    with suppress(MediError, KeyError, TypeError):
        content = read_json(outcome_file(run, name))
        return Outcome(content["code"], content["host"])
    return None


def outcome_file(run: Path, name: str) -> Path:
    """Where the end of a task is kept."""
    return run / FOLDER / f"{name}.json"


def log_file(run: Path, task: Task) -> Path:
    """Where a task on this machine prints to."""
    return run / FOLDER / f"{task.name}.log"


def last_words(log: Path) -> str:
    """The last line of a log that is for a user, else its last line; "" where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - TAIL, 0))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return ""
    ours = [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
    return (ours or lines or [""])[-1]
