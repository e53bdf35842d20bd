"""Are synthetic images distributed like real ones? Frechet distances at equal n, beside the real floor (P8).

Per combination, as the balanced plan has it, and per class with every set drawn at the real site marginal (the
paper's Figure 3). Every arm of a comparison meets the same real rows, drawn without replacement.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from medi.errors import MediError
from medi.evaluation.frechet import Features, frechet_distance, resampled_distances
from medi.evaluation.statistics import Estimate, basic_interval, cluster_counts
from medi.seeds import Key, generator

Embedded = tuple[Features, pd.DataFrame]  # embeddings [n, d] and the table of the same n patches
Cell = tuple[str, ...]  # one level of each column of `over`
Draws = Float64[np.ndarray, " draws"]
REAL, FLOOR = "real", "floor"
DRAWS = 200
FIRST = ("metric", "encoder", "scope", "arm")
LAST = ("split", "value", "low", "high", "n_real", "n_synthetic", "reason")


def per_combination(
    real: Embedded,
    floor: Embedded,
    synthetic: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    n: int,
    seed: int,
    encoder: str,
    held_out: Collection[Cell] = (),
) -> pd.DataFrame:
    """Distance to `real` of `floor` (other real patches) and of each arm, in every combination of the columns `over`.

    Each combination is compared at one n for all: the smallest supply, at most `n`. Rows: metric "frechet" (scope
    "combination", and "combination_mean" per split) without intervals, which do not exist for it, and metric
    "frechet_difference" (arm "cls - medi") with a 95 % interval from resampled real slides and synthetic images. It is
    a basic bootstrap: where spreads differ, plain percentiles mostly miss the difference that large n would show.
    `split` is "unseen" for combinations in `held_out`. Undefined is NaN with a reason; other reasons are warnings.
    """
    comparison = _compare(real, floor, synthetic, over, n, seed)
    cells = sorted(set().union(*comparison.positions.values()))
    targets = [
        _Target(dict(zip(over, cell)), {cell: 1.0}, "unseen" if cell in set(held_out) else "seen") for cell in cells
    ]
    return _table(comparison, targets, "combination", encoder)


def per_class(
    real: Embedded,
    floor: Embedded,
    synthetic: Mapping[str, Embedded],
    marginal: pd.DataFrame,
    *,
    n: int,
    seed: int,
    encoder: str,
) -> pd.DataFrame:
    """Distance per class, all sets drawn at the shares of `marginal`: columns class, attributes, share (training rows).

    n is the largest number, at most `n`, that every set can supply at these shares. Rows as in `per_combination`,
    with scopes "class" and "class_mean".
    """
    over = [column for column in marginal.columns if column != "share"]
    comparison = _compare(real, floor, synthetic, over, n, seed)
    return _table(comparison, list(_class_targets(marginal, over)), "class", encoder)


def halves(table: pd.DataFrame, over: Sequence[str], seed: int) -> Bool[np.ndarray, " n"]:
    """Which rows are in the first of two halves without a common slide, every combination shared out evenly.

    Slides are dealt from the largest, each to the half that lacks its combinations; rows without a slide stand alone.
    """
    slides = table["slide"].where(table["slide"] != "", table["sample_id"])
    cells = table.groupby(list(over), sort=True).ngroup()
    counts = pd.crosstab(slides, cells)
    order = generator("halves", seed).permutation(len(counts))
    order = order[np.argsort(-counts.to_numpy().sum(axis=1)[order], kind="stable")]
    lead, first = np.zeros(counts.shape[1]), {}
    for slide, row in zip(counts.index[order], counts.to_numpy()[order]):
        first[slide] = bool(lead @ row <= 0)
        lead += row if first[slide] else -row
    return slides.map(first).to_numpy(dtype=bool)


@dataclass(frozen=True)
class _Target:
    """What is compared: a combination (one cell), or a class as a mixture of cells with these shares."""

    labels: dict[str, str]
    shares: dict[Cell, float]
    split: str = ""


@dataclass(frozen=True)
class _Drawn:
    """The rows of one set in one comparison: features [n, d], what is resampled as one, and the cell of each row."""

    features: Features
    clusters: pd.Series
    strata: Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class _Result:
    """Per arm the distance, per pair of arms its difference and the draws behind the interval."""

    target: _Target
    n: int
    distances: dict[str, Estimate]
    differences: dict[str, Estimate]
    draws: dict[str, Draws]


@dataclass(frozen=True)
class _Comparison:
    """The sets to compare (real first) and, per set and cell, its positions in the order of sample_id."""

    sets: dict[str, Embedded]
    positions: dict[str, dict[Cell, list[int]]]
    n: int
    seed: int

    def result(self, target: _Target) -> _Result:
        drawn = self._draw(target)
        arms = [name for name in self.sets if name != REAL]
        distances = {arm: self._distance(arm, drawn, target) for arm in arms}
        defined = [arm for arm in arms if arm != FLOOR and np.isfinite(distances[arm].value)]
        key: tuple[Key, ...] = ("fidelity", self.seed, *target.labels.values())
        resampled = dict(zip(defined, _resample(drawn, defined, key)))
        undefined = np.full(DRAWS, np.nan)
        pairs = list(combinations([arm for arm in arms if arm != FLOOR], 2))
        draws = {f"{a} - {b}": resampled.get(a, undefined) - resampled.get(b, undefined) for a, b in pairs}
        differences = {f"{a} - {b}": _difference(distances[a], distances[b], draws[f"{a} - {b}"]) for a, b in pairs}
        return _Result(target, _rows(drawn), distances, differences, draws)

    def _draw(self, target: _Target) -> dict[str, _Drawn]:
        """The same number of rows per cell of every set that can give two; nothing where the real set cannot."""
        able = [name for name in self.sets if self._alone(name, target) >= 2]
        sizes = self._sizes(target, able) if REAL in able else {}
        return {name: self._pick(name, sizes) for name in able} if sum(sizes.values()) >= 2 else {}

    def _sizes(self, target: _Target, names: Iterable[str]) -> dict[Cell, int]:
        """How many rows each cell gives: the most, up to n, that all these sets have at the target's shares."""
        supply = {cell: min(self._held(name, cell) for name in names) for cell in target.shares}
        totals = (_apportion(target.shares, total) for total in range(self.n, 0, -1))
        fitting = (sizes for sizes in totals if all(size <= supply[cell] for cell, size in sizes.items()))
        return next(fitting, {})

    def _alone(self, name: str, target: _Target) -> int:
        return sum(self._sizes(target, [name]).values())

    def _held(self, name: str, cell: Cell) -> int:
        return len(self.positions[name].get(cell, ()))

    def _pick(self, name: str, sizes: dict[Cell, int]) -> _Drawn:
        """Rows drawn without replacement; the key holds no arm, so that arms of one plan give the same of its rows."""
        picked = [
            generator("fidelity", self.seed, *cell).choice(self.positions[name][cell], size, replace=False)
            for cell, size in sizes.items()
            if size
        ]
        features, table = self.sets[name]
        rows = np.concatenate(picked)
        clusters = table["slide" if name == REAL else "sample_id"].iloc[rows]
        return _Drawn(features[rows], clusters, np.repeat(np.arange(len(picked)), [len(part) for part in picked]))

    def _distance(self, arm: str, drawn: dict[str, _Drawn], target: _Target) -> Estimate:
        if not {REAL, arm} <= set(drawn):
            short = [name for name in (REAL, arm) if self._alone(name, target) < 2] or [REAL, arm]
            return Estimate(np.nan, reason="; ".join(self._shortage(name, target) for name in short))
        pair = {name: drawn[name].features for name in (REAL, arm)}
        notes = _notes(pair)
        if _rows(drawn) < self.n:
            scarce = min(drawn, key=lambda name: self._alone(name, target))
            notes.append(f"matched at {_rows(drawn)} of {self.n} images: {self._shortage(scarce, target)}")
        return Estimate(frechet_distance(*pair.values()), reason="; ".join(notes))

    def _shortage(self, name: str, target: _Target) -> str:
        """The cell in which this set has the least for its share."""
        cell = min(target.shares, key=lambda cell: self._held(name, cell) / target.shares[cell])
        return f"{name} has {self._held(name, cell)} images of {', '.join(cell)}"


def _compare(
    real: Embedded,
    floor: Embedded,
    synthetic: Mapping[str, Embedded],
    over: Sequence[str],
    n: int,
    seed: int,
) -> _Comparison:
    sets = {REAL: real, FLOOR: floor, **synthetic}
    for name, (features, table) in sets.items():
        if lacking := [column for column in (*over, "sample_id", "slide") if column not in table.columns]:
            raise MediError(
                f"the {name} table lacks the columns {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}"
            )
        if len(features) != len(table) or features.shape[1] != real[0].shape[1]:
            raise MediError(
                f"{name}: embeddings {list(features.shape)} do not fit {len(table)} table rows and "
                f"{real[0].shape[1]} numbers a patch; embed every set again with one encoder"
            )
    return _Comparison(sets, {name: _positions(table, over) for name, (_, table) in sets.items()}, n, seed)


def _positions(table: pd.DataFrame, over: Sequence[str]) -> dict[Cell, list[int]]:
    """Row positions of each cell in the order of sample_id: the order of the table does not matter."""
    found: dict[Cell, list[int]] = defaultdict(list)
    cells = list(zip(*(table[column] for column in over)))
    for row in np.argsort(table["sample_id"].to_numpy(dtype=object), kind="stable"):
        found[cells[row]].append(int(row))
    return dict(found)


def _class_targets(marginal: pd.DataFrame, over: Sequence[str]) -> Iterator[_Target]:
    for name, rows in marginal[marginal["share"] > 0].groupby("class", sort=True):
        cells = zip(*(rows[column] for column in over))
        labels = {column: str(name) if column == "class" else "" for column in over}
        yield _Target(labels, dict(zip(cells, rows["share"] / rows["share"].sum())))


def _apportion(shares: dict[Cell, float], total: int) -> dict[Cell, int]:
    """Whole numbers that sum to `total` in proportion to the shares: largest remainders, ties by name."""
    exact = {cell: share * total for cell, share in shares.items()}
    sizes = {cell: int(value + 1e-9) for cell, value in exact.items()}
    by_remainder = sorted(exact, key=lambda cell: (sizes[cell] - exact[cell], cell))
    return sizes | {cell: sizes[cell] + 1 for cell in by_remainder[: total - sum(sizes.values())]}


def _rows(drawn: dict[str, _Drawn]) -> int:
    return len(drawn[REAL].features) if drawn else 0


def _notes(pair: dict[str, Features]) -> list[str]:
    """What a reader must know before trusting a distance."""
    notes = []
    for name, features in pair.items():
        broken = int((~np.isfinite(features).all(axis=1)).sum())
        if broken:
            notes.append(f"{broken} of {len(features)} {name} embeddings are not finite")
        elif (features == features[0]).all():
            notes.append(f"all {len(features)} {name} embeddings are the same")
    n, d = pair[REAL].shape
    if n <= d:
        notes.append(f"n <= d ({n} <= {d}): distance rewards collapse")
    return notes


def _difference(first: Estimate, second: Estimate, draws: Draws) -> Estimate:
    value = first.value - second.value
    if np.isfinite(value) and np.isnan(draws).all():
        return Estimate(value).noting(first.reason, second.reason, "one real slide: no interval")
    return basic_interval(value, draws).noting(first.reason, second.reason)


def _resample(drawn: dict[str, _Drawn], arms: list[str], key: Sequence[Key]) -> Float64[np.ndarray, "arms draws"]:
    """Distances with real slides, and each arm's images for themselves, resampled within their cells (P9)."""
    if not arms or drawn[REAL].clusters.nunique() < 2:
        return np.full((len(arms), DRAWS), np.nan)
    counts = {
        name: cluster_counts(drawn[name].clusters, drawn[name].strata, draws=DRAWS, key=(*key, name))
        for name in (REAL, *arms)
    }
    features = [drawn[arm].features for arm in arms]
    return resampled_distances(drawn[REAL].features, features, counts[REAL], [counts[arm] for arm in arms]).T


def _table(comparison: _Comparison, targets: Sequence[_Target], scope: str, encoder: str) -> pd.DataFrame:
    results = [comparison.result(target) for target in targets]
    rows = [row for result in results for row in _result_rows(result, scope)]
    for split in sorted({target.split for target in targets}):
        rows += _mean_rows([result for result in results if result.target.split == split], scope)
    table = pd.DataFrame(rows)
    table.insert(1, "encoder", encoder)
    labels = [column for column in table.columns if column not in (*FIRST, *LAST)]
    return table[[*FIRST, *labels, *LAST]].fillna(dict.fromkeys(labels, ""))


def _result_rows(result: _Result, scope: str) -> Iterator[dict[str, object]]:
    place = {"scope": scope, **result.target.labels, "split": result.target.split}
    size = {"n_real": result.n, "n_synthetic": result.n}
    for metric, found in (("frechet", result.distances), ("frechet_difference", result.differences)):
        yield from ({"metric": metric, "arm": arm} | place | vars(e) | size for arm, e in found.items())


def _mean_rows(results: Sequence[_Result], scope: str) -> Iterator[dict[str, object]]:
    """Means over the targets in which every synthetic arm is defined, so that all are averaged over the same ones."""
    whole = [r for r in results if all(np.isfinite(e.value) for arm, e in r.distances.items() if arm != FLOOR)]
    place = {"scope": f"{scope}_mean", "split": results[0].target.split}
    size = {"n_real": sum(r.n for r in whole), "n_synthetic": sum(r.n for r in whole)}
    for arm in results[0].distances:
        found = _mean([r.distances[arm].value for r in whole], len(results))
        yield {"metric": "frechet", "arm": arm} | place | vars(found) | size
    for pair in results[0].differences:
        found = _mean([r.differences[pair].value for r in whole], len(results))
        if whole:
            found = basic_interval(found.value, np.mean([r.draws[pair] for r in whole], axis=0)).noting(found.reason)
        yield {"metric": "frechet_difference", "arm": pair} | place | vars(found) | size


def _mean(values: Sequence[float], of: int) -> Estimate:
    defined = [value for value in values if np.isfinite(value)]
    skipped = f"{of - len(defined)} of {of} undefined and left out" if len(defined) < of else ""
    return Estimate(float(np.mean(defined)) if defined else np.nan, reason=skipped)
