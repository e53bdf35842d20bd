"""The phantom cohort: keys decide every patch (P3), streams share nobody (P5), factors are separate and pinned."""

import numpy as np

from medi.cohort import phantom


def test_a_patch_is_the_same_whatever_was_asked_beside_it_p3() -> None:
    few = phantom.fresh([("solid", "Elm")], 3, 7, "floor", patches_per_slide=2)
    many = phantom.fresh([("acinar", "Alder"), ("solid", "Elm")], 5, 7, "floor", patches_per_slide=2)
    same = many.where(class_="solid")
    assert (same.images[:3] == few.images[:]).all()
    assert same.table["sample_id"].tolist()[:3] == few.table["sample_id"].tolist()


def test_twin_at_the_own_site_is_the_patch_itself() -> None:
    source = phantom.fresh([("acinar", "Alder"), ("spindle", "Alder")], 2, 0, "x")
    twin, masks = phantom.twins(source, "Alder")
    assert np.array_equal(twin.images[:], source.images[:])
    assert masks.shape == (4, 32, 32)
