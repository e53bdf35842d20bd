"""One process per folder: whoever writes into a folder says so in it, and a second one is refused (P15).

The lock is a small file that names machine, process and command. It needs no lock of the file system, which network
file systems do not always keep. A process that was killed leaves it behind; the next one sees that and takes it over.
"""

import inspect
import json
import multiprocessing
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from medi.core.errors import MediError
from medi.core.outputs import refuse_images
from medi.core.sharding import Shard, process

T = TypeVar("T")
NAME = ".medi-lock"
SILENT = 600.0  # seconds after which a lock of another machine that nobody renews is stale
UNSEEN = 60.0  # seconds for which a node may remember that there was no file of a name that is there by now
TRIES, PAUSE = 50, 0.1  # to take a lock that others take over as well; seconds between two looks
_held: dict[Path, int] = {}  # the locks that this process holds, and how often


@dataclass(frozen=True)
class Holder:
    """Who writes into a folder. `born` tells a process from a later one of the same number; job: of Slurm, or ""."""

    host: str
    pid: int
    born: str
    command: str
    job: str = ""

    @classmethod
    def of_this_process(cls) -> "Holder":
        return cls(
            socket.gethostname(), os.getpid(), _born(os.getpid()), " ".join(["medi", *sys.argv[1:]])[:200], _job()
        )

    def is_this_process(self) -> bool:
        return (self.host, self.pid, self.born) == (socket.gethostname(), os.getpid(), _born(os.getpid()))

    def is_alive(self, age: float) -> bool:
        """Whether the holder still works; of another machine only the age of its lock (seconds) tells."""
        if self.host != socket.gethostname():
            return age < SILENT and not self.is_earlier_life()
        return _born(self.pid) == self.born and bool(self.born)

    def is_earlier_life(self) -> bool:
        """Whether the holder is this very job of Slurm, before it was put back into the queue."""
        (job, _, life), (mine, _, now) = self.job.partition("."), _job().partition(".")
        return bool(job) and job == mine and life != now


@contextmanager
def locked(folder: Path, part: str = "") -> Iterator[None]:
    """Hold a folder while the block runs; the same process may hold it several times.

    part: hold only this part of the work ("0-of-2"), beside others who hold theirs; nobody holds a whole folder
    beside them, but the process that started them. MediError that names the other process where one holds the folder.
    The folder is made where it is not there, and is gone again where nothing was written into it.
    """
    place, is_new = folder.resolve(), not folder.exists()
    lock = place / (f"{NAME}-{part}" if part else NAME)
    if lock not in _held:
        _refuse_beside(place, part)
        _take(lock)
        try:
            _refuse_beside(place, part)  # again: another one may have come at the same moment
        except MediError:
            _give_back(lock)
            raise
        _clear_stale(place)
        _keep_renewed()
    _held[lock] = _held.get(lock, 0) + 1
    try:
        yield
    finally:
        _held[lock] -= 1
        if not _held[lock]:
            del _held[lock]
            _give_back(lock)
        if is_new:
            with suppress(OSError):
                place.rmdir()  # only where it is empty


def holding(parameter: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Let a function hold the folder that one of its parameters names; of processes that work together the first."""

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        signature = inspect.signature(function)

        @wraps(function)
        def held(*args: Any, **kwargs: Any) -> T:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            with whole(Path(bound.arguments[parameter])):
                return function(*args, **kwargs)

        return held

    return decorate


def whole(folder: Path) -> AbstractContextManager[None]:
    """`locked`, by the first of the processes that torchrun started for one piece of work; no folder of images."""
    refuse_images(folder)
    return nullcontext() if process("RANK", 0) else locked(folder)


def part_of(shard: Shard) -> str:
    """The name of the part of the work that a shard, and in it this process, is."""
    (i, n), together = shard, process("WORLD_SIZE", 1)
    return f"{i * together + process('RANK', 0)}-of-{n * together}"


def is_lock(path: Path) -> bool:
    """Whether a file is a lock of ours, or one in the making; who lists a folder passes over it."""
    return path.name.startswith(NAME)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but locks, or is not there."""
    return not folder.exists() or all(map(is_lock, folder.iterdir()))


def renew() -> None:
    """Say of all folders held that their holder still works, for those who look from another machine."""
    for lock in list(_held):
        if _is_mine(lock):
            with suppress(OSError):
                os.utime(lock)


def holder(folder: Path) -> Holder | None:
    """Who holds a folder now, or a part of it; None where nobody does, or one who is gone."""
    return next(filter(None, map(_holder, [folder / NAME, *sorted(folder.glob(f"{NAME}-*"))])), None)


def last_holder(folder: Path) -> Holder | None:
    """Who holds a folder, or held it until a kill; None where a lock was never written, or was given back."""
    return next(filter(None, map(_read, [folder / NAME, *sorted(folder.glob(f"{NAME}-*"))])), None)


def forget(folder: Path, jobs: Sequence[str]) -> None:
    """Delete the locks in a folder that jobs of Slurm left, by their numbers; to be called when none of them works."""
    for lock in folder.rglob(f"{NAME}*"):
        if (found := _read(lock)) is not None and re.split("[._]", found.job)[0] in jobs:
            lock.unlink(missing_ok=True)


def _job() -> str:
    """This process's job in Slurm, with the task in an array and how often it was put back; "" where there is none."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID", "") for name in ("JOB", "TASK"))
    number = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")
    return number and f"{number}.{os.environ.get('SLURM_RESTART_COUNT', 0)}"


def _holder(path: Path) -> Holder | None:
    found = _read(path)
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    return found if found is not None and found.is_alive(age) else None


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _refuse_beside(folder: Path, part: str) -> None:
    """Refuse a whole folder beside others who hold parts of it, and a part beside one who holds the whole.

    The folder is listed, as NFS remembers for a while that there was no file of a name.
    """
    others = [path for path in _locks(folder) if (path.name == NAME if part else path.name.startswith(f"{NAME}-"))]
    kin = {os.getpid(), os.getppid(), *_parents()}
    for found in filter(None, map(_present, others)):
        if found.host != socket.gethostname() or found.pid not in kin:
            raise _in_use(folder, found)


def _locks(folder: Path) -> list[Path]:
    """The locks in a folder, by listing it."""
    with suppress(OSError):
        return sorted(filter(is_lock, folder.iterdir()))
    return []


def _present(lock: Path) -> Holder | None:
    """Who holds a folder by a lock that is there. While it is listed and cannot be opened yet, this waits."""
    limit = time.monotonic() + UNSEEN
    while not lock.exists() and lock in _locks(lock.parent):
        if time.monotonic() > limit:
            raise _in_use(lock.parent, None)
        time.sleep(PAUSE)
    return _holder(lock)


def _parents() -> list[int]:
    """The process that started this one as a worker: a server may stand between them."""
    parent = multiprocessing.parent_process()
    return [parent.pid] if parent is not None and parent.pid is not None else []


def _in_use(folder: Path, other: Holder | None) -> MediError:
    who = f"process {other.pid} on {other.host} ({other.command})" if other else "another process"
    return MediError(f"{folder}: is in use by {who}; wait until it ends, stop it, or choose another folder")


def _take(lock: Path) -> None:
    """Write the lock, in one step that only one process can do; take over one that is stale."""
    folder = lock.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    for _ in range(TRIES):
        if _claim(lock):
            return
        if other := _present(lock):
            raise _in_use(folder, other)
        _clear(lock)
    raise _in_use(folder, None)


def _claim(place: Path) -> bool:
    """Write who this process is where nothing is, in one step; whether it was this process that did."""
    mine = Holder.of_this_process()
    aside = place.with_name(f"{place.name}.{mine.host}.{mine.pid}")
    try:
        aside.write_text(json.dumps(asdict(mine)), encoding="utf-8")
        with suppress(FileExistsError):
            os.link(aside, place)
            return True
        return aside.stat().st_nlink > 1  # on NFS the answer to a link can be lost, and the link is there
    except OSError as error:
        raise MediError(f"{place.parent}: cannot be locked ({error.strerror}); choose another folder") from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _give_back(lock: Path) -> None:
    """Delete a lock of this process; one that another process took over meanwhile stays."""
    if _is_mine(lock):
        with suppress(OSError):
            lock.unlink()


def _is_mine(lock: Path) -> bool:
    found = _read(lock)
    return found is not None and found.is_this_process()


def _clear(lock: Path) -> None:
    """Delete a stale lock, and the files that its holder had not finished to write.

    One process at a time: a second one would delete the lock of the first, who took over.
    """
    turn = lock.with_name(f"{lock.name}.turn")
    if not _claim(turn):
        if _holder(turn) is None:  # it was killed while it cleared
            turn.unlink(missing_ok=True)
        time.sleep(PAUSE)
        return
    try:
        if _holder(lock) is None:
            _clear_after(lock)
    finally:
        turn.unlink(missing_ok=True)


def _clear_stale(folder: Path) -> None:
    """Delete what killed processes left of other parts: whoever comes next may cut the work into other ones."""
    for path in folder.glob(f"{NAME}-*-of-*"):
        if path.suffix == "" and _holder(path) is None:  # one in the making has a suffix
            _clear(path)


def _unfinished(folder: Path, gone: Holder) -> list[Path]:
    """What a process of this machine was writing in a folder."""
    from medi.core.files import unfinished  # not above: it loads pandas

    ending = unfinished(Path("any"), gone.pid).name.removeprefix(".any")
    return list(folder.rglob(f".*{ending}")) if gone.host == socket.gethostname() else []


def _clear_after(lock: Path) -> None:
    with suppress(OSError, ValueError, TypeError):
        gone = Holder(**json.loads(lock.read_text(encoding="utf-8")))
        for path in _unfinished(lock.parent, gone):
            with suppress(OSError):
                path.unlink()
    with suppress(OSError):
        lock.unlink()


@cache
def _keep_renewed() -> None:
    """Renew all locks for as long as this process lives."""
    threading.Thread(target=_renew_for_ever, daemon=True).start()


def _renew_for_ever() -> None:
    while True:
        time.sleep(SILENT / 10)
        renew()


def _born(pid: int) -> str:
    """When a process began, "" where there is none: Linux tells in /proc; elsewhere only that it is there.

    One that has ended and was not waited for yet is none.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in ("Z", "X") else fields[18]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "alive"
    except OSError:
        return ""
    return "alive"
