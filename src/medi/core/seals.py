"""A file that carries its own checksum: what was altered after it was written is refused, not read.

The checksum is the SHA-256 of the whole file with the checksum's own 64 digits as zeros. It stands in plain text
between two marks: in a key of a JSON file, in the metadata of a Parquet file, in the header of a safetensors file. So
other programs read these files as ever. A file without the marks is older and is read as it is.
"""

import hashlib
from pathlib import Path

from medi.core.errors import MediError

MARK, END = "medi-sha256:", ":medi-sha256"  # before and after the digits
DIGITS = 64
UNSEALED = MARK + "0" * DIGITS + END  # what a writer puts where the checksum shall stand
KEY = "checksum"  # of a JSON file, or of metadata, whose value is the sealed mark


def sealed(data: bytes) -> bytes:
    """The bytes with their checksum in place of the zeros behind the last mark.

    >>> whole = sealed(b'{"n": 1, "checksum": "' + UNSEALED.encode() + b'"}')
    >>> is_whole(whole), is_whole(whole.replace(b"1", b"2", 1)), is_whole(b'{"n": 1}')
    (True, False, True)
    """
    start = _place(data)
    return data[:start] + _digest(data).encode() + data[start + DIGITS :]


def _place(data: bytes) -> int:
    """Where the digits of an unsealed file begin."""
    return data.rindex(UNSEALED.encode()) + len(MARK)


def is_whole(data: bytes) -> bool:
    """Whether the bytes are as they were sealed; bytes without a mark are."""
    mark, end = data.rfind(MARK.encode()), data.rfind(END.encode())
    if mark < 0 and end < 0:
        return True
    start = mark + len(MARK)
    if mark < 0 or end != start + DIGITS:  # one of the two is damaged
        return False
    blank = data[:start] + b"0" * DIGITS + data[start + DIGITS :]
    return data[start : start + DIGITS] == _digest(blank).encode()


def seal(path: Path) -> None:
    """Put the checksum into a file that was written with `UNSEALED`; nothing else of it is written again."""
    data = path.read_bytes()
    with path.open("rb+") as file:
        file.seek(_place(data))
        file.write(_digest(data).encode())


def read_whole(path: Path, remedy: str) -> bytes:
    """The bytes of a file as they were sealed; MediError with the remedy where they were altered, or cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MediError(f"{path}: no such file") from error
    except OSError as error:
        raise MediError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not is_whole(data):
        raise MediError(f"{path}: is damaged, or was changed after it was written (its checksum differs); {remedy}")
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
