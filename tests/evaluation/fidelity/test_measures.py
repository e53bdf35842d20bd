"""The collapse guard, joint resampling of slides, and the level of the intervals."""

import numpy as np
import pandas as pd
import pytest

from medi.core.claims import GUARD
from medi.core.errors import MediError
from medi.evaluation.features import Embedded
from medi.evaluation.fidelity.compare import per_combination
from medi.evaluation.fidelity.matching import Slides

OVER = ("class", "site")
N, D = 100, 40


def one_cell(name: str, seed: int, spread: float = 1.0, copies: int = 1, shift: float = 0.0) -> Embedded:
    """N rows of one combination on 20 slides; every image `copies` times."""
    rng = np.random.default_rng([seed, *map(ord, name)])
    rows = np.tile(rng.normal(shift, spread, size=(N // copies, D)), (copies, 1))
    table = pd.DataFrame({"sample_id": [f"{name}{i:03d}" for i in range(N)], "class": "A", "site": "x"})
    return Embedded(
        rows, table.assign(slide=[f"{name}{i // 5}" for i in range(N)] if name in ("real", "floor") else "")
    )


def compared(seed: int, draws: int = 100, **arms: Embedded) -> pd.DataFrame:
    real, floor = one_cell("real", seed), one_cell("floor", seed)
    return per_combination(real, floor, arms, over=OVER, n=N, seed=seed, encoder="e", draws=draws)


def pair(table: pd.DataFrame, metric: str = "frechet_difference") -> pd.Series:
    return table[(table["metric"] == metric) & (table["scope"] == "combination")].iloc[0]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shift"), [({"spread": 0.7}, 0.6), ({"copies": 5}, 1.2), ({"copies": 2}, 1.2)])
def test_the_guard_fires_on_little_spread_and_on_duplicates(kind: dict, shift: float) -> None:
    """Against a generator that is right but for a shift, so that the collapsed one is nearer in Frechet distance."""
    fired = []
    for seed in range(5):
        found = pair(compared(seed, low=one_cell("low", seed, **kind), wide=one_cell("wide", seed, shift=shift)))
        assert found["value"] < 0, "the collapsed one is nearer"
        fired.append(found["reason"].startswith(f"{GUARD}: "))
    assert all(fired)


@pytest.mark.slow
def test_the_guard_spares_equal_arms() -> None:
    notes = [pair(compared(s, a=one_cell("a", s), b=one_cell("b", s)))["reason"] for s in range(10)]
    assert sum(GUARD in note for note in notes) <= 2


@pytest.mark.slow
def test_the_guard_does_not_speak_for_a_collapsed_arm_that_is_farther() -> None:
    found = pair(compared(0, low=one_cell("low", 0, spread=0.7, shift=2.0), good=one_cell("good", 0)))
    assert found["value"] > 0
    assert GUARD not in found["reason"]


@pytest.mark.slow
def test_duplicates_are_counted() -> None:
    table = compared(0, twice=one_cell("twice", 0, copies=2))
    rows = table[(table["arm"] == "twice") & (table["metric"] == "frechet")]
    assert rows["reason"].str.contains("50 of 100 twice embeddings repeat others").any()
    shares = table[(table["metric"] == "duplicates") & (table["scope"] == "combination")].set_index("arm")["value"]
    assert shares.to_dict() == {"floor": 0, "twice": 0.5}


@pytest.mark.slow
def test_p_values_agree_with_intervals_and_are_adjusted() -> None:
    table = compared(1, near=one_cell("near", 1), far=one_cell("far", 1, shift=1.0))
    rows = table[table["metric"].str.endswith("_difference") & table["p_value"].notna()]
    assert len(rows)
    outside = (rows["low"] > 0) | (rows["high"] < 0)
    assert (outside == (rows["p_value"] < 0.05)).all()
    assert (rows["p_adjusted"] >= rows["p_value"]).all()
    assert table[table["metric"].isin(["frechet", "kid", "recall"])]["p_value"].isna().all()
    tests = table[(table["metric"] == "mmd2") & (table["scope"] == "combination")].set_index("arm")["p_value"]
    assert tests["far"] < 0.02 < tests["near"], "one distribution?"


@pytest.mark.slow
def test_without_draws_there_are_values_alone() -> None:
    table = compared(0, draws=0, a=one_cell("a", 0), b=one_cell("b", 0))
    assert table["value"].notna().all()
    assert table[["low", "high", "p_value", "p_adjusted"]].isna().all(axis=None)
    drawn = compared(0, a=one_cell("a", 0), b=one_cell("b", 0))
    pd.testing.assert_series_equal(table["value"], drawn["value"])


def test_slides_that_share_a_combination_are_resampled_together() -> None:
    """P9: the slide s2 has patches of two classes, and counts alike in both."""
    slides = Slides.of(["s1", "s1", "s2", "s2", "s3", "t1", "t2"], [(cell,) for cell in "AABABCC"])
    first = slides.counts(["s1", "s2", "t1", "t2"], 50, ("key",))
    second = slides.counts(["s2", "s3"], 50, ("key",))
    assert (first[:, 1] == second[:, 0]).all()
    assert (first[:, 0] + second.sum(axis=1) == 3).all(), "three slides drawn of the three that are linked"
    assert (first[:, 2] + first[:, 3] == 2).all()
    assert slides.degrees(["s1", "s2", "s3", "t1", "t2"]) == 3


def test_features_of_different_encoders_are_refused() -> None:
    """Equal lengths prove nothing: the hash decides."""
    real, floor, arm = one_cell("real", 0), one_cell("floor", 0), one_cell("arm", 0)
    made = {"real": "uni 01", "floor": "uni 01", "arm": "uni 02"}
    named = {name: rows.assign(encoder=made[name]) for name, rows in zip(made, (real, floor, arm))}
    with pytest.raises(MediError, match=r"different encoders cannot be compared \(real: uni 01; .*arm: uni 02\)"):
        per_combination(named["real"], named["floor"], {"arm": named["arm"]}, over=OVER, n=N, seed=0, encoder="uni 01")
