"""Cohort: a patch table, its schema and its pixels. Real and synthetic sets are the same type.

Its methods are the road of a study: audit, hold_out, pack, plan. Each loads its module at its first use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from medi.cohort.lost import lost_file, remedy
from medi.cohort.pixels import Pixels, verify
from medi.cohort.schema import Schema
from medi.core.errors import MediError, did_you_mean
from medi.core.files import check_format, content_hash, read_json, read_table, write_json, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medi.cohort.audit import Audit
    from medi.cohort.dataset import PatchDataset
    from medi.cohort.holdout import Holdout
    from medi.cohort.image_fit import Mode
    from medi.cohort.plan import Plan
    from medi.cohort.rule import Rule
    from medi.core.progress import Advance

FORMAT_VERSION = 1
LISTED = 20  # known values that a message names
SPLITS = ("train", "validation", "test_seen", "test_unseen", "reserve", "set_aside")


@dataclass(frozen=True)
class Cohort:
    """n patches: `table` has one row each (text columns, "" where nothing is known), `pixels` the images in that order.

    The columns `sample_id`, `class`, `patient` and `slide` are there; `sample_id` is unique. `pixels` is None
    where only the table is known. `info` says where the cohort comes from (source, seed, model hash, settings).

    >>> import medi
    >>> cohort = medi.phantom(patches=400, seed=0).hold_out(over=["class", "site"], rate=0.2, seed=0)
    >>> sorted(set(cohort.table["split"]))
    ['reserve', 'test_seen', 'test_unseen', 'train', 'validation']
    >>> cohort.where(split="train").plan(to=20).title
    '32 combinations of class x site: 474 images to sample'
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
            raise MediError(self.no_images("this"))
        return self.pixels

    def no_images(self, what: str) -> str:
        """Why something that works on images cannot be done with a cohort without pixels, in one sentence."""
        if self.has_features and not self.info.get("root"):
            return f"{what} needs images; this cohort has features alone ({self.info['features']['root']})"
        return "this cohort has no pixels yet; pack it first"

    @property
    def has_features(self) -> bool:
        """Whether the table says where the features of every patch stand."""
        return "features" in self.info and "features" in self.table

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
        """The rows whose columns hold these values: any of several. MediError where there is no such column or value.

        A split and a level of the schema are known also where no row has them.

        >>> import medi
        >>> tissue = medi.phantom(patches=100, seed=0)
        >>> len(tissue.where(site=["Alder", "Birch"])) < len(tissue)
        True
        """
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in values.items():
            if column not in self.table:
                near = did_you_mean(column, self.table.columns)
                raise MediError(f"no column {column!r}; there are {', '.join(self.table.columns)}{near}")
            values_of = [wanted] if isinstance(wanted, str) else list(wanted)
            self._check_known(column, values_of)
            keep &= self.table[column].isin(values_of).to_numpy()
        return self.select(keep)

    def _check_known(self, column: str, wanted: Sequence[str]) -> None:
        """Refuse a value that no row has and that is no split and no level: it is misspelled."""
        found, said = self.table[column], [a for a in self.schema.conditions if a.name == column]
        known = {"", *(SPLITS if column == "split" else ()), *(text for a in said for text in (*a.levels, *a.missing))}
        strange = [value for value in wanted if value not in known and not (found == value).any()]
        if strange:
            names = sorted(map(str, {*known, *found.unique()} - {""}))
            more = f", and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
            near = did_you_mean(str(strange[0]), names)
            raise MediError(f"no {column} {strange[0]!r}; there are {', '.join(names[:LISTED])}{more}{near}")

    def with_columns(self, **columns: Any) -> "Cohort":
        """The cohort with these columns of its table set: one value for all rows, or n values."""
        return Cohort(self.table.assign(**columns), self.schema, self.pixels, self.info)

    def audit(self, seed: int = 0, split: str = "") -> "Audit":
        """How skewed the cohort is, and which attribute gives the class away. See `medi.cohort.audit`.

        seed: deals patients into folds. split: the patches of one split alone, such as "train": what is left after a
        hold-out can be far more skewed than the cohort was. MediError where no row has a class.
        Source: Drexlin et al., MICCAI 2025, section 2 and Figure 2.

        >>> import medi
        >>> medi.phantom(patches=100, seed=0).audit().to_frame()["attribute"].tolist()
        ['site', 'group', 'all attributes']
        """
        from medi.cohort.audit import audit

        part = self.where(split=split) if split else self
        return audit(part.table, part.schema, seed)

    def discover(self, seed: int = 0, **options: Any) -> "Cohort":
        """The cohort with a column `derived`: groups of slides of one colour and sharpness, scanners or biology; none
        where one group fits best. options, errors and sources: see `medi.cohort.discovery.discover`.

        >>> import medi
        >>> medi.phantom(patches=100, seed=0).discover().info["derived"]["groups"]
        1
        """
        from medi.cohort.discovery import discover

        return discover(self, seed, **options)

    def hold_out(
        self, over: Sequence[str] = (), rate: float = 0.3, seed: int = 0, rule: "Rule | None" = None, **options: Any
    ) -> "Cohort":
        """The cohort with a column `split`: combinations of `over` taken away from training, patients never split.

        over: columns, by default the class and the first attribute; rate: share of the combinations; options: those of
        `Rule` (min_patients, test_seen, validation, reserve, ...); rule: a whole rule in place of all these. The
        certificate is `cohort.holdout.certificate`. MediError where the rule cannot be met, saying what can.
        Source: Drexlin et al., MICCAI 2025 (combinations of class and hospital held out).

        >>> import medi
        >>> split = medi.phantom(patches=400, seed=0).hold_out(over=["class", "site"], rate=0.1, min_patients=1)
        >>> len(split.holdout.held_out), split.where(split="train").table["patient"].nunique() > 0
        (3, True)
        """
        from medi.cohort.holdout import design
        from medi.cohort.rule import Rule

        chosen = rule or Rule(over=tuple(over), rate=rate, **options)
        return design(self.table, self.schema, chosen, seed).apply_to(self)

    def official_split(
        self, column: str, values: Mapping[str, Sequence[str]] | None = None, over: Sequence[str] = ()
    ) -> "Cohort":
        """The cohort with the split that came with it; the certificate names what leaks. See `medi.cohort.official`.

        values: which entries of the column are train, validation, test and set_aside, where their names do not say it.

        >>> import medi
        >>> tissue = medi.phantom(patches=200, seed=0)
        >>> folds = tissue.with_columns(fold=[str(i % 5) for i in range(len(tissue))])
        >>> split = folds.official_split("fold", {"train": ["1", "2", "3", "4"], "test": ["0"]})
        >>> split.holdout.cautions()[0]
        "the split is the data set's own (column fold), not made here"
        """
        from medi.cohort.official import official

        return official(self.table, self.schema, column, values or {}, over).apply_to(self)

    @property
    def holdout(self) -> "Holdout":
        """The hold-out that `hold_out` made: the split of every row, and the certificate that proves it."""
        from medi.cohort.holdout import Holdout

        if "certificate" not in self.info:
            raise MediError("this cohort has no hold-out; call hold_out first")
        return Holdout(self.table[["sample_id", "split"]], self.info["certificate"])

    def pack(
        self,
        out: str | Path,
        size: int,
        mode: "Mode" = "resize",
        mpp: float | None = None,
        workers: int | None = None,
        on_error: Literal["skip", "fail"] = "fail",
        progress: "Advance | None" = None,
    ) -> "Cohort":
        """Decode the images once into a folder that training reads: patches of `size` px. See `medi.cohort.packing`.

        mode, mpp: how an image becomes a patch, and at how many micrometres per pixel; workers: processes, by default
        one per core. The same call goes on after a kill. MediError names an image that cannot be read.

        >>> import medi
        >>> medi.phantom(patches=100, seed=0).pack("phantom-packed", size=32).images.size
        32
        """
        from medi.cohort.packing import pack

        if self.pixels is not None:
            return self._resaved(Path(out), size)
        root = self.info.get("root", "")
        if not root and self.has_features:
            raise MediError(self.no_images("packing"))
        if not root:
            raise MediError("no images are known here; name their column when you read the table (image=...)")
        return pack(self, Path(root), Path(out), size, mode, mpp, workers, on_error, progress)

    def _resaved(self, out: Path, size: int) -> "Cohort":
        """Patches that are there already, written to a folder as they are."""
        if self.images.size != size:
            raise MediError(f"these patches have {self.images.size} px already, not {size}; pack their source again")
        if (out / "cohort.json").exists() and Cohort.load(out).digest() != self.digest():
            raise MediError(f"{out}: holds another cohort, or another split; choose another folder or remove it")
        return Cohort.load(self.save(out))

    def plan(self, to: int | Literal["largest"] = "largest", over: Sequence[str] = (), minimum: int = 0) -> "Plan":
        """How many images to sample of every combination, so that training has `to` of each. See `medi.cohort.plan`.

        over: columns, by default the class and the first attribute; minimum: images of each to sample for measuring.
        Counts come from the training split alone (P5), or from all rows where there is no split. MediError for unknown
        columns, and for a target below what a combination has. Source: Drexlin et al., MICCAI 2025 (balanced sets).

        >>> import medi
        >>> len(medi.phantom(patches=100, seed=0).plan(to=20).expand(seed=0))
        540
        """
        from medi.cohort.holdout import has_split
        from medi.cohort.plan import balance

        table = self.table if has_split(self.table) else self.table.assign(split="train")
        return balance(table, self.schema, tuple(over), to=to, minimum=minimum)

    def as_dataset(self) -> "PatchDataset":
        """A torch Dataset of (image float32 [3, h, w] in [-1, 1], {condition: code}). See `medi.cohort.dataset`.

        MediError where the cohort is not packed.

        >>> import medi
        >>> image, codes = medi.phantom(patches=100, seed=0).as_dataset()[0]
        >>> tuple(image.shape), sorted(codes)
        ((3, 32, 32), ['class', 'group', 'site'])
        """
        from medi.cohort.dataset import PatchDataset

        return PatchDataset(self)

    def show(self, synthetic: "Cohort | None" = None, over: Sequence[str] = (), each: int = 3) -> "Figure":
        """Patches by class and level of the first attribute, real ones beside synthetic ones where these are given.

        over: the class and one attribute; each: patches of a combination. Returns a matplotlib figure. MediError where
        the cohort is not packed. Source: Drexlin et al., MICCAI 2025, Figure 4.

        >>> import medi
        >>> medi.phantom(patches=100, seed=0).show(each=1)  # doctest: +ELLIPSIS
        <... with 1 Axes>
        """
        from medi.cohort.picture import show

        return show(self, synthetic, over, each)

    @property
    def notes(self) -> list[str]:
        """What a reader guessed, left out or found odd, a line each; see `warnings` for what needs an answer."""
        return list(self.info.get("notes", []))

    @property
    def warnings(self) -> list[str]:
        """What must not be passed over: that no column is the patient, which makes a leak possible."""
        from medi.cohort.patients import patients_unknown

        return [text for text in [patients_unknown(self.table)] if text and not self.is_made]

    @property
    def is_made(self) -> bool:
        """Whether a model made all its patches."""
        return "origin" in self.table and not self.table["origin"].isin(["real", ""]).any()

    def __str__(self) -> str:
        conditions = ", ".join(f"{a.name} ({len(a.levels) or 'numbers'})" for a in self.schema.conditions)
        pixels = "no pixels" if self.pixels is None else f"{self.pixels.size} px"
        patients = self.table["patient"].replace("", pd.NA).nunique()
        people = f" of {patients:,} patients" if patients else ""
        head = f"{len(self):,} patches{people}, {pixels}; conditions: {conditions}"
        column = self.table.get("split", pd.Series(dtype=object))
        parts = [f"{name} {count:,}" for name, count in column.value_counts().items() if name]
        return "\n".join([head, *(["splits: " + ", ".join(parts)] if parts else []), *self.warnings])

    def _repr_html_(self) -> str:
        from html import escape

        lines = "<br>".join(escape(line) for line in str(self).splitlines())
        return f"<div><p>{lines}</p>{self.table.head(5).to_html(index=False)}</div>"

    def save(self, folder: str | Path) -> Path:
        """Write table.parquet, pixels.npy and, last, cohort.json: a folder without it is unfinished."""
        folder = Path(folder)
        write_table(folder / "table.parquet", self.table)
        if self.pixels is not None:
            self.pixels.save(folder / "pixels.npy")
        head = {"format_version": FORMAT_VERSION, "rows": len(self), "pixels": self.pixels is not None}
        if self.pixels is not None:
            head["checksums"] = True  # of pixels; cohorts of version 0.1 may have none
        write_json(folder / "cohort.json", head | {"schema": self.schema.to_dict(), "info": self.info})
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Cohort":
        """The cohort that `save` wrote to a folder. MediError names what is missing or damaged."""
        folder = Path(folder)
        if not (folder / "cohort.json").exists():
            raise MediError(
                f"{folder}: no cohort here (cohort.json is missing); name the folder of one, or run the command that "
                "wrote it again"
            )
        head = read_json(folder / "cohort.json")
        check_format(head.get("format_version"), FORMAT_VERSION, folder / "cohort.json")
        if lost := lost_file(folder, head):
            raise MediError(f"{folder}: {lost} is missing; {remedy(folder)}")
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


def slide_units(table: pd.DataFrame, alone: str = "sample_id") -> pd.Series:
    """The slide of each row [n], or where it has none the row's own name: what is resampled as one unit (P9).

    alone: the column with that name.

    >>> slide_units(pd.DataFrame({"sample_id": ["a", "b", "c"], "slide": ["s1", "", "s1"]})).tolist()
    ['s1', 'b', 's1']
    """
    return table["slide"].where(table["slide"] != "", table[alone])


def slides_in_turn(table: pd.DataFrame, by: Sequence[str] = ()) -> Int64[np.ndarray, " n"]:
    """Positions of all rows such that every slide comes once before any comes twice, else in the table's order.

    Turns are counted among the rows with the same values in the columns `by`. A row without a slide is one by itself.
    """
    slide = slide_units(table)
    turn = slide.groupby([slide, *(table[name] for name in by)]).cumcount()
    return np.argsort(turn.to_numpy(), kind="stable").astype(np.int64)


def _check_table(table: pd.DataFrame) -> None:
    if lacking := {"sample_id", "class", "patient", "slide"} - set(table.columns):
        raise MediError(f"a patch table needs the columns {', '.join(sorted(lacking))}")
    twice = table["sample_id"].duplicated()
    if twice.any():
        row = int(np.argmax(twice.to_numpy()))
        raise MediError(f"sample_id {table['sample_id'].iloc[row]!r} occurs twice (row {row})")
