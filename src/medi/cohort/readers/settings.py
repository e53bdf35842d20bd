"""What a user may say to every reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medi.core.errors import MediError
from medi.core.settings import validated


@validated
@dataclass(frozen=True)
class Settings:
    """What a user may say to every reader; None means: guess, and note the guess.

    attributes: columns to condition on, NEW=OLD to read the column OLD as NEW; continuous: those of them that are
    numbers. missing: spellings of "not known", for all columns or per column. group_rare: {column: n} turns levels
    with fewer than n patients into "other". classes: keep only these (TCGA abbreviations and names both work). mpp:
    micrometres per pixel of the images. clinical, sites: GDC's clinical table and site code table, for TCGA;
    merge_aliases: other names of one hospital are one level, not its spellings alone. features: a file or a
    folder of them, in place of images (`medi.cohort.readers.features`). split_column: a split that came with the
    table; called `split` it is kept as `official_split`. on_error: "skip" leaves bad rows
    out and lists them, "fail" stops at the first.
    """

    attributes: Sequence[str] | None = None
    continuous: Sequence[str] = ()
    missing: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    group_rare: Mapping[str, int] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    mpp: float | None = None
    clinical: Path | None = None
    sites: Path | None = None
    merge_aliases: bool = False
    features: Path | None = None
    split_column: str | None = None
    on_error: Literal["fail", "skip"] = "fail"

    def __post_init__(self) -> None:
        if self.mpp is not None and not 0 < self.mpp < float("inf"):
            raise MediError(f"mpp {self.mpp:g}: micrometres per pixel are a positive number")


DEFAULTS = Settings()
