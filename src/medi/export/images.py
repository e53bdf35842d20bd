"""A packed cohort as images for other programs: a folder per class, tars of WebDataset, or PNG files and a CSV.

The table goes with them, so that our readers read what was written.
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import content_hash, safe_name, unfinished
from medi.core.locks import is_empty
from medi.core.progress import Advance, unheard
from medi.export.ids import without_ids

Form = Literal["folder", "webdataset", "csv"]
FORMS: tuple[Form, ...] = ("folder", "webdataset", "csv")
SHARD = 1_000  # images in a tar
TABLE = "metadata.csv"  # beside the images; also what datasets of Hugging Face look for
FILE = "file_name"  # its column of paths, by their name
NO_CLASS = "unknown"  # folder of images whose class is not known

Pixels = UInt8[np.ndarray, "h w 3"]


def export_images(cohort: Cohort, out: Path, form: Form, progress: Advance = unheard, key: bytes | None = None) -> Path:
    """Write the images of a packed cohort to a new folder, which appears whole or not at all.

    folder: CLASS/ID.png and metadata.csv; csv: images/ID.png and metadata.csv; webdataset: tars of ID.png and ID.json.
    Names from metadata are made safe for files (P11). key: for codes in place of the names of real patches, slides and
    patients (`core.codes`); None keeps the names. MediError where `out` holds anything, or cannot be written.
    """
    check_new(out)
    images, out = cohort.images, out.resolve()
    table = cohort.table if key is None else without_ids(cohort.table, cohort.schema, key)
    temporary = unfinished(out)
    write = _write_tars if form == "webdataset" else _write_files
    try:
        temporary.mkdir(parents=True)
        write(table, lambda row: images[row : row + 1][0], temporary, form, progress)
        os.sync()
        shutil.rmtree(out, ignore_errors=True)  # empty
        temporary.replace(out)
    except OSError as error:
        raise MediError(
            f"{out}: cannot be written ({error.strerror or error}); make room or choose another --out"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def check_new(out: Path) -> None:
    """Refuse a folder that holds anything: before a key is made for it, too."""
    if out.is_file() or not is_empty(out):
        raise MediError(f"{out}: is there already; choose another --out")


def file_names(ids: pd.Series) -> list[str]:
    """A safe file name for every id, different ones also where a file system does not tell cases apart.

    >>> file_names(pd.Series(["a", "A", "../b"]))
    ['a', 'A-ba8fea', 'b-c4f69d']
    """
    taken: set[str] = set()
    return [_new(text, taken) for text in ids.astype(str)]


def _new(text: str, taken: set[str]) -> str:
    name = safe_name(text)
    if not name or name.casefold() in taken:
        name = f"{name}-{content_hash(text)[:6]}".lstrip("-")
    taken.add(name.casefold())
    return name


def _write_files(
    table: pd.DataFrame, image_of: Callable[[int], Pixels], folder: Path, form: Form, progress: Advance
) -> None:
    classes = dict(zip(table["class"].unique(), file_names(pd.Series(table["class"].unique()).replace("", NO_CLASS))))
    places = [classes[name] if form == "folder" else "images" for name in table["class"]]
    paths = [f"{place}/{name}.png" for place, name in zip(places, file_names(table["sample_id"]))]
    for place in sorted(set(places)):
        (folder / place).mkdir()
    for row, path in enumerate(paths):
        (folder / path).write_bytes(_png(image_of(row)))
        progress(row + 1, len(paths))
    kept = table.drop(columns="image", errors="ignore")
    kept.insert(0, FILE, paths)
    kept.to_csv(folder / TABLE, index=False, lineterminator="\n", encoding="utf-8")


def _write_tars(
    table: pd.DataFrame, image_of: Callable[[int], Pixels], folder: Path, form: Form, progress: Advance
) -> None:
    keys, rows = file_names(table["sample_id"]), table.drop(columns="image", errors="ignore").to_dict("records")
    for start in range(0, len(rows), SHARD):
        with tarfile.open(folder / f"{start // SHARD:06d}.tar", "w") as archive:
            for row in range(start, min(start + SHARD, len(rows))):
                _add(archive, f"{keys[row]}.png", _png(image_of(row)))
                fields = dict(_fields({str(name): value for name, value in rows[row].items()}))
                _add(archive, f"{keys[row]}.json", json.dumps(fields).encode())
                progress(row + 1, len(rows))


def _fields(row: dict[str, object]) -> Iterator[tuple[str, object]]:
    """The fields of a sample: the class is its label; numbers that are not known are left out."""
    for name, value in row.items():
        plain = value.item() if hasattr(value, "item") else value
        if plain == plain:
            yield "label" if name == "class" else name, plain


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
