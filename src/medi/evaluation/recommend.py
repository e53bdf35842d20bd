"""Which remedy fits this cohort? Judged on combinations of training that are left out again, before the test is opened.

A remedy is a training set under a head. The true hold-out asks for combinations without a training patch; so does this
inner one. Accuracy on seen combinations says little about that (Spearman .30 with the truth, this .9, on the phantom).
Levels are those of a smaller training set; the order is what counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64

from medi.core.errors import MediError, did_you_mean
from medi.core.progress import Advance, unheard
from medi.core.registry import registry
from medi.core.threads import one_thread
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.heads import HEADS, Head, Tuned, Undefined
from medi.evaluation.classify.heads.contract import inner_hits, predicted
from medi.evaluation.classify.heads.inner import Fold, inner_folds
from medi.evaluation.classify.probes import codes, groups, text
from medi.evaluation.classify.scoring import REAL
from medi.evaluation.features import Embedded
from medi.evaluation.statistics import Estimate, cluster_bootstrap

DRAWS = 1000
USUAL = "logistic"  # the head that gains are counted from, on the real rows
MEDI = "medi"
NOT_JUDGED = "not judged: it needs a model of every inner hold-out"
Hits = Float64[np.ndarray, " n"]  # 1 right, 0 wrong, NaN not tested


@dataclass(frozen=True)
class Judged:
    """What the inner hold-out says of every remedy, and which one it chooses.

    table: a row per remedy, the best first: set, head, value, low, high (mean recall over left-out combinations), gain,
    gain_low, gain_high (paired, over the real rows under `USUAL`), true (on the test, where it was opened), needs,
    reason. reason: what limits the whole choice.
    """

    table: pd.DataFrame
    reason: str = ""

    @property
    def best(self) -> pd.Series | None:
        """The remedy of the highest value; None where none could be judged."""
        return None if self.table["value"].isna().all() else self.table.iloc[0]

    @property
    def is_worth_it(self) -> bool:
        """Whether the interval of its gain is above zero."""
        return self.best is not None and bool(self.best["gain_low"] > 0)

    @property
    def chosen(self) -> pd.Series | None:
        """The remedy to take: the best where it is worth it, else the real rows under the usual head."""
        return self.best if self.is_worth_it else self.row(REAL, USUAL)

    def row(self, set_: str, head: str) -> pd.Series | None:
        """A remedy's row; None where it was not tried."""
        found = self.table[(self.table["set"] == set_) & (self.table["head"] == head)]
        return None if found.empty else found.iloc[0]

    @property
    def regret(self) -> float:
        """How far the chosen remedy stays below the best one on the test; NaN where it was not opened."""
        chosen = self.chosen
        return float("nan") if chosen is None else float(self.table["true"].max() - chosen["true"])


@one_thread
def judge(
    arms: Sequence[Arm],
    over: Sequence[str],
    seed: int,
    heads: Sequence[str] = (),
    tests: Mapping[str, Embedded] | None = None,
    progress: Advance = unheard,
) -> Judged:
    """Every head on every training set, on combinations of training that are left out.

    arms: training sets with the same rows in the same order, the real ones among them; with tests an arm that embeds
    them anew has its own. heads: names of the registry "head", all by default. tests: the test rows by split, where the
    true hold-out is to be opened as well. progress: remedies done, of how many. MediError where a name is unknown or
    the sets do not go together.
    """
    names = list(heads) or list(HEADS)
    _check(arms, names)
    real = next(arm for arm in arms if arm.name == REAL)
    folds, reason = inner_folds(real.rows.table, over, seed)
    remedies = [(arm, name) for arm in arms for name in names]
    found: dict[tuple[str, str], tuple[Hits, str]] = {}
    rows = []
    for arm, name in remedies:
        head = registry("head")[name]
        hits, why = _left_out(arm, head, over, folds, seed)
        found[arm.name, name] = hits, why
        true = _true(arm, head, over, seed, tests) if tests and not why else float("nan")
        rows.append({"set": arm.name, "head": name, "true": true, "needs": getattr(head, "needs", "")})
        progress(len(rows), len(remedies))
    scored = _Scored.of(real.rows.table, over, folds, seed)
    usual = found.get((REAL, USUAL), (None, ""))[0]
    table = pd.DataFrame(rows)
    figures = [scored.figures(*found[arm.name, name], usual) for arm, name in remedies]
    table = pd.concat([table, pd.DataFrame(figures)], axis=1)
    table = table.sort_values("value", ascending=False, kind="stable", ignore_index=True)
    return Judged(table, reason)


def _check(arms: Sequence[Arm], heads: Sequence[str]) -> None:
    if unknown := [name for name in heads if name not in registry("head")]:
        known = list(registry("head"))
        raise MediError(f"head {unknown[0]!r} is unknown; known: {', '.join(known)}{did_you_mean(unknown[0], known)}")
    if REAL not in {arm.name for arm in arms}:
        raise MediError("the real training rows are not among the sets; gains are counted from them")
    ids = [arm.rows.table["sample_id"].tolist() for arm in arms]
    if odd := [arm.name for arm, own in zip(arms, ids) if own != ids[0]]:
        raise MediError(f"{odd[0]}: other rows than the real training set; only sets of the same patches are judged")


def _left_out(arm: Arm, head: Head, over: Sequence[str], folds: Sequence[Fold], seed: int) -> tuple[Hits, str]:
    """What a head says of the rows that folds leave out, at its best setting; or why it cannot be judged."""
    nothing = np.full(len(arm.rows), np.nan)
    if arm.reason or not folds:
        return nothing, arm.reason or "no combination can be left out of training"
    tested = np.any([fold.tests for fold in folds], axis=0)
    try:
        if isinstance(head, Tuned):
            hits = _tuned(head, arm.rows, over, folds)
        else:
            hits = _plain(head, arm.rows, over, folds, seed)
    except Undefined as error:
        return nothing, str(error)
    if np.isnan(hits[tested]).any():
        return nothing, "undefined where some of the combinations are left out"
    return hits, ""


def _tuned(head: Tuned, rows: Embedded, over: Sequence[str], folds: Sequence[Fold]) -> Hits:
    """At the setting that does best on all folds: as optimistic for every head as its grid is long."""
    hits = inner_hits(head.fit, head.grid, rows, over, folds)
    tested = np.any([fold.tests for fold in folds], axis=0)
    recalls = pd.DataFrame(hits[:, tested].T).groupby(codes(rows.table[tested], over)).mean().mean()
    if recalls.isna().all():
        raise Undefined("undefined where combinations are left out")
    return hits[int(np.nanargmax(recalls.to_numpy().round(9)))]


def _plain(head: Head, rows: Embedded, over: Sequence[str], folds: Sequence[Fold], seed: int) -> Hits:
    """Of a head that chooses for itself."""
    hits = np.full(len(rows), np.nan)
    for fold in folds:
        test = rows.take(fold.tests)
        hits[fold.tests] = predicted(head(rows.take(fold.trains), over, seed), test) == text(test.table["class"])
    return hits


def _true(arm: Arm, head: Head, over: Sequence[str], seed: int, tests: Mapping[str, Embedded]) -> float:
    """Mean recall over the combinations of the test, seen and unseen; NaN where the head is undefined."""
    try:
        classifier = head(arm.rows, over, seed)
    except Undefined:
        return float("nan")
    sets = [test if arm.tests is None else Embedded(arm.tests[name], test.table) for name, test in tests.items()]
    every = sets[0].join(*sets[1:])
    hits = predicted(classifier, every) == text(every.table["class"])
    return float(pd.Series(hits).groupby(codes(every.table, over)).mean().mean())


@dataclass(frozen=True)
class _Scored:
    """What figures of the left-out rows are made from: their combinations one-hot [n, k], patients, and draws."""

    tested: np.ndarray
    members: Float64[np.ndarray, "n k"]
    patients: pd.Series
    seed: int

    @classmethod
    def of(cls, table: pd.DataFrame, over: Sequence[str], folds: Sequence[Fold], seed: int) -> "_Scored":
        tested = np.any([fold.tests for fold in folds], axis=0) if folds else np.zeros(len(table), dtype=bool)
        combination = codes(table[tested], over)
        members = (combination[:, None] == np.unique(combination)).astype(np.float64)
        return cls(tested, members, groups(table[tested]), seed)

    def figures(self, hits: Hits, reason: str, usual: Hits | None) -> Mapping[str, object]:
        """Value and gain of a remedy, with intervals from resampled patients, the same draws for all."""
        value = gain = Estimate(np.nan)
        if not reason:
            right = self.members * hits[self.tested, None]
            value = self._estimate(_mean_recall, right, self.members)
            if usual is not None and np.isfinite(usual[self.tested]).all():
                gain = self._estimate(_gain, right, self.members * usual[self.tested, None], self.members)
        named = {"value": value.value, "low": value.low, "high": value.high}
        named |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
        return named | {"reason": reason or value.reason}

    def _estimate(self, statistic: Callable[..., np.ndarray], *values: Float64[np.ndarray, "n k"]) -> Estimate:
        return cluster_bootstrap(statistic, self.patients, *values, draws=DRAWS, key=("recommend", self.seed))


def _mean_recall(hits: Float[np.ndarray, "d k"], counts: Float[np.ndarray, "d k"]) -> Float[np.ndarray, " d"]:
    """Mean recall over the combinations that a resample has."""
    recall = np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)
    return np.nanmean(recall, axis=1)


def _gain(
    hits: Float[np.ndarray, "d k"], usual: Float[np.ndarray, "d k"], counts: Float[np.ndarray, "d k"]
) -> Float[np.ndarray, " d"]:
    return _mean_recall(hits, counts) - _mean_recall(usual, counts)
