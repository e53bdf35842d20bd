"""Attributes, their levels, and what counts as missing: the one place where labels become numbers (P1, P6).

Level ids come from a schema that travels with the model. An unknown level is an error that names the known ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from medi.core.errors import MediError, did_you_mean
from medi.core.tables import OWN_COLUMNS

RESERVED = ("sample_id", "image", "class", "patient", "slide", "mpp", "split", "origin", "noise_id", "features")
MISSING_ID = -1  # the id of "not known"; conditioning gives it a token of its own
OTHER = "other"  # the level that takes in the rare ones

Codes = Int64[np.ndarray, " n"] | Float32[np.ndarray, " n"]


class AttributeEntry(TypedDict):
    """An attribute in a JSON file; levels, or centre and scale."""

    name: str
    kind: str
    missing: list[str]
    levels: NotRequired[list[str]]
    center: NotRequired[float]
    scale: NotRequired[float]


class SchemaEntry(TypedDict):
    """A schema in a JSON file."""

    classes: AttributeEntry
    attributes: list[AttributeEntry]


@dataclass(frozen=True)
class Attribute:
    """One column that images are conditioned on.

    `levels` (categorical) are fixed and ordered; `center` and `scale` (continuous) standardise the value.
    A value among `missing` is not known: id -1 (categorical) or NaN (continuous).

    >>> site = Attribute("site", levels=("02", "NA"))
    >>> site.encode(["NA", "", "02"]).tolist()
    [1, -1, 0]
    >>> site.encode(["2"])
    Traceback (most recent call last):
    medi.core.errors.MediError: site '2' (row 0) is unknown; known levels: 02, NA
    """

    name: str
    kind: Literal["categorical", "continuous"] = "categorical"
    levels: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    missing: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if len(set(self.levels)) != len(self.levels):
            raise MediError(f"attribute {self.name!r}: levels occur twice: {self.levels}")
        if clash := set(self.levels) & set(self.missing):
            raise MediError(f"attribute {self.name!r}: {sorted(clash)} are both levels and spellings of missing")

    def encode(self, values: Sequence[str] | pd.Series) -> Codes:
        """Ids (int64, -1 for missing) or standardised values (float32, NaN for missing), shape [n].

        Raises MediError at the first value that is neither a level, a number where one is due, nor missing.
        """
        return self._encode_levels(values) if self.kind == "categorical" else self._encode_numbers(values)

    def _encode_levels(self, values: Sequence[str] | pd.Series) -> Int64[np.ndarray, " n"]:
        ids = {level: i for i, level in enumerate(self.levels)} | dict.fromkeys(self.missing, MISSING_ID)
        codes = pd.Series(values, dtype=object).map(ids)
        if codes.isna().any():
            row = int(np.argmax(codes.isna().to_numpy()))
            value = pd.Series(values).iloc[row]
            raise MediError(f"{self.name} {value!r} (row {row}) is unknown; known levels: {', '.join(self.levels)}")
        return codes.to_numpy(dtype=np.int64)

    def _encode_numbers(self, values: Sequence[str] | pd.Series) -> Float32[np.ndarray, " n"]:
        text = pd.Series(values, dtype=object)
        unknown = text.isin(self.missing)
        numbers = pd.to_numeric(text.where(~unknown), errors="coerce")
        if (broken := numbers.isna() & ~unknown).any():
            row = text.index[int(np.argmax(broken.to_numpy()))]
            raise MediError(f"{self.name} {text[row]!r} (row {row}) is not a number; declare it as missing or mend it")
        return ((numbers - self.center) / self.scale).to_numpy(dtype=np.float32)


@dataclass(frozen=True)
class Schema:
    """The class and the attributes of a cohort, in a fixed order; `conditions` is the class, then the attributes.

    >>> table = pd.DataFrame({"class": ["LUAD", "LUSC"], "site": ["Rome", "NA"], "age": ["61", "47"]})
    >>> schema = Schema.infer(table, ["site", "age"], continuous=["age"])
    >>> [attribute.name for attribute in schema.conditions]
    ['class', 'site', 'age']
    >>> schema.encode(table)["site"].tolist()  # levels in sorted order: NA, Rome
    [1, 0]
    """

    classes: Attribute
    attributes: tuple[Attribute, ...] = ()

    def __post_init__(self) -> None:
        names = [attribute.name for attribute in self.attributes]
        if self.classes.name != "class" or self.classes.kind != "categorical":
            raise MediError("the schema's class must be a categorical attribute named 'class'")
        if clash := (set(names) & set(RESERVED)) or {name for name in names if names.count(name) > 1}:
            raise MediError(f"attribute names {sorted(clash)} are reserved or occur twice; rename the columns")

    @property
    def conditions(self) -> tuple[Attribute, ...]:
        """The class, then the attributes: what a model is conditioned on, in the order of its codes."""
        return (self.classes, *self.attributes)

    def attribute(self, name: str) -> Attribute:
        """The condition of this name; MediError with the known ones where there is none."""
        for candidate in self.conditions:
            if candidate.name == name:
                return candidate
        known = [a.name for a in self.conditions]
        raise MediError(f"{name!r} is no attribute; known: {', '.join(known)}{did_you_mean(name, known)}")

    def restrict(self, names: Iterable[str]) -> "Schema":
        """The schema with the class and only the named attributes: the CLS model's is restrict([])."""
        return Schema(self.classes, tuple(self.attribute(name) for name in names if name != "class"))

    def encode(self, table: pd.DataFrame) -> dict[str, Codes]:
        """Codes per condition, each of shape [n]; columns that the table lacks are an error."""
        if lacking := [a.name for a in self.conditions if a.name not in table.columns]:
            raise MediError(f"the table lacks the columns {', '.join(lacking)} that the schema names")
        return {a.name: a.encode(table[a.name]) for a in self.conditions}

    def to_dict(self) -> SchemaEntry:
        """JSON-able, as it lies in cohort.json and in a checkpoint."""
        return {"classes": _to_dict(self.classes), "attributes": [_to_dict(a) for a in self.attributes]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Schema":
        """The schema that `to_dict` wrote."""
        return cls(_from_dict(content["classes"]), tuple(_from_dict(a) for a in content["attributes"]))

    @classmethod
    def infer(
        cls,
        table: pd.DataFrame,
        attributes: Sequence[str],
        continuous: Sequence[str] = (),
        missing: Sequence[str] | Mapping[str, Sequence[str]] = ("",),
    ) -> "Schema":
        """Levels in sorted order, centre and scale from the known values of each column of `table`.

        `missing` holds the spellings of "not known", for every column or per column (others then have "" alone).
        """
        columns = ["class", *attributes]
        if lacking := [name for name in columns if name not in table.columns]:
            raise MediError(
                f"the table has no column {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}"
            )
        found = [_infer(table[name], name, name in continuous, _tokens(missing, name)) for name in columns]
        return cls(found[0], tuple(found[1:]))


def check_names(attributes: Iterable[str]) -> None:
    """Refuse an attribute that is called like a column of our own tables: its figures would be others'."""
    if taken := [name for name in attributes if name in OWN_COLUMNS]:
        raise MediError(
            f"attribute {taken[0]!r} has the name of a column of our own tables; read the source with another name "
            f"for it, such as --attributes 'my_{taken[0]}={taken[0]}'"
        )


def group_rare(values: pd.Series, units: pd.Series, minimum: int, missing: Sequence[str] = ("",)) -> pd.Series:
    """Levels with fewer than `minimum` distinct units (patients) become "other"; missing values stay as written.

    values, units: one per row. MediError where "other" is a level already, as the two could not be told apart.
    """
    if (values == OTHER).any():
        raise MediError(f"{values.name!s} has a level {OTHER!r} of its own; rename it before rare levels are grouped")
    counts = units.groupby(values).nunique()
    rare = set(counts.index[counts < minimum]) - set(missing)
    return values.where(~values.isin(rare), OTHER)


def _tokens(missing: Sequence[str] | Mapping[str, Sequence[str]], name: str) -> tuple[str, ...]:
    return tuple(missing.get(name, ("",))) if isinstance(missing, Mapping) else tuple(missing)


def _infer(values: pd.Series, name: str, continuous: bool, missing: tuple[str, ...]) -> Attribute:
    known = values[~values.isin(missing)]
    if not continuous:
        return Attribute(name, levels=tuple(sorted(map(str, known.unique()))), missing=missing)
    codes = Attribute(name, "continuous", missing=missing).encode(known)
    scale = float(np.std(codes)) if len(codes) else 1.0
    center = float(np.mean(codes)) if len(codes) else 0.0
    return Attribute(name, "continuous", center=center, scale=scale or 1.0, missing=missing)


def _to_dict(attribute: Attribute) -> AttributeEntry:
    entry: AttributeEntry = {"name": attribute.name, "kind": attribute.kind, "missing": list(attribute.missing)}
    if attribute.kind == "categorical":
        return {**entry, "levels": list(attribute.levels)}
    return {**entry, "center": attribute.center, "scale": attribute.scale}


def _from_dict(content: Mapping[str, Any]) -> Attribute:
    fields = dict(content)
    return Attribute(**(fields | {key: tuple(fields[key]) for key in ("levels", "missing") if key in fields}))
