"""What a training set keeps of generated rows: those that a head of real rows alone agrees with."""

import numpy as np
import pytest

from medi.evaluation.classify import agreed as module
from medi.evaluation.classify.agreed import ONE_CLASS, agreed
from medi.evaluation.classify.arms import Arm, filtered
from medi.evaluation.classify.comparison import study_arms
from medi.evaluation.classify.heads import HEADS
from medi.evaluation.classify.heads.contract import Undefined, predicted
from medi.evaluation.features import Embedded
from sited_worlds import OVER, SEEN, UNSEEN, rows_of

REAL = rows_of(SEEN, 8, 2.0, 1)


def made(pairs: list[tuple[int, int]], each: int) -> Embedded:
    """Generated rows that are right, and as many that show another class than they say; every second one is wrong."""
    rows = rows_of(pairs, 2 * each, 2.0, 3)
    wrong = np.arange(len(rows)) % 2 == 1
    classes = sorted(set(REAL.table["class"]))
    others = {name: classes[(i + 1) % len(classes)] for i, name in enumerate(classes)}
    labels = rows.table["class"].where(~wrong, rows.table["class"].map(others))
    names = "made-" + rows.table["sample_id"]
    return Embedded(
        rows.features, rows.table.assign(**{"class": labels}, origin="m", patient="", slide="", sample_id=names)
    )


def test_wrong_rows_of_unseen_combinations_go_and_right_ones_stay() -> None:
    rows = made(UNSEEN, 10)
    kept, wrong = agreed(REAL, rows, OVER, 0), np.arange(len(rows)) % 2 == 1
    assert kept[~wrong].mean() > 0.8
    assert kept[wrong].mean() < 0.2
    head = HEADS["crm"](REAL, OVER, 0)
    assert (kept == (predicted(head, rows) == rows.table["class"].to_numpy(dtype=object))).all()


def test_where_real_rows_compose_nothing_a_plain_head_agrees() -> None:
    single = rows_of([(0, 0), (1, 1), (2, 2), (3, 3)], 16, 1.0, 1)
    rows = made([(0, 0), (1, 1)], 6)
    with pytest.raises(Undefined):
        HEADS["crm"](single, OVER, 0)
    plain = predicted(HEADS["logistic"](single, OVER, 0), rows)
    assert (agreed(single, rows, OVER, 0) == (plain == rows.table["class"].to_numpy(dtype=object))).all()
    with pytest.raises(Undefined, match=ONE_CLASS):
        agreed(REAL.take(REAL.table["class"].eq(REAL.table["class"].iloc[0]).to_numpy()), rows, OVER, 0)


def test_long_features_are_cut_to_components_of_real_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, whole = made(UNSEEN, 10), agreed(REAL, made(UNSEEN, 10), OVER, 0)
    monkeypatch.setattr(module, "WIDE", 2)
    assert (agreed(REAL, rows, OVER, 0) == whole).mean() > 0.9, "as many components as numbers: a rotation"


def test_a_set_that_cannot_be_made_keeps_its_reason() -> None:
    found = filtered(Arm("medi_macenko", REAL, reason="no stain"), len(REAL), OVER, 0)
    assert (found.name, found.reason) == ("medi_filtered_macenko", "no stain")


@pytest.mark.slow
def test_normalised_sets_are_filtered_beside_the_plain_one() -> None:
    """The head of the filter is fitted to real rows under the same normalisation."""
    rows, tests = made([*UNSEEN, *SEEN[:4]], 4), {"unseen": rows_of(UNSEEN, 4, 2.0, 6)}
    moved = {name: test.features + 1.0 for name, test in tests.items()}
    real = Embedded(REAL.features + 1.0, REAL.table)
    both = Arm("medi_macenko", real.join(Embedded(rows.features + 1.0, rows.table)), tests=moved)
    arms = [Arm("macenko", real, tests=moved), both]
    asked = {"over": OVER, "seed": 0, "embedded": arms}
    found = study_arms(REAL, {"medi": rows}, tests, only=["medi_filtered"], heads=["two_way"], **asked)
    sizes = found["utility"].groupby("arm")["n_synthetic"].max()
    assert sizes["medi_filtered_macenko"] == agreed(real, Embedded(rows.features + 1.0, rows.table), OVER, 0).sum()
    assert {"medi_filtered_gap", "medi_filtered_macenko_gap"} <= set(found["heads"]["arm"])
    without = study_arms(REAL, {"medi": rows}, tests, only=["none"], **asked)["utility"]
    assert "medi_filtered_macenko" not in set(without["arm"])
