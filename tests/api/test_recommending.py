"""What a recommendation says, by what was judged."""

import numpy as np
import pandas as pd
import pytest

from medi.api.recommending import Recommendation
from medi.evaluation.recommend import Judged

ROWS = [
    ("macenko", "two_way", 0.85, 0.10, 0.05, 0.15, 0.80),
    ("real", "crm", 0.82, 0.07, 0.02, 0.12, 0.84),
    ("macenko", "logistic", 0.80, 0.05, 0.01, 0.09, 0.79),
    ("real", "logistic", 0.75, 0.0, 0.0, 0.0, 0.70),
]


def judged(gain_low: float = 0.05) -> Judged:
    table = pd.DataFrame(ROWS, columns=["set", "head", "value", "gain", "gain_low", "gain_high", "true"])
    table.loc[0, "gain_low"] = gain_low
    return Judged(table.assign(low=table["value"] - 0.1, high=table["value"] + 0.1, needs="", reason=""))


def test_a_remedy_that_is_worth_it_is_named_with_its_gain() -> None:
    found = Recommendation(judged(), ("class", "site"), "colour-texture", 100)
    assert found.title == (
        "Recommended: images after Macenko normalisation under the head two-way. Mean recall on combinations and "
        "patients of training that were left out: 0.850, 0.750 for real images under the usual head; "
        "gain +0.100 [0.050, 0.150]."
    )
    assert "true" not in found.to_frame()
    assert not [line for line in found.remarks if "Regret" in line]
    assert found.to_frame()["set"].tolist()[-1] == "medi"


def test_a_gain_that_may_be_none_is_not_recommended_and_regret_is_that_of_the_choice() -> None:
    found = Recommendation(judged(-0.01), ("class", "site"), "colour-texture", 100, opened=True)
    assert found.title.startswith(
        "No remedy is worth it: the best one, images after Macenko normalisation under the head"
    )
    assert found.judged.regret == 0.84 - 0.70
    (line,) = (text for text in found.remarks if text.startswith("Regret"))
    assert line.startswith(
        "Regret on the true hold-out: 0.140; under the usual head always: Macenko normalisation 0.050"
    )


def test_where_nothing_could_be_judged_the_reason_is_the_sentence() -> None:
    none = judged().table.assign(value=np.nan, gain_low=np.nan, reason="one class")
    found = Recommendation(Judged(none), ("class",), "colour-texture", 100)
    assert found.title == "No remedy could be judged: one class."


def test_real_and_generated_images_of_a_remedy_are_told_to_be_normalised_alike() -> None:
    table = judged().table.assign(reason="judged with models of 4 inner hold-outs")
    table.loc[0, "set"] = "medi_filtered_macenko"
    found = Recommendation(Judged(table), ("class", "site"), "colour-texture", 100)
    assert found.title.startswith(
        "Recommended: real images with those of filtered MeDi, both after Macenko normalisation (judged with models of "
        "4 inner hold-outs) under the head two-way."
    )


def with_vote(**changes: float) -> Judged:
    """The table above with the soft vote of the better half in the second place."""
    table = judged().table.assign(lead=0.01, lead_low=-0.02, lead_high=0.04)
    vote = {"set": "every_set", "head": "soft_vote", "value": 0.84, "gain": 0.09, "gain_low": 0.06, "gain_high": 0.12}
    vote |= {"true": 0.83, "lead": 0.0, "lead_low": 0.0, "lead_high": 0.0, "low": 0.8, "high": 0.9, **changes}
    rows = [table.iloc[:1], pd.DataFrame([vote | {"needs": "", "reason": ""}]), table.iloc[1:]]
    return Judged(pd.concat(rows, ignore_index=True))


def test_the_soft_vote_is_recommended_unless_another_one_is_certainly_better() -> None:
    found = Recommendation(with_vote(), ("class", "site"), "colour-texture", 100, opened=True)
    assert found.title == (
        "Recommended: the soft vote, which is the mean of the probabilities that the better half of all remedies "
        "give. Mean recall on combinations and patients of training that were left out: 0.840, 0.750 for real images "
        "under the usual head; gain +0.090 [0.060, 0.120]."
    )
    assert found.judged.regret == pytest.approx(0.01)
    better = with_vote().table
    better.loc[0, "lead_low"] = 0.001
    assert Judged(better).chosen["head"] == "two_way"
    assert Judged(better).is_worth_it


def test_a_vote_whose_gain_may_be_none_is_called_the_safest_choice() -> None:
    found = Recommendation(with_vote(gain_low=-0.01), ("class", "site"), "colour-texture", 100)
    assert not found.judged.is_worth_it
    assert found.title.startswith("No remedy is certain to be worth it: the soft vote, which is the mean")
    assert found.title.endswith("It is the safest choice; keep the usual head if you want a single classifier.")
