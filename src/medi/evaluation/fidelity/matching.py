"""Which rows of each set are compared: the same number for all, drawn without replacement at the same shares (P8).

Every arm of a comparison meets the same real rows; what is resampled as one is the slide (P9).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medi.core.errors import MediError
from medi.core.seeds import Key, generator
from medi.core.shares import apportion, largest_total
from medi.evaluation.features import REAL, Embedded, check_sets, placed, unplaced
from medi.evaluation.statistics import cluster_counts, cluster_index

Combination = tuple[str, ...]  # one level of each column of `over`
Rows = Int64[np.ndarray, " n"]
Counts = Float64[np.ndarray, "draws n"]


@dataclass(frozen=True)
class Target:
    """What is compared: a combination (one combination), or a class as a mixture of combinations with these shares."""

    labels: dict[str, str]
    shares: dict[Combination, float]
    split: str = ""


@dataclass(frozen=True)
class Drawn:
    """The rows of one set in one comparison, as positions in its table; `combinations` numbers each row's."""

    rows: Rows
    combinations: Rows


@dataclass(frozen=True)
class Matching:
    """The sets to compare (real first) and, per set and combination, its positions in the order of sample_id."""

    sets: dict[str, Embedded]
    positions: dict[str, dict[Combination, list[int]]]
    n: int
    seed: int
    left_out: str = ""  # how many rows belong to no combination

    @classmethod
    def of(cls, sets: dict[str, Embedded], over: Sequence[str], n: int, seed: int) -> "Matching":
        """Raises MediError for sets whose tables or features do not go together."""
        check_sets(sets, over)
        positions = {name: _positions(rows.table, over) for name, rows in sets.items()}
        if not any(positions.values()):
            names = " and ".join(over)
            raise MediError(f"no patch has a known {names}: there are no combinations to compare; fill these columns")
        columns = pd.concat([rows.table[list(over)] for rows in sets.values()])
        return cls(sets, positions, n, seed, unplaced(columns, over))

    @property
    def arms(self) -> list[str]:
        return [name for name in self.sets if name != REAL]

    def draw(self, target: Target) -> dict[str, Drawn]:
        """The same number of rows per combination of every set that can give two; nothing where the real set cannot."""
        able = [name for name in self.sets if self._alone(name, target) >= 2]
        sizes = self._sizes(target, able) if REAL in able else {}
        return {name: self._pick(name, sizes) for name in able} if sum(sizes.values()) >= 2 else {}

    def absence(self, arm: str, drawn: Mapping[str, Drawn], target: Target) -> str:
        """Why an arm cannot be compared; "" where it can."""
        if {REAL, arm} <= set(drawn):
            return ""
        short = [name for name in (REAL, arm) if self._alone(name, target) < 2] or [REAL, arm]
        return "; ".join(self._shortage(name, target) for name in short)

    def matched(self, drawn: Mapping[str, Drawn], target: Target) -> str:
        """Who was short where fewer than n rows are compared; "" where n are."""
        if not drawn or len(drawn[REAL].rows) >= self.n:
            return ""
        scarce = min(drawn, key=lambda name: self._alone(name, target))
        return f"matched at {len(drawn[REAL].rows)} of {self.n} images: {self._shortage(scarce, target)}"

    def _sizes(self, target: Target, names: Iterable[str]) -> dict[Combination, int]:
        """How many rows each combination gives: the most, up to n, that all these sets have at the target's shares."""
        combinations = sorted(target.shares)
        shares = np.array([target.shares[combination] for combination in combinations])
        supply = np.array([min(self._held(name, combination) for name in names) for combination in combinations])
        total = largest_total(shares, supply, self.n)
        sizes = dict(zip(combinations, apportion(shares, np.array([total]))[0].tolist()))
        return {combination: sizes[combination] for combination in target.shares} if total else {}

    def _alone(self, name: str, target: Target) -> int:
        return sum(self._sizes(target, [name]).values())

    def _held(self, name: str, combination: Combination) -> int:
        return len(self.positions[name].get(combination, ()))

    def _pick(self, name: str, sizes: dict[Combination, int]) -> Drawn:
        """Rows drawn without replacement; the key holds no arm, so that arms of one plan give the same of its rows."""
        picked = [
            generator("fidelity", self.seed, *combination).choice(
                self.positions[name][combination], size, replace=False
            )
            for combination, size in sizes.items()
            if size
        ]
        return Drawn(np.concatenate(picked), np.repeat(np.arange(len(picked)), [len(part) for part in picked]))

    def _shortage(self, name: str, target: Target) -> str:
        """The combination in which this set has the least for its share."""
        combination = min(
            target.shares, key=lambda combination: self._held(name, combination) / target.shares[combination]
        )
        return f"{name} has {self._held(name, combination)} images of {', '.join(combination)}"


@dataclass(frozen=True)
class Slides:
    """How often each real slide occurs in each resample, jointly for all targets that its patches are in.

    Slides that meet in a combination, or are linked by others that do, are one stratum: within it as many slides are
    drawn as there are. Where each combination has slides of its own, a stratum is a combination.
    """

    members: dict[str, list[str]]  # by the first slide of the stratum
    stratum: dict[str, str]

    @classmethod
    def of(cls, slides: Sequence[str], combinations: Sequence[Combination] | Sequence[int]) -> "Slides":
        """From the slide and the combination of every real row that is compared, or the number of its target."""
        names, slide = np.unique(np.asarray(slides, dtype=str), return_inverse=True)
        combination = pd.factorize(pd.Series(list(combinations), dtype=object))[0]
        nodes = len(names) + int(combination.max(initial=-1)) + 1
        links = coo_array((np.ones(len(slide)), (slide, len(names) + combination)), shape=(nodes, nodes))
        part = connected_components(links, directed=False)[1][: len(names)]
        members: dict[int, list[str]] = defaultdict(list)
        for name, number in zip(names.tolist(), part.tolist()):
            members[number].append(name)
        return cls(
            {group[0]: group for group in members.values()},
            {name: group[0] for group in members.values() for name in group},
        )

    def counts(self, slides: Sequence[str], draws: int, key: Sequence[Key]) -> Counts:
        """The counts [draws, n] of rows on these slides."""
        found, names = np.empty((draws, len(slides))), np.asarray(slides, dtype=object)
        strata = np.array([self.stratum[name] for name in slides], dtype=object)
        for first in sorted(set(strata)):
            members = self.members[first]
            drawn = cluster_counts(members, [first] * len(members), draws=draws, key=key)
            place = dict(zip(members, cluster_index(members)))
            here = np.flatnonzero(strata == first)
            found[:, here] = drawn[:, [place[name] for name in names[here]]]
        return found

    def degrees(self, slides: Iterable[str]) -> int:
        """Slides less strata: what is left of them to tell the spread from."""
        distinct = set(slides)
        return len(distinct) - len({self.stratum[name] for name in distinct})


def _positions(table: pd.DataFrame, over: Sequence[str]) -> dict[Combination, list[int]]:
    """Row positions of each combination in the order of sample_id: the order of the table does not matter.

    Rows whose level is not known in one of the columns belong to none.
    """
    found: dict[Combination, list[int]] = defaultdict(list)
    combinations, known = list(zip(*(table[column] for column in over))), placed(table, over)
    for row in np.argsort(table["sample_id"].to_numpy(dtype=object), kind="stable"):
        if known[row]:
            found[combinations[row]].append(int(row))
    return dict(found)


def level_targets(marginal: pd.DataFrame, over: Sequence[str], column: str) -> Iterator[Target]:
    """A target per level of `column`, from a table with the columns `over` and share."""
    for name, rows in marginal[marginal["share"] > 0].groupby(column, sort=True):
        combinations = zip(*(rows[each] for each in over))
        labels = {each: str(name) if each == column else "" for each in over}
        yield Target(labels, dict(zip(combinations, rows["share"] / rows["share"].sum())))
