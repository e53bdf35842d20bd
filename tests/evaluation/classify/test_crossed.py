"""Heads x training sets: each figure is that of its own fit, differences are paired, test patches choose nothing."""

import numpy as np
import pandas as pd
import pytest

from medi.core.errors import MediError
from medi.core.registry import REGISTRIES
from medi.core.tables import HEADS as TABLE
from medi.evaluation.classify import crossed as module
from medi.evaluation.classify.arms import Arm, Material, arms_of
from medi.evaluation.classify.comparison import study_arms
from medi.evaluation.classify.crossed import crossed, sets_of
from medi.evaluation.classify.gap import gap_of
from medi.evaluation.classify.heads import HEADS, SoftVote
from medi.evaluation.classify.heads.contract import Trained
from medi.evaluation.features import Embedded
from medi.evaluation.statistics import holm
from sited_worlds import OVER, SEEN, UNSEEN, rows_of

pytestmark = pytest.mark.slow  # all read the tables of one fixture
GAP = 3.0


def made(pairs: list[tuple[int, int]], each: int, seed: int, gap: float = GAP) -> Embedded:
    """Synthetic rows: true ones that are all moved by one gap, in the direction of the first feature."""
    rows = rows_of(pairs, each, 2.0, seed)
    names = "made-" + rows.table["sample_id"]
    moved = rows.features + gap * np.eye(rows.features.shape[1])[0]
    return Embedded(moved, rows.table.assign(origin="model", patient="", slide="", sample_id=names))


REAL_ROWS = rows_of(SEEN, 8, 2.0, 1)
SYNTHETIC = {"medi": made([*UNSEEN, *SEEN[:4]], 6, 3)}
TESTS = {"seen": rows_of(SEEN, 4, 2.0, 5), "unseen": rows_of(UNSEEN, 4, 2.0, 6)}


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    heads = ("logistic", "two_way")
    return study_arms(REAL_ROWS, SYNTHETIC, TESTS, over=OVER, seed=0, only=["mixup", "coral"], heads=heads)


def picked(table: pd.DataFrame, **wanted: str) -> pd.Series:
    rows = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


def test_the_table_is_one_of_the_results_and_has_every_set_that_a_head_suits(tables: dict[str, pd.DataFrame]) -> None:
    """Mixup and CORAL are remedies of their own: they have no other head."""
    found = TABLE.check(tables["heads"])
    assert set(found["arm"]) == {"real", "medi", "medi_gap"}
    assert set(found["head"]) == {"logistic", "two_way", "soft_vote", "chosen"}
    assert set(found["split"]) == {"", "seen", "unseen", "all"}


@pytest.mark.parametrize("split", ["seen", "unseen", "all"])
@pytest.mark.parametrize("arm", ["real", "medi"])
def test_the_logistic_head_is_the_utility_table_to_the_digit(
    tables: dict[str, pd.DataFrame], arm: str, split: str
) -> None:
    wanted = {"metric": "mean_recall", "arm": arm, "split": split, "scope": "all"}
    mine, theirs = picked(tables["heads"], head="logistic", **wanted), picked(tables["utility"], **wanted)
    columns = ["value", "low", "high", "n_real", "n_synthetic", "n_patients", "n_train"]
    assert mine[columns].tolist() == theirs[columns].tolist()


def test_without_heads_the_tables_are_those_of_before(tables: dict[str, pd.DataFrame]) -> None:
    plain = study_arms(REAL_ROWS, SYNTHETIC, TESTS, over=OVER, seed=0, only=["mixup", "coral"])
    assert set(plain) == {"utility", "curves"}
    pd.testing.assert_frame_equal(plain["utility"], tables["utility"])


def test_differences_are_paired_and_adjusted_over_their_family(tables: dict[str, pd.DataFrame]) -> None:
    """Every set less the real rows and the reference less the others, under each head; two families of Holm."""
    found = tables["heads"]
    rows = found[(found["metric"] == "mean_recall_difference") & (found["split"] == "all")]
    own = rows[rows["head"] == "two_way"]
    assert set(zip(own["arm"], own["against"])) == {("medi", "real"), ("medi_gap", "real"), ("medi", "medi_gap")}
    values = found[(found["metric"] == "mean_recall") & (found["split"] == "all")].set_index(["head", "arm"])["value"]
    assert own["value"].to_numpy() == pytest.approx(
        [values["two_way", a] - values["two_way", b] for a, b in zip(own["arm"], own["against"])]
    )
    for family in (rows["head"] == "chosen", rows["head"] != "chosen"):
        assert rows["p_adjusted"][family].to_numpy() == pytest.approx(holm(rows["p_value"][family].to_numpy()))


def test_the_head_of_a_set_is_chosen_by_the_inner_hold_out(tables: dict[str, pd.DataFrame]) -> None:
    found = tables["heads"]
    for arm in ("real", "medi"):
        inner = found[(found["metric"] == "inner_recall") & (found["arm"] == arm)].set_index("head")["value"]
        row = picked(found, metric="mean_recall", head="chosen", arm=arm, split="all")
        assert f"head {inner.idxmax()}" in row["reason"]
        assert row["value"] == picked(found, metric="mean_recall", head=inner.idxmax(), arm=arm, split="all")["value"]


def test_the_soft_vote_of_a_set_is_the_mean_of_what_its_heads_say(tables: dict[str, pd.DataFrame]) -> None:
    for split, test in TESTS.items():
        told = [HEADS[name](REAL_ROWS, OVER, 0) for name in ("logistic", "two_way")]
        mean = sum(one.probabilities(test.features, test.table) for one in told)
        right = np.array(told[0].classes)[mean.argmax(axis=1)] == test.table["class"].to_numpy()
        recall = test.table.assign(right=right).groupby(list(OVER))["right"].mean().mean()
        row = picked(tables["heads"], metric="mean_recall", head="soft_vote", arm="real", split=split)
        assert row["value"] == pytest.approx(recall)
        assert row["low"] < row["value"] < row["high"]
        assert "heads logistic, two_way" in row["reason"]


def test_the_gap_is_least_squares_beside_the_combinations() -> None:
    """Against numpy: a dummy per combination and one for synthetic rows."""
    both = REAL_ROWS.join(SYNTHETIC["medi"])
    names = (both.table["class"] + both.table["site"]).to_numpy(dtype=object)
    dummies = (names[:, None] == np.unique(names)).astype(float)
    synthetic = (np.arange(len(both)) >= len(REAL_ROWS))[:, None]
    effect = np.linalg.lstsq(np.hstack([dummies, synthetic]), both.features, rcond=None)[0][-1]
    assert gap_of(REAL_ROWS, SYNTHETIC["medi"], OVER) == pytest.approx(effect)
    assert effect[0] == pytest.approx(GAP, abs=1.0)


def test_a_set_without_shared_combinations_has_no_gap_and_a_reason() -> None:
    material = Material(REAL_ROWS, {"medi": made(UNSEEN, 4, 3)}, TESTS, OVER)
    found = crossed(sets_of(arms_of(material, ["none"]), material), TESTS, ["two_way"], over=OVER, seed=0, seeds=(0,))
    row = picked(found, metric="mean_recall", head="two_way", arm="medi_gap", split="all")
    assert np.isnan(row["value"])
    assert "no gap to estimate" in row["reason"]


def test_what_a_head_cannot_do_is_nan_with_the_reason_in_figures_and_differences() -> None:
    """One combination a site: the real rows have no two-way head, so that nothing is compared with them (P7)."""
    real = rows_of([(0, 0), (1, 1), (2, 2), (3, 3)], 16, 1.0, 1)
    sets = [Arm("real", real), Arm("medi", real.join(SYNTHETIC["medi"]))]
    tests = {"seen": rows_of([(0, 0), (1, 1), (2, 2), (3, 3)], 8, 1.0, 7)}
    found = crossed(sets, tests, ["two_way"], over=OVER, seed=0, seeds=(0,), reference="medi")
    for wanted in ({"metric": "mean_recall", "arm": "real"}, {"metric": "mean_recall_difference", "arm": "medi"}):
        row = picked(found, head="two_way", split="all", **wanted)
        assert np.isnan(row["value"])
        assert "has one class" in row["reason"]
    assert "no head is chosen" in picked(found, metric="mean_recall", head="chosen", arm="real", split="all")["reason"]


def test_one_class_in_training_has_a_reason() -> None:
    real = rows_of([(0, 0), (0, 1)], 8, 1.0, 1)
    found = crossed([Arm("real", real)], TESTS, ["two_way"], over=OVER, seed=0, seeds=(0,))
    assert "trains on 1 class" in picked(found, metric="mean_recall", head="two_way", arm="real", split="all")["reason"]


def test_few_rows_and_new_sites_are_said() -> None:
    """The penalty alone decides with fewer rows than numbers; a site that training has not is left as it is."""
    real = rows_of(SEEN, 4, 1.0, 1, d=60)
    test = rows_of(SEEN, 4, 1.0, 2, d=60)
    new = test.assign(site=test.table["site"].replace("s4", "elsewhere"))
    found = crossed([Arm("real", real)], {"seen": new}, ["two_way"], over=OVER, seed=0, seeds=(0,))
    reason = picked(found, metric="mean_recall", head="two_way", arm="real", split="all")["reason"]
    assert "48 training rows for 60 numbers" in reason
    assert "test patches of sites that training has not" in reason


def test_long_embeddings_are_cut_for_all_heads_but_the_logistic_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components of the real rows: all of them change nothing but the penalty's axes, and unseen rows are not asked."""
    monkeypatch.setattr(module, "WIDE", 4)
    sets = [Arm("real", REAL_ROWS)]
    short = crossed(sets, TESTS, ["logistic", "two_way"], over=OVER, seed=0, seeds=(0,))
    monkeypatch.setattr(module, "WIDE", 256)
    long = crossed(sets, TESTS, ["logistic", "two_way"], over=OVER, seed=0, seeds=(0,))
    wanted = {"metric": "mean_recall", "arm": "real", "split": "all"}
    both = [
        [picked(table, head=head, **wanted)["value"] for table in (short, long)] for head in ("logistic", "two_way")
    ]
    assert both[0][0] == both[0][1]
    assert both[1][0] == pytest.approx(both[1][1], abs=0.05)


def test_a_head_of_the_users_is_a_function() -> None:
    """It may know nothing of inner scores: then it is measured, and never chosen."""

    class Constant:
        classes = ("c0", "c1", "c2", "c3")
        reason = ""

        def probabilities(self, features: np.ndarray, table: pd.DataFrame) -> np.ndarray:
            return np.eye(4)[np.zeros(len(features), dtype=int)]

    def constant(rows: Embedded, over: tuple[str, ...], seed: int) -> Constant:
        return Constant()

    REGISTRIES["head"].add("constant", constant)
    try:
        found = crossed([Arm("real", REAL_ROWS)], TESTS, ["constant"], over=OVER, seed=0, seeds=(0,))
    finally:
        del REGISTRIES["head"].things["constant"]
    assert picked(found, metric="mean_recall", head="constant", arm="real", split="all")["value"] == 0.25
    assert np.isnan(picked(found, metric="inner_recall", head="constant", arm="real", split="")["value"])


def test_an_unknown_head_is_refused_with_the_nearest() -> None:
    with pytest.raises(MediError, match=r"head 'two-way' is unknown; known: logistic.*two_way"):
        crossed([Arm("real", REAL_ROWS)], TESTS, ["two-way"], over=OVER, seed=0, seeds=(0,))


def test_heads_are_trained_with_seeds_and_scores_are_their_means() -> None:
    fits = module._fitted([Arm("real", REAL_ROWS)], ["two_way"], OVER, (0, 1), lambda done, of: None)
    assert [isinstance(one, Trained) for one in fits[0].trained] == [True, True]
    assert fits[0].inner == pytest.approx(np.mean([one.inner for one in fits[0].trained]))


def test_a_normalised_set_has_its_gap_and_meets_real_rows_under_the_same_normalisation() -> None:
    """Real rows and tests are moved by the normalisation, so that the set has tests of its own."""
    material = Material(REAL_ROWS, SYNTHETIC, TESTS, OVER)
    moved, tests = REAL_ROWS.features + 1.0, {name: rows.features + 1.0 for name, rows in TESTS.items()}
    alone = Arm("macenko", Embedded(moved, REAL_ROWS.table), tests=tests)
    both = Arm("medi_macenko", alone.rows.join(SYNTHETIC["medi"]), tests=tests)
    sets = {arm.name: arm for arm in sets_of([*arms_of(material, ["none"]), alone, both], material)}
    assert list(sets) == ["real", "medi", "macenko", "medi_macenko", "medi_gap", "medi_macenko_gap"]
    change = sets["medi_macenko_gap"].rows.features - both.rows.features
    assert not change[: len(REAL_ROWS)].any()
    gap = gap_of(alone.rows, SYNTHETIC["medi"], OVER)
    assert change[len(REAL_ROWS) :] == pytest.approx(np.tile(-gap, (len(SYNTHETIC["medi"]), 1)))
    assert sets["medi_macenko_gap"].tests is tests
    found = crossed(list(sets.values()), TESTS, ["two_way"], over=OVER, seed=0, seeds=(0,), reference="medi")
    for name in ("medi_macenko", "medi_macenko_gap"):
        apart = picked(found, metric="mean_recall_difference", head="two_way", arm=name, against="macenko", split="all")
        values = [
            picked(found, metric="mean_recall", head="two_way", arm=arm, split="all")["value"]
            for arm in (name, "macenko")
        ]
        assert apart["value"] == pytest.approx(values[0] - values[1])


def test_a_class_that_a_voter_does_not_know_counts_as_impossible_there() -> None:
    class Says:
        def __init__(self, classes: tuple[str, ...], row: list[float], reason: str = "") -> None:
            self.classes, self.row, self.reason = classes, row, reason

        def probabilities(self, features: np.ndarray, table: pd.DataFrame) -> np.ndarray:
            return np.tile(self.row, (len(features), 1))

    vote = SoftVote((Says(("b", "a"), [0.5, 0.5], "few"), Says(("a", "c"), [0.2, 0.8], "few")))
    assert vote.classes == ("a", "b", "c")
    assert vote.reason == "few"
    assert vote.probabilities(np.zeros((2, 1)), pd.DataFrame(index=range(2))) == pytest.approx(
        np.array([[0.35, 0.25, 0.4]] * 2)
    )
