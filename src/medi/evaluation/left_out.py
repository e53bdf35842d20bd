"""What every remedy is asked of training rows: combinations that are left out, and other patients of those kept.

`recommend` fits every remedy to what a fold keeps and asks it here; recall is weighted as the true hold-out has it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int64

from medi.core.seeds import generator
from medi.evaluation.classify.heads.inner import inner_folds
from medi.evaluation.classify.probes import codes, groups, is_real, text
from medi.evaluation.features import placed
from medi.evaluation.statistics import Estimate, cluster_bootstrap

DRAWS = 1000
Rows = Bool[np.ndarray, " n"]
AllRows = Bool[np.ndarray, " m"]  # with generated ones behind them
Hits = Float64[np.ndarray, "2 n"]  # of rows as left-out and as kept combinations: 1 right, 0 wrong, -1 not tested
Chances = Float64[np.ndarray, "2 n k"]  # the same in probabilities of the classes; NaN where not tested
Answers = Float64[np.ndarray, "2 settings n k"]
Answer = Callable[[int, Rows, Rows], Float64[np.ndarray, "settings n k"]]


@dataclass(frozen=True)
class Asked:
    """What every remedy is asked: rows of combinations that a fold leaves out, and of other patients of those it keeps.

    folds: what trains, what of left-out and what of kept combinations is tested; one fit answers both. combination [n]:
    of every row, as a number; patients [n]; shares: what left-out and kept combinations count, as the endpoint has it;
    classes: in the order of probabilities; labels [n]: of every row, as a number of them.
    """

    folds: tuple[tuple[Rows, Rows, Rows], ...]
    combination: Int64[np.ndarray, " n"]
    patients: pd.Series
    shares: tuple[float, float]
    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " n"]
    seed: int

    @classmethod
    def of(cls, table: pd.DataFrame, over: Sequence[str], seed: int, draws: int | None = None) -> tuple["Asked", str]:
        """Also what limits it. draws: the first so many folds. Left-out combinations count as many as the crossed table
        lacks, kept ones as many as other patients can test: the true hold-out can test no more of them. Where none can
        be left out, patients of kept ones are all that is asked for."""
        folds, reason = inner_folds(table, over, seed)
        usable, patients, combination = is_real(table) & placed(table, over), groups(table), codes(table, over)
        told = tuple(sorted(set(text(table["class"])))), codes(table, ["class"])
        kept = len(np.unique(combination[usable]))
        crossed = int(np.prod([table.loc[usable, column].nunique() for column in over]))
        if reason:
            nothing = np.zeros(len(table), dtype=bool)
            parts = [(fold.trains, nothing, fold.tests) for fold in folds]
            return cls(tuple(parts[:draws]), combination, patients, (0.0, 1.0), *told, seed), reason
        names = np.unique(patients)
        part = pd.Series(generator("recommend", seed).permutation(len(names)) % len(folds), names)
        dealt, parts = patients.map(part).to_numpy(), []
        for number, fold in enumerate(folds):
            others = _others(fold.trains & usable, dealt == number, combination, patients.to_numpy(dtype=object))
            parts.append((fold.trains & ~others, fold.tests, others))
        testable = len(np.unique(combination[np.any([others for _, _, others in parts], axis=0)]))
        both = crossed - kept + testable
        shares = ((crossed - kept) / both, testable / both) if both else (1.0, 0.0)
        return cls(tuple(parts[:draws]), combination, patients, shares, *told, seed), ""

    def answers(self, answer: Answer) -> Answers:
        """What `answer(fold, trains, tests)` gives of each tested row, over all folds together; NaN of others."""
        parts: list[list[Float64[np.ndarray, "settings n k"]]] = [[], []]
        for number, (trains, left_out, kept) in enumerate(self.folds):
            both = answer(number, trains, left_out | kept)
            for which, rows in zip(parts, (left_out, kept)):
                which.append(np.where(rows[:, None], both, np.nan))
        return np.stack([reduce(lambda one, other: np.where(np.isnan(other), one, other), which) for which in parts])

    def hits(self, told: Float64[np.ndarray, "2 *settings n k"]) -> Float64[np.ndarray, "2 *settings n"]:
        """1 where the likeliest class is that of the row, 0 where it is not, -1 where the row is not tested."""
        return np.where(np.isnan(told[..., 0]), -1.0, told.argmax(axis=-1) == self.labels)

    def tested(self, which: int) -> Rows:
        """The rows of left-out (0) or of kept (1) combinations that some fold tests."""
        return np.any([parts[1 + which] for parts in self.folds], axis=0)

    def sums(self, hits: Hits) -> list[Float64[np.ndarray, "n k"]]:
        """Of each row, by combination: hits and counts where it is left out, hits and counts where it is kept."""
        members = (self.combination[:, None] == np.unique(self.combination)).astype(np.float64)
        found = []
        for which, one in enumerate(hits):
            tested = self.tested(which)
            found += [members * np.where(tested, one, 0)[:, None], members * tested[:, None]]
        return found

    def recall(self, *sums: Float[np.ndarray, "d k"]) -> Float[np.ndarray, " d"]:
        """Mean recall over left-out and over kept combinations, weighted as the endpoint has them."""
        parts = [_mean_recall(hits, counts) for hits, counts in (sums[:2], sums[2:])]
        return sum(share * part for share, part in zip(self.shares, parts) if share)  # type: ignore[return-value]

    def value(self, hits: Hits) -> float:
        """The same of a remedy's hits, without an interval; NaN where nothing is tested."""
        return float(self.recall(*(rows.sum(axis=0, keepdims=True) for rows in self.sums(hits)))[0])

    def gain(self, *sums: Float[np.ndarray, "d k"]) -> Float[np.ndarray, " d"]:
        return self.recall(*sums[:4]) - self.recall(*sums[4:])

    def figures(self, hits: Hits | None, reason: str, usual: Hits | None, voted: Hits | None) -> Mapping[str, object]:
        """Value, gain and lead of a remedy, with intervals from resampled patients, the same draws for all."""
        found = {"value": Estimate(np.nan), "gain": Estimate(np.nan), "lead": Estimate(np.nan)}
        if hits is not None:
            found["value"] = self._estimate(self.recall, *self.sums(hits))
            for name, other in (("gain", usual), ("lead", voted)):
                if other is not None:
                    found[name] = self._estimate(self.gain, *self.sums(hits), *self.sums(other))
        named: dict[str, object] = {}
        for name, one in found.items():
            start = "" if name == "value" else f"{name}_"
            named |= {name: one.value, f"{start}low": one.low, f"{start}high": one.high}
        return named | {"reason": "; ".join(filter(None, [reason, found["value"].reason]))}

    def _estimate(self, statistic: Callable[..., np.ndarray], *values: Float64[np.ndarray, "n k"]) -> Estimate:
        return cluster_bootstrap(statistic, self.patients, *values, draws=DRAWS, key=("recommend", self.seed))


def _others(trains: Rows, dealt: Rows, combination: Int64[np.ndarray, " n"], patients: np.ndarray) -> Rows:
    """The rows of these patients that may be tested: not those without whom a combination would not train any more."""
    others = trains & dealt
    while len(gone := np.setdiff1d(combination[others], combination[trains & ~others])):
        needed = np.unique(patients[others & np.isin(combination, gone)])
        others &= ~np.isin(patients, needed)
    return others


def _mean_recall(hits: Float[np.ndarray, "d k"], counts: Float[np.ndarray, "d k"]) -> Float[np.ndarray, " d"]:
    """Mean recall over the combinations that a resample has."""
    there = counts > 0
    recall = np.divide(hits, counts, out=np.zeros_like(hits), where=there)
    return recall.sum(axis=1) / there.sum(axis=1).clip(1)
