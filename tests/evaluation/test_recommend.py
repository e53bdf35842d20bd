"""The inner choice of a remedy: what it must choose, what it must not, and what it never sees."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from medi.core.choice import EVERY_SET, VOTE
from medi.core.errors import MediError
from medi.core.registry import registry
from medi.evaluation import recommend
from medi.evaluation.classify.agreed import agreed
from medi.evaluation.classify.arms import Arm
from medi.evaluation.classify.heads.contract import Setting, Tuned
from medi.evaluation.features import Embedded
from medi.evaluation.recommend import USUAL, Asked, Generated, Judged, holdouts, judge

OVER = ("class", "site")
CLASSES, SITES = ("A", "B"), ("p", "q", "r", "s")
MISSING = {("A", "s"), ("B", "p")}
FEW = {("A", "r"), ("A", "q"), ("B", "q")}


def rows(seed: int, site_effect: float, n: int, combinations: set[tuple[str, str]]) -> Embedded:
    """Class on the first axis and sites along it too: what a plain classifier takes for one another."""
    rng = np.random.default_rng(seed)
    table, features = [], []
    for class_, site in sorted(combinations):
        count = n if (class_, site) not in FEW else n // 4
        centre = np.array([2.0 * (class_ == "B") + site_effect * SITES.index(site), 0.0, 0.0])
        features.append(centre + rng.standard_normal((count, 3)))
        for i in range(count):
            key = f"{seed}-{class_}{site}{i}"
            table.append(
                {"sample_id": key, "class": class_, "site": site, "patient": key, "slide": key, "origin": "real"}
            )
    return Embedded(np.concatenate(features), pd.DataFrame(table))


EVERY = {(c, s) for c in CLASSES for s in SITES}
TRAIN = rows(0, 2.0, 200, EVERY - MISSING)
TESTS = {"seen": rows(1, 2.0, 40, EVERY - MISSING), "unseen": rows(2, 2.0, 40, MISSING)}


@pytest.mark.slow
def test_where_sites_shift_the_class_a_head_that_composes_is_chosen() -> None:
    found = judge([Arm("real", TRAIN)], OVER, 0, ["logistic", "two_way"], TESTS)
    assert found.best is not None
    assert found.best["head"] == "two_way"
    assert found.best["gain_low"] > 0.0
    assert found.best["true"] > found.row("real", USUAL)["true"] + 0.05


def test_other_patients_of_kept_combinations_are_asked_for_as_well_p5() -> None:
    """A map that erases the class at seen combinations may do well where combinations are left out."""
    asked, reason = Asked.of(TRAIN.table, OVER, 0)
    assert not reason
    assert asked.shares == (2 / 8, 6 / 8), "as many of each as the crossed table lacks and has"
    patients = TRAIN.table["patient"].to_numpy()
    for trains, left_out, kept in asked.folds:
        assert not set(patients[trains]) & set(patients[left_out | kept])
        assert set(asked.combination[kept]) <= set(asked.combination[trains])
        assert not set(asked.combination[left_out]) & set(asked.combination[trains])
    assert asked.tested(1).mean() > 0.6, "each patient once, where no fold leaves out the combination"


def test_combinations_of_one_patient_count_for_no_others() -> None:
    """The true hold-out cannot test them either, while training keeps them."""
    few = [pair in FEW for pair in zip(TRAIN.table["class"], TRAIN.table["site"])]
    patients = TRAIN.table["patient"].mask(few, TRAIN.table["class"] + TRAIN.table["site"])
    asked, _ = Asked.of(TRAIN.table.assign(patient=patients), OVER, 0)
    assert asked.shares == (2 / 5, 3 / 5)


@pytest.mark.slow
def test_where_sites_do_nothing_nothing_is_worth_it() -> None:
    plain = rows(3, 0.0, 80, EVERY - MISSING)
    found = judge([Arm("real", plain)], OVER, 0, ["logistic", "two_way"])
    assert not found.is_worth_it
    assert found.chosen is not None
    assert found.chosen["gain_low"] <= 0.0
    assert np.isnan(found.regret), "the test was not opened"
    alone = judge([Arm("real", plain)], OVER, 0, ["two_way"])
    assert alone.row(EVERY_SET, VOTE) is None, "one remedy does not vote"


@pytest.mark.slow
def test_the_choice_never_sees_the_test() -> None:
    """P5: other test rows change what is known of the truth, and nothing else."""
    open_, closed = (judge([Arm("real", TRAIN)], OVER, 0, ["logistic", "two_way"], tests) for tests in (TESTS, None))
    pd.testing.assert_frame_equal(open_.table.drop(columns="true"), closed.table.drop(columns="true"))
    assert closed.table["true"].isna().all()


@pytest.mark.slow
def test_a_training_set_that_helps_is_found_and_one_without_stain_has_its_reason() -> None:
    def without_sites(rows: Embedded) -> np.ndarray:
        return rows.features - np.array([[2.0 * SITES.index(site), 0.0, 0.0] for site in rows.table["site"]])

    moved = {name: without_sites(test) for name, test in TESTS.items()}
    normalised = Arm("macenko", Embedded(without_sites(TRAIN), TRAIN.table), tests=moved)
    broken = Arm("reinhard", TRAIN, reason="no stained tissue")
    found = judge([Arm("real", TRAIN), normalised, broken], OVER, 0, ["logistic"], TESTS)
    assert found.table["set"].tolist() == ["macenko", EVERY_SET, "real", "reinhard"]
    assert found.row("macenko", "logistic")["true"] > 0.8
    assert found.row("reinhard", "logistic")["reason"] == "no stained tissue"
    assert np.isnan(found.row("reinhard", "logistic")["value"]), "P7"


def test_one_combination_a_site_is_a_reason_and_no_number_p7() -> None:
    single = TRAIN.take(TRAIN.table["class"].eq("A").to_numpy() == TRAIN.table["site"].isin(["p", "q"]).to_numpy())
    found = judge([Arm("real", single)], OVER, 0, ["two_way"])
    assert found.best is None
    assert not found.is_worth_it
    assert found.chosen is None
    assert found.table["reason"].iloc[0]
    assert "too few combinations" in found.reason


@pytest.mark.slow
def test_a_head_of_the_users_is_judged_too() -> None:

    class Always:
        """The first class, always."""

        classes = CLASSES
        reason = ""

        def probabilities(self, features: np.ndarray, table: pd.DataFrame) -> np.ndarray:
            return np.tile([1.0, 0.0], (len(features), 1))

    registry("head").add("first", lambda rows, over, seed: Always())
    found = judge([Arm("real", TRAIN)], OVER, 0, ["first", "logistic"], TESTS)
    assert found.row("real", "first")["true"] == pytest.approx(0.5)
    assert found.row("real", "first")["gain"] < 0


class Sure:
    """Sure of its own class, right and wrong alike half-hearted: it gives every row its class, where nothing speaks
    loudly for the other."""

    classes = CLASSES
    reason = ""

    def __init__(self, own: str) -> None:
        self.own = CLASSES.index(own)

    def probabilities(self, features: np.ndarray, table: pd.DataFrame) -> np.ndarray:
        is_own = table["class"].eq(CLASSES[self.own]).to_numpy()
        found = np.empty((len(table), 2))
        found[:, self.own] = np.where(is_own, 0.9, 0.6)
        found[:, 1 - self.own] = 1 - found[:, self.own]
        return found


def test_the_soft_vote_is_the_mean_of_what_remedies_say() -> None:
    """Two heads that say one class alone are right of half of the rows each; together they are right of all."""
    for name in CLASSES:
        registry("head").add(f"sure_{name}", lambda rows, over, seed, own=name: Sure(own))
    found = judge([Arm("real", TRAIN)], OVER, 0, ["sure_A", "sure_B"], TESTS)
    vote = found.row(EVERY_SET, VOTE)
    assert vote is not None
    assert (vote["value"], vote["true"]) == (1.0, 1.0)
    for name in CLASSES:
        single = found.row("real", f"sure_{name}")
        assert single["true"] == pytest.approx(0.5)
        assert single["lead"] == pytest.approx(single["value"] - 1.0)
        assert single["lead_high"] < 0.0
    assert found.chosen["head"] == VOTE
    assert found.regret == 0.0


def test_only_the_better_half_votes() -> None:
    """A third head, sure of what is wrong everywhere, would outvote the two; it is left out by what it is asked."""

    class Wrong(Sure):
        def probabilities(self, features: np.ndarray, table: pd.DataFrame) -> np.ndarray:
            is_a = table["class"].eq("A").to_numpy()
            return np.stack([~is_a, is_a], axis=1).astype(float)

    for name in CLASSES:
        registry("head").add(f"half_{name}", lambda rows, over, seed, own=name: Sure(own))
    registry("head").add("wrong", lambda rows, over, seed: Wrong("A"))
    found = judge([Arm("real", TRAIN)], OVER, 0, ["half_A", "wrong", "half_B"], TESTS)
    vote = found.row(EVERY_SET, VOTE)
    assert vote is not None
    assert (vote["value"], vote["true"]) == (1.0, 1.0)
    assert found.row("real", "wrong")["value"] == 0.0


def test_a_single_remedy_is_taken_where_it_is_certainly_better_than_the_vote() -> None:
    """A head that is always sure of the first class outvotes logistic regression."""

    class First(Sure):
        def probabilities(self, features: np.ndarray, table: pd.DataFrame) -> np.ndarray:
            return np.tile([1.0, 0.0], (len(table), 1))

    registry("head").add("sure_of_the_first", lambda rows, over, seed: First("A"))
    found = judge([Arm("real", TRAIN)], OVER, 0, ["sure_of_the_first", "logistic"])
    assert found.row(EVERY_SET, VOTE)["value"] < found.best["value"]
    assert (found.best["lead_low"] > 0, found.chosen["head"]) == (True, "logistic")
    assert found.row("real", "logistic")["gain"] == 0.0
    assert not found.is_worth_it


class Told:
    """Right on the combinations that trained it, or on the others alone."""

    classes = CLASSES
    reason = ""

    def __init__(self, seen: set[tuple[str, str]], is_right_on_seen: bool) -> None:
        self.seen, self.is_right_on_seen = seen, is_right_on_seen

    def probabilities(self, features: np.ndarray, table: pd.DataFrame) -> np.ndarray:
        seen = np.array([pair in self.seen for pair in zip(table["class"], table["site"])])
        says_b = table["class"].eq("B").to_numpy() == (seen == self.is_right_on_seen)
        return np.stack([~says_b, says_b], axis=1).astype(float)


def test_a_remedy_is_judged_at_the_setting_that_its_head_will_choose() -> None:
    """A head chooses by left-out combinations; another setting is better on kept ones, which count three times here."""

    def fit(rows: Embedded, over: Sequence[str], settings: Sequence[Setting]) -> list[Told]:
        seen = set(zip(rows.table["class"], rows.table["site"]))
        return [Told(seen, setting.alike) for setting in settings]

    head = Tuned(fit, (Setting(alike=True), Setting(alike=False)))
    registry("head").add("told", head)
    assert not head(TRAIN, OVER, 0).setting.alike
    found = judge([Arm("real", TRAIN)], OVER, 0, ["told"])
    assert found.row("real", "told")["value"] == pytest.approx(2 / 8)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(MediError, match=r"head 'two_wey' is unknown; .*did you mean 'two_way'"):
        judge([Arm("real", TRAIN)], OVER, 0, ["two_wey"])
    with pytest.raises(MediError, match="the real training rows are not among the sets"):
        judge([Arm("macenko", TRAIN)], OVER, 0)
    with pytest.raises(MediError, match="other: other rows than the real training set"):
        judge([Arm("real", TRAIN), Arm("other", TESTS["seen"])], OVER, 0)


def test_an_empty_choice_has_no_regret() -> None:
    none = Judged(
        pd.DataFrame({"set": ["real"], "head": ["crm"], "value": [np.nan], "true": [np.nan], "gain_low": [np.nan]})
    )
    assert none.chosen is None
    assert np.isnan(none.regret)


@pytest.mark.slow
def test_generated_rows_under_a_normalisation_join_real_rows_under_the_same_one() -> None:
    """The sites' effects are away in both; what is added shows the combinations that are left out."""

    def without_sites(rows: Embedded) -> Embedded:
        effects = np.array([[2.0 * SITES.index(site), 0.0, 0.0] for site in rows.table["site"]])
        return Embedded(rows.features - effects, rows.table)

    made = rows(5, 2.0, 20, EVERY)
    made = without_sites(Embedded(made.features, made.table.assign(origin="model", patient="", slide="")))
    tests = {name: without_sites(test).features for name, test in TESTS.items()}
    arms = [Arm("real", TRAIN), Arm("macenko", without_sites(TRAIN), tests=tests)]
    folds = len(holdouts(TRAIN.table, OVER, 0))
    added = Generated("medi_macenko", (made,) * folds, made, by="macenko")
    found = judge(arms, OVER, 0, ["logistic"], TESTS, generated=[added])
    both, alone = (found.row(name, "logistic") for name in ("medi_macenko", "macenko"))
    assert both is not None
    assert alone is not None
    assert both["value"] > found.row("real", "logistic")["value"] + 0.1
    assert both["true"] == pytest.approx(alone["true"], abs=0.05)
    assert both["reason"] == f"judged with models of {folds} inner hold-outs"
    unstained = [arms[0], Arm("macenko", TRAIN, reason="no stained tissue")]
    (row,) = (
        judge(unstained, OVER, 0, ["logistic"], generated=[added])
        .table.query("set == 'medi_macenko'")
        .to_dict("records")
    )
    assert row["reason"] == "no stained tissue"
    assert np.isnan(row["value"]), "P7"


@pytest.mark.slow
def test_generated_rows_that_real_ones_contradict_are_left_out_by_what_each_fold_keeps_p5(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of the rows show the other class than their label; the filter never meets a row that its fold leaves out."""
    made = rows(6, 2.0, 40, EVERY)
    table = made.table.assign(origin="model", patient="", slide="")
    wrong = np.arange(len(table)) % 2 == 1
    table.loc[wrong, "class"] = table.loc[wrong, "class"].map({"A": "B", "B": "A"})
    folds, met = holdouts(TRAIN.table, OVER, 0), list[set[str]]()

    def spied(real: Embedded, *rest: object) -> np.ndarray:
        met.append(set(real.table["sample_id"]))
        kept = agreed(real, *rest)
        assert kept[~wrong].mean() > kept[wrong].mean()
        return kept

    monkeypatch.setattr(recommend, "agreed", spied)
    added = Generated("medi", (Embedded(made.features, table),) * len(folds))
    found = judge([Arm("real", TRAIN)], OVER, 0, ["logistic"], generated=[added])
    ids = TRAIN.table["sample_id"].to_numpy()
    assert met == [set(ids[kept]) for kept in folds]
    both = [found.row(name, "logistic") for name in ("medi", "medi_filtered")]
    assert both[0]["value"] != both[1]["value"]
    assert both[1]["needs"] == "a generator"
