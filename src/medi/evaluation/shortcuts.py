"""What a shortcut costs a probe: APD and nIPD from a sweep of confounding, by `croma` (PathoROB's protocol).

Two classes at two sites: training sets walk from balanced (Cramer's V = 0) to fully confounded (V = 1), the test
patients stay. APD: the mean relative drop (Koemen et al., arXiv 2507.17845); nIPD: the area under the drop relative
to the skill above chance, over V (Grisi et al., arXiv 2607.25497). 0: the site misleads nobody; nIPD -0.5: a straight
fall to chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from medi.core.seeds import generator
from medi.evaluation.classify.probes import codes, groups
from medi.evaluation.features import Embedded, placed
from medi.evaluation.robustness import Figure, Square, crossed_squares, quiet, refusal

STEPS = (3, 2, 1)  # steps from V = 0 to V = 1, the most that the patients suffice for
PATCHES = 10  # of a patient, at most; 2 at least
SQUARES = 2  # pairs of classes and sites that are swept, those with the most patients
REPEATS = 5  # draws of training patients; PathoROB has 20
METRICS = ("apd", "nipd")
TESTED = 2  # patients of each combination that test, at least
FEWEST = 2 * min(STEPS) + 1 + TESTED
FEW = (
    f"no two classes at the same two sites have {FEWEST} patients with 2 patches in each combination: confounding "
    "cannot be swept"
)


@dataclass(frozen=True)
class Sweep:
    """Rows [n] of one square, patient by patient, `patches` of each; steps: from V = 0 to V = 1."""

    rows: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    sites: Int64[np.ndarray, " n"]
    patches: int
    steps: int

    @property
    def strength(self) -> Float64[np.ndarray, " s"]:
        """Cramer's V of each step's training patients."""
        return np.arange(self.steps + 1) / self.steps

    @property
    def schedule(self) -> list[tuple[list[tuple[int, int, int]], int]]:
        """(site, class, training patches) of each step, and the most patients of a combination: as PathoROB's for two
        sites, `steps` - s patients off the diagonal and `steps` + s on it."""
        return [(self._step(step), 2 * self.steps) for step in range(self.steps + 1)]

    def _step(self, step: int) -> list[tuple[int, int, int]]:
        signs = {(site, label): 1 if site == label else -1 for site in (0, 1) for label in (0, 1)}
        return [(*at, (self.steps + sign * step) * self.patches) for at, sign in sorted(signs.items())]


def shortcut_figures(rows: Embedded, over: Sequence[str], *, seed: int = 0, repeats: int = REPEATS) -> list[Figure]:
    """APD and nIPD, the mean over `SQUARES` pairs of classes and sites; NaN with a reason where there are too few
    patients."""
    rows = rows.take(placed(rows.table, over))
    if reason := refusal(rows, over):
        return [Figure(name, float("nan"), reason) for name in METRICS]
    found = sweeps(rows.table, over, seed)
    if not found:
        return [Figure(name, float("nan"), FEW) for name in METRICS]
    values = [_reduced(rows, sweep, seed, repeats) for sweep in found[:SQUARES]]
    usable = [value for value in values if isinstance(value, tuple)]
    if not usable:
        return [Figure(name, float("nan"), str(values[0])) for name in METRICS]
    pairs = "one pair" if len(usable) == 1 else f"the mean of {len(usable)} pairs"
    note = f"{found[0].steps + 1} strengths of confounding, {pairs} of classes and sites, {repeats} draws of patients"
    return [Figure(name, float(np.mean(of)), note) for name, of in zip(METRICS, zip(*usable))]


def _reduced(rows: Embedded, sweep: Sweep, seed: int, repeats: int) -> tuple[float, float] | str:
    """APD and nIPD of one sweep, or why there are none."""
    from croma import apd, nipd

    accuracies = accuracies_of(rows, sweep, seed, repeats)
    if accuracies[0].mean() <= 0.5 or not accuracies[0].all():
        return "the balanced probe does not score above chance: there is no skill to lose"
    return apd(accuracies), nipd(accuracies, sweep.strength, 0.5)


def accuracies_of(rows: Embedded, sweep: Sweep, seed: int, repeats: int) -> Float64[np.ndarray, "s repeats"]:
    """croma's sweep: balanced accuracy by strength and draw."""
    from croma import probe_sweep

    x = np.ascontiguousarray(rows.features[sweep.rows], dtype=np.float64)
    with quiet():
        return probe_sweep(
            x,
            sweep.sites,
            sweep.labels,
            schedule=sweep.schedule,
            rows_per_slide=sweep.patches,
            iterations=repeats,
            seed=seed,
        )


def sweeps(table: pd.DataFrame, over: Sequence[str], seed: int) -> list[Sweep]:
    """The squares that can be swept, those with the most steps and patients first."""
    label, place = codes(table, ["class"]), codes(table, [name for name in over if name != "class"])
    people = codes(table.assign(patient=groups(table)), ["patient"])
    found = [_sweep(label, place, people, square, seed) for square in crossed_squares(label, place, 2 * FEWEST)]
    return sorted([one for one in found if one], key=lambda one: (-one.steps, -len(one.rows)))


def _sweep(
    label: Int64[np.ndarray, " n"],
    place: Int64[np.ndarray, " n"],
    people: Int64[np.ndarray, " n"],
    square: Square,
    seed: int,
) -> Sweep | None:
    """A square's rows: each patient is of one combination, so that none trains and tests."""
    classes, sites = square
    rows = np.flatnonzero(np.isin(label, classes) & np.isin(place, sites))
    at = 2 * (place[rows] == sites[1]) + (label[rows] == classes[1])
    sizes = _dealt(people[rows], at)
    for steps in STEPS:
        least = [np.sort(list(of.values()))[::-1] for of in sizes]
        needed = 2 * steps + 1 + TESTED  # to train, to validate, to test
        if min(map(len, least)) >= needed and (patches := min(int(of[needed - 1]) for of in least)) >= 2:
            return _laid_out(rows, at, people[rows], sizes, min(patches, PATCHES), steps, seed)
    return None


def _dealt(people: Int64[np.ndarray, " n"], at: Int64[np.ndarray, " n"]) -> list[dict[int, int]]:
    """Patches of each patient in the one combination that they are dealt to, by combination: that with the fewest."""
    counts = np.zeros((people.max() + 1, 4), dtype=np.int64)
    np.add.at(counts, (people, at), 1)
    dealt: list[dict[int, int]] = [{}, {}, {}, {}]
    of_one_first = sorted(np.unique(people), key=lambda one: int((counts[one] > 0).sum()))
    for one in of_one_first:
        there = min(np.flatnonzero(counts[one] > 1), key=lambda spot: len(dealt[spot]), default=None)
        if there is not None:
            dealt[there][int(one)] = int(counts[one, there])
    return dealt


def _laid_out(
    rows: Int64[np.ndarray, " n"],
    at: Int64[np.ndarray, " n"],
    people: Int64[np.ndarray, " n"],
    sizes: list[dict[int, int]],
    patches: int,
    steps: int,
    seed: int,
) -> Sweep:
    random, parts, spots = generator("sweep", seed), [], []
    for spot, of in enumerate(sizes):
        for one in (name for name, size in of.items() if size >= patches):
            own = rows[(people == one) & (at == spot)]
            parts.append(np.sort(random.permutation(own)[:patches]))
            spots += [spot] * patches
    where = np.array(spots, dtype=np.int64)
    return Sweep(np.concatenate(parts), where % 2, where // 2, patches, steps)
