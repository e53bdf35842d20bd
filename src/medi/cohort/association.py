"""Counts and association of class and metadata: the tables behind an audit.

Cramer's V after Bergsma 2013, normalised mutual information, and 1 - H(class | attribute) / H(class).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from medi.cohort.collecting import collect_table
from medi.cohort.combinations import Ids, joint_ids, level_ids
from medi.cohort.identifiable import parts_of, parts_table
from medi.cohort.patients import RARE
from medi.cohort.schema import Attribute, Schema
from medi.core.errors import MediError

LISTED = 100_000  # combinations that `gaps` lists one by one
FLAGS = 2**26  # bytes of a table of flags, faster than hashing pairs while it is small
PLURAL = {"patch": "patches", "slide": "slides", "patient": "patients"}
UNITS = tuple(PLURAL)
COUNTS = ("by", "group", "attribute", "level", "patches", "slides", "patients")
MISSINGNESS = ("attribute", "class", "n", "missing", "share")
GAPS = ("attribute", "class", "level", "patches", "patients", "kind", "identifiable")
MEASURES = ("cramers_v", "cramers_v_corrected", "nmi", "determination", "single_class")
ASSOCIATION = ("attribute", "unit", "n", "levels", *MEASURES, "reason")
CONTINUOUS = ("attribute", "n", "eta_squared", "eta", "reason")
PAIRS = ("first", "second", "n", "first_given_second", "second_given_first", "reason")


Row = dict[str, str | int | float]


def frame(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """A table of these columns, also where there is no row."""
    return pd.DataFrame(list(rows), columns=list(columns))


def join(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of several tables of these columns, also where there is none."""
    return pd.concat(parts, ignore_index=True) if parts else frame([], columns)


@dataclass(frozen=True)
class Rows:
    """The distinct rows of codes, each with its number of patches: a cohort of patches gets as short as its slides.

    codes: class, attributes, slide, patient; -1 where a level is not known. levels: text of the categorical
    codes; numbers: value of each code of a continuous attribute, NaN where not known.
    """

    codes: dict[str, Ids]
    weight: Ids
    levels: dict[str, tuple[str, ...]]
    numbers: dict[str, Float32[np.ndarray, " k"]]
    size: dict[str, int]

    @classmethod
    def of(cls, table: pd.DataFrame, schema: Schema) -> "Rows":
        """The rows with a class of a patch table; MediError where columns lack or no class is known."""
        if lacking := {"patient", "slide", *(a.name for a in schema.conditions)} - set(table.columns):
            raise MediError(f"an audit needs the columns {', '.join(sorted(lacking))}")
        labelled = np.flatnonzero(level_ids(table, schema.classes) >= 0)
        if not len(labelled):
            raise MediError("no row has a known class: nothing to audit")
        rows = table if len(labelled) == len(table) else table.iloc[labelled]
        named = [a for a in schema.conditions if a.kind == "categorical"]
        codes = {a.name: level_ids(rows, a) for a in named}
        numbers = {}
        for attribute in schema.attributes:
            if attribute.kind == "continuous":
                codes[attribute.name], numbers[attribute.name] = _number_ids(rows, attribute)
        for name in ("slide", "patient"):
            codes[name] = pd.factorize(rows[name], sort=True, use_na_sentinel=False)[0].astype(np.int64)
        size = {f"{name}s": int(codes[name].max()) + 1 for name in ("slide", "patient")}
        size |= {"patches": len(rows), "unlabelled": len(table) - len(rows), "classes": len(np.unique(codes["class"]))}
        index, first = joint_ids([code + 1 for code in codes.values()])
        codes = {name: code[first] for name, code in codes.items()}
        return cls(codes, np.bincount(index).astype(np.int64), {a.name: a.levels for a in named}, numbers, size)


def _number_ids(table: pd.DataFrame, attribute: Attribute) -> tuple[Ids, Float32[np.ndarray, " k"]]:
    """Codes of the distinct values of a continuous column, and the values, NaN where not known."""
    codes, found = pd.factorize(table[attribute.name], use_na_sentinel=False)
    return codes.astype(np.int64), attribute.encode(pd.Series(found, dtype=object))


def tallied(data: Rows, columns: Sequence[str], units: Sequence[str] = UNITS) -> pd.DataFrame:
    """Codes of every combination that occurs, with its number of patches, slides and patients."""
    combination, first = joint_ids([data.codes[name] + 1 for name in columns])
    found = {name: data.codes[name][first] for name in columns}
    return pd.DataFrame(found | {PLURAL[unit]: _distinct(data, combination, len(first), unit) for unit in units})


def _distinct(data: Rows, combination: Ids, combinations: int, unit: str) -> Int64[np.ndarray, " k"]:
    if unit == "patch":
        return np.bincount(combination, weights=data.weight, minlength=combinations).astype(np.int64)
    number = data.size[PLURAL[unit]]
    pair = combination * number + data.codes[unit]
    if combinations * number > FLAGS:
        return np.bincount(pd.unique(pair) // number, minlength=combinations).astype(np.int64)
    occurs = np.zeros(combinations * number, dtype=bool)
    occurs[pair] = True
    return occurs.reshape(combinations, number).sum(axis=1)


def texts_of(data: Rows, name: str, codes: Ids) -> np.ndarray:
    """Codes of a column as the text of their levels, "" where not known."""
    return np.array([*data.levels[name], ""], dtype=object)[codes]  # -1, not known, is the last


def counts_table(data: Rows, by_class: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every attribute per class, and every other attribute per level of the first (Figure 2)."""
    parts = [_counted(data, "class", name, tally) for name, tally in by_class.items()]
    first, *others = [*by_class, ""]
    parts += [_counted(data, first, name, tallied(data, (first, name))) for name in others if name]
    return join(parts, COUNTS)


def _counted(data: Rows, by: str, name: str, tally: pd.DataFrame) -> pd.DataFrame:
    texts = {"group": texts_of(data, by, tally[by].to_numpy()), "level": texts_of(data, name, tally[name].to_numpy())}
    found = tally.drop(columns=[by, name]).assign(by=by, attribute=name, **texts)
    return found[list(COUNTS)]


@dataclass(frozen=True)
class Gaps:
    """size: combinations, empty, rare and identifiable ones; which; the parts of the seen ones; what to collect."""

    size: dict[str, int]
    listed: pd.DataFrame
    parts: pd.DataFrame
    collect: pd.DataFrame


def gaps_of(data: Rows, name: str, tally: pd.DataFrame) -> Gaps:
    """How many class x level combinations are empty, rare or determined by the seen ones (`identifiable`), and which.

    The empty ones are listed up to a grid of LISTED.
    """
    known = tally[tally[name] >= 0]
    seen = [known[column].to_numpy(dtype=np.int64) for column in ("class", name)]
    names = [np.array(data.levels[column], dtype=object) for column in ("class", name)]
    told, parts = parts_table(name, (names[0], names[1]), seen[0], seen[1])
    grid = [np.arange(len(data.levels["class"])), np.arange(len(data.levels[name]))]
    combinations = len(grid[0]) * len(grid[1])
    rare = (known["patients"] < RARE).sum()
    size = {"combinations": combinations, "empty": combinations - len(known), "rare": int(rare)}
    size["identifiable"] = told
    every = pd.MultiIndex.from_product(grid, names=["class", name])
    full = known.set_index(["class", name])
    full = (full.reindex(every, fill_value=0) if combinations <= LISTED else full).reset_index()
    few = full[full["patients"] < RARE]
    texts = {
        "class": texts_of(data, "class", few["class"].to_numpy()),
        "level": texts_of(data, name, few[name].to_numpy()),
    }
    kind = np.where(few["patches"] == 0, "empty", "rare")
    collect = collect_table(name, (names[0], names[1]), seen[0], seen[1], known["patients"].to_numpy(dtype=np.int64))
    of_class, of_level = parts_of(seen[0], seen[1], len(names[0]), len(names[1]))
    same = of_class[few["class"].to_numpy(dtype=np.int64)] == of_level[few[name].to_numpy(dtype=np.int64)]
    there = of_class[few["class"].to_numpy(dtype=np.int64)] >= 0
    few = few[["patches", "patients"]].assign(attribute=name, kind=kind, identifiable=same & there, **texts)
    return Gaps(size, few[list(GAPS)], parts, collect)


def associate(tally: pd.DataFrame, name: str, unit: str) -> Row:
    """One row of `association`: how much an attribute and the class tell of each other, over one unit."""
    known = tally[tally[name] >= 0]
    level, group, count = known[name].to_numpy(), known["class"].to_numpy(), known[PLURAL[unit]].to_numpy()
    head: Row = {"attribute": name, "unit": unit, "n": int(count.sum()), "levels": len(np.unique(level))}
    reason = _degenerate(level, group, name, "class")
    values = dict.fromkeys(MEASURES, float("nan")) if reason else measures(level, group, count)
    return head | values | {"reason": reason}


def _degenerate(first: Ids, second: Ids, first_name: str, second_name: str) -> str:
    """Why association is undefined, or ""."""
    if not len(first):
        return f"no row has a known {first_name}"
    single = [name for name, ids in ((first_name, first), (second_name, second)) if len(np.unique(ids)) < 2]
    return f"only one {single[0]} occurs" if single else ""


def measures(level: Ids, group: Ids, count: Ids) -> dict[str, float]:
    """Association from the non-empty combinations of n rows, r levels and k classes.

    cramers_v = sqrt(phi2 / min(r - 1, k - 1)), phi2 = chi2 / n; corrected after Bergsma 2013; nmi = I / mean entropy;
    determination = I / H(class); single_class: the share of rows in levels of one class. r, k >= 2.
    """
    rows, groups, n = np.bincount(level, count), np.bincount(group, count), float(count.sum())
    phi2 = float((count / rows[level] / groups[group] * count).sum()) - 1
    r, k = int((rows > 0).sum()), int((groups > 0).sum())
    corrected = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1)) if n > 1 else float("nan")
    r_corrected, k_corrected = (size - (size - 1) ** 2 / (n - 1) for size in (r, k))
    freedom = min(r_corrected, k_corrected) - 1
    shared = _entropy(rows) + _entropy(groups) - _entropy(count)
    pure = np.bincount(level)[level] == 1
    return {
        "cramers_v": float(np.sqrt(max(phi2, 0.0) / min(r - 1, k - 1))),
        "cramers_v_corrected": float(np.sqrt(corrected / freedom)) if freedom > 0 else float("nan"),
        "nmi": float(2 * shared / (_entropy(rows) + _entropy(groups))),
        "determination": float(shared / _entropy(groups)),
        "single_class": float(count[pure].sum() / n),
    }


def _entropy(count: np.ndarray) -> float:
    """In nats."""
    share = count[count > 0] / count.sum()
    return float(-(share * np.log(share)).sum())


def pair(data: Rows, first: str, second: str) -> Row:
    """How far two attributes determine each other."""
    tally = tallied(data, (first, second), ("patch",))
    known = tally[(tally[first] >= 0) & (tally[second] >= 0)]
    a, b, count = known[first].to_numpy(), known[second].to_numpy(), known["patches"].to_numpy()
    reason = _degenerate(a, b, first, second)
    given = [float("nan")] * 2 if reason else [measures(*ids, count)["determination"] for ids in ((b, a), (a, b))]
    head: Row = {"first": first, "second": second, "n": int(count.sum())}
    return head | {"first_given_second": given[0], "second_given_first": given[1], "reason": reason}


def correlation_ratio(data: Rows, name: str) -> Row:
    """Correlation ratio: the share of a continuous attribute's variance that lies between the classes."""
    value = data.numbers[name][data.codes[name]].astype(np.float64)
    known = ~np.isnan(value)
    value, weight, group = value[known], data.weight[known], data.codes["class"][known]
    n = int(weight.sum())
    head: Row = {"attribute": name, "n": n}
    if len(np.unique(value)) < 2 or len(np.unique(group)) < 2:
        return head | {"eta_squared": np.nan, "eta": np.nan, "reason": "fewer than two values or classes are known"}
    mean = np.average(value, weights=weight)
    size, total = np.bincount(group, weight), np.bincount(group, weight * (value - mean))
    between = float((total**2 / np.maximum(size, 1)).sum())
    ratio = between / float((weight * (value - mean) ** 2).sum())
    return head | {"eta_squared": ratio, "eta": float(np.sqrt(ratio)), "reason": ""}


def missingness(data: Rows, schema: Schema) -> pd.DataFrame:
    """How many patches of each class have no value, per attribute."""
    group, levels = data.codes["class"], data.levels["class"]
    n = np.bincount(group, data.weight, minlength=len(levels)).astype(np.int64)
    parts = []
    for name in (a.name for a in schema.attributes):
        code = data.codes[name]
        lost = np.isnan(data.numbers[name])[code] if name in data.numbers else code < 0
        missing = np.bincount(group[lost], data.weight[lost], minlength=len(levels)).astype(np.int64)
        part = pd.DataFrame({"attribute": name, "class": list(levels), "n": n, "missing": missing})
        parts.append(part[n > 0].assign(share=missing[n > 0] / n[n > 0]))
    return join(parts, MISSINGNESS)
