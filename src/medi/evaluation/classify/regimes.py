"""How an arm fares with less: synthetic to real ratio, real patients, real images per class, and k random sites.

The regimes of the published downstream code. All points of an arm and seed are fitted together, at the C that its full
training set chose, on nested draws of rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64

from medi.core.seeds import generator
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.probes import Pool, Probe, codes, groups, is_real, tuned_at
from medi.evaluation.classify.reweighting import plain
from medi.evaluation.classify.scores import DRAWS, OVERALL
from medi.evaluation.classify.utility import Fitted, answers_of, check, fit_arms, lacks_classes
from medi.evaluation.features import Embedded
from medi.evaluation.statistics import Estimate, cluster_bootstrap

RATIOS = (0.125, 0.25, 0.5, 0.75, 1.0)  # of an arm's synthetic rows
SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)  # of the real patients, and of the real images of the largest class
COLUMNS = ("arm", "against", "split", "metric", "x_name", "x", "seed", "value", "low", "high", "reason")
MEASURES = tuple(measure for measure in OVERALL if measure.name in ("balanced_accuracy", "auroc"))
Rows = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Point:
    """A choice of an arm's rows: what varies, its value, and which rows train."""

    x_name: str
    x: float
    rows: Rows


def curves(
    arms: Sequence[Arm],
    tests: Mapping[str, Embedded],
    *,
    over: Sequence[str],
    seeds: Sequence[int],
    fitted: Mapping[str, Fitted] | None = None,
) -> pd.DataFrame:
    """Balanced accuracy and AUROC at every point of every arm whose rows are used as they are, under `tuned`.

    x_name "ratio" (synthetic per real row), "n_train" (rows left when patients are left out), "real_per_class" (a cap),
    "sites" (k random ones, real and synthetic rows, so that every class has the union of sites). fitted: probes of the
    arms where `utility.fit_arms` made them before.
    """
    check(arms, tests, over)
    usable = [arm for arm in arms if arm.method is plain and arm.trains is None and not lacks_classes(arm)]
    fitted = fitted or fit_arms(usable, over, seeds, "tuned")
    rows: list[dict[str, object]] = []
    for arm in usable:
        penalties = [probe.c for probe in fitted[arm.name].probes if probe is not None]
        rows += _curve(arm, tests, over, dict(zip(seeds, penalties)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def points(table: pd.DataFrame, over: Sequence[str], seed: int) -> Iterator[Point]:
    """The regimes of one training table; smaller points are parts of larger ones."""
    real = is_real(table)
    if not real.all() and real.any():
        yield from _ratios(table, real, seed)
    if real.any():
        yield from _patients(table, real, seed)
        yield from _caps(table, real, seed)
        yield from _sites(table, over, seed)


def _curve(
    arm: Arm, tests: Mapping[str, Embedded], over: Sequence[str], penalties: Mapping[int, float]
) -> Iterator[dict[str, object]]:
    """All points of an arm, for each seed at its C."""
    table, pool = arm.table, Pool.of(arm.rows, over=over)
    owners = {split: groups(test.table) for split, test in tests.items()}
    for seed, c in penalties.items():
        found = list(points(table, over, seed))
        probes = tuned_at(pool, np.stack([point.rows for point in found]).astype(np.float64), c) if found else []
        for point, probe in zip(found, probes):
            lacking = sorted(set(pool.classes) - set(table["class"][point.rows]))
            reason = f"class {', '.join(lacking)} is not in these rows" if lacking else ""
            for place, value in _scored(probe, arm, tests, owners, over, seed):
                value = Estimate(np.nan, reason=reason) if reason else value
                yield (
                    {"arm": arm.name, "against": "", "x_name": point.x_name, "x": point.x, "seed": seed}
                    | place
                    | vars(value)
                )


def _scored(
    probe: Probe,
    arm: Arm,
    tests: Mapping[str, Embedded],
    owners: Mapping[str, pd.Series],
    over: Sequence[str],
    seed: int,
) -> Iterator[tuple[dict[str, str], Estimate]]:
    """What a probe is worth on each split, with the draws of the utility table."""
    for split, test in tests.items():
        answers, key = answers_of([probe], arm, split, test, over), ("utility", seed, split)
        for measure in MEASURES:
            found = Estimate(np.nan, reason="a class of the test has no training row")
            if np.isfinite(answers.votes).all():
                values = measure.rows(answers)
                found = cluster_bootstrap(measure.statistic, owners[split], values, draws=DRAWS, key=key)
                found = found.noting("" if np.isfinite(found.value) else "one class in the test")
            yield {"split": split, "metric": measure.name}, found


def _ratios(table: pd.DataFrame, real: Rows, seed: int) -> Iterator[Point]:
    """A growing part of the synthetic rows."""
    rank = _rank(table.index.to_numpy(), "ratio", seed)
    rank = np.where(real, -1.0, rank)
    for ratio in RATIOS:
        rows = real | (rank < np.quantile(rank[~real], ratio, method="inverted_cdf") + 0.5)
        yield Point("ratio", float((rows & ~real).sum() / real.sum()), rows)


def _patients(table: pd.DataFrame, real: Rows, seed: int) -> Iterator[Point]:
    """A growing part of the patients of every class; synthetic rows stay."""
    owner, label = groups(table).to_numpy(dtype=object), table["class"].to_numpy(dtype=object)
    for share in SHARES:
        rows = ~real
        for name in np.unique(label[real]):
            people = np.unique(owner[real & (label == name)].astype(str))
            kept = generator("patients", seed, str(name)).permutation(people)[: max(1, round(share * len(people)))]
            rows = rows | (real & (label == name) & np.isin(owner.astype(str), kept))
        yield Point("n_train", float(rows.sum()), rows)


def _caps(table: pd.DataFrame, real: Rows, seed: int) -> Iterator[Point]:
    """At most so many real rows of each class."""
    rank = pd.Series(_rank(np.arange(len(table)), "cap", seed))
    order = rank[real].groupby(table["class"][real].to_numpy(dtype=object)).rank().reindex(rank.index, fill_value=0.0)
    largest = int(table["class"][real].value_counts().max())
    for cap in sorted({max(1, round(share * largest)) for share in SHARES}):
        yield Point("real_per_class", float(cap), ~real | (order.to_numpy() <= cap))


def _sites(table: pd.DataFrame, over: Sequence[str], seed: int) -> Iterator[Point]:
    """Rows, real and synthetic, of 1, 2, 4 ... all sites in a random order."""
    places = [column for column in over if column != "class"]
    if not places:
        return
    site = codes(table, places)
    order = generator("sites", seed).permutation(np.unique(site))
    for k in sorted({min(2**power, len(order)) for power in range(len(order).bit_length() + 1)}):
        yield Point("sites", float(k), np.isin(site, order[:k]))


def _rank(rows: np.ndarray, name: str, seed: int) -> Float64[np.ndarray, " n"]:
    """A random place of each row, the same for every arm that has as many."""
    return np.argsort(generator(name, seed).permutation(len(rows))).astype(np.float64)
