"""Folders of Hugging Face `datasets`: their Arrow and Parquet files alone. Scripts in them are never run.

Two layouts: `save_to_disk` (dataset_dict.json with a folder a split, or state.json) and what lies on the hub
(data/train-00000-of-00002.parquet). The split of a file becomes the column `hf_split`, which is no split of ours.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medi.cohort.readers.forms import ARROW, PARQUET
from medi.cohort.readers.guess import NAMES, plain
from medi.cohort.readers.rows import as_texts, read_arrow
from medi.core.errors import MediError

SPLIT = "hf_split"
MARKS = ("dataset_dict.json", "state.json", "dataset_info.json")  # files that `datasets` writes
CACHE = "cache-"  # how the files begin that `datasets` keeps for itself
OF_SPLIT = re.compile(r"^(?P<split>[A-Za-z_]\w*?)(?:-\d+-of-\d+.*)?$")
Table = Any  # of pyarrow


def data_files(folder: Path) -> list[Path]:
    """The Arrow and Parquet files of such a folder, [] where it is none."""
    is_marked = any((folder / name).exists() for name in MARKS)
    places = ("*", "*/*") if is_marked else ("*-of-*", "data/*-of-*")
    found = {path for place in places for path in folder.glob(place) if path.suffix.lower() in (*ARROW, *PARQUET)}
    return sorted(path for path in found if not path.name.startswith(CACHE))


def read_folder(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """All rows as text, a class label by its name; and notes on what is left out.

    Columns of images are left out: the table says what they show, not how they look.
    """
    files = data_files(folder)
    if not files:
        raise MediError(f"{folder}: no .arrow or .parquet file of a dataset here")
    tables = [_table(path) for path in files]
    _check_columns(files, tables)
    notes, parts = _notes(folder, files, tables[0]), []
    for path, table in zip(files, tables):
        rows = as_texts(_decoded(table), path)
        parts.append(rows.assign(**_added(rows, folder, path)))
    return pd.concat(parts, ignore_index=True), notes


def _table(path: Path) -> Table:
    if path.suffix.lower() in ARROW:
        return read_arrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=_no_images(pq.read_schema(path)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise MediError(f"{path}: not readable as Parquet ({error})") from error


def _check_columns(files: Sequence[Path], tables: Sequence[Table]) -> None:
    first = [*_no_images(tables[0].schema)]
    for path, table in zip(files, tables):
        if (found := [*_no_images(table.schema)]) != first:
            raise MediError(
                f"{path}: has the columns {', '.join(found)}, but {files[0].name} has {', '.join(first)}; "
                "name one dataset"
            )


def _no_images(schema: Any) -> list[str]:
    """The columns that are neither bytes nor structures, as images, annotations and texts of tokens are."""
    import pyarrow.types as kinds

    no_text = (kinds.is_struct, kinds.is_list, kinds.is_large_list, kinds.is_binary, kinds.is_large_binary)
    return [field.name for field in schema if not any(is_kind(field.type) for is_kind in no_text)]


def _decoded(table: Table) -> pd.DataFrame:
    """The columns of text and numbers; class labels, which are stored as numbers, by their names."""
    rows = table.select(_no_images(table.schema)).to_pandas(types_mapper=None)
    for column, names in _labels(table.schema).items():
        if column in rows:
            known = dict(enumerate(names))
            rows[column] = rows[column].map(lambda value, known=known: known.get(value, None))
    return rows


def _labels(schema: Any) -> dict[str, list[str]]:
    """The names of the classes by column, as `datasets` keeps them beside an Arrow schema."""
    text = (schema.metadata or {}).get(b"huggingface", b"{}")
    features = json.loads(text).get("info", {}).get("features", {})
    return {str(name): kind["names"] for name, kind in features.items() if isinstance(kind, dict) and "names" in kind}


def _added(rows: pd.DataFrame, folder: Path, path: Path) -> dict[str, Any]:
    """The split of a file, and names for rows that have none."""
    inside = path.relative_to(folder).parent.name
    found = OF_SPLIT.match(path.stem)
    split = inside if inside not in ("", "data") else found["split"] if found and found["split"] != "data" else ""
    named = any(plain(str(name)) in NAMES["id"] for name in rows.columns)
    stem = f"{inside}/{path.stem}" if inside else path.stem
    ids = {} if named else {"sample_id": [f"{stem}/{row}" for row in range(len(rows))]}
    return ids | ({SPLIT: split} if split and SPLIT not in rows else {})


def _notes(folder: Path, files: Sequence[Path], first: Table) -> list[str]:
    """What is left out."""
    kept = set(_no_images(first.schema))
    if files[0].suffix.lower() in PARQUET:
        import pyarrow.parquet as pq

        names = pq.read_schema(files[0]).names
    else:
        names = first.schema.names
    left = [name for name in names if name not in kept]
    notes = [f"{len(files)} files of a Hugging Face dataset"]
    notes += [f"left out, images or other values that are no text: {', '.join(left)}"] if left else []
    scripts = sorted(path.name for path in folder.glob("*.py"))
    return [*notes, *([f"scripts are never run: {', '.join(scripts)}"] if scripts else [])]
