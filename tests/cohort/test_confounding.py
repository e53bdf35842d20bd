"""Subsamples of a stated Cramer's V: as many rows for each, the margins kept, nobody new."""

import numpy as np
import pandas as pd
import pytest

from medi.cohort.confounding import confounded, cramers_v, own_combinations, shares
from medi.core.errors import MediError

OVER = ("class", "site")
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def crossed(classes: int, sites: int, each: int) -> pd.DataFrame:
    """Every combination alike, four rows to a patient."""
    rows = [(f"c{c}", f"s{s}", i) for c in range(classes) for s in range(sites) for i in range(each)]
    table = pd.DataFrame(rows, columns=["class", "site", "number"])
    owner = table["class"] + table["site"] + "-" + (table["number"] // 4).astype(str)
    return table.assign(patient=owner, slide=owner, sample_id=owner + "-" + table["number"].astype(str))


@pytest.mark.parametrize(("classes", "sites"), [(2, 2), (4, 8), (3, 5), (5, 3)])
@pytest.mark.parametrize("v", [0.0, 0.3, 1.0])
def test_the_shares_have_the_v_that_was_asked_and_the_same_margins(classes: int, sites: int, v: float) -> None:
    """Chi squared over n is the sum of (p - q)^2 / q with q = p(class) p(site): an independent closed form."""
    own = own_combinations(np.random.default_rng(0).integers(50, 90, (classes, sites)))
    assert own.any(axis=0).all()
    assert own.any(axis=1).all()
    p, even = shares(own, v), shares(own, 0.0)
    assert p.sum(axis=0) == pytest.approx(even.sum(axis=0))
    assert p.sum(axis=1) == pytest.approx(even.sum(axis=1))
    phi2 = ((p - even) ** 2 / even).sum()
    assert np.sqrt(phi2 / (min(classes, sites) - 1)) == pytest.approx(v)


def test_subsamples_have_one_number_the_v_that_was_asked_and_whole_patients() -> None:
    table = crossed(4, 8, 80)
    drawn = confounded(table, OVER, STRENGTHS, 0)
    assert {len(rows) for rows in drawn} == {640}, "all 80 of each own combination at V = 1"
    assert [cramers_v(table.iloc[rows], OVER) for rows in drawn] == pytest.approx(STRENGTHS, abs=0.01)
    assert all(len(set(rows)) == len(rows) for rows in drawn)
    cut = table.iloc[drawn[1]].groupby("patient").size()
    assert (cut < 4).groupby(cut.index.str.split("-").str[0]).sum().max() <= 1, "one patient of a combination in part"
    assert not np.array_equal(drawn[0], confounded(table, OVER, STRENGTHS, 1)[0]), "the seed draws patients"


def test_rows_that_are_not_crossed_are_refused_in_one_sentence() -> None:
    table = crossed(2, 2, 40)
    few = table[(table["class"] != "c0") | (table["site"] != "s1") | (table["number"] < 3)]
    with pytest.raises(MediError, match="not crossed enough to sweep confounding: c0 x s1 has 3 training patches"):
        confounded(few, OVER, STRENGTHS, 0)
    uneven = crossed(3, 2, 12)
    more = crossed(1, 1, 40).assign(sample_id=lambda rows: "more-" + rows["sample_id"])
    with pytest.raises(MediError, match="4 of a combination are left at V = 0, and 10 are needed"):
        confounded(pd.concat([uneven, more], ignore_index=True), OVER, STRENGTHS, 0)
    with pytest.raises(MediError, match=r"strength 1\.5: Cramer's V lies between 0 and 1"):
        confounded(table, OVER, [0.0, 1.5], 0)
    with pytest.raises(MediError, match="one class or one site"):
        confounded(table[table["site"] == "s0"], OVER, STRENGTHS, 0)
