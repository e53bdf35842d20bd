"""Every stream depends on its key alone (P3)."""

import numpy as np
import pytest

from medi.core import seeds


def test_streams_are_pinned_and_distinct() -> None:
    """A change of the derivation would change every figure: it must be conscious."""
    assert seeds.generator("a", 1).integers(1 << 30) == 958876172
    draws = {seeds.generator(*key).integers(1 << 62) for key in [("a", 1), ("a", "1"), ("a1",), (1, "a"), ("a", 1, "")]}
    assert len(draws) == 5


def test_noise_of_a_sample_does_not_depend_on_its_company() -> None:
    """P3."""
    together = seeds.noise(0, ["x", "y", "z"], (3, 4, 4))
    np.testing.assert_array_equal(together[[2, 0]], seeds.noise(0, ["z", "x"], (3, 4, 4)))
    assert not np.array_equal(together, seeds.noise(1, ["x", "y", "z"], (3, 4, 4)))


def test_noise_is_standard_normal() -> None:
    noise = seeds.noise(0, range(400), (50,))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1.0, abs=0.02)


def test_integers_fit_31_bits() -> None:
    assert all(0 <= seeds.integer("seed", i) < 1 << 31 for i in range(1000))
    assert len({seeds.integer("seed", i) for i in range(1000)}) == 1000
