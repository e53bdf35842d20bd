"""Which remedy fits this cohort? Judged on combinations of training that are left out again, before the test is opened.

A remedy is a training set under a head. The true hold-out asks for combinations without a training patch, and for
other patients of those that have some; so does this inner one. Each fold leaves out some combinations, and a part of
the patients of all others. Recall is weighted as the true hold-out has it: the combinations that training lacks count
by the first, those that it has, and that several patients show, by the second. Levels are those of a smaller training
set; the order is what counts.

A set with generated images is judged where each inner hold-out has a model of its own, trained on what it keeps alone.

One remedy more is the soft vote of the better half of all: the mean of the probabilities that they give (Kittler et
al., IEEE Transactions on Pattern Analysis and Machine Intelligence 1998, the sum rule).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float64

from medi.core.choice import EVERY_SET, REAL, USUAL, VOTE, best_of, chosen_of, is_worth_it, regret_of, row_of
from medi.core.errors import MediError
from medi.core.progress import Advance, unheard
from medi.core.registry import registry
from medi.core.set_names import filtered_name
from medi.core.threads import one_thread
from medi.evaluation.classify.agreed import agreed
from medi.evaluation.classify.arms import Arm, filtered
from medi.evaluation.classify.crossed import check_heads
from medi.evaluation.classify.heads import HEADS, Head, Tuned, Undefined
from medi.evaluation.classify.heads.contract import Probabilities, inner_probabilities, probabilities_of
from medi.evaluation.classify.heads.inner import Fold
from medi.evaluation.classify.probes import balanced_score, codes, text
from medi.evaluation.features import Embedded
from medi.evaluation.left_out import AllRows, Answer, Asked, Chances, Rows

MEDI = "medi"
NOT_JUDGED = "not judged: it needs a model of every inner hold-out"


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
    gain_low, gain_high (paired, over the real rows under `USUAL`), lead, lead_low, lead_high (paired, over the soft
    vote), true (on the test, where it was opened), needs, reason. reason: what limits the whole choice.
    """

    table: pd.DataFrame
    reason: str = ""

    @property
    def best(self) -> pd.Series | None:
        """The remedy of the highest value; None where none could be judged."""
        return best_of(self.table)

    @property
    def is_worth_it(self) -> bool:
        """Whether the interval of the gain of what is chosen is above zero."""
        return is_worth_it(self.table)

    @property
    def chosen(self) -> pd.Series | None:
        """The remedy to take: the soft vote, unless the best one is certainly better (`core.choice`)."""
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
    found = list[_Answered]()
    for one, name in remedies:
        head = registry("head")[name]
        told, why = _left_out(one, head, over, asked, seed)
        opened = _on_tests(one.whole, head, over, seed, tests, asked.classes) if tests and not why else None
        found.append(_Answered(one.name, name, one.needs(head), why or one.how, told, opened))
        progress(len(found), len(remedies))
    if vote := _vote(found, asked):
        found.append(vote)
    hits = {(it.set, it.head): None if it.told is None else asked.hits(it.told) for it in found}
    usual, voted = (hits.get(key) for key in ((REAL, USUAL), (EVERY_SET, VOTE)))
    rows: list[dict[str, object]] = []
    for answered in found:
        rows.append({"set": answered.set, "head": answered.head, "needs": answered.needs})
        rows[-1]["true"] = _true(answered.opened, tests, over, asked.classes)
        rows[-1] |= asked.figures(hits[answered.set, answered.head], answered.reason, usual, voted)
    table = pd.DataFrame(rows).sort_values("value", ascending=False, kind="stable", ignore_index=True)
    return Judged(table, reason)


@dataclass(frozen=True)
class _Answered:
    """What a remedy says of the rows that are asked for (told) and of the tests (opened), or why it says nothing."""

    set: str
    head: str
    needs: str
    reason: str
    told: Chances | None
    opened: Float64[np.ndarray, "tests k"] | None


def _vote(found: Sequence[_Answered], asked: Asked) -> _Answered | None:
    """The soft vote of the better half of the remedies, of two at least; None where fewer could be judged.

    A remedy that fails on what is left out of this cohort does not vote. Test rows choose nothing (P5).
    """
    judged = [(one, one.told) for one in found if one.told is not None]
    if len(judged) < 2:
        return None
    judged.sort(key=lambda pair: -round(asked.value(asked.hits(pair[1])), 9))
    best = judged[: max(2, -(-len(judged) // 2))]
    opened = [one.opened for one, _ in best if one.opened is not None]
    needs = dict.fromkeys(part for one, _ in best for part in one.needs.split("; ") if part)
    told = np.mean([answers for _, answers in best], axis=0)
    return _Answered(EVERY_SET, VOTE, "; ".join(needs), "", told, np.mean(opened, axis=0) if opened else None)


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


def _left_out(one: _Set, head: Head, over: Sequence[str], asked: Asked, seed: int) -> tuple[Chances | None, str]:
    """What a head says of the rows that are asked for, at the setting that it would choose; or why it cannot be judged.

    It chooses by combinations that are left out alone, as `heads.contract.Tuned` does with all training rows. Another
    setting may be better on kept ones, but it is not the one that the remedy will have.
    """
    if one.reason or not asked.folds:
        return None, one.reason or "no combination can be left out of training"
    classes = asked.classes
    if isinstance(head, Tuned):
        answer = _tuned(head, one, over, classes)
    else:
        answer = _plain(head, one, over, seed, classes)
    try:
        answers = asked.answers(answer)
    except Undefined as error:
        return None, str(error)
    which = 0 if asked.tested(0).any() else 1
    tested = asked.tested(which)
    right = asked.hits(answers)[which][:, tested] > 0
    scores = [balanced_score(hits, asked.labels[tested], asked.combination[tested]) for hits in right]
    return answers[:, int(np.argmax(np.round(scores, 9)))], ""


def _tuned(head: Tuned, one: _Set, over: Sequence[str], classes: Sequence[str]) -> Answer:
    """Of every setting of its grid; `Undefined` where it cannot be fitted without some combinations."""

    def answer(number: int, trains: Rows, tests: Rows) -> Float64[np.ndarray, "settings n k"]:
        rows, fitted, tested = one.fold(number, trains, tests)
        found = inner_probabilities(head.fit, head.grid, rows, over, [Fold(fitted, tested)], classes)[:, : len(tests)]
        if np.isnan(found[:, tests]).any():
            raise Undefined("undefined where some of the combinations are left out")
        return found

    return answer


def _plain(head: Head, one: _Set, over: Sequence[str], seed: int, classes: Sequence[str]) -> Answer:
    """Of a head that chooses for itself."""

    def answer(number: int, trains: Rows, tests: Rows) -> Float64[np.ndarray, "settings n k"]:
        rows, fitted, tested = one.fold(number, trains, tests)
        found = np.full((1, len(tests), len(classes)), np.nan)
        found[0, tests] = probabilities_of(head(rows.take(fitted), over, seed), rows.take(tested), classes)
        return found

    return answer


def _on_tests(
    arm: Arm | None,
    head: Head,
    over: Sequence[str],
    seed: int,
    tests: Mapping[str, Embedded],
    classes: Sequence[str],
) -> Probabilities | None:
    """What a remedy says of the test rows, seen and unseen; None where the head is undefined."""
    if arm is None:
        return None
    try:
        classifier = head(arm.rows, over, seed)
    except Undefined:
        return None
    sets = [test if arm.tests is None else Embedded(arm.tests[name], test.table) for name, test in tests.items()]
    return probabilities_of(classifier, sets[0].join(*sets[1:]), classes)


def _true(
    told: Probabilities | None, tests: Mapping[str, Embedded] | None, over: Sequence[str], classes: Sequence[str]
) -> float:
    """Mean recall over the combinations of the test, seen and unseen; NaN where nothing is said of it."""
    if told is None or not tests:
        return float("nan")
    first, *others = (test.table for test in tests.values())
    table = pd.concat([first, *others], ignore_index=True)
    hits = np.array(classes, dtype=object)[told.argmax(axis=1)] == text(table["class"])
    return float(pd.Series(hits).groupby(codes(table, over)).mean().mean())
