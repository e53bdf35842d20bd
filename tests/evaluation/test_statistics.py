"""Intervals resample whole clusters (P9), seeded by key, with the same draws for both arms."""

import numpy as np
import pytest
import scipy.stats

from medi.evaluation import statistics
from medi.evaluation.statistics import (
    Estimate,
    cluster_bootstrap,
    cluster_counts,
    cluster_draws,
    holm,
    interval,
    p_value,
    student_interval,
)


def mean(totals: np.ndarray) -> np.ndarray:
    return totals[:, 0] / totals[:, 1]


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return mean(first) - mean(second)


def with_ones(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones_like(values)], axis=1)


def bootstrap(values: np.ndarray, clusters: np.ndarray, seed: int = 0) -> Estimate:
    return cluster_bootstrap(mean, clusters, with_ones(values), draws=400, key=("test", seed))


def hierarchy(seed: int, clusters: int = 30, each: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(clusters), each)
    return rng.normal(size=clusters)[index] + 0.3 * rng.normal(size=len(index)), index.astype(str)


def test_draws_come_a_few_at_a_time_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, clusters = hierarchy(1, 25, 4)
    asked = {"draws": 40, "key": ("parts",)}
    whole = cluster_draws(mean, clusters, with_ones(values), **asked)
    counts = cluster_counts(clusters, clusters > "2", **asked)
    statistics._drawn.cache_clear()
    monkeypatch.setattr(statistics, "AT_ONCE", 7)
    parts = cluster_draws(mean, clusters, with_ones(values), **asked)
    assert (parts[0], len(parts[1])) == (whole[0], 40)
    assert parts[1] == pytest.approx(whole[1], abs=1e-12)
    assert (cluster_counts(clusters, clusters > "2", **asked) == counts).all()
    assert len(cluster_draws(mean, clusters, with_ones(values), draws=0, key=())[1]) == 0


@pytest.mark.slow
def test_matches_a_plain_loop_over_resampled_clusters() -> None:
    values, clusters = hierarchy(1, 25, 4)
    rng, names = np.random.default_rng(5), np.unique(clusters)
    loop = [
        np.concatenate([values[clusters == name] for name in rng.choice(names, len(names))]).mean() for _ in range(3000)
    ]
    found = cluster_bootstrap(mean, clusters, with_ones(values), draws=3000, key=("loop",))
    assert found.value == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx(np.percentile(loop, [2.5, 97.5]), abs=0.05)


@pytest.mark.slow
def test_clusters_cover_where_patches_do_not() -> None:
    """P9: on a hierarchical null the interval over slides holds the truth, the one over patches mostly not."""
    covered = {"slides": 0, "patches": 0}
    for seed in range(80):
        values, clusters = hierarchy(seed)
        for name, labels in (("slides", clusters), ("patches", np.arange(len(values)).astype(str))):
            found = bootstrap(values, labels, seed)
            covered[name] += found.low <= 0 <= found.high
    assert covered["slides"] >= 70
    assert covered["patches"] <= 56


@pytest.mark.slow
def test_paired_interval_is_calibrated_and_narrower_than_an_unpaired_one() -> None:
    covered = 0
    for seed in range(80):
        values, clusters = hierarchy(seed)
        noise = np.random.default_rng(1000 + seed).normal(size=(2, len(values))) * 0.2
        pair = [with_ones(values + part) for part in noise]
        found = cluster_bootstrap(difference, clusters, *pair, draws=400, key=("pair", seed))
        covered += found.low <= 0 <= found.high
        assert found.high - found.low < 0.2 * (bootstrap(values, clusters).high - bootstrap(values, clusters).low)
    assert covered >= 70


def test_key_not_order_decides_the_draws() -> None:
    """P3: rows in another order, the same interval; another key, another one."""
    values, clusters = hierarchy(3)
    order = np.random.default_rng(0).permutation(len(values))
    first, shuffled = bootstrap(values, clusters), bootstrap(values[order], clusters[order])
    assert (shuffled.low, shuffled.high) == pytest.approx((first.low, first.high))
    assert bootstrap(values, clusters, seed=1).low != first.low


def test_one_cluster_and_none() -> None:
    """P7."""
    one = bootstrap(np.ones(5), np.array(["a"] * 5))
    assert (one.value, one.reason) == (1.0, "1 cluster: no interval")
    assert np.isnan(one.low)
    assert np.isnan(one.high)


def test_mostly_undefined_draws_give_no_interval() -> None:
    found = interval(1.0, np.array([np.nan] * 20 + [1.0] * 80))
    assert np.isnan(found.low)
    assert "20 of 100" in found.reason
    assert interval(1.0, np.array([np.nan] * 5 + [1.0] * 95)).low == 1.0


def test_student_interval_is_the_spread_of_the_draws_about_the_value() -> None:
    """Whatever bias resampling adds; p agrees with the interval; few clusters make it wide."""
    draws = 7.0 + np.random.default_rng(0).normal(size=4000)
    found = student_interval(2.2, draws, 1000)
    assert [found.low, found.high] == pytest.approx([2.2 - 1.96, 2.2 + 1.96], abs=0.06)
    assert found.p_value == pytest.approx(0.028, abs=0.005)
    assert student_interval(2.2, draws, 3).low < 0 < found.low
    edge = student_interval(found.high - found.value, draws, 1000)
    assert edge.p_value == pytest.approx(0.05, abs=1e-9)
    assert student_interval(0.0, np.zeros(9), 5).p_value == 1
    assert student_interval(1.0, draws, 0).reason == "one cluster: no interval"
    assert "20 of 100" in student_interval(1.0, np.array([np.nan] * 20 + [1.0] * 80), 5).reason


def test_holm_against_its_definition() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, np.nan, 0.9])) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert len(holm(np.array([]))) == 0


def test_counts_resample_clusters_within_strata() -> None:
    clusters, strata = np.array(list("aabbcdd")), np.array(list("xxxxyyy"))
    counts = cluster_counts(clusters, strata, draws=300, key=("strata",))
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 0] + counts[:, 2] == 2).all()
    assert (counts[:, 4] + counts[:, 5] == 2).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.2)
    assert len(np.unique(counts[:, 0])) == 3


def test_notes_come_once() -> None:
    assert Estimate(1.0, reason="a; b").noting("b; c", "").reason == "b; c; a"


def test_p_values_of_a_null_are_even_and_of_an_effect_small() -> None:
    draws = np.random.default_rng(0).normal(size=1999)
    assert p_value(draws + 1.96, 300) == pytest.approx(0.05, abs=0.02)
    assert p_value(draws, 300) > 0.9
    assert p_value(np.zeros(100), 300) == 1.0
    assert p_value(np.ones(99), 300) == pytest.approx(2 / 100), "no spread: as small as the draws allow"
    assert np.isnan(p_value(np.empty(0), 300))


def test_where_no_resample_crosses_zero_the_tail_of_students_t_says_how_small_p_is() -> None:
    """Ten thousand draws say 0.0002 at least: times 300 differences, nothing could be below 0.05 after Holm."""
    draws = np.random.default_rng(0).normal(size=9999)
    expected = 2 * scipy.stats.t.sf((draws + 7).mean() / draws.std(), 99)
    assert p_value(draws + 7, 100) == p_value(-draws - 7, 100) == pytest.approx(expected)
    assert p_value(draws + 7, 3) == pytest.approx(2 / 10_000), "three clusters: the tail says no more than the draws"
    assert p_value(draws + 7, 1) == pytest.approx(2 / 10_000)
    near = draws + 4  # few or no draws cross: both ways say about the same
    assert p_value(near, 1000) == pytest.approx(2 * scipy.stats.norm.sf(4), abs=2.5e-4)


def test_holm_of_a_written_out_example() -> None:
    """0.01 x 3, 0.03 x 2, 0.04 x 1 but not below the one before; NaN is no comparison (P7)."""
    found = holm(np.array([0.04, np.nan, 0.01, 0.03]))
    assert found[0] == pytest.approx(0.06)
    assert np.isnan(found[1])
    assert found[2:] == pytest.approx([0.03, 0.06])
    assert holm(np.array([0.6, 0.9])).tolist() == [1.0, 1.0]
