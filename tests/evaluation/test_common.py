"""What holds for every measure of two sets, from one table: order, batches, origin, and undefined sets."""

from collections.abc import Callable

import numpy as np
import pytest

from medi.core.registry import registry
from medi.evaluation.fidelity.frechet import frechet_distance, moments_distance, streamed
from medi.evaluation.fidelity.kernels import kid, mmd2
from medi.evaluation.fidelity.measures import metrics

Measure = Callable[[np.ndarray, np.ndarray], float]


def in_batches(x: np.ndarray, y: np.ndarray) -> float:
    if min(len(x), len(y)) < 2:
        return float("nan")
    return moments_distance(*(streamed(part[i : i + 17] for i in range(0, len(part), 17)) for part in (x, y)))


MEASURES: dict[str, Measure] = {
    "frechet": frechet_distance,
    "frechet in batches": in_batches,
    "mmd2": mmd2,
    "kid": kid,
    **{name: registry("metric")[name] for name in metrics() if name not in ("frechet", "mmd2", "kid", "duplicates")},
}
SETS = [(60, 8), (40, 90)]


def sets(n: int, d: int, kind: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    mixing = rng.normal(size=(d, d)) / np.sqrt(d)
    return (rng.normal(size=(n, d)) @ mixing).astype(kind), (rng.normal(0.3, 0.9, size=(n, d)) @ mixing).astype(kind)


@pytest.mark.parametrize("shape", SETS)
@pytest.mark.parametrize("name", MEASURES)
def test_order_changes_nothing(name: str, shape: tuple[int, int]) -> None:
    x, y = sets(*shape)
    rng = np.random.default_rng(0)
    assert MEASURES[name](rng.permutation(x), rng.permutation(y)) == pytest.approx(MEASURES[name](x, y), rel=1e-9)


@pytest.mark.parametrize("shape", SETS)
@pytest.mark.parametrize("name", MEASURES)
def test_batches_change_nothing(name: str, shape: tuple[int, int]) -> None:
    """Features that came in another memory layout, or joined from parts, are the same features."""
    x, y = sets(*shape)
    joined = [np.concatenate([part[:7], part[7:20], part[20:]]) for part in (np.asfortranarray(x), y)]
    assert MEASURES[name](*joined) == pytest.approx(MEASURES[name](x, y), rel=1e-9)
    assert in_batches(x, y) == pytest.approx(frechet_distance(x, y), rel=1e-9)


@pytest.mark.parametrize("name", MEASURES)
def test_the_origin_does_not_matter(name: str) -> None:
    x, y = sets(60, 8)
    assert MEASURES[name](x + 1e4, y + 1e4) == pytest.approx(MEASURES[name](x, y), rel=1e-6)


@pytest.mark.parametrize("constant", [0.1, 1e6 / 3, 0.0])
@pytest.mark.parametrize("name", MEASURES)
def test_a_feature_that_is_constant_in_real_patches_outweighs_nothing(name: str, constant: float) -> None:
    """Defect: the standard deviation of a constant 0.1 is 1e-17, and the KID standardised by it was 1e88."""
    x, y = sets(60, 8)
    more = [np.column_stack([part, np.full(len(part), constant)]) for part in (x, y)]
    assert MEASURES[name](*more) == pytest.approx(MEASURES[name](x, y), rel=1e-6, abs=1e-6)
    more[1][:, -1] += 1e-3 * max(constant, 1.0)
    assert MEASURES[name](*more) < 1e6


@pytest.mark.parametrize("name", MEASURES)
def test_float32_is_computed_in_float64(name: str) -> None:
    x, y = sets(60, 8, np.float32)
    assert MEASURES[name](x, y) == MEASURES[name](x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("n", [0, 1])
def test_no_or_one_image_is_undefined(name: str, n: int) -> None:
    """P7."""
    x, y = sets(60, 8)
    assert np.isnan(MEASURES[name](x, y[:n]))
    assert np.isnan(MEASURES[name](x[:n], y))


@pytest.mark.parametrize("name", MEASURES)
def test_features_that_are_not_finite_are_undefined(name: str) -> None:
    """P7: never a number."""
    x, y = sets(60, 8)
    for bad in (np.nan, np.inf):
        broken = y.copy()
        broken[3, 2] = bad
        with np.errstate(all="ignore"):
            if name != "frechet in batches":
                assert np.isnan(MEASURES[name](x, broken))
