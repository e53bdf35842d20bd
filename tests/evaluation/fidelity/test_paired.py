"""The corrected jackknife against plain loops, and what it must say of data whose truth is known."""

from itertools import combinations

import numpy as np
import pytest

from medi.evaluation.fidelity.frechet import frechet_distance
from medi.evaluation.fidelity.paired import BLOCKS, Leaving, LeftOut, frechet_difference, variance

D = 3


def sets(seed: int, slides: int = 6, each: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    n = slides * each
    real = rng.standard_normal((n, D)) + np.repeat(rng.standard_normal((slides, D)), each, axis=0)
    return real, rng.standard_normal((n, D)), 0.3 + rng.standard_normal((n, D)), [f"s{i // each}" for i in range(n)]


def leaving(names: list[str], members: list[str] | None = None) -> Leaving:
    one = np.zeros(len(names), dtype=np.int64)
    return Leaving.of(names, one, dict.fromkeys(members or sorted(set(names)), "one"), ("test",))


def by_loops(real: np.ndarray, a: np.ndarray, b: np.ndarray, left: Leaving) -> float:
    """The same in plain loops, from rows that are really left out."""

    def gap(rows: np.ndarray, of_a: np.ndarray, of_b: np.ndarray) -> float:
        return frechet_distance(real[rows], a[of_a]) - frechet_distance(real[rows], b[of_b])

    every, count = np.ones(len(real), dtype=bool), left.blocks
    t0 = gap(every, every, every)
    single = [gap(left.real != j, left.made != j, left.made != j) for j in range(count)]
    h = np.zeros((count, count))
    for j, k in combinations(range(count), 2):
        kept, made = ~np.isin(left.real, [j, k]), ~np.isin(left.made, [j, k])
        h[j, k] = h[k, j] = (
            count * (count - 1) * t0
            - (count - 1) * (count - 2) * (single[j] + single[k])
            + (count - 2) * (count - 3) * gap(kept, made, made)
        ) / 2
    mean = h.sum() / (count * (count - 1))
    effect = [(h[j].sum() - (count - 1) * mean) / (count - 2) for j in range(count)]
    rest = [h[j, k] - mean - effect[j] - effect[k] for j, k in combinations(range(count), 2)]
    square = sum(value**2 for value in rest) / (count * (count - 3) / 2)
    linear = 0.0
    units = {
        "slides": [gap(left.slides != k, every, every) for k in range(len(left.strata))],
        "a": [gap(every, left.parts != k, every) for k in range(BLOCKS)],
        "b": [gap(every, every, left.parts != k) for k in range(BLOCKS)],
    }
    for found in units.values():
        middle = sum(found) / len(found)
        linear += (len(found) - 1) / len(found) * sum((value - middle) ** 2 for value in found)
    extra = square * (4 / (count * (count - 2)) - 2 / (count * (count - 1)))
    return max(linear - extra, linear * (count - 2) / (2 * (count - 1)))


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_plain_loops(seed: int) -> None:
    real, a, b, names = sets(seed)
    left = leaving(names)
    first, second = (LeftOut.of(real, made, left) for made in (a, b))
    assert variance(first, second) == pytest.approx(by_loops(real, a, b, left), rel=1e-6)


def test_blocks_are_slides_and_parts_of_the_images_of_every_combination() -> None:
    names = [f"s{i:02d}" for i in range(50) for _ in range(2)]
    made = np.repeat([0, 1], 50)
    left = Leaving.of(names, made, dict.fromkeys(sorted(set(names)), "one"), ("test",))
    assert (len(left.strata), left.blocks) == (50, BLOCKS)
    for slide in set(left.slides.tolist()):
        assert len(set(left.real[left.slides == slide].tolist())) == 1, "a slide is left out as a whole"
    for groups in (left.made, left.parts):
        counts = np.array([np.bincount(groups[made == c], minlength=BLOCKS) for c in (0, 1)])
        assert counts.min() >= 2
        assert counts.max() <= 3


def test_a_linear_statistic_needs_no_correction() -> None:
    """Of a mean of independent blocks the variance is the plain jackknife's, whatever pairs of blocks say."""
    rng = np.random.default_rng(0)
    x, count = rng.standard_normal(8), 8
    block = np.array([np.delete(x, j).mean() for j in range(count)])
    pair = np.array([np.delete(x, list(two)).mean() for two in combinations(range(count), 2)])
    same, one = np.full(BLOCKS, x.mean()), np.zeros(count, dtype=np.int64)
    found = variance(
        LeftOut(np.array([x.mean()]), block, pair, block, same, one),
        LeftOut(np.zeros(1), np.zeros(8), np.zeros(28), np.zeros(8), np.zeros(BLOCKS), one),
    )
    assert found == pytest.approx(x.var(ddof=1) / count)


def test_comparisons_with_the_same_slides_are_one_and_others_add_up() -> None:
    """P9: the mean of two comparisons of the same slides is as uncertain as one; of other slides, half as much."""
    real, a, b, names = sets(1)
    first, second = (LeftOut.of(real, made, leaving(names)) for made in (a, b))
    alone = frechet_difference(0.5, [(1.0, first, second)], 1)
    shared = LeftOut.mean([first, first]), LeftOut.mean([second, second])
    together = frechet_difference(0.5, [(1.0, *shared)], 1)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high))
    apart = frechet_difference(0.5, [(0.5, first, second)] * 2, 1)
    assert apart.high - apart.low < 0.72 * (alone.high - alone.low)


def test_slides_of_other_comparisons_leave_real_rows_alone() -> None:
    real, a, _, names = sets(2)
    found = LeftOut.of(real, a, leaving(names, [*sorted(set(names)), "elsewhere"]))
    assert found.slide[-1] == pytest.approx(found.whole[0])
    assert len(found.block) == 7


def test_without_two_slides_or_without_draws_there_is_no_interval() -> None:
    real, a, b, names = sets(3)
    first, second = (LeftOut.of(real, made, leaving(names)) for made in (a, b))
    assert np.isnan(frechet_difference(1.0, [(1.0, first, second)], 0).low)
    none = frechet_difference(1.0, [], 10)
    assert np.isnan(none.low)
    assert none.reason == "one cluster: no interval"


def test_the_same_images_twice_differ_by_nothing_and_three_slides_have_an_interval() -> None:
    real, a, b, names = sets(4, slides=3)
    first, second = (LeftOut.of(real, made, leaving(names)) for made in (a, b))
    assert variance(first, second) > 0, "too few blocks for the correction: the plain jackknife"
    same = frechet_difference(0.0, [(1.0, first, first)], 1)
    assert same.low <= 0.0 <= same.high
