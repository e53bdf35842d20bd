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
    assert "Recommended: the soft vote, which is" in shown
    assert "next: medi utility" in shown
    assert "--heads two_way" in shown, "a head of its own, not the vote"
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


@pytest.mark.slow
def test_models_tell_their_cost_and_are_judged_p12(medi: Medi, held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medi.training.cost.TRIAL", 0.0)
    asked = ["--with-models", "--preset", "tiny", "--images", 16, "--to", 25, "--steps", 1, "--draws", 1]
    said = fine(medi("recommend", held, *asked, "--dry-run", "--out", "r"))
    assert "models to train: 1 of 1 (medi), on 16 images each; images to sample: " in said
    assert not Path("r").exists()
    asked += ["--heads", "logistic", "--sets", "real", "--out", "r"]
    shown = fine(medi("recommend", held, *asked))
    assert "judged with models of 1 inner hold-out" in shown
    assert "not judged" not in shown
    assert "\\n" not in shown
    assert "models to train: 1 of 1" in shown
    table = pd.read_parquet("r/recommendation.parquet").set_index("set")
    assert table["needs"]["medi"] == "a generator"
    assert table["value"].notna().all()
    assert "models: 1 (medi), all trained and sampled before" in fine(medi("recommend", held, *asked))


@pytest.mark.slow
def test_mistakes_are_one_line(medi: Medi, held: Path) -> None:
    refused(medi("recommend", held, "--images", "9", "--out", "r"), "--images goes with --with-models; add that")
    refused(medi("recommend", held, "--dry-run", "--out", "r"), "--dry-run goes with --with-models; add that")
    refused(medi("recommend", held, "--sets", "macenco", "--out", "r"), "set 'macenco' is unknown", "'macenko'")
    refused(medi("recommend", held, "--heads", "crn", "--sets", "real", "--out", "r"), "head 'crn' is unknown")
