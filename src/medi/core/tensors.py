"""Safetensors files: written whole or not at all, permissions as of any new file, equal bytes for equal content."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medi.core.errors import MediError
from medi.core.files import write_atomic
from medi.core.seals import UNSEALED, seal


def write_tensors(path: Path, save: Callable[[Path], None]) -> Path:
    """Let `save` write a safetensors file; one whose header holds the mark `UNSEALED` is sealed.

    MediError where it cannot be written: safetensors has an error of its own for a full disk.
    """
    from safetensors import SafetensorError

    def write(temporary: Path) -> None:
        temporary.touch()  # with the permissions that any new file has here; safetensors makes its own narrower
        mode = temporary.stat().st_mode
        try:
            save(temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from error
        if _sort_header(temporary):
            seal(temporary)
        temporary.chmod(mode)

    return write_atomic(path, write)


def header_of(path: Path) -> dict[str, Any]:
    """What a checkpoint of ours says of itself, without its tensors: its config, and its checksum as `hash`.

    MediError where the file is none.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("it is cut short")
            entries = json.loads(file.read(length))["__metadata__"]
        return {**json.loads(entries["config"]), "hash": entries.get("sum", "")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediError(f"{path}: not a checkpoint of medi ({error}); train it again") from error


def _sort_header(path: Path) -> bool:
    """Sort the entries of the header, whose order is another at every call. Returns whether it waits for a seal."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        entries = header.setdefault("__metadata__", {})
        header["__metadata__"] = dict(sorted(entries.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:  # the tensors begin where they did
            file.seek(8)
            file.write(text.ljust(length))
    return UNSEALED in entries.values()
