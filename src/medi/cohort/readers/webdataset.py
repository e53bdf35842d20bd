"""WebDataset tars as published on the Hugging Face hub: <key>.jpg beside <key>.json with a `label`.

TCGA-UT's keys are <slide barcode>/<region>_<patch>_<px>, its images those of level 0. Nothing is ever extracted.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from medi.cohort.archives import members_of
from medi.cohort.readers.files import SUFFIXES
from medi.cohort.readers.names import in_our_words
from medi.cohort.readers.normalise import DEFAULTS, Notes, Settings, assemble
from medi.cohort.readers.tcga_ut import PATCH, scan_mpp
from medi.cohort.schema import RESERVED
from medi.cohort.table import Cohort
from medi.core.errors import MediError

REFUSED = "links, devices, names that are not UTF-8 and absolute or '..' paths are refused"
MAX_JSON = 1 << 20  # bytes; a label file is some dozens


def read(source: Path, shards: str = "*.tar", label: str = "label", settings: Settings = DEFAULTS) -> Cohort:
    """The cohort of one tar, or of the tars in a folder that `shards` matches.

    label: the field of the JSON that is the class; its other texts and numbers become columns. `image` is
    "shard.tar!member". Members that are links, devices, or have absolute or ".." paths are refused.
    """
    paths = [source] if source.is_file() else sorted(source.glob(shards))
    if not paths:
        raise MediError(f"{source}: no tars named {shards}")
    root, notes, found = paths[0].parent, Notes(), []
    for path in paths:
        found += _rows(path, path.relative_to(root).as_posix(), notes, settings)
    rows = pd.DataFrame(found).fillna("").astype("str")
    if rows.empty or label not in rows:
        raise MediError(
            f"{source}: no sample has a JSON field {label!r}; found {', '.join(map(str, rows.columns)) or 'none'}"
        )
    reserved = set(RESERVED) - {label, "sample_id", "image", "patient", "slide"}
    rows = rows.drop(columns=[name for name in rows.columns if name in reserved])
    settings = in_our_words(settings, {label: "class"})
    table = _with_slides(rows.rename(columns={label: "class"}), settings)
    return assemble(table, source, root, notes, settings, lambda row: str(rows["image"][row]))


def _rows(path: Path, shard: str, notes: Notes, settings: Settings) -> list[dict[str, str]]:
    """One row per image of a shard: sample_id (the key), image and the JSON's fields."""
    images: dict[str, str] = {}
    fields: dict[str, dict[str, str]] = {}
    bad: list[str] = []
    for member, content in _members(path, bad):
        key, kind = _split(member.name)
        if kind == "json":
            fields[key] = _fields(content, f"{path}!{member.name}")
        elif key in images:
            raise MediError(f"{path}: {key!r} has two images, {images[key]!r} and {member.name!r}; keys are unique")
        elif f".{kind}" in SUFFIXES:
            images[key] = member.name
    notes.reject(bad, REFUSED, "publish the tar without it", settings)
    bare = [f"{path}!{name}" for key, name in images.items() if key not in fields]
    notes.reject(bare, "an image without its .json", "complete the shard", settings)
    alone = [f"{path}!{key}.json" for key in fields if key not in images]
    notes.reject(alone, "a .json without its image", "complete the shard", settings)
    return [{**fields[key], "sample_id": key, "image": f"{shard}!{n}"} for key, n in images.items() if key in fields]


def _members(path: Path, bad: list[str]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Regular members of a tar in file order, the content of JSON ones; refused ones are added to `bad`."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in members_of(path, archive):
                if member.isdir():
                    continue
                if not member.isfile() or not is_safe(member.name):
                    bad.append(f"{path}!{member.name}")
                    continue
                yield member, _content(archive, member)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise MediError(f"{path}: not a whole, uncompressed tar ({error}); download it again") from error


def is_safe(name: str) -> bool:
    """Whether a member's name is text that stays below the archive: relative, no "..", no drive, no backslash."""
    path, is_text = PurePosixPath(name), not any("\ud800" <= letter <= "\udfff" for letter in name)  # is UTF-8
    return (
        bool(name) and is_text and not path.is_absolute() and ".." not in path.parts and not set(name) & set("\\:\0!")
    )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if not member.name.endswith(".json"):
        return b""
    if member.size > MAX_JSON:
        raise MediError(f"{archive.name!r}: {member.name} has {member.size} bytes, no label file")
    handle = archive.extractfile(member)
    return b"" if handle is None else handle.read()


def _split(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the base name, what follows says the kind."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


def _fields(content: bytes, name: str) -> dict[str, str]:
    try:
        found: Any = json.loads(content)
    except ValueError as error:
        raise MediError(f"{name}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise MediError(f"{name}: holds {type(found).__name__}, expected an object with a label")
    return {
        str(k): str(v) for k, v in found.items() if isinstance(v, str | int | float) and k not in ("sample_id", "image")
    }


def _with_slides(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The slide is the key's folder; TCGA-UT's patch names also tell the scales."""
    slide, _, patch = (table["sample_id"].str.rpartition("/")[i] for i in range(3))
    table = table if "slide" in table else table.assign(slide=slide)
    px = patch.str.extract(f"^{PATCH}$")["px"]
    if slide.str.startswith("TCGA-").all() and px.notna().all():
        table = table.assign(mpp=0.5, scan_mpp=scan_mpp(px))
    return table if settings.mpp is None else table.assign(mpp=settings.mpp)
