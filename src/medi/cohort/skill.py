"""How well metadata alone give the class away: a skill over patients, with an interval and a grade in plain words.

A rule that never sees an image predicts the class from an attribute, for patients that it has not seen. Its balanced
accuracy BA over K classes is put on a scale from chance to perfect: skill = (BA - 1/K) / (1 - 1/K). The grade goes by
the lower limit of the skill, so that few patients never raise an alarm by luck.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from medi.cohort.combinations import Ids, joint_ids
from medi.core import seeds

FOLDS = 5
DRAWS = 1000  # resamples of patients behind an interval
AT_ONCE = 50  # resamples in memory
SHUFFLES = 20  # of the classes over patients, for what chance alone determines
SMOOTHING = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # patients that the coarser level counts for; chosen by log score
# Below each skill its grade; from the last one on it is an alarm.
GRADES: tuple[tuple[float, "Grade"], ...] = ((0.1, "none"), (0.3, "mild"), (0.6, "caution"), (0.9, "strong"))
DETERMINED = 0.9  # 1 - H(class | attribute) / H(class), chance taken off, that is an alarm by itself
TOO_FEW = 0.5  # the same of shuffled classes: from here on there are too few patients to say

Grade = Literal["none", "mild", "caution", "strong", "alarm", "too few patients to say"]
ALL = "all attributes"


@dataclass(frozen=True)
class Skill:
    """What an attribute, or several together, say about the class.

    columns: the attributes in use, the most telling first; balanced_accuracy: of unseen patients, with its 95 %
    interval from resampled patients (low, high); skill and skill_low: on the scale from chance (0) to perfect (1);
    determination: 1 - H(class | attribute) / H(class) over patients, less what shuffled classes give.
    """

    columns: tuple[str, ...]
    balanced_accuracy: float
    low: float
    high: float
    chance: float
    determination: float
    shuffled: float
    grade: Grade

    @property
    def skill(self) -> float:
        """Balanced accuracy from chance (0) to perfect (1)."""
        return _on_scale(self.balanced_accuracy, self.chance)

    @property
    def skill_low(self) -> float:
        """The same of the lower limit of the interval, by which the grade goes."""
        return _on_scale(self.low, self.chance)


def _on_scale(accuracy: float, chance: float) -> float:
    return (accuracy - chance) / (1 - chance)


@dataclass(frozen=True)
class People:
    """The distinct rows of patient, class and levels: a patient counts once for each, however many patches there are.

    codes: a level for each row and attribute [n], not known is one more level; group: class [n], 0 to K - 1;
    patient: [n]; fold: of the row's patient [n].
    """

    codes: dict[str, Ids]
    group: Ids
    patient: Ids
    fold: Ids

    @classmethod
    def of(cls, codes: Mapping[str, Ids], group: Ids, patient: Ids, seed: int) -> "People":
        """From one entry per patch or row; -1 is a level that is not known."""
        _, first = joint_ids([patient, group, *(code + 1 for code in codes.values())])
        known = {name: code[first] + 1 for name, code in codes.items()}
        people = np.unique(patient[first], return_inverse=True)[1].astype(np.int64)
        fold = seeds.generator("audit", seed).permutation(people.max() + 1) % FOLDS
        return cls(known, np.unique(group[first], return_inverse=True)[1].astype(np.int64), people, fold[people])

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.group.max()) + 1


def skill_of(people: People, columns: Sequence[str], seed: int) -> Skill:
    """The skill of some attributes together: the best prefix of them, ordered by what each says beyond chance.

    Which prefix is best, and how much a rare level leans on a coarser one, is decided within the training folds alone.
    `people` needs two classes and two patients.
    """
    alone = {name: determination(people, name, seed) for name in columns}
    order = sorted(columns, key=lambda name: -alone[name][0])
    chain = Chain.of(people, order)
    accuracy, low, high = _interval(people, chain.hits(), seed)
    found, shuffled = alone[order[0]]
    chance = 1 / people.classes
    grade = _grade(_on_scale(low, chance), found, shuffled)
    return Skill(tuple(order[: chain.best(None)[0]]), accuracy, low, high, chance, found, shuffled, grade)


def skills(people: People, columns: Sequence[str], seed: int) -> dict[str, Skill]:
    """The skill of every attribute alone and, under "all attributes", of all together where there are several.

    All together are never said to know less than the best one alone: that one is a rule that they allow.
    """
    found = {name: skill_of(people, [name], seed) for name in columns}
    if len(columns) > 1:
        together, single = skill_of(people, columns, seed), max(found.values(), key=lambda s: s.balanced_accuracy)
        found[ALL] = max(together, single, key=lambda s: s.balanced_accuracy)
    return found


@dataclass(frozen=True)
class Chain:
    """Ever finer joint levels: of no attribute, of the first, of the first two, ... Each level knows its parent.

    place: joint level of each row, one array [n] per length; parent: level at the length before, one array [levels]
    per length; counts: patients [folds, levels, classes] per length.
    """

    people: People
    place: tuple[Ids, ...]
    parent: tuple[Int64[np.ndarray, " _levels"], ...]
    counts: tuple[Float64[np.ndarray, "folds _levels k"], ...]

    @classmethod
    def of(cls, people: People, order: Sequence[str]) -> "Chain":
        place = [np.zeros(len(people.group), dtype=np.int64)]
        parent = [np.zeros(1, dtype=np.int64)]
        for name in order:
            joint, first = joint_ids([place[-1], people.codes[name]])
            parent.append(place[-1][first])
            place.append(joint)
        return cls(people, tuple(place), tuple(parent), tuple(_counted(people, levels) for levels in place))

    def posterior(self, length: int, smoothing: float, left_out: Sequence[int]) -> Float64[np.ndarray, "levels k"]:
        """p(class | joint level) without some folds, classes counting alike: (w + m p(class | parent)) / (n + m)."""
        keep = np.setdiff1d(np.arange(FOLDS), left_out)
        size = self.counts[0][keep].sum(axis=(0, 1))
        weight = size.sum() / self.people.classes / np.maximum(size, 1)
        found = np.full((1, self.people.classes), 1 / self.people.classes)
        for counts, parent in zip(self.counts[1 : length + 1], self.parent[1 : length + 1]):
            seen = counts[keep].sum(axis=0) * weight
            found = (seen + smoothing * found[parent]) / (seen.sum(axis=1, keepdims=True) + smoothing)
        return found

    def best(self, left_out: int | None) -> tuple[int, float]:
        """The number of attributes and the smoothing of the best log score within the other folds."""
        folds = [fold for fold in range(FOLDS) if fold != left_out]
        choices = [(length, m) for length in range(1, len(self.place)) for m in SMOOTHING]
        return max(choices, key=lambda choice: sum(self._score(choice[0], choice[1], f, left_out) for f in folds))

    def _score(self, length: int, smoothing: float, fold: int, left_out: int | None) -> float:
        """Mean log probability of the classes of a fold's patients, classes counting alike."""
        outside = [fold] if left_out is None else [fold, left_out]
        counts = self.counts[length][fold]
        total = counts.sum(axis=0)
        logs = (counts * np.log(self.posterior(length, smoothing, outside))).sum(axis=0)
        return float((logs[total > 0] / total[total > 0]).sum())

    def hits(self) -> Bool[np.ndarray, " n"]:
        """Which rows the rule of the other folds predicts rightly."""
        hits = np.zeros(len(self.people.group), dtype=bool)
        for fold in range(FOLDS):
            length, smoothing = self.best(fold)
            answer = self.posterior(length, smoothing, [fold]).argmax(axis=1)
            mine = self.people.fold == fold
            hits[mine] = answer[self.place[length][mine]] == self.people.group[mine]
        return hits


def _counted(people: People, levels: Ids) -> Float64[np.ndarray, "folds levels k"]:
    shape = (FOLDS, int(levels.max()) + 1, people.classes)
    place = np.ravel_multi_index((people.fold, levels, people.group), shape)
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)


def _interval(people: People, hits: Bool[np.ndarray, " n"], seed: int) -> tuple[float, float, float]:
    """Balanced accuracy and its 95 % limits from resampled patients; a class that a resample lacks is left out."""
    shape = (int(people.patient.max()) + 1, people.classes)
    place = np.ravel_multi_index((people.patient, people.group), shape)
    total = np.bincount(place, minlength=int(np.prod(shape))).reshape(shape).astype(np.float64)
    right = np.bincount(place, hits, minlength=int(np.prod(shape))).reshape(shape)
    accuracy = float((right.sum(axis=0) / total.sum(axis=0)).mean())
    random, draws = seeds.generator("audit bootstrap", seed), []
    for start in range(0, DRAWS, AT_ONCE):
        drawn = [random.integers(shape[0], size=shape[0]) for _ in range(min(AT_ONCE, DRAWS - start))]
        times = np.stack([np.bincount(people_drawn, minlength=shape[0]) for people_drawn in drawn]).astype(np.float64)
        size, hit = times @ total, times @ right
        draws.append(np.nanmean(np.where(size > 0, hit / np.maximum(size, 1), np.nan), axis=1))
    low, high = np.quantile(np.concatenate(draws), [0.025, 0.975])
    return accuracy, float(low), float(high)


def determination(people: People, column: str, seed: int) -> tuple[float, float]:
    """1 - H(class | attribute) / H(class) over patients, taken off what shuffled classes give; and the latter, plain.

    With f found and s shuffled it is (f - s) / (1 - s): 0 for what few patients determine by chance, 1 for a function.
    """
    level, group = people.codes[column], people.group
    found = _determined(level, group)
    shuffles = [seeds.generator("audit shuffle", seed, column, i).permutation(group) for i in range(SHUFFLES)]
    shuffled = float(np.mean([_determined(level, other) for other in shuffles]))
    return (found - shuffled) / (1 - shuffled) if shuffled < 1 else 0.0, shuffled


def _determined(level: Ids, group: Ids) -> float:
    joint = np.bincount(level * (int(group.max()) + 1) + group)
    classes = _entropy(np.bincount(group))
    return (_entropy(np.bincount(level)) + classes - _entropy(joint)) / classes


def _entropy(count: Int64[np.ndarray, " k"]) -> float:
    share = count[count > 0] / count.sum()
    return float(-(share * np.log(share)).sum())


def _grade(skill_low: float, determined: float, shuffled: float) -> Grade:
    """The grade by the lower limit of the skill; an attribute that determines the class is an alarm by itself."""
    if shuffled > TOO_FEW:
        return "too few patients to say"
    if determined >= DETERMINED:
        return "alarm"
    return next((name for limit, name in GRADES if skill_low < limit), "alarm")
