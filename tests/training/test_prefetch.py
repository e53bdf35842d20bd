"""Batches drawn ahead by threads are those drawn in turn (P4)."""

from functools import partial

import numpy as np
import pytest
import torch

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.training.data import BATCH_TENSORS, Batch, Batches
from medi.training.prefetch import Ahead
from medi.training.recipe import Recipe

CPU = torch.device("cpu")


def test_threads_draw_the_same_batches_p4(cohort: Cohort) -> None:
    """Expected, unexpected and last ones, one image and more threads than images among them."""
    batches = Batches(cohort, cohort.schema.encode(cohort.table), Recipe(dropout=0.3), 4)
    ahead = Ahead(partial(batches, device=CPU), Batch.join, 3)
    asked = [np.arange(0, 8), np.arange(8, 16), np.arange(40, 47), np.arange(47, 48)]
    named = [np.arange(8, 16), np.arange(16, 24), np.arange(47, 48), np.arange(0)]
    for counters, following in zip(asked, named):
        found, expected = ahead(counters, following), batches(counters, CPU)
        assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in BATCH_TENSORS)
        assert list(found.codes) == list(expected.codes)
        for name, column in found.codes.items():
            torch.testing.assert_close(column, expected.codes[name], rtol=0, atol=0, equal_nan=True)
    assert not ahead.waiting


def test_an_error_comes_through() -> None:
    def draw(counters: np.ndarray) -> int:
        if 5 in counters:
            raise MediError("row 5 is broken")
        return len(counters)

    ahead = Ahead(draw, sum, 2)
    assert ahead(np.arange(4), np.arange(4, 8)) == 4
    with pytest.raises(MediError, match="row 5 is broken"):
        ahead(np.arange(4, 8), np.arange(0))
