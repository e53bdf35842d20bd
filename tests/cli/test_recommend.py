"""The verb recommend, from a hold-out to a sentence."""

from pathlib import Path

import pandas as pd
import pytest

import medi
from command_line import Medi, fine, refused


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held") / "held"
    medi.phantom(patches=600, seed=0).hold_out(over=["class", "site"], rate=0.1, seed=0).save(folder)
    return folder


@pytest.mark.slow
def test_the_best_remedy_is_named_and_the_holdout_stays_closed(medi: Medi, held: Path) -> None:
    shown = fine(medi("recommend", held, "--heads", "logistic,two_way", "--sets", "real", "--out", "r"))
    assert "No remedy is worth it: " in shown, "600 patches are few"
    assert "on combinations and patients of training that were left out" in shown
    assert "Regret" not in shown
    table = pd.read_parquet("r/recommendation.parquet")
    assert "true" not in table
    assert table["reason"].iloc[-1].startswith("not judged")
    refused(medi("recommend", held, "--heads", "crm", "--out", "r"), "holds another result of medi recommend")


@pytest.mark.slow
def test_regret_is_told_where_the_holdout_is_opened(medi: Medi, held: Path) -> None:
    shown = fine(medi("recommend", held, "--heads", "logistic", "--sets", "real", "--open-holdout", "--out", "r"))
    assert "No remedy is worth it" in shown
    assert "Regret on the true hold-out: 0.000; under the usual head always: real images 0.000" in shown


def test_mistakes_are_one_line(medi: Medi, held: Path) -> None:
    refused(medi("recommend", held, "--sets", "macenco", "--out", "r"), "set 'macenco' is unknown", "'macenko'")
    refused(medi("recommend", held, "--heads", "crn", "--sets", "real", "--out", "r"), "head 'crn' is unknown")
