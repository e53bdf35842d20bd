"""Cohort: a patch table, its schema and its pixels. Real and synthetic sets are the same type."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from medi.cohort.pixels import Pixels, verify
from medi.cohort.schema import Schema
from medi.core.errors import MediError
from medi.core.files import check_format, content_hash, read_json, read_table, write_json, write_table

FORMAT_VERSION = 1
SPLITS = ("train", "validation", "test_seen", "test_unseen", "reserve", "set_aside")


@dataclass(frozen=True)
class Cohort:
    """n patches: `table` has one row each (text columns, "" where nothing is known), `pixels` the images in that order.

    The columns `sample_id`, `class`, `patient` and `slide` are there; `sample_id` is unique. `pixels` is None
    where only the table is known. `info` says where the cohort comes from (source, seed, model hash, settings).
    """

    table: pd.DataFrame
    schema: Schema
    pixels: Pixels | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", self.table.reset_index(drop=True))
        _check_table(self.table)
        if self.pixels is not None and len(self.pixels) != len(self.table):
            raise MediError(f"{len(self.table)} table rows but {len(self.pixels)} images")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def images(self) -> Pixels:
        """The pixels, or an error where the cohort has none."""
        if self.pixels is None:
            raise MediError("this cohort has no pixels yet; pack it first")
        return self.pixels

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel: the median of the known ones, None where none is."""
        known = pd.to_numeric(self.table.get("mpp", pd.Series(dtype=float)), errors="coerce").dropna()
        return float(known.median()) if len(known) else None

    def select(self, which: Int64[np.ndarray, " k"] | Bool[np.ndarray, " n"]) -> "Cohort":
        """The rows of a mask or of positions, in that order; pixels are shared, not copied."""
        rows = np.flatnonzero(which) if np.asarray(which).dtype == bool else np.asarray(which, dtype=np.int64)
        pixels = None if self.pixels is None else self.pixels.select(rows)
        return Cohort(self.table.iloc[rows], self.schema, pixels, self.info)

    def where(self, **values: str | Sequence[str]) -> "Cohort":
        """The rows whose columns hold these values: cohort.where(split="train", site=["A", "B"])."""
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in values.items():
            keep &= self.table[column].isin([wanted] if isinstance(wanted, str) else list(wanted)).to_numpy()
        return self.select(keep)

    def with_columns(self, **columns: Any) -> "Cohort":
        return Cohort(self.table.assign(**columns), self.schema, self.pixels, self.info)

    def save(self, folder: Path) -> Path:
        """Write table.parquet, pixels.npy and, last, cohort.json: a folder without it is unfinished."""
        write_table(folder / "table.parquet", self.table)
        if self.pixels is not None:
            self.pixels.save(folder / "pixels.npy")
        head = {"format_version": FORMAT_VERSION, "rows": len(self), "pixels": self.pixels is not None}
        write_json(folder / "cohort.json", head | {"schema": self.schema.to_dict(), "info": self.info})
        return folder

    @classmethod
    def load(cls, folder: Path) -> "Cohort":
        if not (folder / "cohort.json").exists():
            raise MediError(f"{folder}: no cohort here (cohort.json is missing); write it again")
        head = read_json(folder / "cohort.json")
        check_format(head.get("format_version"), FORMAT_VERSION, folder / "cohort.json")
        pixels = Pixels.open(folder / "pixels.npy") if head["pixels"] else None
        if pixels is not None:
            verify(folder / "pixels.npy", whole=False)
        table = read_table(folder / "table.parquet")
        if len(table) != head["rows"]:
            raise MediError(f"{folder}: table.parquet has {len(table)} rows, cohort.json says {head['rows']}")
        return cls(table, Schema.from_dict(head["schema"]), pixels, head["info"])

    def digest(self) -> str:
        """A hash of table, schema and pixels."""
        table = pd.util.hash_pandas_object(self.table, index=False).to_numpy().tobytes()
        pixels = "" if self.pixels is None else self.pixels.digest()
        return content_hash(table, list(self.table.columns), self.schema.to_dict(), pixels)


def concatenate(cohorts: Sequence[Cohort]) -> Cohort:
    """The rows of several cohorts of one schema and size, one after another, pixels copied into memory."""
    first = cohorts[0]
    if any(cohort.schema != first.schema for cohort in cohorts):
        raise MediError("cohorts of different schemas cannot be joined")
    table = pd.concat([cohort.table for cohort in cohorts], ignore_index=True)
    pixels = Pixels.of(np.concatenate([cohort.images[:] for cohort in cohorts]))
    return Cohort(table, first.schema, pixels, first.info)


def slides_in_turn(table: pd.DataFrame, by: Sequence[str] = ()) -> Int64[np.ndarray, " n"]:
    """Positions of all rows such that every slide comes once before any comes twice, else in the table's order.

    Turns are counted among the rows with the same values in the columns `by`. A row without a slide is one by itself.
    """
    slide = table["slide"].where(table["slide"] != "", table["sample_id"])
    turn = slide.groupby([slide, *(table[name] for name in by)]).cumcount()
    return np.argsort(turn.to_numpy(), kind="stable").astype(np.int64)


def _check_table(table: pd.DataFrame) -> None:
    if lacking := {"sample_id", "class", "patient", "slide"} - set(table.columns):
        raise MediError(f"a patch table needs the columns {', '.join(sorted(lacking))}")
    twice = table["sample_id"].duplicated()
    if twice.any():
        row = int(np.argmax(twice.to_numpy()))
        raise MediError(f"sample_id {table['sample_id'].iloc[row]!r} occurs twice (row {row})")
