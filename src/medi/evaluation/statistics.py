"""Intervals for patches that are not independent: whole slides or patients are resampled (P9).

A statistic is a function of sums over rows, so a bootstrap draw is one row of weights times the sums per cluster.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64, UInt16
from scipy import stats

from medi.core.seeds import Key, generator

CALIBRATION_BINS = 15  # of equal width, for the expected calibration error (Guo et al., ICML 2017, section 2)
DEFINED = 0.9  # an interval needs at least this share of draws in which the statistic is defined
AT_ONCE = 1000  # resamples that are in memory as numbers of 64 bits

Statistic = Callable[..., Float64[np.ndarray, " draws"]]
Labels = Sequence[str] | pd.Series | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; NaN where undefined, and then `reason` says why (P7).

    `p_value`: of the hypothesis that the value is 0, where it is a difference.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    reason: str = ""
    p_value: float = float("nan")

    def noting(self, *notes: str) -> "Estimate":
        """The same estimate with these notes before its reason, each once."""
        parts = dict.fromkeys(part for note in (*notes, self.reason) for part in note.split("; ") if part)
        return replace(self, reason="; ".join(parts))


@dataclass(frozen=True)
class Sparse:
    """Rows of arrays [*shape, m] of zeros, but for the m `numbers` that each row has at its `places`.

    In many classes and levels an array of one row alone has tens of thousands of entries.
    """

    numbers: Float64[np.ndarray, "n m"]
    places: tuple[Int64[np.ndarray, " n"], ...]
    shape: tuple[int, ...]

    def sums(self, index: Int64[np.ndarray, " n"], count: int) -> Float64[np.ndarray, "{count} *shape"]:
        """The sums of the rows of each number in `index`."""
        sums = np.zeros((count, *self.shape, self.numbers.shape[1]))
        np.add.at(sums, (index, *self.places), self.numbers)
        return sums

    def sum(self, axis: Literal[0] = 0, keepdims: Literal[True] = True) -> Float64[np.ndarray, "1 *shape"]:
        """The sum of all rows, as that of a whole array."""
        return self.sums(np.zeros(len(self.numbers), dtype=np.int64), 1)


Values = Float64[np.ndarray, "_n *_k"] | Sparse


def interval(value: float, draws: Float64[np.ndarray, " draws"]) -> Estimate:
    """The 2.5th and 97.5th percentile of the draws that are defined; none where the value is not."""
    if not np.isfinite(value):
        return Estimate(value)
    defined = draws[np.isfinite(draws)]
    if len(defined) < DEFINED * len(draws):
        return Estimate(value, reason=f"undefined in {len(draws) - len(defined)} of {len(draws)} resamples")
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def student_interval(value: float, draws: Float64[np.ndarray, " draws"], degrees: int) -> Estimate:
    """value +- t x the standard deviation of the draws, and the p-value of 0: `degrees` of freedom of Student's t.

    For statistics whose resamples are biased (a resample repeats rows) but spread as the statistic does. The interval
    is about the statistic's own expectation at this n. Unlike a share of draws, p can be as small as a correction
    for many comparisons asks for. With few clusters t is wide, which makes up for a spread from few clusters.
    """
    if not np.isfinite(value) or degrees < 1:
        return Estimate(value, reason="one cluster: no interval" if np.isfinite(value) else "")
    defined = draws[np.isfinite(draws)]
    if len(defined) < max(DEFINED * len(draws), 2):
        return Estimate(value, reason=f"undefined in {len(draws) - len(defined)} of {len(draws)} resamples")
    return t_interval(value, float(defined.var(ddof=1)), degrees)


def t_interval(value: float, variance: float, degrees: int) -> Estimate:
    """value +- t x its standard error, and the p-value of 0: `degrees` of freedom of Student's t."""
    if not np.isfinite(value) or degrees < 1:
        return Estimate(value, reason="one cluster: no interval" if np.isfinite(value) else "")
    spread = float(np.sqrt(variance))
    half = float(stats.t.ppf(0.975, degrees)) * spread
    p = 2 * float(stats.t.sf(abs(value) / spread, degrees)) if spread > 0 else float(value == 0)
    return Estimate(value, value - half, value + half, p_value=p)


def confidence_bins(confidence: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Which of `CALIBRATION_BINS` bins of equal width each confidence is in."""
    return np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def holm(p: Float64[np.ndarray, " k"]) -> Float64[np.ndarray, " k"]:
    """p-values adjusted for their number (Holm 1979): one of all true hypotheses falls below a with chance <= a.

    Undefined ones stay undefined and do not count.
    """
    adjusted, known = np.full(len(p), np.nan), np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def cluster_bootstrap(
    statistic: Statistic, clusters: Labels, *values: Values, draws: int, key: Sequence[Key]
) -> Estimate:
    """The statistic of the sums of `values` over all n rows, with an interval from resampling whole clusters.

    `statistic` gets one array [draws, *k] of sums per entry of `values` and returns [draws]; several entries see
    the same draws, so a statistic that subtracts them is a paired comparison. Fewer than two clusters: no interval.
    """
    value, found = cluster_draws(statistic, clusters, *values, draws=draws, key=key)
    if np.isfinite(value) and not len(found):
        return Estimate(value, reason=f"{len(set(clusters))} cluster: no interval")
    return interval(value, found)


def cluster_draws(
    statistic: Statistic, clusters: Labels, *values: Values, draws: int, key: Sequence[Key]
) -> tuple[float, Float64[np.ndarray, " draws"]]:
    """The statistic and its resamples; none where it is undefined or there are fewer than two clusters."""
    value = float(statistic(*(rows.sum(axis=0, keepdims=True) for rows in values))[0])
    index = cluster_index(clusters)
    count = int(index.max(initial=-1)) + 1
    if not np.isfinite(value) or count < 2 or not draws:
        return value, np.empty(0)
    drawn, sums = _drawn(count, draws, tuple(key)), [_sums(rows, index, count) for rows in values]
    parts = (drawn[start : start + AT_ONCE].astype(np.float64) for start in range(0, draws, AT_ONCE))
    return value, np.concatenate([statistic(*(np.tensordot(part, total, 1) for total in sums)) for part in parts])


def p_value(draws: Float64[np.ndarray, " draws"], clusters: int) -> float:
    """Two-sided, of a difference being 0: how often its resamples fall on the other side. NaN without resamples.

    Where none does, it is less than so many draws can tell. Then the tail of Student's t at their mean and spread says
    how small it is, with one degree of freedom less than there are clusters. Else no difference could survive Holm's
    method in a large family.

    >>> draws = np.random.default_rng(0).normal(size=1000)
    >>> p_value(draws + 8, 100) < p_value(draws + 8, 5) < 2 / 1000
    True
    """
    found = draws[np.isfinite(draws)]
    if not len(found):
        return float("nan")
    tail = min(int((found <= 0).sum()), int((found >= 0).sum()))
    counted = min(1.0, 2 * (tail + 1) / (len(found) + 1))
    spread = float(found.std())
    if tail or not spread or clusters < 2:
        return counted
    return min(counted, float(2 * stats.t.sf(abs(found.mean()) / spread, clusters - 1)))


def cluster_counts(
    clusters: Labels, strata: Labels, *, draws: int, key: Sequence[Key]
) -> Float64[np.ndarray, "draws n"]:
    """How often each row occurs in each draw when whole clusters are resampled within their stratum."""
    names, strata = np.asarray(clusters, dtype=object), np.asarray(strata, dtype=object)
    counts = np.empty((draws, len(names)))
    for stratum in sorted(set(strata)):
        index = cluster_index(names[strata == stratum])
        counts[:, strata == stratum] = _drawn(int(index.max()) + 1, draws, (*key, stratum))[:, index]
    return counts


def cluster_index(clusters: Labels) -> Int64[np.ndarray, " n"]:
    """The number of each row's cluster in sorted order, so that the order of the rows does not matter."""
    return np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1].astype(np.int64)


@lru_cache(maxsize=16)  # the arms of a comparison come one after another and share their draws
def _drawn(clusters: int, draws: int, key: tuple[Key, ...]) -> UInt16[np.ndarray, "draws clusters"]:
    """How often each cluster is in each draw; 16 bits, as ten thousand draws of ten thousand clusters are many."""
    found, uniform = np.empty((draws, clusters), dtype=np.uint16), np.full(clusters, 1 / clusters)
    random = generator("bootstrap", *key)
    for start in range(0, draws, AT_ONCE):
        part = found[start : start + AT_ONCE]
        part[:] = random.multinomial(clusters, uniform, size=len(part))
    found.setflags(write=False)
    return found


def _sums(values: Values, index: Int64[np.ndarray, " n"], count: int) -> Float64[np.ndarray, "c *k"]:
    if isinstance(values, Sparse):
        return values.sums(index, count)
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums
