"""What a verb was asked to measure, kept beside its tables: another request does not overwrite them (P15)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medi.core.outputs import refuse_other

FILE = "request.json"
HEADS = ("cohort.json", "table.parquet")  # files that tell one cohort from another


@contextmanager
def only(out: Path, verb: str, cohorts: Mapping[str, Path], **asked: object) -> Iterator[None]:
    """Refuse a folder that holds the tables of another request of this verb; note this one at the end of the block.

    cohorts: folders by name; they are the same as long as their tables are.
    """
    from medi.core.files import read_json, write_json

    said = {name: "default" if value is None else value for name, value in asked.items()}
    request = {
        "verb": verb,
        **said,
        "cohorts": list(cohorts),
        **{name: cohort_hash(path) for name, path in cohorts.items()},
    }
    if (out / FILE).exists():
        refuse_other(out, f"result of medi {verb}", read_json(out / FILE), request)
    yield
    write_json(out / FILE, request)


def request_of(folder: Path) -> dict[str, Any]:
    """What the tables in a folder were asked for; empty where it does not say: of the library, or an older version."""
    from medi.core.files import read_json

    return read_json(folder / FILE) if (folder / FILE).exists() else {}


def cohort_hash(folder: Path) -> str:
    """Names a cohort by its head and table, and a file of features by what it holds."""
    from medi.core.files import content_hash, file_hash

    if folder.is_file():
        return file_hash(folder)
    return content_hash(*(file_hash(folder / name) for name in HEADS if (folder / name).is_file()))
