"""Endless procedural tissue never shows the phantom's own classes or stains."""

import numpy as np
import pytest

from medi.cohort.phantom import STAINS, TISSUES
from medi.cohort.phantom.families import (
    APART,
    DEGREES,
    FACTORS,
    cohort,
    degrees,
    described,
    random_stain,
    random_tissue,
)


@pytest.mark.slow
def test_thousands_of_draws_stand_apart_from_the_phantom() -> None:
    """Counted anew from the factors and angles, not by the rule that draws them."""
    tissues = [random_tissue("test", i) for i in range(3_000)]
    arrangements = np.array([tissue.arrangement for tissue in tissues])
    for known in TISSUES.values():
        names = [name for name in vars(known) if name != "arrangement"]
        ours, theirs = (np.array([[vars(t)[n] for n in names] for t in some]) for some in (tissues, [known]))
        apart = (np.abs(ours - theirs) >= APART * theirs * (1 - 1e-9)).sum(axis=1)
        assert ((arrangements != known.arrangement) | (apart >= FACTORS)).all()
    stains = [random_stain("test", i) for i in range(3_000)]
    for name in ("haematoxylin", "eosin"):
        ours, theirs = (np.array([getattr(stain, name) for stain in some]) for some in (stains, list(STAINS.values())))
        lengths = np.linalg.norm(ours, axis=1)[:, None] * np.linalg.norm(theirs, axis=1)
        assert np.degrees(np.arccos(ours @ theirs.T / lengths)).min() >= DEGREES - 1e-6


def test_angles_are_those_of_geometry() -> None:
    assert degrees((1.0, 0.0, 0.0), (0.0, 2.0, 0.0)) == pytest.approx(90)
    assert degrees((1.0, 1.0, 0.0), (1.0, 0.0, 0.0)) == pytest.approx(45)


@pytest.mark.slow
def test_a_cohort_of_the_families_is_the_same_for_the_same_seed_p3() -> None:
    first, second = (cohort(0, 24, tissues=4, sites=3) for _ in range(2))
    assert first.digest() == second.digest() != cohort(1, 24, tissues=4, sites=3).digest()
    assert first.table["slide"].value_counts().tolist() == [8, 8, 8]
    assert first.images[:].std() > 10


@pytest.mark.slow
def test_patches_are_described_by_their_factors() -> None:
    made = cohort(2, 24, tissues=4, sites=3)
    found = described(made, 2)
    tissue, stain = (int(made.table[column].iloc[9][1:]) for column in ("class", "site"))
    row = found.table.iloc[9]
    assert row["class"] == random_tissue(2, tissue).arrangement
    assert np.exp(float(row["radius"])) == pytest.approx(random_tissue(2, tissue).radius)
    assert float(row["eosin g"]) == pytest.approx(random_stain(2, stain).eosin[1])
    codes = found.schema.encode(found.table)
    assert len(codes) == 1 + 11 + 6 + 1
    for name, values in list(codes.items())[1:]:
        assert values.mean() == pytest.approx(0, abs=1e-4), name
        assert values.std() == pytest.approx(1, abs=1e-4) or np.ptp(values) == 0, name
    assert found.digest() != made.digest()
    assert (found.images[:] == made.images[:]).all()
