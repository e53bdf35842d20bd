"""The files of features below a path, read one after another, and whether they belong together."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from medi.cohort.readers.features.formats import SUFFIXES, Part, read_part
from medi.cohort.readers.forms import TABLES
from medi.core.errors import MediError

LOOKED_AT = 50  # entries of a folder that tell what it holds
ZARR = (".zgroup", ".zarray", "zarr.json")  # what lies in the folder that is a Zarr store


def feature_files(path: Path) -> list[Path]:
    """One file, or the files of one kind in a folder, else in the folders below it, sorted.

    MediError for a path that is not there, a folder without features, one with two kinds of files, and a slide twice.
    """
    if not path.exists():
        raise MediError(f"{path}: no such file or folder of features")
    if path.is_file() or is_zarr(path):
        return [path]
    found = _here(path.iterdir()) or _here(path.rglob("*"))
    if not found:
        raise MediError(f"{path}: no features here ({', '.join(SUFFIXES)})")
    kinds = Counter(file.suffix.lower() for file in found)
    if len(kinds) > 1:
        counted = ", ".join(f"{suffix} ({count:,})" for suffix, count in kinds.most_common())
        raise MediError(f"{path}: features of several kinds, {counted}; name the folder of one")
    first: dict[str, Path] = {}
    for file in found:
        if (other := first.setdefault(file.stem, file)) is not file:
            raise MediError(f"{path}: two files of the slide {file.stem}: {other} and {file}; name the folder of one")
    return found


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / name).exists() for name in ZARR)


def all_features(folder: Path) -> bool:
    """Whether a folder holds files of features and nothing else, by the first of them."""
    first = [path.suffix.lower() for path in islice(folder.iterdir(), LOOKED_AT)]
    return bool(first) and all(suffix in SUFFIXES and suffix not in TABLES for suffix in first)


def _here(paths: Iterator[Path]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and not any(part.suffix == ".zarr" for part in path.parents)
    )


@dataclass
class Together:
    """What the files of one set share: the width, the encoder, the transform; and which numbers vary at all."""

    width: int = 0
    encoder: str = ""
    transform: str = ""
    first: dict[str, Path] = field(default_factory=dict)
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def add(self, part: Part) -> None:
        """Refuse a file of another encoder: both are named."""
        if not len(part):
            return
        self._same("width", part.features.shape[1], part.path)
        for what in ("encoder", "transform"):
            if said := getattr(part, what):
                self._same(what, said, part.path)
        low, high = part.features.min(axis=0), part.features.max(axis=0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)

    def _same(self, what: str, value: object, path: Path) -> None:
        other = self.first.setdefault(what, path)
        if other is path:
            setattr(self, what, value)
        elif (known := getattr(self, what)) != value:
            unit = "{} numbers a row" if what == "width" else f"the {what} {{}}"
            raise MediError(
                f"{other.name} has {unit.format(known)}, {path.name} {unit.format(value)}: two encoders, or one in two "
                "ways; name files of one"
            )

    @property
    def constant(self) -> int:
        """How many numbers are the same in all rows."""
        if self.low is None or self.high is None:
            return 0
        return int((self.low == self.high).sum())


def read_parts(path: Path) -> Iterator[Part]:
    """Every file in turn."""
    for file in feature_files(path):
        yield read_part(file)
