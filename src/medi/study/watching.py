"""How far the jobs of a run are: from our own files, and for those in a queue from Slurm."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGTERM

from medi.core.errors import MediError
from medi.core.locks import holder
from medi.core.tensors import header_of
from medi.study import slurm
from medi.study.context import reopen
from medi.study.jobs import job_of
from medi.study.ledger import LOCAL, SLURM, Entry, Ledger, last_words, outcome
from medi.study.parts import MEASURE, PREPARE, shared
from medi.study.slurm import Queued, explained, queued, why_gone
from medi.study.stopped import STATE

TOLD_TO_STOP = (-SIGTERM, 128 + SIGTERM, 128 + SIGINT)  # exit codes of a process that saved and ended
DONE, FAILED, WORKS, WAITS, KILLED = "done", "failed", "works", "waits", "stopped before it was done"
UNASKED = "not known here"  # of tasks that are not done, where their queue cannot be asked


@dataclass(frozen=True)
class JobState:
    """A job as a person wants to see it. id: of Slurm; state: in words, counted over its tasks; progress: of what it
    makes; log: of the task that tells most; is_open: whether some task waits or works."""

    name: str
    id: str
    state: str
    progress: str
    log: str
    is_open: bool


def job_states(run: Path) -> tuple[list[JobState], str]:
    """The jobs of a run, in their order; none where it never had any, as of a plain `medi run`.

    Where their queue cannot be asked, as on another machine, our own files alone tell; why is the second result.
    """
    ledger, waiting, why = Ledger.read(run), dict[str, Queued](), ""
    if ledger is None:
        return [], ""
    try:
        waiting = queued(ledger) if ledger.on == SLURM else {}
    except MediError as error:
        why = str(error)
    is_driven = ledger.on == LOCAL and holder(run) is not None
    return [_state(run, entry, None if why else waiting, is_driven) for entry in ledger.jobs], why


def cancel(run: Path) -> str:
    """Cancel the jobs of a run, and say what was done. MediError where it has none in a queue."""
    ledger = Ledger.read(run)
    if ledger is None or ledger.on != SLURM:
        working = holder(run)
        told = f"; Ctrl-C or `kill {working.pid}` on {working.host} stops the process there" if working else ""
        raise MediError(f"{run}: has no jobs in a queue{told}")
    return f"cancelled: {slurm.cancel(ledger)} tasks; the same `medi run` submits what is left"


def _state(run: Path, entry: Entry, waiting: Mapping[str, Queued] | None, is_driven: bool) -> JobState:
    found = [_task(run, entry, shard, waiting, is_driven) for shard in range(entry.shards)]
    kinds = [kind for kind, _ in found]
    telling = next((kinds.index(kind) for kind in (FAILED, KILLED, UNASKED, WORKS, WAITS) if kind in kinds), 0)
    counted = ", ".join(f"{n} {kind}" for kind, n in Counter(kinds).items())
    kind, why = found[telling]
    log = run / entry.log_of(telling)
    one = why if kind == WAITS and why else f"{kind}: {why}" if why else kind
    state = one if entry.shards == 1 else counted + (f": {why}" if why else "")
    is_open = bool({WORKS, WAITS, UNASKED} & set(kinds))
    progress = "" if set(kinds) == {DONE} else _progress(run, entry)
    return JobState(entry.name, entry.id, state, progress, str(log) if log.exists() else "", is_open)


def _task(
    run: Path, entry: Entry, shard: int, waiting: Mapping[str, Queued] | None, is_driven: bool
) -> tuple[str, str]:
    """The kind of a task's state, and more of it in words."""
    here, known = (waiting or {}).get(entry.id_of(shard)), outcome(run, entry.task(shard))
    if here is not None:
        return (WAITS if here.state == "PENDING" else WORKS), explained(here)
    if known is not None and known.code is not None:
        kind = KILLED if known.code in TOLD_TO_STOP else FAILED
        return (DONE, "") if known.code == 0 else (kind, last_words(run / entry.log_of(shard)))
    if waiting is None:
        return UNASKED, "" if known is None else "it has begun"
    if is_driven:
        return (WAITS, "") if known is None else (WORKS, "")
    if entry.id and (why := why_gone(entry.id_of(shard))):
        return KILLED, why
    return (KILLED, "") if known is not None else ("not begun", "")


def _progress(run: Path, entry: Entry) -> str:
    """What a job has made so far; "" where nothing tells."""
    try:
        settings = reopen(run).settings
    except MediError:
        return ""
    part = next((part for part, *_ in shared(settings) if job_of(part) == entry.name), "")
    if not part or entry.name in (PREPARE, MEASURE):
        return ""
    state, pieces = run / part / STATE, run / part / "parts"
    if state.exists():
        return f"{header_of(state)['images']:,} of {settings.training.images:,} images"
    made = len(list(pieces.rglob("*.npy"))) + len(list(pieces.rglob("*.safetensors")))
    return f"{made:,} batches" if made else ""
