"""One process per folder: whoever writes into a folder says so in it, and a second one is refused (P15).

The lock is a small file that names machine, process and command. It needs no lock of the file system, which network
file systems do not always keep. A process that was killed leaves it behind; the next one sees that and takes it over.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from medi.core.errors import MediError

NAME = ".medi-lock"
SILENT = 600.0  # seconds after which a lock of another machine that nobody renews is stale
_held: dict[Path, int] = {}  # folders that this process holds, and how often


@dataclass(frozen=True)
class Holder:
    """Who writes into a folder. `born` tells a process from a later one of the same number."""

    host: str
    pid: int
    born: str
    command: str

    @classmethod
    def of_this_process(cls) -> "Holder":
        return cls(socket.gethostname(), os.getpid(), _born(os.getpid()), " ".join(["medi", *sys.argv[1:]])[:200])

    def is_alive(self, age: float) -> bool:
        """Whether the holder still works; of another machine only the age of its lock (seconds) tells."""
        if self.host != socket.gethostname():
            return age < SILENT
        return _born(self.pid) == self.born and bool(self.born)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder while the block runs; the same process may hold it several times.

    MediError that names the other process where one holds the folder. The folder is made where it is not there.
    """
    place = folder.resolve()
    if place not in _held:
        _take(place)
    _held[place] = _held.get(place, 0) + 1
    try:
        yield
    finally:
        _held[place] -= 1
        if not _held[place]:
            del _held[place]
            with suppress(OSError):
                (place / NAME).unlink()


def renew(folder: Path) -> None:
    """Say that the holder still works, for those who look from another machine."""
    with suppress(OSError):
        os.utime(folder.resolve() / NAME)


def holder(folder: Path) -> Holder | None:
    """Who holds a folder now; None where nobody does, or one who is gone."""
    path = folder / NAME
    try:
        age = time.time() - path.stat().st_mtime
        found = Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.is_alive(age) else None


def _take(folder: Path) -> None:
    """Write the lock, in one step that only one process can do; take over one that is stale."""
    mine = Holder.of_this_process()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f"{NAME}.{mine.host}.{mine.pid}"
        aside.write_text(json.dumps(asdict(mine)), encoding="utf-8")
    except OSError as error:
        raise MediError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        for _ in range(3):
            with suppress(FileExistsError):
                os.link(aside, folder / NAME)
                return
            if other := holder(folder):
                raise MediError(
                    f"{folder}: is in use by process {other.pid} on {other.host} ({other.command}); wait until it "
                    "ends, stop it, or choose another folder"
                )
            with suppress(OSError):
                (folder / NAME).unlink()
        raise MediError(f"{folder}: is in use by another process; wait until it ends, or choose another folder")
    except OSError as error:
        raise MediError(f"{folder}: cannot be locked ({error.strerror}); choose another folder") from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _born(pid: int) -> str:
    """When a process began, "" where there is none: Linux tells in /proc; elsewhere only that it is there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
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
