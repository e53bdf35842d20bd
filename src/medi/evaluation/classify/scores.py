"""What is measured of a classifier on a test set: statistics of sums over rows, so that clusters can be resampled.

A measure maps each row to numbers [n, *k] and sums [draws, *k] of them to a figure; differences of two arms are paired.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int64

from medi.cohort.table import slide_units
from medi.core.seeds import generator
from medi.evaluation.classify.probes import codes, folds, groups
from medi.evaluation.features import Features, placed
from medi.evaluation.statistics import CALIBRATION_BINS, Estimate, Sparse, Values, cluster_bootstrap, confidence_bins

DRAWS = 1000
NEIGHBOURS = (1, 3, 5, 7, 9, *range(11, 302, 10))  # candidates of PathoROB's k
QUERIES = 1600  # patches among which neighbours are sought

Index = Int64[np.ndarray, " n"]
Sums = Float64[np.ndarray, "draws *k"]
Figures = Float64[np.ndarray, " draws"]


@dataclass(frozen=True)
class Answers:
    """What an arm's probes said of n test rows, the mean over seeds.

    labels: each row's class among k; votes: the share of seeds that chose each class; probabilities of the classes;
    groups: the combination each row belongs to, for worst and mean group.
    """

    labels: Index
    votes: Float64[np.ndarray, "n k"]
    probabilities: Float64[np.ndarray, "n k"]
    groups: Index

    @property
    def hits(self) -> Float64[np.ndarray, " n"]:
        return self.votes[np.arange(len(self.labels)), self.labels]

    def __getitem__(self, rows: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> "Answers":
        return Answers(self.labels[rows], self.votes[rows], self.probabilities[rows], self.groups[rows])


@dataclass(frozen=True)
class Measure:
    """rows: numbers per row of an arm's answers; statistic: figures from their sums.

    extreme: the statistic is of the worst groups. A resample finds worse ones by chance, so there is no interval.
    grouped: the statistic is of combinations, to which rows without a level in one of their columns do not belong.
    """

    name: str
    rows: Callable[[Answers], Values]
    statistic: Callable[[Sums], Figures]
    extreme: bool = False
    grouped: bool = False

    def minus(self) -> Callable[[Sums, Sums], Figures]:
        """The statistic of a paired difference."""
        return lambda first, second: self.statistic(first) - self.statistic(second)


def tallies(index: Index, hits: Float64[np.ndarray, " n"], count: int) -> Sparse:
    """[n, count, 2]: at the class or group of a row stand 1 and how right it is."""
    return Sparse(np.stack([np.ones_like(hits), hits], axis=1), (index,), (count,))


def recalls(answers: Answers) -> Sparse:
    """Tallies of the classes that the rows have."""
    names, index = np.unique(answers.labels, return_inverse=True)
    return tallies(index, answers.hits, len(names))


def mean_recall(totals: Float[np.ndarray, "draws k 2"]) -> Figures:
    """Balanced accuracy; for one class its recall. NaN in a draw that lost a class."""
    with np.errstate(invalid="ignore"):
        return (totals[..., 1] / totals[..., 0]).mean(axis=1)


def _confusion(answers: Answers) -> Sparse:
    """[n, k, k]: the votes of a row stand at its class."""
    return Sparse(answers.votes, (answers.labels,), answers.votes.shape[1:])


def _mcc(totals: Float[np.ndarray, "draws k k"]) -> Figures:
    """Matthews's correlation of true and found class, for any number of classes (Gorodkin 2004)."""
    true, found, n = totals.sum(axis=2), totals.sum(axis=1), totals.sum(axis=(1, 2))
    right = np.trace(totals, axis1=1, axis2=2)
    spread = (n**2 - (true**2).sum(axis=1)) * (n**2 - (found**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (right * n - (true * found).sum(axis=1)) / np.sqrt(np.maximum(spread, 0))


def _placements(answers: Answers) -> Float64[np.ndarray, "n 4 k"]:
    """Per class: where a row of it stands among the others' scores, that there is one, and the same of the others.

    With these, AUROC in a resample is a sum of means to first order (Obuchowski 1997), so that no draw sorts anew.
    """
    return np.stack([_placement(answers, int(k)) for k in np.unique(answers.labels)], axis=2)


def _placement(answers: Answers, k: int) -> Float64[np.ndarray, "n 4"]:
    scores, of = answers.probabilities[:, k], answers.labels == k
    out = np.zeros((len(scores), 4))
    out[of, 1], out[~of, 3] = 1, 1
    out[of, 0] = _below(scores[of], scores[~of])
    out[~of, 2] = 1 - _below(scores[~of], scores[of]) - (out[of, 0].mean() if of.any() else np.nan)
    return out


def _below(scores: Float64[np.ndarray, " n"], others: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, " n"]:
    """The share of `others` below each score, ties a half."""
    if not len(others):
        return np.full(len(scores), np.nan)
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(others))


def _auroc(totals: Float[np.ndarray, "draws 4 k"]) -> Figures:
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (totals[:, 0] / totals[:, 1] + totals[:, 2] / totals[:, 3]).mean(axis=1)
    return np.clip(found, 0, 1)  # a sum to first order, which a resample can bring past the ends


def _confidences(answers: Answers) -> Sparse:
    """Tallies of the bins of the highest probability: how much surer a row was than right.

    Several seeds are one ensemble: both are of its mean probabilities.
    """
    sure = answers.probabilities.max(axis=1)
    right = (answers.probabilities.argmax(axis=1) == answers.labels).astype(np.float64)
    right = np.where(np.isnan(answers.hits), np.nan, right)  # classes that no probe knows
    return tallies(confidence_bins(sure), sure - right, CALIBRATION_BINS)


def _calibration(totals: Float[np.ndarray, "draws bins 2"]) -> Figures:
    return np.abs(totals[..., 1]).sum(axis=1) / totals[..., 0].sum(axis=1)


def _of_groups(answers: Answers) -> Sparse:
    names, index = np.unique(answers.groups, return_inverse=True)
    return tallies(index, answers.hits, len(names))


def _group_recalls(totals: Float[np.ndarray, "draws g 2"]) -> Float64[np.ndarray, "draws g"]:
    """NaN for a group that a draw lost."""
    members, right = totals[..., 0], totals[..., 1]
    return np.divide(right, members, out=np.full_like(right, np.nan), where=members > 0)


def _worst(totals: Float[np.ndarray, "draws g 2"], number: int = 1) -> Figures:
    """The mean of the lowest recalls, `number` of them or as many as there are."""
    return np.nanmean(np.sort(_group_recalls(totals), axis=1)[:, :number], axis=1)  # sort puts NaN last


def _mean(totals: Float[np.ndarray, "draws g 2"]) -> Figures:
    shares = _group_recalls(totals)
    return np.nansum(shares, axis=1) / np.isfinite(shares).sum(axis=1)


BALANCED_ACCURACY = Measure("balanced_accuracy", recalls, mean_recall)
MEAN_RECALL = Measure("mean_recall", _of_groups, _mean, grouped=True)  # over all combinations: the primary endpoint
OVERALL = (
    BALANCED_ACCURACY,
    Measure("auroc", _placements, _auroc),
    Measure("mcc", _confusion, _mcc),
    Measure("calibration_error", _confidences, _calibration),
    MEAN_RECALL,
    Measure("worst_five", _of_groups, partial(_worst, number=5), extreme=True, grouped=True),
    Measure("worst_group", _of_groups, _worst, extreme=True, grouped=True),
)


def equalised_odds_gap(levels: Index) -> Measure:
    """The largest difference between levels in how often a class is found where it is, or where it is not.

    One class against the others, the largest of all classes; for two classes fairlearn's equalized_odds_difference.
    """
    return Measure("equalised_odds_gap", lambda answers: _by_level(answers, levels), _odds)


def demographic_parity_gap(levels: Index) -> Measure:
    """The largest difference between levels in how often a class is found, the largest of all classes."""
    return Measure("demographic_parity_gap", lambda answers: _by_level(answers, levels), _parity)


def _by_level(answers: Answers, levels: Index) -> Sparse:
    """[n, g, k, k]: the confusion of a row stands at its level."""
    names, index = np.unique(levels, return_inverse=True)
    return Sparse(answers.votes, (index, answers.labels), (len(names), *answers.votes.shape[1:]))


def _odds(totals: Float[np.ndarray, "draws g k k"]) -> Figures:
    true, found = totals.sum(axis=3), totals.sum(axis=2)
    right = np.diagonal(totals, axis1=2, axis2=3)
    there, elsewhere = _gap(right, true), _gap(found - right, true.sum(axis=2, keepdims=True) - true)
    return _largest(np.concatenate([there, elsewhere], axis=1))


def _parity(totals: Float[np.ndarray, "draws g k k"]) -> Figures:
    found = totals.sum(axis=2)
    return _largest(_gap(found, found.sum(axis=2, keepdims=True)))


def _gap(
    part: Float[np.ndarray, "draws g k"], whole: Float[np.ndarray, "draws g #k"]
) -> Float64[np.ndarray, "draws k"]:
    """The range over levels of part / whole; NaN where fewer than two levels have it."""
    share = np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 1e-9)
    low, high = np.fmin.reduce(share, axis=1), np.fmax.reduce(share, axis=1)
    return np.where(np.isfinite(share).sum(axis=1) > 1, high - low, np.nan)


def _largest(values: Float64[np.ndarray, "draws k"]) -> Figures:
    return np.fmax.reduce(values, axis=1)


def site_readability(
    answers: Answers, table: pd.DataFrame, places: Sequence[str], seed: int
) -> Float64[np.ndarray, " n"]:
    """Whether the site of each row can be read from its class scores, by rows of the same class and other patients.

    Cross-validated linear discriminants within each class, so that the class itself gives nothing away; NaN where a
    class has fewer than two sites with two patients, or no more other patches than sites, and where the site is not
    known. Chance is one over the sites.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    scores = np.log(np.maximum(answers.probabilities, 1e-9))
    place, found, known = codes(table, places), np.full(len(table), np.nan), placed(table, places)
    for label in np.unique(answers.labels):
        rows = np.flatnonzero((answers.labels == label) & known)
        named = table.iloc[rows].assign(origin="real", **{"class": place[rows].astype(str)}).reset_index(drop=True)
        fold = folds(named, seed)
        for number in sorted(set(fold[fold >= 0])):
            train, test = rows[fold != number], rows[fold == number]
            if len(train) > len(np.unique(place[train])) > 1:  # as many rows as sites spread in no direction
                model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=1e-3).fit(scores[train], place[train])
                found[test] = model.predict(scores[test]) == place[test]
    return found


def robustness_index(embeddings: Features, table: pd.DataFrame, over: Sequence[str], seed: int) -> Estimate:
    """PathoROB's index: of the neighbours that share class or site but not both, the share that shares the class.

    Neighbours by cosine in other slides, k the one that tells classes best, as many patches of every combination.
    1: neighbours go by class; 0: they go by site (Koemen et al. 2025). Patches of unknown site are left out.
    """
    known = np.flatnonzero(placed(table, over))
    rows = known[_evenly(table.iloc[known], over, seed)]
    table = table.iloc[rows].reset_index(drop=True)
    label, place = codes(table, ["class"]), codes(table, [column for column in over if column != "class"])
    if min(len(set(label)), len(set(place))) < 2:
        return Estimate(np.nan, reason="one class or one site: no robustness index")
    near = _neighbours(embeddings[rows].astype(np.float64), table)
    if not near.shape[1]:
        return Estimate(np.nan, reason="one slide holds all patches: no neighbours in others")
    same, here = label[near] == label[:, None], place[near] == place[:, None]
    k = _best_k(label, near)
    counts = np.stack([(same & ~here)[:, :k].sum(axis=1), (~same & here)[:, :k].sum(axis=1)], axis=1)
    key = ("robustness", seed)
    found = cluster_bootstrap(_share, groups(table), counts.astype(np.float64), draws=DRAWS, key=key)
    return found.noting("" if np.isfinite(found.value) else "no neighbour shares class or site alone")


def _share(totals: Float[np.ndarray, "draws 2"]) -> Figures:
    with np.errstate(invalid="ignore"):
        return totals[:, 0] / totals.sum(axis=1)


def _evenly(table: pd.DataFrame, over: Sequence[str], seed: int) -> Index:
    """Rows with equally many of every combination, `QUERIES` at most."""
    combination = pd.Series(codes(table, over))
    if combination.empty:
        return combination.to_numpy(dtype=np.int64)
    size = min(int(combination.value_counts().min()), max(1, QUERIES // combination.nunique()))
    order = combination.iloc[generator("robustness", seed).permutation(len(combination))]
    return np.sort(order.index[order.groupby(order).cumcount() < size].to_numpy(dtype=np.int64))


def _neighbours(x: Float64[np.ndarray, "n d"], table: pd.DataFrame) -> Int64[np.ndarray, "n k"]:
    """The nearest rows in other slides, by cosine, as many as every row has and candidates of k need."""
    slides = codes(table.assign(slide=slide_units(table)), ["slide"])
    unit = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    near = unit @ unit.T
    near[slides[:, None] == slides] = -np.inf
    return np.argsort(-near, axis=1, kind="stable")[
        :, : max(0, min(NEIGHBOURS[-1], len(x) - np.bincount(slides).max()))
    ]


def _best_k(label: Index, near: Int64[np.ndarray, "n k"]) -> int:
    """The k with which a vote of neighbours tells the classes best, the smallest of equals."""
    votes = np.cumsum(np.eye(label.max() + 1, dtype=np.float32)[label[near]], axis=1)
    candidates = [k for k in NEIGHBOURS if k <= near.shape[1]] or [near.shape[1]]
    hits = [votes[:, k - 1].argmax(axis=1) == label for k in candidates]
    scores = [np.mean([hit[label == c].mean() for c in np.unique(label)]) for hit in hits]
    return candidates[int(np.argmax(scores))]
