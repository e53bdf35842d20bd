"""Endless procedural tissue never shows the phantom's own classes or stains."""

import numpy as np
import pytest

from medi.cohort.phantom import STAINS, TISSUES
from medi.cohort.phantom.families import APART, DEGREES, FACTORS, cohort, degrees, random_stain, random_tissue


@pytest.mark.slow
def test_ten_thousand_draws_stand_apart_from_the_phantom() -> None:
    """Counted anew from the factors and angles, not by the rule that draws them."""
    for i in range(10_000):
        tissue, stain = random_tissue("test", i), random_stain("test", i)
        for known in TISSUES.values():
            factors = [(vars(tissue)[name], value) for name, value in vars(known).items() if name != "arrangement"]
            apart = sum(abs(ours - theirs) >= APART * theirs * (1 - 1e-9) for ours, theirs in factors)
            assert tissue.arrangement != known.arrangement or apart >= FACTORS
        for site in STAINS.values():
            for ours, theirs in ((stain.haematoxylin, site.haematoxylin), (stain.eosin, site.eosin)):
                cosine = np.dot(ours, theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)
                assert np.degrees(np.arccos(cosine)) >= DEGREES - 1e-6


def test_angles_are_those_of_geometry() -> None:
    assert degrees((1.0, 0.0, 0.0), (0.0, 2.0, 0.0)) == pytest.approx(90)
    assert degrees((1.0, 1.0, 0.0), (1.0, 0.0, 0.0)) == pytest.approx(45)


def test_a_cohort_of_the_families_is_the_same_for_the_same_seed_p3() -> None:
    first, second = (cohort(0, 24, tissues=4, sites=3) for _ in range(2))
    assert first.digest() == second.digest() != cohort(1, 24, tissues=4, sites=3).digest()
    assert first.table["slide"].value_counts().tolist() == [8, 8, 8]
    assert first.images[:].std() > 10
