"""Encoders: one path for real and synthetic (P2), features that depend on nothing but the patch (P3)."""

import numpy as np
import pytest

from medi.cohort import phantom
from medi.errors import MediError
from medi.evaluation.encoders import ENCODERS, embed, encoder


@pytest.fixture(scope="module")
def patches() -> phantom.Cohort:
    return phantom.fresh([("acinar", "Alder"), ("solid", "Willow"), ("spindle", "Maple")], 4, 0, "test")


def test_features_do_not_depend_on_the_batch_p3(patches: phantom.Cohort) -> None:
    chosen = encoder("colour-texture")
    whole = embed(patches, chosen)
    for batch in (1, 5):
        assert embed(patches, chosen, batch=batch).tobytes() == whole.tobytes()


def test_an_unknown_encoder_names_the_known_ones() -> None:
    with pytest.raises(MediError, match=r"'uni'.*colour-texture"):
        encoder("uni")


@pytest.mark.parametrize("chosen", ENCODERS.values(), ids=list(ENCODERS))
def test_dimension_is_as_stated_at_both_sizes(chosen, patches: phantom.Cohort) -> None:
    images = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    assert chosen.encode(images).shape == (2, chosen.dimension)
    assert np.isfinite(chosen.encode(images)).all()
