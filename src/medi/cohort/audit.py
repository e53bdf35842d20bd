"""How skewed a cohort is and which attribute gives the class away (the paper's Figure 2 and section 2).

Cramer's V after Bergsma 2013, normalised mutual information, 1 - H(class | attribute) / H(class), and the accuracy
of a classifier that never looks at the image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from medi.cohort.combinations import Ids, joint_ids, level_ids
from medi.cohort.schema import Attribute, Schema
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import write_atomic, write_json, write_table

FORMAT_VERSION = 1
ALARM = 0.95  # 1 - H(class | attribute) / H(class) from which an attribute (nearly) determines the class
RARE = 5  # patients below which a combination counts as rare
HEAT_CAP = 1600  # patches, the top of the paper's colour scale
HEAT_LEVELS = 1000  # columns of the heat map
LISTED = 100_000  # combinations that `gaps` lists one by one
FLAGS = 2**26  # bytes of a table of flags, faster than hashing pairs while it is small
FOLDS = 5
PLURAL = {"patch": "patches", "slide": "slides", "patient": "patients"}
UNITS = tuple(PLURAL)
SHOWN = 60  # names on an axis
LEGEND = 10  # levels in a stack


@dataclass(frozen=True)
class Audit:
    """Tidy tables about a cohort; level is "" where it is not known.

    counts: by (class or the first attribute), group, attribute, level, patches, slides, patients;
    gaps: attribute, class, level, patches, patients, kind (empty or rare: fewer than five patients);
    association: attribute, unit, n, levels, cramers_v, cramers_v_corrected, nmi, determination (1 - H(class |
    attribute) / H(class)), single_class (share of n in levels of one class), reason;
    ceiling: attribute (or all together), balanced_accuracy, chance, reason;
    missingness: attribute, class, n, missing, share;
    continuous: attribute, n, eta_squared, eta, reason;
    pairs: first, second, n, first_given_second, second_given_first (1 - H(a | b) / H(a)), reason.
    """

    size: dict[str, Any]
    counts: pd.DataFrame
    gaps: pd.DataFrame
    association: pd.DataFrame
    ceiling: pd.DataFrame
    missingness: pd.DataFrame
    continuous: pd.DataFrame
    pairs: pd.DataFrame
    alarms: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: table for name, table in found.items() if isinstance(table, pd.DataFrame)}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: everything but the long tables `counts` and `gaps`, which are Parquet beside it."""
        short = {name: table for name, table in self.tables.items() if name not in ("counts", "gaps")}
        records = {name: table.astype(object).where(table.notna(), None) for name, table in short.items()}
        head = {"format_version": FORMAT_VERSION, "size": self.size, "alarms": self.alarms, "notes": self.notes}
        return head | {name: table.to_dict("records") for name, table in records.items()}

    def summary(self) -> list[str]:
        """Short lines for a terminal."""
        size = ", ".join(f"{self.size[unit]:,} {unit}" for unit in ("patches", "slides", "patients", "classes"))
        gaps = [
            f"class x {name}: {found['combinations']:,} combinations, {found['empty']:,} empty, {found['rare']:,} rare"
            for name, found in self.size["combinations"].items()
        ]
        ceiling = [
            f"class from {row['attribute']}, without the image: balanced accuracy {row['balanced_accuracy']:.2f} "
            f"(chance {row['chance']:.2f})"
            for row in self.ceiling.to_dict("records")
            if not row["reason"]
        ]
        return [size, *gaps, *ceiling, *self.notes, *(f"ALARM: {alarm}" for alarm in self.alarms)]

    def save(self, folder: Path) -> Path:
        """Write the tables as Parquet, counts.png and attributes.png, and, last, audit.json."""
        for name, table in self.tables.items():
            write_table(folder / f"{name}.parquet", table)
        for name, figure in (("counts", _heat_map(self)), ("attributes", _bars(self))):
            if figure is not None:
                write_atomic(folder / f"{name}.png", partial(figure.savefig, format="png", dpi=150))
        write_json(folder / "audit.json", self.to_dict())
        return folder


def audit(table: pd.DataFrame, schema: Schema, seed: int = 0) -> Audit:
    """Everything that the metadata of a cohort say about its bias; `seed` only deals patients into folds.

    Rows whose level is not known are a level of their own in `counts` and in the ceiling, and are left out of
    association and pairs. Rows without a class are left out throughout.
    """
    data = _Rows.of(table, schema, seed)
    names = [a.name for a in schema.attributes if a.kind == "categorical"]
    by_class = {name: _tally(data, ("class", name)) for name in names}
    gaps = [_gaps(data, name, by_class[name]) for name in names]
    association = _frame([_associate(by_class[name], name, unit) for name in names for unit in UNITS], ASSOCIATION)
    pairs = _frame([_pair(data, first, second) for first, second in combinations(names, 2)], PAIRS)
    return Audit(
        size=data.size | {"combinations": {name: size for name, (size, _) in zip(names, gaps)}},
        counts=_counts(data, by_class),
        gaps=_join([listed for _, listed in gaps], GAPS),
        association=association,
        ceiling=_frame(_ceilings(data, names), CEILING),
        missingness=_missingness(data, schema),
        continuous=_frame([_eta(data, a.name) for a in schema.attributes if a.kind == "continuous"], CONTINUOUS),
        pairs=pairs,
        alarms=tuple(_alarms(association)),
        notes=tuple(_notes(data, association, pairs)),
    )


COUNTS = ("by", "group", "attribute", "level", "patches", "slides", "patients")
MISSINGNESS = ("attribute", "class", "n", "missing", "share")
GAPS = ("attribute", "class", "level", "patches", "patients", "kind")
MEASURES = ("cramers_v", "cramers_v_corrected", "nmi", "determination", "single_class")
ASSOCIATION = ("attribute", "unit", "n", "levels", *MEASURES, "reason")
CEILING = ("attribute", "balanced_accuracy", "chance", "reason")
CONTINUOUS = ("attribute", "n", "eta_squared", "eta", "reason")
PAIRS = ("first", "second", "n", "first_given_second", "second_given_first", "reason")


def _frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns))


def _join(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else _frame([], columns)


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """The distinct rows of codes, each with its number of patches: a cohort of patches gets as short as its slides.

    codes: class, attributes, slide, patient, fold; -1 where a level is not known. levels: text of the categorical
    codes; numbers: value of each code of a continuous attribute, NaN where not known.
    """

    codes: dict[str, Ids]
    weight: Ids
    levels: dict[str, tuple[str, ...]]
    numbers: dict[str, Float32[np.ndarray, " k"]]
    size: dict[str, Any]

    @classmethod
    def of(cls, table: pd.DataFrame, schema: Schema, seed: int) -> "_Rows":
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
        codes["fold"] = (seeds.generator("audit", seed).permutation(size["patients"]) % FOLDS)[codes["patient"]]
        return cls(codes, np.bincount(index).astype(np.int64), {a.name: a.levels for a in named}, numbers, size)


def _number_ids(table: pd.DataFrame, attribute: Attribute) -> tuple[Ids, Float32[np.ndarray, " k"]]:
    """Codes of the distinct values of a continuous column, and the values, NaN where not known."""
    codes, found = pd.factorize(table[attribute.name], use_na_sentinel=False)
    return codes.astype(np.int64), attribute.encode(pd.Series(found, dtype=object))


def _tally(data: _Rows, columns: Sequence[str], units: Sequence[str] = UNITS) -> pd.DataFrame:
    """Codes of every combination that occurs, with its number of patches, slides and patients."""
    cell, first = joint_ids([data.codes[name] + 1 for name in columns])
    found = {name: data.codes[name][first] for name in columns}
    return pd.DataFrame(found | {PLURAL[unit]: _distinct(data, cell, len(first), unit) for unit in units})


def _distinct(data: _Rows, cell: Ids, cells: int, unit: str) -> Int64[np.ndarray, " k"]:
    if unit == "patch":
        return np.bincount(cell, weights=data.weight, minlength=cells).astype(np.int64)
    number = data.size[PLURAL[unit]]
    pair = cell * number + data.codes[unit]
    if cells * number > FLAGS:
        return np.bincount(pd.unique(pair) // number, minlength=cells).astype(np.int64)
    occurs = np.zeros(cells * number, dtype=bool)
    occurs[pair] = True
    return occurs.reshape(cells, number).sum(axis=1)


def _text(data: _Rows, name: str, codes: Ids) -> np.ndarray:
    return np.array([*data.levels[name], ""], dtype=object)[codes]  # -1, not known, is the last


def _counts(data: _Rows, by_class: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every attribute per class, and every other attribute per level of the first (Figure 2)."""
    parts = [_counted(data, "class", name, tally) for name, tally in by_class.items()]
    first, *others = [*by_class, ""]
    parts += [_counted(data, first, name, _tally(data, (first, name))) for name in others if name]
    return _join(parts, COUNTS)


def _counted(data: _Rows, by: str, name: str, tally: pd.DataFrame) -> pd.DataFrame:
    texts = {"group": _text(data, by, tally[by].to_numpy()), "level": _text(data, name, tally[name].to_numpy())}
    found = tally.drop(columns=[by, name]).assign(by=by, attribute=name, **texts)
    return found[list(COUNTS)]


def _gaps(data: _Rows, name: str, tally: pd.DataFrame) -> tuple[dict[str, int], pd.DataFrame]:
    """How many class x level combinations are empty or rare, and which (the empty ones up to a grid of LISTED)."""
    known = tally[tally[name] >= 0]
    grid = [np.arange(len(data.levels["class"])), np.arange(len(data.levels[name]))]
    cells = len(grid[0]) * len(grid[1])
    rare = (known["patients"] < RARE).sum()
    size = {"combinations": cells, "empty": cells - len(known), "rare": int(rare)}
    every = pd.MultiIndex.from_product(grid, names=["class", name])
    full = known.set_index(["class", name])
    full = (full.reindex(every, fill_value=0) if cells <= LISTED else full).reset_index()
    few = full[full["patients"] < RARE]
    texts = {"class": _text(data, "class", few["class"].to_numpy()), "level": _text(data, name, few[name].to_numpy())}
    kind = np.where(few["patches"] == 0, "empty", "rare")
    few = few[["patches", "patients"]].assign(attribute=name, kind=kind, **texts)
    return size, few[list(GAPS)]


# --- association ------------------------------------------------------------------------------------------------------


def _associate(tally: pd.DataFrame, name: str, unit: str) -> dict[str, Any]:
    known = tally[tally[name] >= 0]
    level, group, count = known[name].to_numpy(), known["class"].to_numpy(), known[PLURAL[unit]].to_numpy()
    head = {"attribute": name, "unit": unit, "n": int(count.sum()), "levels": len(np.unique(level))}
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
    """Association from the non-empty cells of a contingency table of n rows, r levels and k classes.

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


def _pair(data: _Rows, first: str, second: str) -> dict[str, Any]:
    """How far two attributes determine each other."""
    tally = _tally(data, (first, second), ("patch",))
    known = tally[(tally[first] >= 0) & (tally[second] >= 0)]
    a, b, count = known[first].to_numpy(), known[second].to_numpy(), known["patches"].to_numpy()
    reason = _degenerate(a, b, first, second)
    given = [float("nan")] * 2 if reason else [measures(*ids, count)["determination"] for ids in ((b, a), (a, b))]
    head = {"first": first, "second": second, "n": int(count.sum())}
    return head | {"first_given_second": given[0], "second_given_first": given[1], "reason": reason}


def _eta(data: _Rows, name: str) -> dict[str, Any]:
    """Correlation ratio: the share of a continuous attribute's variance that lies between the classes."""
    value = data.numbers[name][data.codes[name]].astype(np.float64)
    known = ~np.isnan(value)
    value, weight, group = value[known], data.weight[known], data.codes["class"][known]
    n = int(weight.sum())
    head = {"attribute": name, "n": n}
    if len(np.unique(value)) < 2 or len(np.unique(group)) < 2:
        return head | {"eta_squared": np.nan, "eta": np.nan, "reason": "fewer than two values or classes are known"}
    mean = np.average(value, weights=weight)
    size, total = np.bincount(group, weight), np.bincount(group, weight * (value - mean))
    between = float((total**2 / np.maximum(size, 1)).sum())
    ratio = between / float((weight * (value - mean) ** 2).sum())
    return head | {"eta_squared": ratio, "eta": float(np.sqrt(ratio)), "reason": ""}


def _missingness(data: _Rows, schema: Schema) -> pd.DataFrame:
    group, levels = data.codes["class"], data.levels["class"]
    n = np.bincount(group, data.weight, minlength=len(levels)).astype(np.int64)
    parts = []
    for name in (a.name for a in schema.attributes):
        code = data.codes[name]
        lost = np.isnan(data.numbers[name])[code] if name in data.numbers else code < 0
        missing = np.bincount(group[lost], data.weight[lost], minlength=len(levels)).astype(np.int64)
        part = pd.DataFrame({"attribute": name, "class": list(levels), "n": n, "missing": missing})
        parts.append(part[n > 0].assign(share=missing[n > 0] / n[n > 0]))
    return _join(parts, MISSINGNESS)


# --- the shortcut's ceiling -------------------------------------------------------------------------------------------


def _ceilings(data: _Rows, names: Sequence[str]) -> list[dict[str, Any]]:
    """Balanced accuracy of the metadata alone, per attribute and for all together."""
    sources = {name: [name] for name in names}
    if len(names) > 1:
        sources["all attributes"] = list(names)
    chance = 1 / data.size["classes"]
    reason = "only one class occurs" if chance == 1 else "only one patient" if data.size["patients"] < 2 else ""
    rows = []
    for label, columns in sources.items():
        value = float("nan") if reason else _ceiling(data, columns)
        rows.append({"attribute": label, "balanced_accuracy": value, "chance": chance, "reason": reason})
    return rows


def _ceiling(data: _Rows, columns: Sequence[str]) -> float:
    """Predict the commonest class of the joint level, classes weighted equally, patients in folds.

    Where the other folds lack a joint level, its last attribute is dropped until they have it.
    """
    finest = _Joint.of(data, columns)
    coarser = [finest]
    for _ in columns[1:]:
        coarser.append(coarser[-1].without_last())
    total = np.bincount(finest.group, finest.count.sum(axis=0))
    predicted = np.full((FOLDS, 1), np.argmax(total))
    for table in reversed(coarser):
        found = np.stack([_commonest(table.level, table.group, rest) for rest in table.count.sum(axis=0) - table.count])
        predicted = np.where(found >= 0, found, predicted[:, table.parent])
    hits = np.bincount(finest.group, (finest.count * (predicted[:, finest.level] == finest.group)).sum(axis=0))
    return float((hits[total > 0] / total[total > 0]).mean())


@dataclass(frozen=True)
class _Joint:
    """Patches of every combination of some columns and a class, per fold, sorted by columns, then class.

    codes: one per column [k]; level: number of the joint level [k], 0 and up; group: class [k]; count: [folds, k].
    """

    codes: list[Ids]
    group: Ids
    count: Float64[np.ndarray, "folds k"]

    @classmethod
    def of(cls, data: _Rows, columns: Sequence[str]) -> "_Joint":
        cell, first = joint_ids([*(data.codes[name] + 1 for name in columns), data.codes["class"]])
        place = data.codes["fold"] * len(first) + cell
        count = np.bincount(place, data.weight, FOLDS * len(first)).reshape(FOLDS, -1)
        return cls([data.codes[name][first] for name in columns], data.codes["class"][first], count)

    @cached_property
    def level(self) -> Ids:
        return _runs(self.codes)

    @cached_property
    def parent(self) -> Ids:
        """The number that each joint level has without the last column."""
        begins = np.flatnonzero(np.diff(self.level, prepend=-1))
        return _runs(self.codes[:-1])[begins] if self.codes[:-1] else np.zeros(len(begins), dtype=np.int64)

    def without_last(self) -> "_Joint":
        pair, first = joint_ids([_runs(self.codes[:-1]), self.group])
        count = np.stack([np.bincount(pair, fold) for fold in self.count])
        return _Joint([code[first] for code in self.codes[:-1]], self.group[first], count)


def _runs(codes: Sequence[Ids]) -> Ids:
    """0, 1, 2, ... for the distinct rows of sorted columns."""
    begins = np.logical_or.reduce([np.diff(code, prepend=-2) != 0 for code in codes])
    return np.cumsum(begins) - 1


def _commonest(level: Ids, group: Ids, count: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " levels"]:
    """The class with the largest share of its own patches at each level, the first on a tie; -1 without patches.

    One entry per combination, sorted by level, then class.
    """
    share = count / np.maximum(np.bincount(group, count)[group], 1)
    largest = np.maximum.reduceat(share, np.flatnonzero(np.diff(level, prepend=-1)))
    best = np.flatnonzero((share == largest[level]) & (share > 0))[::-1]
    answer = np.full(len(largest), -1, dtype=np.int64)
    answer[level[best]] = group[best]
    return answer


# --- words and pictures -----------------------------------------------------------------------------------------------


def _alarms(association: pd.DataFrame) -> Iterator[str]:
    patches = association[association["unit"] == "patch"]
    for row in patches[patches["determination"] >= ALARM].to_dict("records"):
        name = row["attribute"]
        yield (
            f"{name} (nearly) determines the class: 1 - H(class | {name}) / H(class) = {row['determination']:.2f}, "
            f"{row['single_class']:.0%} of the patches lie in levels of one class. Nothing learned here can tell "
            f"{name} from class: map its levels to coarser ones that span classes (site codes to hospitals) or leave "
            "it out"
        )


def _notes(data: _Rows, association: pd.DataFrame, pairs: pd.DataFrame) -> Iterator[str]:
    if data.size["unlabelled"]:
        yield f"{data.size['unlabelled']:,} rows without a class are left out"
    patches = association[association["unit"] == "patch"]
    for row in patches[patches["reason"] != ""].to_dict("records"):
        yield f"{row['attribute']}: {row['reason']}, so that it says nothing about the class"
    for row in pairs.to_dict("records"):
        first, second = row["first"], row["second"]
        if min(row["first_given_second"], row["second_given_first"]) >= ALARM:
            yield f"{first} and {second} cannot be told apart: each (nearly) determines the other"
        elif max(row["first_given_second"], row["second_given_first"]) >= ALARM:
            fine, coarse = (second, first) if row["first_given_second"] >= ALARM else (first, second)
            yield (
                f"{coarse} and {fine} cannot be told apart: each {fine} (nearly) belongs to one {coarse}, so that what "
                f"one of them does to an image may be the other's doing"
            )


def _heat_map(found: Audit) -> Any:
    """Patches per class and level of the first attribute (Figure 2 left), or None without attributes."""
    from matplotlib.figure import Figure

    if found.counts.empty:
        return None
    name = found.counts["attribute"].iloc[0]
    rows = found.counts[(found.counts["by"] == "class") & (found.counts["attribute"] == name)]
    grid = rows.pivot_table(index="group", columns="level", values="patches", fill_value=0)
    levels = grid.shape[1]
    grid = grid[grid.sum().nlargest(HEAT_LEVELS).index.sort_values()]
    figure = Figure(figsize=(min(4 + 0.2 * grid.shape[1], 30), min(2 + 0.25 * grid.shape[0], 20)), layout="constrained")
    axes = figure.subplots()
    top = min(HEAT_CAP, int(grid.to_numpy().max()))
    filled = np.ma.masked_equal(grid.to_numpy(), 0)  # empty combinations stay white
    shown = axes.imshow(filled, vmin=0, vmax=top, aspect="auto", cmap="viridis", interpolation="nearest")
    capped = top == HEAT_CAP
    label = f"patches (colour ends at {top:,})" if capped else "patches"
    figure.colorbar(shown, ax=axes, label=label, extend="max" if capped else "neither")
    _ticks(axes.set_yticks, grid.index)
    _ticks(axes.set_xticks, grid.columns, rotation=90)
    size = f" (the largest of {levels:,} levels)" if levels > HEAT_LEVELS else f" ({levels:,} levels)"
    axes.set_xlabel(name + size, parse_math=False)
    axes.set_ylabel("class")
    return figure


def _ticks(place: Any, levels: pd.Index, **style: Any) -> None:
    """Names on an axis while they can be read."""
    place([])
    if len(levels) <= SHOWN:
        labels = [level[:30] or "not known" for level in levels.astype(str)]
        place(range(len(levels)), labels, fontsize=7, parse_math=False, **style)


def _bars(found: Audit) -> Any:
    """Shares of every further attribute per class and per level of the first (Figure 2 right), or None."""
    from matplotlib.figure import Figure

    first, *others = [*dict.fromkeys(found.counts["attribute"]), ""]
    others = [name for name in others if name]
    if not others:
        return None
    figure = Figure(figsize=(14, 3.2 * len(others)), layout="constrained")
    for axes, name in zip(figure.subplots(len(others), 2, squeeze=False), others):
        for panel, by in zip(axes, ("class", first)):
            rows = found.counts[(found.counts["by"] == by) & (found.counts["attribute"] == name)]
            _stack(panel, rows.pivot_table(index="group", columns="level", values="patches", fill_value=0))
            panel.set_title(f"{name} per {by}", parse_math=False)
    return figure


def _stack(axes: Any, grid: pd.DataFrame) -> None:
    """Stacked shares of the largest groups and levels."""
    largest = grid.sum(axis=1).nlargest(SHOWN).index
    levels = grid.sum().nlargest(LEGEND).index
    share = grid.loc[largest, levels].div(grid.loc[largest].sum(axis=1), axis=0)
    bottom = np.zeros(len(share))
    for level in levels:
        axes.bar(range(len(share)), share[level], bottom=bottom, label=str(level)[:30] or "not known")
        bottom += share[level].to_numpy()
    axes.set_ylim(0, 1)
    axes.set_ylabel("share of patches")
    _ticks(axes.set_xticks, share.index, rotation=90)
    for text in axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1)).get_texts():
        text.set_parse_math(False)
