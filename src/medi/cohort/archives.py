"""Members of a tar, read to its very end: a damaged header or a missing end is an error, never an earlier end.

Python's tarfile takes the first block that is no header for the end of the archive, and all rows behind it are lost.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path

from medi.core.errors import MediError

BLOCK = tarfile.BLOCKSIZE
PART = 1 << 20  # bytes that are looked at together behind the end mark
AGAIN = "download or write it again"


def members_of(path: Path, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of an open, uncompressed tar in file order, then a check that the archive ends where they do.

    MediError names the archive and the byte where a header is damaged, the end mark lacks, or more follows behind it.
    """
    last = ""
    for member in archive:
        yield member
        last = member.name
    _check_end(path, archive.offset, f"after {last!r}" if last else "at its beginning")


def _check_end(path: Path, offset: int, place: str) -> None:
    """A tar ends with blocks of zeros: anything else at the place of the next header is damage."""
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            raise MediError(f"{path}: cut off at byte {offset + len(block):,}, {place}, without an end mark; {AGAIN}")
        if block.strip(b"\0"):
            raise MediError(f"{path}: the header of a member at byte {offset:,}, {place}, is damaged; {AGAIN}")
        while part := file.read(PART):
            if part.strip(b"\0"):
                raise MediError(
                    f"{path}: more follows behind the end mark at byte {offset:,}, {place}: "
                    f"a damaged header, or two archives joined; {AGAIN}"
                )
