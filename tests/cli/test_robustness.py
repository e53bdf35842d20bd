"""The verb robustness as a user runs it, on packed patches and on features of another program."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import Medi, fine, refused
from medi.core.tables import ROBUSTNESS
from medi.evaluation.robustness import CLUSTERING, NEAR
from medi.evaluation.shortcuts import METRICS


@pytest.mark.slow
def test_a_packed_cohort_and_features_give_the_same_table(medi: Medi, folders: Path) -> None:
    shown = fine(medi("robustness", folders / "real", "--attribute", "site", "--out", "r"))
    assert "CRoMa, median" in shown
    assert "how it is read" in shown
    found = ROBUSTNESS.read(Path("r"))
    assert found["metric"].tolist() == [*NEAR, CLUSTERING, *METRICS]
    assert (found["value"].notna() | found["reason"].ne("")).all()
    assert set(found["encoder"].str.split(" ").str[0]) == {"colour-texture"}
    fine(medi("embed", folders / "real", "--out", "e.parquet"))
    shown = fine(medi("utility", folders / "real", "--features", "e.parquet", "--arms", "none", "--out", "u"))
    assert "real training patches" in shown
    rows = pd.read_parquet("e.parquet")
    np.save("e.npy", rows.drop(columns="sample_id").to_numpy())
    fine(medi("robustness", folders / "real", "--attribute", "site", "--features", "e.npy", "--out", "f"))
    given = ROBUSTNESS.read(Path("f"))
    near = found["metric"].isin(NEAR)
    np.testing.assert_allclose(given["value"][near], found["value"][near], atol=1e-4)


@pytest.mark.slow
def test_an_attribute_that_is_not_there_is_named(medi: Medi, folders: Path) -> None:
    refused(medi("robustness", folders / "real", "--attribute", "scanner", "--out", "r"), "scanner")
    assert not (Path("r") / "robustness.parquet").exists()
