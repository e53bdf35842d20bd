"""Files that survive a kill: written aside, synced, renamed (P12); JSON and Parquet only (P11)."""

import glob
import hashlib
import json
import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from medi.core.errors import MediError
from medi.core.seals import KEY, MARK, UNSEALED, read_whole, seal, sealed

AGAIN = "delete it and run the step again"
RUN_FORMAT = 2  # run.json; 1: version 0.1, whose stages can be read and not gone on with
RESULTS_FORMAT = 1  # results.json of a study
STRESS_FORMAT = 1  # results.json of a stress test


def write_atomic(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary file beside `path`, sync it and rename it over `path`.

    What processes of this machine that are gone have left of the same file is deleted.
    """
    temporary = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(unfinished(Path(glob.escape(path.name)), "*").name):
            pid = left.stem.rpartition("-")[2]
            if pid.isdigit() and not is_running(int(pid)):
                left.unlink()
        write(temporary)
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MediError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # none was made, or not even its folder
            temporary.unlink()
    return path


def linked(known: Path, path: Path) -> bool:
    """Give a file a second name in place of whatever is there; False where its file system has none for it."""
    temporary = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.hardlink_to(known)
        temporary.replace(path)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True


def unfinished(path: Path, pid: int | str | None = None) -> Path:
    """Where a process of this machine, by default this one, writes a file or folder before it is whole."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid() if pid is None else pid}.tmp")


@cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


def is_running(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def write_text(path: Path, text: str) -> Path:
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> Path:
    """JSON with two-space indent and, of an object, a checksum; NaN is null, so that any reader can open it (P7)."""
    plain = _plain(content)
    if not isinstance(plain, dict):
        return write_text(path, json.dumps(plain, indent=2, allow_nan=False) + "\n")
    text = json.dumps(plain | {KEY: UNSEALED}, indent=2, allow_nan=False) + "\n"
    return write_atomic(path, lambda temporary: temporary.write_bytes(sealed(text.encode())))


def read_json(path: Path) -> Any:
    """The content that `write_json` wrote; MediError where the file is missing, damaged or was changed."""
    data = read_whole(path, AGAIN)
    try:
        content = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise MediError(f"{path}: not readable as JSON ({error}); {AGAIN}") from error
    if isinstance(content, dict) and str(content.get(KEY, "")).startswith(MARK):
        del content[KEY]
    return content


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """A Parquet table with a checksum of each page and one of the whole file."""
    return write_atomic(path, partial(_write_parquet, table=table))


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), KEY: UNSEALED})
    pq.write_table(arrow, path.absolute(), write_page_checksum=True)  # a relative one with a colon would be a URI
    seal(path)


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet table of ours: text columns as plain `str`, missing text as "", missing numbers as NaN.

    MediError where the file is missing or damaged.
    """
    data = read_whole(path, AGAIN)
    try:
        table = pd.read_parquet(BytesIO(data))
    except (ValueError, OSError) as error:
        raise MediError(f"{path}: not readable as Parquet ({error}); {AGAIN}") from error
    return table.assign(**{name: _text(table[name]) for name in table.columns if _is_text(table[name])})


def _is_text(column: pd.Series) -> bool:
    """Whether a column holds text, or nothing at all: then its kind was lost when it was written."""
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return isinstance(values.dtype, pd.StringDtype) or pd.api.types.infer_dtype(values) in ("string", "empty")


def _text(column: pd.Series) -> pd.Series:
    text = column.astype(object) if column.dtype != "str" else column
    return text.where(text.notna(), "").astype("str")


def check_format(found: object, known: int, path: Path) -> None:
    """Every file of ours carries a `format_version`: newer is refused, older is read."""
    if not isinstance(found, int):
        raise MediError(f"{path}: carries no format_version; it was not written by medi")
    if found > known:
        raise MediError(f"{path}: format_version {found} is newer than {known}, which this medi reads; update medi")


def content_hash(*parts: object) -> str:
    """Sixteen hex digits over bytes (of an array: its `data`, not copied), text, or JSON-able content."""
    hasher = Hasher()
    for part in parts:
        data = part if isinstance(part, (bytes, memoryview)) else json.dumps(_plain(part), sort_keys=True).encode()
        hasher.begin(memoryview(data).nbytes)
        hasher.add(data)
    return hasher.digits()


class Hasher:
    """`content_hash` of parts whose bytes come piece by piece: `begin` says how many a part has."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def begin(self, size: int) -> None:
        self._hash.update(size.to_bytes(8, "little"))

    def add(self, data: bytes | memoryview) -> None:
        self._hash.update(data)

    def digits(self) -> str:
        return self._hash.hexdigest()[:16]


def file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


def safe_name(text: str) -> str:
    """A file name from metadata: letters, digits, dot and dash, and a hash where anything was replaced (P11)."""
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", text)[:40].strip("_")
    return plain if plain == text else f"{plain}-{content_hash(text)[:6]}"


def _plain(content: Any) -> Any:
    """Settings, arrays, paths and undefined numbers as what JSON can hold."""
    if isinstance(content, BaseModel):
        return _plain(content.model_dump())
    if is_dataclass(content) and not isinstance(content, type):
        return _plain(asdict(content))
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if hasattr(content, "tolist"):
        return _plain(content.tolist())
    if isinstance(content, float) and (content != content or content in (float("inf"), float("-inf"))):
        return None
    return str(content) if isinstance(content, Path) else content
