"""A sweep of confounding: the test rows stay, the oracle fills up, a composing head loses less."""

import numpy as np
import pandas as pd
import pytest

from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.sweep import TEST, swept
from sited_worlds import OVER, rows_of

pytestmark = pytest.mark.slow
CROSSED = [(y, a) for y in range(3) for a in range(3)]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    train, test = rows_of(CROSSED, 60, 3.0, 1), rows_of(CROSSED, 20, 3.0, 2)
    arms = [Arm("real", train), Arm("moved", train, tests={TEST: test.features})]
    found = swept(arms, test, ["logistic"], over=OVER, seed=0, strengths=(0.0, 1.0))
    return found[found["metric"] == "mean_recall"]


def test_every_strength_has_as_many_rows_and_the_same_test(table: pd.DataFrame) -> None:
    whole = table[(table["split"] == "all") & (table["head"] == "logistic")].set_index(["strength", "arm"])
    assert set(whole["n_real"]) == {180}
    assert whole.loc[(0.0, "real"), "n_train"] == whole.loc[(1.0, "real"), "n_train"] == 180
    assert whole.loc[(1.0, "oracle"), "n_train"] == 180 + 6 * 20, "six empty combinations filled as at V = 0"
    assert whole["cramers_v"].tolist() == pytest.approx(whole.index.get_level_values("strength"))
    assert set(table.loc[table["strength"] == 1.0, "split"]) == {"seen", "unseen", "all"}
    assert set(table.loc[table["strength"] == 0.0, "split"]) == {"seen", "all"}, "nothing is unseen without confounding"


def test_confounding_costs_and_images_would_buy_it_back(table: pd.DataFrame) -> None:
    value = table[(table["split"] == "all") & (table["head"] == "logistic")].set_index(["strength", "arm"])["value"]
    assert value[1.0, "real"] < value[0.0, "real"] - 0.2
    assert value[1.0, "oracle"] > value[1.0, "real"] + 0.2
    assert value[1.0, "moved"] == value[1.0, "real"], "the same rows, its own copy of the test"
    assert np.isfinite(value).all()
