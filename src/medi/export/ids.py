"""Codes in place of the names of real patches, slides and patients, for a table that leaves the house."""

from collections.abc import Mapping

import pandas as pd

from medi.cohort.schema import RESERVED, Schema
from medi.cohort.slides.header import COLUMNS
from medi.core.codes import code_of

UNITS = ("patient", "slide", "sample_id")  # whose names are codes; of two that fit a column, the first
TRANSLATED = "translated_from"  # of translated patches, whose `source` is the patch that they show


def without_ids(table: pd.DataFrame, schema: Schema, key: bytes) -> pd.DataFrame:
    """The table with codes (`core.codes`) in every column that names real patches, slides or patients.

    Other columns do so where each of their texts belongs to one slide, say, and each slide to one text. Attributes and
    columns of a slide's header stay as they are, and so do rows of images that were made from noise: they are nobody's.
    A row is such an image where its `origin` is a model, and it has neither patient nor slide.
    """
    is_made = ~table["origin"].isin(["real", ""]) if "origin" in table else False
    real = (table[["patient", "slide"]] != "").any(axis=1) | ~pd.Series(is_made, index=table.index)
    patches = ["noise_id"] * ("noise_id" in table) + ["source"] * (TRANSLATED in table)
    kinds = {unit: unit for unit in UNITS} | dict.fromkeys(patches, "sample_id")
    known = {*RESERVED, *kinds, *COLUMNS, *(attribute.name for attribute in schema.conditions)}
    others = [str(name) for name in table if name not in known and pd.api.types.is_string_dtype(table[name])]
    kinds |= {name: unit for name in others if (unit := _named_by(table.loc[real], name))}
    return table.assign(**{name: _coded(table[name], real, unit, key) for name, unit in kinds.items()})


def _named_by(table: pd.DataFrame, column: str) -> str:
    """Whose names a column holds, "" where nobody's; numbers that differ from patch to patch are measurements."""
    for unit in UNITS:
        pairs = table[[unit, column]].drop_duplicates()
        is_one_to_one = len(pairs) == pairs[unit].nunique() == pairs[column].nunique() > 1
        if is_one_to_one and not (unit == "sample_id" and pd.to_numeric(pairs[column], errors="coerce").notna().all()):
            return unit
    return ""


def _coded(names: pd.Series, real: pd.Series, unit: str, key: bytes) -> pd.Series:
    codes: Mapping[str, str] = {name: code_of(key, unit, name) for name in names[real].unique()}
    return names.where(~real, names.map(codes))
