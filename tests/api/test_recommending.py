"""What a recommendation says, by what was judged."""

import numpy as np
import pandas as pd

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
