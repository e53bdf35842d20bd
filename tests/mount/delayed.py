"""A folder seen through a slow network: a FUSE mount on which every call waits, and names are remembered for seconds.

python tests/mount/delayed.py FOLDER MOUNT [--delay 0.005] [--stale 3]

Two such mounts of one folder are two nodes of a cluster: each keeps what it saw of names, also that there was none, for
`--stale` seconds, as NFS clients do. Sizes are asked for anew, as an NFS client does when it opens a file. It runs in
the foreground until it is unmounted.
"""

import argparse
import errno
import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import mfusepy

ATTRIBUTES = ("st_gid", "st_ino", "st_mode", "st_nlink", "st_size", "st_uid")
NOW = (1 << 30) - 1  # nanoseconds that ask for the time of now (utimensat)
TIMES = ("st_atime", "st_ctime", "st_mtime")
SPACE = [name for name in dir(os.statvfs_result) if name.startswith("f_") and name != "f_fsid"]


class Folder(mfusepy.Operations):
    """The files of a folder."""

    use_ns = True

    def __init__(self, folder: str) -> None:
        self.folder = os.path.realpath(folder)

    def at(self, path: str) -> str:
        return self.folder + path

    def access(self, path: str, amode: int) -> int:
        if not os.access(self.at(path), amode):
            raise mfusepy.FuseOSError(errno.EACCES)
        return 0

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.at(path), mode)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        flags = os.O_RDWR | os.O_TRUNC if fi is None else fi
        return os.open(self.at(path), flags | os.O_CREAT, mode)

    def flush(self, path: str, fh: int) -> int:
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        return 0

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self.at(path))
        times = {key: getattr(found, f"{key}_ns") for key in TIMES}
        return times | {key: getattr(found, key) for key in ATTRIBUTES}

    def link(self, target: str, source: str) -> None:
        os.link(self.at(source), self.at(target))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.at(path), mode)

    def open(self, path: str, flags: int) -> int:
        return os.open(self.at(path), flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self.at(path))]

    def readlink(self, path: str) -> str:
        return os.readlink(self.at(path))

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        os.rename(self.at(old), self.at(new))

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def statfs(self, path: str) -> dict[str, Any]:
        found = os.statvfs(self.at(path))
        return {key: getattr(found, key) for key in SPACE}

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self.at(target))

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self.at(path) if fh is None else fh, length)

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        now = time.time_ns(), time.time_ns()
        os.utime(self.at(path), ns=now if times is None or NOW in times else times)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)


def delayed(seconds: float) -> type[Folder]:
    """The same folder, but every call waits before it is done."""

    def waiting(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def waits(*arguments: Any) -> Any:
            time.sleep(seconds)
            return call(*arguments)

        return waits

    calls = {name: call for name, call in vars(Folder).items() if not name.startswith("_") and callable(call)}
    return type("Delayed", (Folder,), {name: waiting(call) for name, call in calls.items() if name != "at"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("mount")
    parser.add_argument("--delay", type=float, default=0.005, help="seconds before every call")
    parser.add_argument("--stale", type=float, default=3.0, help="seconds for which names are remembered")
    options = parser.parse_args()
    kept = {"entry_timeout": options.stale, "negative_timeout": options.stale, "attr_timeout": 0}
    mfusepy.FUSE(delayed(options.delay)(options.folder), options.mount, foreground=True, auto_cache=True, **kept)


if __name__ == "__main__":
    main()
