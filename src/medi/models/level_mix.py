"""Points between the levels of an attribute: an entry such as `Alder:0.7+Birch:0.3`, or a `Mix`, in place of a level.

An entry is a known level or a spelling of missing first and a mix only otherwise, so that no level's
name is ever taken for a mix. A mix moves the attribute's own part of z_cond and nothing else.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from medi.cohort.schema import Attribute, Schema
from medi.core.errors import MediError
from medi.models.conditioning import as_tensors
from medi.models.denoiser import Denoiser

SHARE = r"(\d+\.?\d*|\.\d+)"
LOOKS_MIXED = re.compile(rf".+:{SHARE}(\+.+:{SHARE})*")


@dataclass(frozen=True)
class Mix:
    """A weighted mean of levels, {"Alder": 0.7, "Birch": 0.3}; shares are scaled to a sum of 1."""

    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        values = list(self.shares.values())
        if not values or not all(0 <= value < np.inf for value in values) or sum(values) <= 0:
            raise MediError(f"a mix needs levels with shares from 0 on that are not all 0, not {dict(self.shares)}")

    def __str__(self) -> str:
        return "+".join(f"{level}:{share}" for level, share in self.shares.items())

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def parts(self) -> list[tuple[str, float]]:
        """Levels and their shares of 1."""
        total = sum(self.shares.values())
        return [(level, share / total) for level, share in self.shares.items()]


@dataclass(frozen=True)
class Pull:
    """Row `row` is drawn towards `level` of an attribute by `share`."""

    row: int
    name: str
    level: str
    share: float


def condition(denoiser: Denoiser, rows: pd.DataFrame, dropped: Collection[str] = ()) -> Float[Tensor, "n d"]:
    """z_cond [n, d] of rows whose entries are levels, numbers, missing values or mixes; `dropped` conditions are null.

    A mix of e_1, e_2, ... is e_1 + share_2 (e_2 - e_1) + ...: rows that differ in one attribute have the same numbers
    in all other slices, which therefore stay as they are.
    """
    table, pulls = resolve(rows, denoiser.schema)
    z = _embed(denoiser, table, dropped)
    if pulls:
        positions = [pull.row for pull in pulls]
        moved = _embed(denoiser, _moved(table, pulls), dropped) - z[positions]
        for step, pull in zip(moved, pulls):
            z[pull.row] += pull.share * step
    return z


def resolve(rows: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, list[Pull]]:
    """The rows with each mix replaced by its first level, and what draws them from there to the other levels.

    Raises MediError that names the row and the known levels where a mix has an unknown one.
    """
    table, pulls = rows.reset_index(drop=True), []
    for attribute in schema.conditions:
        if attribute.kind != "categorical" or attribute.name not in table.columns:
            continue
        codes, found = pd.factorize(table[attribute.name].to_numpy(dtype=object))
        mixes = {i: mix for i, entry in enumerate(found) if (mix := read(entry, attribute, int(np.argmax(codes == i))))}
        if not mixes:
            continue
        plain = [mixes[i].parts[0][0] if i in mixes else entry for i, entry in enumerate(found)]
        table = table.assign(**{attribute.name: np.array(plain, dtype=object)[codes]})
        for row in np.flatnonzero(np.isin(codes, list(mixes))):
            parts = mixes[codes[row]].parts[1:]
            pulls += [Pull(int(row), attribute.name, level, share) for level, share in parts]
    return table, pulls


def read(entry: object, attribute: Attribute, row: int = 0) -> Mix | None:
    """The mix that an entry is; None for anything else, which `Attribute.encode` judges."""
    if isinstance(entry, Mix):
        return _check(entry, attribute, row)
    if not isinstance(entry, str) or entry in attribute.levels or entry in attribute.missing:
        return None
    names = "|".join(map(re.escape, sorted(attribute.levels, key=len, reverse=True)))
    part = rf"({names}):{SHARE}"
    if attribute.levels and re.fullmatch(rf"{part}(?:\+{part})*", entry):
        return _summed(re.findall(rf"{part}(?=\+|$)", entry))
    if LOOKS_MIXED.fullmatch(entry):
        guessed = [item.rpartition(":") for item in re.split(r"(?<=\d)\+", entry)]
        return _check(_summed([(level, share) for level, _, share in guessed]), attribute, row)
    return None


def _summed(parts: Iterable[tuple[str, str]]) -> Mix:
    """A level that occurs twice has both shares."""
    shares: dict[str, float] = {}
    for level, share in parts:
        shares[level] = shares.get(level, 0.0) + float(share)
    return Mix(shares)


def as_text(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every `Mix` as its text, as tables keep it."""
    mixed = [name for name in rows.columns if any(isinstance(entry, Mix) for entry in rows[name])]
    return rows.assign(
        **{name: [str(entry) if isinstance(entry, Mix) else entry for entry in rows[name]] for name in mixed}
    )


def _check(mix: Mix, attribute: Attribute, row: int) -> Mix:
    for level in mix.shares:
        if level not in attribute.levels:
            known = ", ".join(attribute.levels)
            raise MediError(f"{attribute.name} '{mix}' (row {row}): level {level!r} is unknown; known levels: {known}")
    return mix


def _moved(table: pd.DataFrame, pulls: list[Pull]) -> pd.DataFrame:
    """A copy of each pulled row with the level it is pulled to."""
    copies = table.iloc[[pull.row for pull in pulls]].reset_index(drop=True)
    for name in {pull.name for pull in pulls}:
        column = [pull.level if pull.name == name else entry for pull, entry in zip(pulls, copies[name])]
        copies = copies.assign(**{name: np.array(column, dtype=object)})
    return copies


def _embed(denoiser: Denoiser, table: pd.DataFrame, dropped: Collection[str]) -> Float[Tensor, "n d"]:
    names = [attribute.name for attribute in denoiser.schema.conditions]
    null = torch.tensor([name in dropped for name in names], device=denoiser.device).expand(len(table), -1)
    return denoiser.conditioning(as_tensors(denoiser.schema.encode(table), denoiser.device), null)
