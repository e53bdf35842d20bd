"""Logs of one JSON object a line, each line with a checksum of its own: a line that was altered is not read (P12)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medi.core.errors import MediError
from medi.core.files import content_hash

KEY = "sum"  # beside the entries of a line, none of which may have this name


def line_of(content: Mapping[str, Any]) -> str:
    """One line, its end included.

    >>> line_of({"images": 8})
    '{"images": 8, "sum": "01c9a9231673cabf"}\\n'
    """
    return json.dumps({**content, KEY: content_hash(dict(content))}) + "\n"


def parse_line(line: str) -> dict[str, Any]:
    """The content of a line; ValueError where it was altered. One without a checksum is older and is read as it is."""
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError("not an object")
    found = content.pop(KEY, None)
    if found is not None and found != content_hash(content):
        raise ValueError("its checksum differs")
    return content


def read_lines(path: Path, remedy: str) -> Iterator[dict[str, Any]]:
    """The contents of all lines; MediError names the file and the first line that is damaged, and the remedy."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MediError(f"{path}: cannot be read ({error}); {remedy}") from error
    for number, line in enumerate(lines, 1):
        try:
            yield parse_line(line)
        except ValueError as error:
            raise MediError(f"{path}: line {number} is damaged ({error}); {remedy}") from error
