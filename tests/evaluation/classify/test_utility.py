"""Utility: one probe per arm, nothing of the tests in its fit (P5), intervals over slides (P9)."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.preprocessing import StandardScaler

from medi.core.errors import MediError
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.probes import GRID, Probe, balanced_score, folds, groups
from medi.evaluation.classify.utility import evaluate
from medi.evaluation.features import Embedded
from medi.evaluation.robustness import NEAR

OVER = ("class", "site")
D = 8
COMBINATIONS = [(c, s) for c in "AB" for s in "xyz"]
UNSEEN = [("A", "z"), ("B", "x")]
SEEN = [cell for cell in COMBINATIONS if cell not in UNSEEN]


def made(name: str, cells: list[tuple[str, str]], per: int = 24, origin: str = "real", slides: int = 4) -> Embedded:
    """Class on the first axis, a stronger site on the second; slides have an effect of their own."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    rows, blocks = [], []
    for c, s in cells:
        centre = np.zeros(D)
        centre[:2] = {"A": -1, "B": 1}[c], {"x": -3, "y": 0, "z": 3}[s]
        effects = rng.normal(size=(slides, D)) * 0.4
        slide = np.arange(per) % slides
        blocks.append(centre + effects[slide] + rng.normal(size=(per, D)) * 0.7)
        rows += [(f"{name}{c}{s}{i}", c, s, f"{name}p{c}{s}{k}", f"{name}s{c}{s}{k}") for i, k in enumerate(slide)]
    table = pd.DataFrame(rows, columns=["sample_id", "class", "site", "patient", "slide"]).assign(origin=origin)
    if origin != "real":
        table[["patient", "slide"]] = ""
    return Embedded(np.concatenate(blocks), table)


REAL = made("r", SEEN)
ARMS = [
    Arm("real", REAL),
    Arm("cls", REAL.join(made("c", SEEN, origin="hash1"))),
    Arm("medi", REAL.join(made("m", UNSEEN, origin="hash2"))),
    Arm("oracle", REAL.join(made("o", UNSEEN))),
]
TESTS = {"seen": made("t", SEEN, slides=8), "unseen": made("u", UNSEEN, per=60, slides=12)}


def scored(arms: list[Arm], tests: dict[str, Embedded] = TESTS) -> pd.DataFrame:
    return evaluate(arms, tests, seed=0)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return scored(ARMS)


def row(table: pd.DataFrame, **values: str) -> pd.Series:
    keep = np.logical_and.reduce([table[name.rstrip("_")] == value for name, value in values.items()])
    assert keep.sum() == 1
    return table[keep].iloc[0]


def test_probe_is_scikit_learns_at_the_chosen_c() -> None:
    embeddings, table = ARMS[2].embeddings, ARMS[2].table
    probe = Probe.fit(ARMS[2].rows, over=OVER, seed=0)
    scaler = StandardScaler().fit(embeddings)
    plain = LogisticRegression(C=probe.c, class_weight="balanced", tol=1e-8, max_iter=5000)
    plain.fit(scaler.transform(embeddings), table["class"])
    test = TESTS["unseen"].features
    assert probe.c in GRID
    assert (probe.predict(test) == plain.predict(scaler.transform(test))).mean() > 0.99


def test_probe_of_three_classes_and_a_constant_feature() -> None:
    rng = np.random.default_rng(0)
    table = made("r", COMBINATIONS).table.assign(**{"class": np.repeat(["a", "b", "c"], 48)})
    embeddings = rng.normal(size=(144, 4)) + 4 * pd.get_dummies(table["class"]).assign(d=0).to_numpy(dtype=float)
    embeddings[:, 3] = 7.0
    probe = Probe.fit(Embedded(embeddings, table), over=OVER, seed=0)
    assert (probe.predict(embeddings) == table["class"].to_numpy()).mean() > 0.95


def test_a_feature_constant_but_for_rounding_changes_nothing() -> None:
    """Defect: divided by a standard deviation of 1e-17, it decided alone (accuracy .64 became .34)."""
    constant = np.where(np.arange(len(REAL)) % 2, 0.1, np.nextafter(0.1, 1))[:, None]
    more = Embedded(np.column_stack([REAL.features, constant]), REAL.table)
    test = np.column_stack([TESTS["unseen"].features, np.full(len(TESTS["unseen"]), 0.1)])
    found = Probe.fit(more, over=OVER, seed=0)
    assert found.scale[-1] == 1
    plain = Probe.fit(REAL, over=OVER, seed=0)
    assert (found.predict(test) == plain.predict(TESTS["unseen"].features)).mean() > 0.98


@pytest.mark.slow
def test_scores_are_scikit_learns(table: pd.DataFrame) -> None:
    probe = Probe.fit(ARMS[0].rows, over=OVER, seed=0)
    embeddings, test = TESTS["seen"].features, TESTS["seen"].table
    truth, found = test["class"].to_numpy(dtype=str), probe.predict(embeddings).astype(str)
    overall = row(table, metric="balanced_accuracy", arm="real", split="seen", scope="all")
    assert overall["value"] == pytest.approx(balanced_accuracy_score(truth, found))
    assert overall["low"] < overall["value"] < overall["high"]
    here = (test["site"] == "y").to_numpy()
    site = row(table, metric="balanced_accuracy", arm="real", split="seen", scope="site", site="y")
    assert site["value"] == pytest.approx(balanced_accuracy_score(truth[here], found[here]))
    recall = row(table, metric="recall", arm="real", split="seen", scope="class", class_="B")
    assert recall["value"] == pytest.approx(recall_score(truth, found, pos_label="B"))
    cell = row(table, metric="recall", arm="real", split="seen", scope="combination", class_="A", site="y")
    assert cell["value"] == pytest.approx((found[here & (truth == "A")] == "A").mean())


def test_counts(table: pd.DataFrame) -> None:
    found = row(table, metric="balanced_accuracy", arm="medi", split="unseen", scope="all")
    assert dict(found[["n_real", "n_synthetic", "n_slides", "n_patients", "n_train"]]) == {
        "n_real": 120,
        "n_synthetic": 48,
        "n_slides": 24,
        "n_patients": 24,
        "n_train": 144,
    }


def test_differences_and_gap_closed_are_those_of_the_scores(table: pd.DataFrame) -> None:
    score = {
        arm.name: row(table, metric="balanced_accuracy", arm=arm.name, split="unseen", scope="all")["value"]
        for arm in ARMS
    }
    for other in ("real", "cls", "oracle"):
        found = row(table, metric="balanced_accuracy_difference", arm="medi", against=other, split="unseen")
        assert found["value"] == pytest.approx(score["medi"] - score[other])
    assert row(table, metric="balanced_accuracy_difference", arm="medi", against="real", split="unseen")["low"] > 0
    gap = row(table, metric="gap_closed", arm="medi")
    assert gap["value"] == pytest.approx((score["medi"] - score["real"]) / (score["oracle"] - score["real"]))
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert set(table[table["metric"] == "gap_closed"]["arm"]) == {"cls", "medi"}
    assert set(table[table["metric"] == "gap_closed"]["split"]) == {"unseen"}


@pytest.mark.slow
def test_equal_arms_differ_by_exactly_nothing() -> None:
    """P9: both arms see the same draws."""
    table = scored([ARMS[2], Arm("cls", ARMS[2].rows)])
    found = row(table, metric="balanced_accuracy_difference", split="unseen")
    assert (found["value"], found["low"], found["high"]) == (0, 0, 0)


@pytest.mark.slow
def test_no_gap_to_close_is_no_number() -> None:
    """P7: an oracle no better than real leaves gap_closed undefined."""
    table = scored([ARMS[0], ARMS[1], Arm("oracle", REAL.join(made("q", SEEN)))])
    found = row(table, metric="gap_closed", arm="cls")
    assert np.isnan(found["value"])
    assert "is not clearly above 0" in found["reason"]


def test_a_patient_on_both_sides_is_refused() -> None:
    """P5: planted test rows stop the comparison, whichever column gives them away."""
    for column in ("patient", "slide", "sample_id"):
        planted = TESTS["unseen"].assign(patient="new", slide="new", sample_id=[f"new{i}" for i in range(120)])
        arm = Arm("real", REAL.join(planted.assign(**{column: TESTS["unseen"].table[column]})))
        with pytest.raises(MediError, match=rf"{column} '.*' trains in arm real and tests in unseen"):
            scored([arm])


@pytest.mark.slow
def test_the_tests_do_not_touch_the_fit() -> None:
    """P5: other test rows, shifted and relabelled, leave the predictions on the first rows as they were."""
    seen = TESTS["seen"]
    other = Embedded(seen.features * 100 + 5, seen.table.assign(**{"class": "A"}))
    alone = scored([ARMS[0]], {"unseen": TESTS["unseen"]})
    beside = scored([ARMS[0]], {"seen": other, "unseen": TESTS["unseen"]})
    first, second = (table[table["split"] == "unseen"].reset_index(drop=True) for table in (alone, beside))
    pd.testing.assert_frame_equal(first, second)


def test_order_of_training_rows_does_not_matter() -> None:
    """P3."""
    shuffled = Probe.fit(REAL.take(np.random.default_rng(0).permutation(len(REAL))), over=OVER, seed=0)
    plain = Probe.fit(REAL, over=OVER, seed=0)
    assert shuffled.c == plain.c
    assert shuffled.plane[0] == pytest.approx(plain.plane[0], abs=1e-2)


def test_folds_hold_patients_together_and_synthetic_rows_out() -> None:
    """P5: no patient trains and validates C; every fold validates both classes; synthetic rows only train."""
    table = ARMS[2].table
    dealt = pd.Series(folds(table, seed=0))
    real = table["origin"].eq("real")
    assert dealt[real].groupby(table["patient"][real]).nunique().eq(1).all()
    assert set(dealt[real]) == {0, 1, 2, 3}
    assert table["class"][real].groupby(dealt[real]).nunique().eq(2).all()
    assert dealt[~real].eq(-1).all()


def test_what_was_made_of_a_patient_is_left_out_with_the_patient() -> None:
    """P5: a training patch carried to another site keeps its patient, and does not train where that one validates."""
    real = REAL.table
    carried = real.assign(sample_id=real["sample_id"] + "@there", origin="hash")
    dealt = folds(pd.concat([real, carried], ignore_index=True), seed=0)
    assert (dealt[: len(real)] == dealt[len(real) :]).all()
    assert set(dealt) == {0, 1, 2, 3}


@pytest.mark.slow
def test_without_real_patients_c_is_a_default_and_says_so() -> None:
    found = scored([Arm("synthetic", made("m", COMBINATIONS, origin="hash"))])
    overall = row(found, metric="balanced_accuracy", split="unseen", scope="all")
    assert overall["value"] > 0.8
    assert overall["reason"].startswith("fewer than two classes with two patients: C = 0.01")


def test_two_patients_a_class_are_enough_to_choose_c() -> None:
    """Fewer patients than folds."""
    few = made("f", [("A", "x"), ("B", "y")], slides=2)
    assert Probe.fit(few, over=OVER, seed=0).reason == ""


@pytest.mark.slow
def test_class_missing_in_training_is_undefined() -> None:
    """P7."""
    new = made("v", [("A", "x")], slides=3)
    three = TESTS["unseen"].join(new.assign(**{"class": "C"}))
    table = scored([ARMS[0]], {"unseen": three})
    overall = row(table, metric="balanced_accuracy", scope="all", split="unseen")
    assert np.isnan(overall["value"])
    assert overall["reason"] == "class C is not in real's training rows"
    assert np.isnan(row(table, metric="recall", scope="class", class_="C")["value"])
    assert np.isfinite(row(table, metric="recall", scope="class", class_="A")["value"])


@pytest.mark.slow
def test_class_missing_in_the_test_and_one_class_sites() -> None:
    """P7: a one-class group has no balanced accuracy."""
    table = scored([ARMS[0]], {"unseen": TESTS["unseen"]})
    site = row(table, metric="balanced_accuracy", scope="site", site="x")
    assert np.isnan(site["value"])
    assert site["reason"] == "1 class (B): no balanced accuracy"
    only = TESTS["unseen"].table["class"].eq("A").to_numpy()
    table = scored([ARMS[0]], {"unseen": TESTS["unseen"].take(only)})
    assert np.isnan(row(table, metric="balanced_accuracy", scope="all", split="unseen")["value"])
    assert row(table, metric="recall", scope="class", class_="A")["reason"] == "class B is not in the test"


@pytest.mark.slow
def test_training_on_one_class_has_no_probe() -> None:
    table = scored([Arm("real", REAL.take(REAL.table["class"].eq("A").to_numpy()))])
    of_probes = table[~table["metric"].isin(["robustness_index", *NEAR, "chance"])]
    assert of_probes["value"].isna().all()
    assert of_probes["reason"].str.contains("real trains on 1 class: no probe|no balanced accuracy").all()


def test_broken_input_is_one_clear_error() -> None:
    embeddings, table = TESTS["seen"].features, TESTS["seen"].table
    broken = np.where(np.arange(len(table))[:, None] == 5, np.nan, embeddings)
    with pytest.raises(MediError, match="seen: 1 embeddings are not finite, first of 'tAx5'"):
        scored(ARMS, {"seen": Embedded(broken, table)})
    with pytest.raises(MediError, match="the seen table lacks the columns site"):
        scored(ARMS, {"seen": Embedded(embeddings, table.drop(columns="site"))})


def test_unknown_patients_group_by_slide_or_by_row() -> None:
    table = pd.DataFrame({"sample_id": ["1", "2", "3"], "patient": ["p", "", ""], "slide": ["s", "t", ""]})
    assert list(groups(table)) == ["p", "t", "3"]


def test_validation_weighs_combinations_and_classes_alike() -> None:
    """A frequent combination does not decide: (1 + 0) / 2 for A with 9 of 10 right, 1 for B, so 0.75."""
    labels, combinations = np.array([0] * 10 + [1]), np.array([0] * 9 + [1, 2])
    hits = np.array([True] * 9 + [False, True])
    assert balanced_score(hits, labels, combinations) == pytest.approx(0.75)


@pytest.mark.slow
def test_two_patients_of_one_patch_each_leave_the_site_unread_with_a_reason_p7() -> None:
    found = scored(ARMS[:1], {"seen": made("t", SEEN, per=2, slides=2)})
    read = row(found, metric="site_readability", arm="real")
    assert np.isnan(read["value"])
    assert "more patches than sites" in read["reason"]


@pytest.mark.slow
def test_patches_of_unknown_site_belong_to_no_combination() -> None:
    """Defect: a class at site "" was a combination more in the primary endpoint, and a site of its own in the rest."""
    lost = made("w", [("A", "y"), ("B", "y")], per=6)
    nowhere = Embedded(lost.features, lost.table.assign(site=""))
    table = scored(ARMS[:1], {**TESTS, "seen": TESTS["seen"].join(nowhere)})
    plain = scored(ARMS[:1])
    for metric in ("mean_recall", "worst_five", "site_readability", "robustness_index", "chance"):
        values = [frame.loc[frame["metric"] == metric, "value"].tolist() for frame in (table, plain)]
        assert values[0] == pytest.approx(values[1], nan_ok=True), metric
    found = row(table, metric="mean_recall", arm="real", split="seen", scope="all")
    assert found["n_real"] == len(TESTS["seen"])
    assert "12 patches of unknown site belong to no combination" in found["reason"]
    whole = row(table, metric="balanced_accuracy", arm="real", split="seen", scope="all")
    assert whole["n_real"] == found["n_real"] + 12
    by_site = table["scope"].eq("combination") | (table["scope"].eq("site") & table["metric"].eq("balanced_accuracy"))
    assert by_site.any()
    assert (table.loc[by_site, "site"] != "").all()
    assert row(plain, metric="mean_recall", arm="real", split="seen", scope="all")["reason"] == ""


@pytest.mark.slow
def test_where_no_site_is_known_there_is_no_mean_over_combinations() -> None:
    unknown = {name: part.assign(site="") for name, part in TESTS.items()}
    table = scored(ARMS[:1], unknown)
    found = row(table, metric="mean_recall", arm="real", split="all", scope="all")
    assert np.isnan(found["value"])
    assert found["reason"] == "216 patches of unknown site belong to no combination"
