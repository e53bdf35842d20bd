"""Does it make the classifier better? One probe on frozen embeddings per training set, tested where none has trained.

Every arm gets the same `Probe`; intervals resample slides, the same draws for all arms (P9), so differences are paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64, Shaped
from sklearn.linear_model import LogisticRegression

from medi.errors import MediError
from medi.evaluation.fidelity import Embedded
from medi.evaluation.frechet import Features
from medi.evaluation.statistics import Estimate, Statistic, cluster_bootstrap
from medi.seeds import Key, generator

REAL, MEDI, ORACLE = "real", "medi", "oracle"
GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C, the inverse penalty
DEFAULT_C = 1e-2
FOLDS = 4
DRAWS = 1000
FIRST = ("metric", "arm", "split", "scope")
LAST = ("value", "low", "high", "n_real", "n_synthetic", "n_slides", "n_patients", "n_train", "reason")

Labels = Shaped[np.ndarray, " n"]  # text objects
Hits = Float64[np.ndarray, " n"]  # 1 right, 0 wrong, NaN where the arm has no such class
Tallies = Float64[np.ndarray, "n 2 k"]  # per class: row is of it; row is of it and right
Plane = tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, " k"]]


@dataclass(frozen=True)
class Arm:
    """A training set: embeddings [n, d] and the table of its rows; `origin`, if there, is "real" or a model's hash."""

    name: str
    embeddings: Features
    table: pd.DataFrame


@dataclass(frozen=True)
class Probe:
    """The `tuned` preset: standardised features, multinomial logistic regression, balanced class weights.

    C is the best of `GRID` in a cross-validation over the patients of real training rows; synthetic rows only ever
    train. A hit counts so that combinations of a class weigh alike and classes weigh alike: scored by plain balanced
    accuracy, C is chosen for the frequent combinations, where the site gives the class away. On a Gaussian world (4
    classes x 8 sites, 10 combinations held out, means of 3 seeds) the plain score lost up to 0.09 on unseen
    combinations against the best C and this one up to 0.03; leaving whole combinations out was equal within 0.01 on
    average.
    """

    classes: tuple[str, ...]
    mean: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]
    plane: Plane
    c: float
    reason: str = ""

    @classmethod
    def fit(cls, embeddings: Features, table: pd.DataFrame, *, over: Sequence[str], seed: int) -> "Probe":
        """Fit on finite embeddings [n, d] of two classes or more; `over` names the columns that make combinations."""
        x, labels = embeddings.astype(np.float64), _text(table["class"])
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale[scale == 0] = 1.0
        z = (x - mean) / scale
        c, reason = _choose_c(z, table, over, seed)
        return cls(tuple(sorted(set(labels))), mean, scale, _path(z, labels, (c,))[0], c, reason)

    def predict(self, embeddings: Features) -> Labels:
        """The class of each row of embeddings [n, d], as objects [n]."""
        return _predict((embeddings.astype(np.float64) - self.mean) / self.scale, self.plane, self.classes)


def evaluate(
    arms: Sequence[Arm], tests: Mapping[str, Embedded], *, seed: int, over: Sequence[str] = ("class", "site")
) -> pd.DataFrame:
    """Train the probe on each arm and test it on each split ("seen", "unseen"): one tidy row per figure.

    metric "balanced_accuracy" over all rows (scope "all") and within each level of the columns `over`, "recall" per
    class and combination; "balanced_accuracy_difference" (arm "medi - cls"); and on "unseen" "gap_closed" =
    (arm - real) / (oracle - real). low, high: 95 % from resampled slides, paired where arms are compared. n_real counts
    test patches, n_synthetic synthetic training rows. Raises MediError where a patient, slide or patch trains and
    tests, or an embedding is not finite (P5).
    """
    _check(arms, tests, over)
    probes = {arm.name: _fit(arm, over, seed) for arm in arms}
    rows: list[dict[str, object]] = []
    for split, test in tests.items():
        hits = {arm.name: _hits(probes[arm.name], test) for arm in arms}
        scorer = _Scorer(split, test[1], hits, {a.name: _missing(a, probes[a.name], test[1]) for a in arms}, seed)
        counts = {arm.name: _counts(arm) for arm in arms}
        rows += [row | counts[str(row["arm"]).split(" - ")[0]] for row in scorer.rows(over)]
    labels = list(over)
    return pd.DataFrame(rows)[[*FIRST, *labels, *LAST]].fillna(dict.fromkeys(labels, ""))


@dataclass(frozen=True)
class _Scorer:
    """The scores of all arms on one split; `missing` tells per arm what its training set lacks."""

    split: str
    table: pd.DataFrame
    hits: Mapping[str, Hits]
    missing: Mapping[str, str]
    seed: int

    def rows(self, over: Sequence[str]) -> Iterator[dict[str, object]]:
        everything = np.ones(len(self.table), dtype=bool)
        yield from self._group("balanced_accuracy", "all", {}, everything)
        for column in over:
            metric = "recall" if column == "class" else "balanced_accuracy"
            for labels, rows in _levels(self.table, [column]):
                yield from self._group(metric, column, labels, rows)
        if len(over) > 1:
            for labels, rows in _levels(self.table, over):
                yield from self._group("recall", "combination", labels, rows)
        yield from self._differences(everything)
        yield from self._gaps(everything) if self.split == "unseen" else ()

    def _group(
        self, metric: str, scope: str, labels: dict[str, str], rows: Bool[np.ndarray, " n"]
    ) -> Iterator[dict[str, object]]:
        classes = sorted(set(self.table["class"][rows]))
        for arm in self.hits:
            if metric == "balanced_accuracy" and len(classes) < 2:
                found = Estimate(np.nan, reason=f"{len(classes)} class ({', '.join(classes)}): no balanced accuracy")
            else:
                found = self._estimate(_mean_recall, rows, [arm], tuple(labels.values()))
            yield self._row(metric, arm, scope, labels, rows, found)

    def _differences(self, rows: Bool[np.ndarray, " n"]) -> Iterator[dict[str, object]]:
        for other in [arm for arm in self.hits if arm != MEDI and MEDI in self.hits]:
            found = self._estimate(_difference, rows, [MEDI, other])
            yield self._row("balanced_accuracy_difference", f"{MEDI} - {other}", "all", {}, rows, found)

    def _gaps(self, rows: Bool[np.ndarray, " n"]) -> Iterator[dict[str, object]]:
        if not {REAL, ORACLE} <= set(self.hits):
            return
        gap = self._estimate(_difference, rows, [ORACLE, REAL])
        for arm in [arm for arm in self.hits if arm not in (REAL, ORACLE)]:
            if gap.low > 0:
                found = self._estimate(_gap_closed, rows, [arm, REAL, ORACLE])
            else:
                found = Estimate(np.nan, reason=f"{ORACLE} - {REAL} = {gap.value:.3f} is not clearly above 0")
            yield self._row("gap_closed", arm, "all", {}, rows, found.noting(gap.reason))

    def _estimate(
        self, statistic: Statistic, rows: Bool[np.ndarray, " n"], arms: Sequence[str], place: tuple[Key, ...] = ()
    ) -> Estimate:
        labels = _text(self.table["class"][rows])
        tallies = [_tallies(self.hits[arm][rows], labels) for arm in arms]
        key = ("utility", self.seed, self.split, *place)
        found = cluster_bootstrap(statistic, _slides(self.table[rows]), *tallies, draws=DRAWS, key=key)
        return found.noting(*(self.missing[arm] for arm in arms))

    def _row(
        self, metric: str, arm: str, scope: str, labels: dict[str, str], rows: Bool[np.ndarray, " n"], found: Estimate
    ) -> dict[str, object]:
        place = {"metric": metric, "arm": arm, "split": self.split, "scope": scope, **labels}
        table = self.table[rows]
        sizes = {"n_real": len(table), "n_slides": _slides(table).nunique(), "n_patients": groups(table).nunique()}
        return place | vars(found) | sizes


def groups(table: pd.DataFrame) -> pd.Series:
    """Who a row belongs to: its patient, else its slide, else the row itself, where the former are not known."""
    return table["patient"].where(table["patient"] != "", _slides(table))


def _slides(table: pd.DataFrame) -> pd.Series:
    return table["slide"].where(table["slide"] != "", table["sample_id"])


def _text(values: pd.Series) -> Labels:
    return values.to_numpy(dtype=object)


def _is_real(table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    return table["origin"].eq("real").to_numpy(dtype=bool) if "origin" in table else np.ones(len(table), dtype=bool)


def _levels(table: pd.DataFrame, columns: Sequence[str]) -> Iterator[tuple[dict[str, str], Bool[np.ndarray, " n"]]]:
    cells = list(zip(*(table[column] for column in columns)))
    for cell in sorted(set(cells)):
        yield dict(zip(columns, cell)), np.array([found == cell for found in cells], dtype=bool)


def _path(z: Float64[np.ndarray, "n d"], labels: Labels, grid: Sequence[float]) -> list[Plane]:
    """A fit for each C, each started where the one before ended."""
    model, planes = LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-3, warm_start=True), []
    for c in grid:
        model.C = c
        model.fit(z, labels)
        weights, bias = model.coef_, model.intercept_
        if len(weights) == 1:  # two classes come as one score, that of the second
            weights, bias = np.vstack([0 * weights, weights]), np.append(0 * bias, bias)
        planes.append((weights.copy(), bias.copy()))
    return planes


def _predict(z: Float64[np.ndarray, "n d"], plane: Plane, classes: Sequence[str]) -> Labels:
    weights, bias = plane
    return np.array(classes, dtype=object)[(z @ weights.T + bias).argmax(axis=1)]


def _choose_c(z: Float64[np.ndarray, "n d"], table: pd.DataFrame, over: Sequence[str], seed: int) -> tuple[float, str]:
    """The smallest C with the best cross-validated score, and a reason where there was nothing to validate on."""
    labels, scores = _text(table["class"]), np.zeros(len(GRID))
    folds = _folds(table, seed)
    if folds.max() < 0:
        return DEFAULT_C, f"fewer than two classes with two patients: C = {DEFAULT_C} instead of cross-validated"
    for fold in sorted(set(folds[folds >= 0])):
        validation = folds == fold
        classes = sorted(set(labels[~validation]))
        for index, plane in enumerate(_path(z[~validation], labels[~validation], GRID)):
            hits = _predict(z[validation], plane, classes) == labels[validation]
            scores[index] += _balanced_score(hits, table[validation], over)
    return GRID[int(np.argmax(scores.round(9)))], ""


def _folds(table: pd.DataFrame, seed: int) -> Int64[np.ndarray, " n"]:
    """The fold that validates each row, -1 for synthetic rows: the patients of each class dealt out in turn."""
    real, owner = _is_real(table), groups(table)
    first = (
        table["class"][real].groupby(owner[real]).min()
    )  # the class by which a patient is dealt, order of rows aside
    if (first.value_counts() >= 2).sum() < 2:
        return np.full(len(table), -1)
    shuffled = first.iloc[generator("folds", seed).permutation(len(first))]
    dealt = shuffled.groupby(shuffled).cumcount() % FOLDS
    return owner.map(dealt).where(real, -1).to_numpy(dtype=np.int64)


def _balanced_score(hits: Bool[np.ndarray, " n"], table: pd.DataFrame, over: Sequence[str]) -> float:
    cells = pd.Series(hits, index=table.index).groupby([table[column] for column in over]).mean()
    return float(cells.groupby(level="class").mean().mean())


def _fit(arm: Arm, over: Sequence[str], seed: int) -> Probe | None:
    if arm.table["class"].nunique() < 2:
        return None
    return Probe.fit(arm.embeddings, arm.table.reset_index(drop=True), over=over, seed=seed)


def _hits(probe: Probe | None, test: Embedded) -> Hits:
    labels = _text(test[1]["class"])
    if probe is None:
        return np.full(len(labels), np.nan)
    right = (probe.predict(test[0]) == labels).astype(np.float64)
    return np.where(np.isin(labels, probe.classes), right, np.nan)


def _missing(arm: Arm, probe: Probe | None, test: pd.DataFrame) -> str:
    if probe is None:
        return f"{arm.name} trains on {arm.table['class'].nunique()} class: no probe"
    found = set(test["class"])
    notes = [probe.reason] if probe.reason else []
    notes += [f"class {name} is not in {arm.name}'s training rows" for name in sorted(found - set(probe.classes))]
    notes += [f"class {name} is not in the test" for name in sorted(set(probe.classes) - found)]
    return "; ".join(notes)


def _counts(arm: Arm) -> dict[str, object]:
    return {"n_train": len(arm.table), "n_synthetic": int((~_is_real(arm.table)).sum())}


def _tallies(hits: Hits, labels: Labels) -> Tallies:
    of_class = labels[:, None] == np.array(sorted(set(labels)), dtype=object)
    return np.stack([of_class.astype(np.float64), np.where(of_class, hits[:, None], 0.0)], axis=1)


def _mean_recall(totals: Float64[np.ndarray, "draws 2 k"]) -> Float64[np.ndarray, " draws"]:
    """Balanced accuracy; for one class its recall. NaN in a draw that lost a class."""
    with np.errstate(invalid="ignore"):
        return (totals[:, 1] / totals[:, 0]).mean(axis=1)


def _difference(
    first: Float64[np.ndarray, "draws 2 k"], second: Float64[np.ndarray, "draws 2 k"]
) -> Float64[np.ndarray, " draws"]:
    return _mean_recall(first) - _mean_recall(second)


def _gap_closed(
    arm: Float64[np.ndarray, "draws 2 k"],
    real: Float64[np.ndarray, "draws 2 k"],
    oracle: Float64[np.ndarray, "draws 2 k"],
) -> Float64[np.ndarray, " draws"]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return _difference(arm, real) / _difference(oracle, real)


def _check(arms: Sequence[Arm], tests: Mapping[str, Embedded], over: Sequence[str]) -> None:
    train = {arm.name: (arm.embeddings, arm.table) for arm in arms}
    for name, (embeddings, table) in [*train.items(), *tests.items()]:
        if lacking := {"sample_id", "patient", "slide", "class", *over} - set(table.columns):
            raise MediError(f"the {name} table lacks the columns {', '.join(sorted(lacking))}")
        if len(embeddings) != len(table):
            raise MediError(f"{name}: {len(embeddings)} embeddings for {len(table)} table rows; embed the set again")
        broken = ~np.isfinite(embeddings).all(axis=1)
        if broken.any():
            first = table["sample_id"].iloc[int(broken.argmax())]
            raise MediError(f"{name}: {broken.sum()} embeddings are not finite, first of {first!r}; mend or drop them")
    for arm in arms:
        for split, (_, table) in tests.items():
            _check_apart(arm, split, table)


def _check_apart(arm: Arm, split: str, table: pd.DataFrame) -> None:
    for column in ("patient", "slide", "sample_id"):
        if shared := (set(arm.table[column]) & set(table[column])) - {""}:
            raise MediError(f"{column} {min(shared)!r} trains in arm {arm.name} and tests in {split}; split them apart")
