"""Probes: a linear classifier on frozen embeddings under three heads, and what chooses its penalty.

`tuned` is for claims, `medi` is what the paper used, `uni` what UNI's code minimises (Chen et al. 2024, linear probe).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped

from medi.cohort.table import slide_units
from medi.core.seeds import generator
from medi.evaluation.classify.logistic import Planes, Rows, solve
from medi.evaluation.features import CONSTANT, Embedded, Features

GRID = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)  # C, the inverse penalty
DEFAULT_C = 1e-2
FOLDS = 4

Labels = Shaped[np.ndarray, " n"]  # text objects
Plane = tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, " k"]]
Solver = Callable[..., Planes]  # as `logistic.solve`


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier; `Probe.fit` is the head `tuned`.

    Standardised features, multinomial logistic regression, balanced class weights. C is the best of `GRID` in a
    cross-validation over the patients of real training rows; synthetic rows only ever train. A hit counts so that
    combinations of a class weigh alike and classes weigh alike: scored by plain balanced accuracy, C is chosen for the
    frequent combinations, where the site gives the class away. On a Gaussian world (4 classes x 8 sites, 10
    combinations held out, means of 3 seeds) the plain score lost up to 0.09 on unseen combinations against the best C
    and this one up to 0.03; leaving whole combinations out was equal within 0.01 on average.
    """

    classes: tuple[str, ...]
    mean: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]
    plane: Plane
    c: float
    reason: str = ""

    @classmethod
    def fit(cls, rows: Embedded, *, over: Sequence[str], seed: int) -> "Probe":
        """Fit on finite embeddings of two classes or more; `over` names the columns that make combinations."""
        return tuned(Pool.of(rows, over=over).dealt(rows.table, seed))

    def scores(self, embeddings: Features) -> Float64[np.ndarray, "n k"]:
        """A logit per class of each row of embeddings [n, d]."""
        weights, bias = self.plane
        scaled = weights / self.scale
        return embeddings.astype(np.float64) @ scaled.T + (bias - scaled @ self.mean)

    def probabilities(self, features: Features, table: pd.DataFrame | None = None) -> Float64[np.ndarray, "n k"]:
        """The probability of each class, rows sum to 1; a probe looks at no table of the rows."""
        scores = self.scores(features)
        power = np.exp(scores - scores.max(axis=1, keepdims=True))
        return power / power.sum(axis=1, keepdims=True)

    def predict(self, embeddings: Features) -> Labels:
        """The class of each row of embeddings [n, d], as objects [n]."""
        return np.array(self.classes, dtype=object)[self.scores(embeddings).argmax(axis=1)]


@dataclass(frozen=True)
class Pool:
    """A training set as a probe sees it: a matrix, and which of its rows train and validate.

    weights [bags, n]: how much a row trains, a probe per bag and their mean; folds [n]: the fold that leaves the row
    out, -1 never; checks [n]: validates in its fold; combinations, places [n]: codes of all columns of `over` and of
    those beside the class; balance: class weights, or what the head has. Features are (x - mean) / scale.
    """

    rows: Rows
    targets: Float64[np.ndarray, "n k"]
    classes: tuple[str, ...]
    mean: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]
    weights: Float64[np.ndarray, "bags n"]
    folds: Int64[np.ndarray, " n"]
    checks: Bool[np.ndarray, " n"]
    combinations: Int64[np.ndarray, " n"]
    places: Int64[np.ndarray, " n"]
    balance: bool | None = None
    solver: Solver = solve

    @classmethod
    def of(
        cls,
        rows: Embedded,
        *,
        over: Sequence[str],
        trains: Bool[np.ndarray, " n"] | None = None,
        standardise: bool = True,
    ) -> "Pool":
        """All rows, or those that `trains` tells; real ones that do not train still validate."""
        embeddings, table = rows.features, rows.table
        chosen = np.ones(len(table), dtype=bool) if trains is None else trains
        mine, labels = embeddings if chosen.all() else embeddings[chosen], text(table["class"])
        # In the embeddings' own precision: copies in float64 cost as much as the fits.
        mean, scale = mine.mean(axis=0, dtype=np.float64).astype(mine.dtype), np.ones(mine.shape[1])
        if standardise:
            scale = np.sqrt(np.square(mine - mean).mean(axis=0, dtype=np.float64))
            scale[scale <= CONSTANT * np.abs(mine).max(axis=0, initial=0)] = 1.0
        else:
            mean = np.zeros_like(mean)
        classes = tuple(sorted(set(labels[chosen])))
        targets = (labels[:, None] == np.array(classes, dtype=object)).astype(np.float64)
        matrix = Rows.of((embeddings - mean) / scale.astype(mine.dtype), targets)
        places = [column for column in over if column != "class"]
        return cls(
            *(matrix, targets, classes, mean.astype(np.float64), scale, chosen[None].astype(np.float64)),
            folds=np.full(len(table), -1),
            checks=is_real(table) & (targets.sum(axis=1) > 0),
            combinations=codes(table, over),
            places=codes(table, places),
        )

    def dealt(self, table: pd.DataFrame, seed: int) -> "Pool":
        """The same pool with the patients of its table dealt to folds."""
        return replace(self, folds=folds(table, seed))

    def balanced(self, weights: Float64[np.ndarray, "m n"], by_head: bool = True) -> Float32[np.ndarray, "m n"]:
        """These row weights times class weights that make classes alike, if the pool (or else the head) has them."""
        if not (by_head if self.balance is None else self.balance):
            return weights.astype(np.float32)
        mass = weights @ self.targets
        present = (mass > 0).sum(axis=1, keepdims=True)
        share = np.divide(weights.sum(axis=1, keepdims=True) / present, mass, out=np.zeros_like(mass), where=mass > 0)
        return (weights * (share @ self.targets.T)).astype(np.float32)

    def probe(self, planes: Planes, c: float, reason: str = "") -> Probe:
        """The mean of the bags' planes."""
        weights, bias = planes.weights.mean(axis=0), planes.bias.mean(axis=0)
        if len(weights) == 1:  # two classes come as one score, that of the second
            weights, bias = np.vstack([0 * weights, weights]), np.append(0 * bias, bias)
        return Probe(self.classes, self.mean, self.scale, (weights, bias), c, reason)


def tuned(pool: Pool, c: float | None = None) -> Probe:
    """The head `tuned`: C cross-validated, or given where it was chosen before."""
    if c is not None:
        return pool.probe(_fit(pool, c), c)
    chosen, start, reason = _choose(pool)
    return pool.probe(_fit(pool, chosen, start), chosen, reason)


def tuned_at(pool: Pool, weights: Float64[np.ndarray, "m n"], c: float) -> list[Probe]:
    """The head `tuned` on m other choices of rows, at a C chosen before; all are solved together."""
    planes = solve(pool.rows, pool.balanced(weights), np.full(len(weights), c))
    return [pool.probe(planes[np.array([place])], c) for place in range(len(weights))]


def medi(pool: Pool, c: float | None = None) -> Probe:
    """The head `medi`: scikit-learn's logistic regression with balanced class weights on features as they are."""
    from sklearn.linear_model import LogisticRegression

    c, planes = c or 1.0, []
    for weights in pool.weights:
        x, labels, shares = _hard(pool, pool.balanced(weights[None])[0])
        model = LogisticRegression(C=c, max_iter=1000).fit(x, labels, shares)
        planes.append(_spread(pool, model.coef_, model.intercept_, model.classes_))
    return pool.probe(Planes.joined(planes), c)


def uni(pool: Pool, c: float | None = None) -> Probe:
    """The head `uni`: mean cross-entropy + |W| / (2 C), the norm not squared, C = d K / 100, no class weights."""
    import torch

    from medi.evaluation.classify.uni import minimise

    c, planes = c or pool.rows.x.shape[1] * len(pool.classes) / 100, []
    x, targets = torch.from_numpy(pool.rows.x).double(), torch.from_numpy(pool.targets)
    for weights in pool.balanced(pool.weights, by_head=False).astype(np.float64):
        found, bias = minimise(x, targets, torch.from_numpy(weights / weights.sum()), c)
        planes.append(Planes(found.numpy()[None], bias.numpy()[None]))
    return pool.probe(Planes.joined(planes), c)


HEADS: dict[str, Callable[..., Probe]] = {"tuned": tuned, "medi": medi, "uni": uni}


def folds(table: pd.DataFrame, seed: int) -> Int64[np.ndarray, " n"]:
    """The fold that leaves each row out: the patients of each class dealt out in turn; -1 where a row has no real
    patient, as synthetic ones. What was made of a patient's patches is left out with them."""
    real, owner = is_real(table), groups(table)
    # The class by which a patient is dealt, order of rows aside.
    first = table["class"][real].groupby(owner[real]).min()
    if (first.value_counts() >= 2).sum() < 2:
        return np.full(len(table), -1)
    shuffled = first.iloc[generator("folds", seed).permutation(len(first))]
    dealt = shuffled.groupby(shuffled).cumcount() % FOLDS
    return owner.map(dealt).fillna(-1).to_numpy(dtype=np.int64)


def groups(table: pd.DataFrame) -> pd.Series:
    """Who a row belongs to: its patient, else its slide, else the row itself, where the former are not known."""
    slides = slide_units(table)
    return table["patient"].where(table["patient"] != "", slides)


def text(values: pd.Series) -> Labels:
    return values.to_numpy(dtype=object)


def is_real(table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
    """Rows whose origin is "real", and those of tables that have no such column, also where others were joined."""
    if "origin" not in table:
        return np.ones(len(table), dtype=bool)
    return table["origin"].fillna("real").eq("real").to_numpy(dtype=bool)


def codes(table: pd.DataFrame, columns: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """A number for each combination of these columns, in sorted order; all 0 without columns.

    >>> codes(pd.DataFrame({"class": ["b", "a", "b"], "site": ["x", "y", "z"]}), ["class", "site"]).tolist()
    [1, 0, 2]
    """
    found = np.zeros(len(table), dtype=np.int64)
    for column in columns:
        numbers, names = pd.factorize(table[column], sort=True, use_na_sentinel=False)
        found = np.unique(found * len(names) + numbers, return_inverse=True)[1]  # small again, whatever comes next
    return found.astype(np.int64)


def _fit(pool: Pool, c: float, start: Planes | None = None) -> Planes:
    weights = pool.balanced(pool.weights)
    return pool.solver(pool.rows, weights, np.full(len(weights), c), start)


def _choose(pool: Pool) -> tuple[float, Planes | None, str]:
    """The smallest C with the best cross-validated score, where its fits ended, and a reason where none could be."""
    places = sorted(set(pool.folds[pool.checks & (pool.folds >= 0)]))
    if len(pool.classes) < 2 or not places:
        return DEFAULT_C, None, f"fewer than two classes with two patients: C = {DEFAULT_C} instead of cross-validated"
    bags, scores = len(pool.weights), np.zeros(len(GRID))
    kept = np.concatenate([pool.balanced(pool.weights * (pool.folds != fold)) for fold in places])
    grid = np.tile(np.array(GRID), len(kept))
    planes = pool.solver(pool.rows, np.repeat(kept, len(GRID), axis=0), grid)
    shape = (len(places), bags, len(GRID), len(pool.rows.targets))
    weights, bias = planes.weights.reshape(*shape, -1).mean(axis=1), planes.bias.reshape(shape).mean(axis=1)
    for place, fold in enumerate(places):
        scores += _fold_scores(pool, (pool.folds == fold) & pool.checks, Planes(weights[place], bias[place]))
    best = int(np.argmax(scores.round(9)))
    start = Planes(weights[:, best].mean(axis=0, keepdims=True), bias[:, best].mean(axis=0, keepdims=True))
    return GRID[best], start[np.zeros(bags, dtype=np.int64)], ""


def _fold_scores(pool: Pool, rows: Bool[np.ndarray, " n"], planes: Planes) -> Float64[np.ndarray, " m"]:
    """The validation score of each plane on the rows of one fold."""
    scores = pool.rows.part(rows).scores(planes)
    found = (scores[:, 0] > 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(axis=1)
    truth = pool.targets[rows].argmax(axis=1)
    return np.array([balanced_score(hits, truth, pool.combinations[rows]) for hits in found == truth])


def balanced_score(
    hits: Bool[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], combinations: Int64[np.ndarray, " n"]
) -> float:
    """The share of hits, combinations of a class alike and classes alike."""
    _, first, index = np.unique(combinations, return_index=True, return_inverse=True)
    means = np.bincount(index, hits) / np.bincount(index)
    of = labels[first]
    classes = np.bincount(of, means)[np.unique(of)] / np.bincount(of)[np.unique(of)]
    return float(classes.mean())


def _hard(
    pool: Pool, weights: Float[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "r d"], Int64[np.ndarray, " r"], Float64[np.ndarray, " r"]]:
    """Rows, class numbers and weights for a fit that knows no soft targets: a mixed row enters once per class."""
    row, label = np.nonzero(pool.targets * weights[:, None])
    return pool.rows.x[row].astype(np.float64), label, weights[row] * pool.targets[row, label]


def _spread(
    pool: Pool,
    weights: Float64[np.ndarray, "c d"],
    bias: Float64[np.ndarray, " c"],
    labels: Int64[np.ndarray, " k"],
) -> Planes:
    """A fit of scikit-learn as planes of the pool."""
    if len(weights) == 1:
        return Planes(weights[None], bias[None])
    order = np.searchsorted(labels, np.arange(len(pool.classes)))
    return Planes(weights[order][None], bias[order][None])
