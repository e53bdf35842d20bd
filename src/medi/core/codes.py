"""Codes in place of names that should not leave the house: keyed hashes (HMAC-SHA-256, RFC 2104).

A plain hash of a short serial number is guessed by trying all numbers. Without the key no guess can be tried.
"""

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from medi.core.errors import MediError
from medi.core.files import unfinished

KEY = "ids.key"  # beside what the owner keeps, never in what is given away
BYTES = 32


def key_of(folder: Path) -> bytes:
    """The random key of a folder, made where it has none: within one folder a name has one code.

    Of several processes that make one at once, the first makes the key of all.
    MediError where the file is no key, or cannot be written.
    """
    path = folder / KEY
    if not path.exists():
        _make(path)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise MediError(f"{path}: not readable as a key ({error}); put the right one back, or delete it") from error
    if len(key) != BYTES:
        raise MediError(f"{path}: holds {len(key)} bytes, a key has {BYTES}; put the right one back, or delete it")
    return key


def _make(path: Path) -> None:
    """A whole key or none, for the owner's eyes alone from the first byte on; one that is there by now stays."""
    own, key = unfinished(path), secrets.token_hex(BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as handle:
            handle.write(key + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        _named(own, path)
    except OSError as error:
        raise MediError(
            f"{path}: cannot be written ({error.strerror or error}); choose a folder of your own"
        ) from error
    finally:
        with suppress(OSError):
            own.unlink()


def _named(own: Path, path: Path) -> None:
    try:
        os.link(own, path)
    except FileExistsError:
        return
    except OSError:  # a disk without hard links
        own.replace(path)


def code_of(key: bytes, kind: str, name: str, digits: int = 16) -> str:
    """What stands for a name of some kind, as hexadecimal digits; "" for "".

    >>> code_of(bytes(32), "slide", "a", 8), code_of(bytes(32), "patient", "a", 8), code_of(bytes(32), "slide", "")
    ('c01eac38', '5374fbf4', '')
    """
    return hmac.digest(key, f"{kind}\0{name}".encode(), "sha256").hex()[:digits] if name else ""
