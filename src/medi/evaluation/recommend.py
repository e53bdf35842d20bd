"""Which remedy fits this cohort? Judged on combinations of training that are left out again, before the test is opened.

A remedy is a training set under a head. The true hold-out asks for combinations without a training patch, and for
other patients of those that have some; so does this inner one. Each fold leaves out some combinations, and a part of
the patients of all others. Recall is weighted as the true hold-out has it: the combinations that training lacks count
by the first, those that it has, and that several patients show, by the second. Levels are those of a smaller training
set; the order is what counts.

A set with generated images is judged where each inner hold-out has a model of its own, trained on what it keeps alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int64

from medi.core.choice import USUAL, best_of, chosen_of, is_worth_it, regret_of, row_of
from medi.core.errors import MediError
from medi.core.progress import Advance, unheard
from medi.core.registry import registry
from medi.core.seeds import generator
from medi.core.set_names import filtered_name
from medi.core.threads import one_thread
from medi.evaluation.classify.agreed import agreed
from medi.evaluation.classify.arms import Arm, filtered
from medi.evaluation.classify.crossed import check_heads
from medi.evaluation.classify.heads import HEADS, Head, Tuned, Undefined
from medi.evaluation.classify.heads.contract import inner_hits, predicted
from medi.evaluation.classify.heads.inner import Fold, inner_folds
from medi.evaluation.classify.probes import balanced_score, codes, groups, is_real, text
from medi.evaluation.classify.scoring import REAL
from medi.evaluation.features import Embedded, placed
from medi.evaluation.statistics import Estimate, cluster_bootstrap

DRAWS = 1000
MEDI = "medi"
NOT_JUDGED = "not judged: it needs a model of every inner hold-out"
Rows = Bool[np.ndarray, " n"]
AllRows = Bool[np.ndarray, " m"]  # with generated ones behind them
Hits = Float64[np.ndarray, "2 n"]  # of rows as left-out and as kept combinations: 1 right, 0 wrong, -1 not tested
Answers = Float64[np.ndarray, "2 settings n"]
Answer = Callable[[int, Rows, Rows], Float64[np.ndarray, "settings n"]]


@dataclass(frozen=True)
class Generated:
    """What a generator adds to the real training rows; they only train, and test nothing.

    added: rows for each of `holdouts`, in their order, by a model that was trained on what it keeps; whole: by a model
    of all training rows, for the true hold-out, where there is one; reason: why the set cannot be judged; by: the stain
    normalisation of its rows, which are then added to real rows under the same one.
    """

    name: str
    added: tuple[Embedded, ...] = ()
    whole: Embedded | None = None
    reason: str = ""
    by: str = ""

    @property
    def how(self) -> str:
        """How it was judged, in words for the table.

        >>> Generated("medi").how
        'judged with models of 0 inner hold-outs'
        """
        several = "" if len(self.added) == 1 else "s"
        return self.reason or f"judged with models of {len(self.added)} inner hold-out{several}"


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
        return best_of(self.table)

    @property
    def is_worth_it(self) -> bool:
        """Whether the interval of its gain is above zero."""
        return is_worth_it(self.table)

    @property
    def chosen(self) -> pd.Series | None:
        """The remedy to take: the best where it is worth it, else the real rows under the usual head."""
        return chosen_of(self.table)

    def row(self, set_: str, head: str) -> pd.Series | None:
        """A remedy's row; None where it was not tried."""
        return row_of(self.table, set_, head)

    @property
    def regret(self) -> float:
        """How far the chosen remedy stays below the best one on the test; NaN where it was not opened."""
        return regret_of(self.table)


@one_thread
def judge(
    arms: Sequence[Arm],
    over: Sequence[str],
    seed: int,
    heads: Sequence[str] = (),
    tests: Mapping[str, Embedded] | None = None,
    progress: Advance = unheard,
    generated: Sequence[Generated] = (),
    draws: int | None = None,
) -> Judged:
    """Every head on every training set, on combinations of training that are left out.

    arms: training sets with the same rows in the same order, the real ones among them; with tests an arm that embeds
    them anew has its own. heads: names of the registry "head", all by default. tests: the test rows by split, where the
    true hold-out is to be opened as well. progress: remedies done, of how many. generated: sets with generated images,
    made for the `holdouts` of the same arguments; each is judged once more without the images that a head does not
    agree with (`classify.agreed`). draws: how many inner hold-outs are asked, all by default; every remedy is asked the
    same. MediError where a name is unknown or the sets do not go together.
    """
    names = list(heads) or list(HEADS)
    _check(arms, names)
    real = next(arm for arm in arms if arm.name == REAL)
    asked, reason = Asked.of(real.rows.table, over, seed, draws)
    like = {arm.name: arm for arm in arms}
    sets = [_Set.of(arm) for arm in arms]
    for added in generated:
        made = _Set.with_generated(like[added.by or REAL], added, asked)
        sets += [made, made.filtered(like[added.by or REAL], asked, over, seed)]
    remedies = [(one, name) for one in sets for name in names]
    found: dict[tuple[str, str], tuple[Hits | None, str]] = {}
    rows = []
    for one, name in remedies:
        head = registry("head")[name]
        hits, why = _left_out(one, head, over, asked, seed)
        found[one.name, name] = hits, why
        true = _true(one.whole, head, over, seed, tests) if tests and one.whole and not why else float("nan")
        rows.append({"set": one.name, "head": name, "true": true, "needs": one.needs(head)})
        progress(len(rows), len(remedies))
    usual = found.get((REAL, USUAL), (None, ""))[0]
    table = pd.DataFrame(rows)
    figures = [asked.figures(found[one.name, name][0], found[one.name, name][1] or one.how, usual)
               for one, name in remedies]  # fmt: skip
    table = pd.concat([table, pd.DataFrame(figures)], axis=1)
    table = table.sort_values("value", ascending=False, kind="stable", ignore_index=True)
    return Judged(table, reason)


def _check(arms: Sequence[Arm], heads: Sequence[str]) -> None:
    check_heads(heads)
    if REAL not in {arm.name for arm in arms}:
        raise MediError("the real training rows are not among the sets; gains are counted from them")
    ids = [arm.rows.table["sample_id"].tolist() for arm in arms]
    if odd := [arm.name for arm, own in zip(arms, ids) if own != ids[0]]:
        raise MediError(f"{odd[0]}: other rows than the real training set; only sets of the same patches are judged")


def holdouts(table: pd.DataFrame, over: Sequence[str], seed: int, draws: int | None = None) -> list[Rows]:
    """The rows that each inner hold-out keeps for training: all that a model for it may see (P5)."""
    return [trains for trains, _, _ in Asked.of(table, over, seed, draws)[0].folds]


@dataclass(frozen=True)
class _Set:
    """A training set as it is judged.

    rows: those that are asked, real or of other stains; added: what trains beside them in each fold, nothing without a
    generator; whole: the training set of the true hold-out, where there is one; reason: why it cannot be judged; how:
    what its figures stand on.
    """

    name: str
    rows: Embedded
    added: tuple[Embedded, ...] = ()
    whole: Arm | None = None
    reason: str = ""
    how: str = ""

    @classmethod
    def of(cls, arm: Arm) -> "_Set":
        return cls(arm.name, arm.rows, whole=arm, reason=arm.reason)

    @classmethod
    def with_generated(cls, real: Arm, made: Generated, asked: "Asked") -> "_Set":
        reason = real.reason or made.reason
        if not reason and len(made.added) != len(asked.folds):
            raise MediError(f"{made.name}: {len(made.added)} sets of images for {len(asked.folds)} inner hold-outs")
        whole = None if made.whole is None else replace(real, name=made.name, rows=real.rows.join(made.whole))
        return cls(made.name, real.rows, made.added, whole, reason, reason or made.how)

    def filtered(self, real: Arm, asked: "Asked", over: Sequence[str], seed: int) -> "_Set":
        """Without the generated rows that a head does not agree with, fitted to what each fold keeps alone (P5)."""
        name = filtered_name(self.name)
        if self.reason:
            return replace(self, name=name)
        folds = [(real.rows.take(trains), rows) for (trains, _, _), rows in zip(asked.folds, self.added)]
        try:
            added = tuple(rows.take(agreed(kept, rows, over, seed)) for kept, rows in folds)
        except Undefined as error:
            return replace(self, name=name, reason=str(error))
        whole = None if self.whole is None else filtered(self.whole, len(real.rows), over, seed)
        return replace(self, name=name, added=added, whole=whole)

    def needs(self, head: Head) -> str:
        """What the remedy needs beside real training patches and the features of a test patch."""
        return "; ".join(filter(None, ["a generator" if self.how else "", getattr(head, "needs", "")]))

    def fold(self, number: int, trains: Rows, tests: Rows) -> tuple[Embedded, AllRows, AllRows]:
        """The rows of a fold, which of them train and which are tested; the first ones are those that are asked."""
        if not self.added:
            return self.rows, trains, tests
        more = np.ones(len(self.added[number]), dtype=bool)
        both = self.rows.join(self.added[number])
        return both, np.concatenate([trains, more]), np.concatenate([tests, ~more])


@dataclass(frozen=True)
class Asked:
    """What every remedy is asked: rows of combinations that a fold leaves out, and of other patients of those it keeps.

    folds: what trains, what of left-out and what of kept combinations is tested; one fit answers both. combination [n]:
    of every row, as a number; patients [n]; shares: what left-out and kept combinations count, as the endpoint has it.
    """

    folds: tuple[tuple[Rows, Rows, Rows], ...]
    combination: Int64[np.ndarray, " n"]
    patients: pd.Series
    shares: tuple[float, float]
    seed: int

    @classmethod
    def of(cls, table: pd.DataFrame, over: Sequence[str], seed: int, draws: int | None = None) -> tuple["Asked", str]:
        """Also what limits it. draws: the first so many folds. Left-out combinations count as many as the crossed table
        lacks, kept ones as many as other patients can test: the true hold-out can test no more of them. Where none can
        be left out, patients of kept ones are all that is asked for."""
        folds, reason = inner_folds(table, over, seed)
        usable, patients, combination = is_real(table) & placed(table, over), groups(table), codes(table, over)
        kept = len(np.unique(combination[usable]))
        crossed = int(np.prod([table.loc[usable, column].nunique() for column in over]))
        if reason:
            nothing = np.zeros(len(table), dtype=bool)
            parts = [(fold.trains, nothing, fold.tests) for fold in folds]
            return cls(tuple(parts[:draws]), combination, patients, (0.0, 1.0), seed), reason
        names = np.unique(patients)
        part = pd.Series(generator("recommend", seed).permutation(len(names)) % len(folds), names)
        dealt, parts = patients.map(part).to_numpy(), []
        for number, fold in enumerate(folds):
            others = _others(fold.trains & usable, dealt == number, combination, patients.to_numpy(dtype=object))
            parts.append((fold.trains & ~others, fold.tests, others))
        testable = len(np.unique(combination[np.any([others for _, _, others in parts], axis=0)]))
        both = crossed - kept + testable
        shares = ((crossed - kept) / both, testable / both) if both else (1.0, 0.0)
        return cls(tuple(parts[:draws]), combination, patients, shares, seed), ""

    def hits(self, answer: Answer) -> Answers:
        """What `answer(fold, trains, tests)` gives, whether each tested row is told right, over all folds together."""
        found: list[list[Float64[np.ndarray, "settings n"]]] = [[], []]
        for number, (trains, left_out, kept) in enumerate(self.folds):
            both = answer(number, trains, left_out | kept)
            for which, rows in zip(found, (left_out, kept)):
                which.append(np.where(rows, both, np.nan))
        return np.stack([np.nanmax(np.stack(parts), axis=0, initial=-1.0, where=np.isfinite(parts)) for parts in found])

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

    def gain(self, *sums: Float[np.ndarray, "d k"]) -> Float[np.ndarray, " d"]:
        return self.recall(*sums[:4]) - self.recall(*sums[4:])

    def figures(self, hits: Hits | None, reason: str, usual: Hits | None) -> Mapping[str, object]:
        """Value and gain of a remedy, with intervals from resampled patients, the same draws for all."""
        value = gain = Estimate(np.nan)
        if hits is not None:
            value = self._estimate(self.recall, *self.sums(hits))
            if usual is not None:
                gain = self._estimate(self.gain, *self.sums(hits), *self.sums(usual))
        named = {"value": value.value, "low": value.low, "high": value.high}
        named |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
        return named | {"reason": "; ".join(filter(None, [reason, value.reason]))}

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


def _left_out(one: _Set, head: Head, over: Sequence[str], asked: Asked, seed: int) -> tuple[Hits | None, str]:
    """What a head says of the rows that are asked for, at the setting that it would choose; or why it cannot be judged.

    It chooses by combinations that are left out alone, as `heads.contract.Tuned` does with all training rows. Another
    setting may be better on kept ones, but it is not the one that the remedy will have.
    """
    if one.reason or not asked.folds:
        return None, one.reason or "no combination can be left out of training"
    answer = _tuned(head, one, over) if isinstance(head, Tuned) else _plain(head, one, over, seed)
    try:
        answers = asked.hits(answer)
    except Undefined as error:
        return None, str(error)
    which = 0 if asked.tested(0).any() else 1
    tested, labels = asked.tested(which), codes(one.rows.table, ["class"])
    scores = [balanced_score(hits > 0, labels[tested], asked.combination[tested]) for hits in answers[which][:, tested]]
    return answers[:, int(np.argmax(np.round(scores, 9)))], ""


def _tuned(head: Tuned, one: _Set, over: Sequence[str]) -> Answer:
    """Of every setting of its grid; `Undefined` where it cannot be fitted without some combinations."""

    def answer(number: int, trains: Rows, tests: Rows) -> Float64[np.ndarray, "settings n"]:
        rows, fitted, tested = one.fold(number, trains, tests)
        found = inner_hits(head.fit, head.grid, rows, over, [Fold(fitted, tested)])[:, : len(tests)]
        if np.isnan(found[:, tests]).any():
            raise Undefined("undefined where some of the combinations are left out")
        return found

    return answer


def _plain(head: Head, one: _Set, over: Sequence[str], seed: int) -> Answer:
    """Of a head that chooses for itself."""

    def answer(number: int, trains: Rows, tests: Rows) -> Float64[np.ndarray, "settings n"]:
        rows, fitted, tested = one.fold(number, trains, tests)
        found, test = np.full((1, len(tests)), np.nan), rows.take(tested)
        found[0, tests] = predicted(head(rows.take(fitted), over, seed), test) == text(test.table["class"])
        return found

    return answer


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
