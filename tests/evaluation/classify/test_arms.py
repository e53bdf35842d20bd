"""Arms: what each makes of the training rows, and that none but the transductive one sees a test row (P5)."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from medi.cohort import phantom
from medi.core.errors import MediError
from medi.evaluation.classify import reweighting
from medi.evaluation.classify.alignment import Coral
from medi.evaluation.classify.arms import Arm, Material, arms_of
from medi.evaluation.classify.comparison import study_arms
from medi.evaluation.classify.logistic import losses
from medi.evaluation.classify.probes import Pool, tuned
from medi.evaluation.classify.regimes import curves, points
from medi.evaluation.classify.stained import STAIN, stain_arms, stain_patches
from medi.evaluation.classify.utility import evaluate
from medi.evaluation.encoders import COLOUR_TEXTURE, embed, embedded
from medi.evaluation.features import Embedded

OVER = ("class", "site")
D = 6
COUNTS = {("A", "x"): 60, ("B", "x"): 6, ("A", "y"): 8, ("B", "y"): 60, ("B", "z"): 30}
UNSEEN = {("A", "z"): 40, ("B", "x"): 40}


def made(name: str, counts: dict[tuple[str, str], int], origin: str = "real") -> Embedded:
    """Class on axis 0, a stronger site on axis 1, and on axis 2 a site effect of its own scale."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    rows, blocks = [], []
    for (c, s), n in counts.items():
        centre = np.zeros(D)
        centre[:2] = {"A": -1, "B": 1}[c], {"x": -3, "y": 0, "z": 3}[s]
        noise = rng.normal(size=(n, D))
        noise[:, 2] *= {"x": 1, "y": 3, "z": 0.3}[s]
        blocks.append(centre + noise)
        rows += [(f"{name}{c}{s}{i}", c, s, f"{name}{c}{s}{i % 5}") for i in range(n)]
    table = pd.DataFrame(rows, columns=["sample_id", "class", "site", "patient"]).assign(origin=origin)
    table["slide"] = table["patient"]
    if origin != "real":
        table[["patient", "slide"]] = ""
    return Embedded(np.concatenate(blocks), table)


REAL = made("r", COUNTS)
SYNTHETIC = {"cls": made("c", COUNTS, "h1"), "medi": made("m", UNSEEN, "h2")}
TESTS = {"seen": made("t", COUNTS), "unseen": made("u", UNSEEN)}
POOL = Pool.of(REAL, over=OVER).dealt(REAL.table, 0)


def shares(pool: Pool, columns: list[str]) -> pd.Series:
    """What each level weighs in all."""
    return pd.Series(pool.balanced(pool.weights)[0]).groupby([REAL.table[name] for name in columns]).sum()


def test_weights_make_classes_and_their_combinations_alike() -> None:
    rng = np.random.default_rng(0)
    plain = shares(reweighting.plain(POOL, rng), ["class"])
    assert plain["A"] == pytest.approx(plain["B"])
    cells = shares(reweighting.combination_weights(POOL, rng), ["class", "site"])
    assert cells["A"].to_numpy() == pytest.approx([cells.sum() / 4] * 2, rel=1e-5)
    assert cells["B"].to_numpy() == pytest.approx([cells.sum() / 6] * 3, rel=1e-5)
    none = shares(reweighting.unweighted(POOL, rng), ["class"])
    assert none.to_dict() == {"A": 68, "B": 96}


def test_resampling_has_as_many_rows_and_rare_combinations_oftener() -> None:
    pool = reweighting.resampled(400)(POOL, np.random.default_rng(0))
    assert pool.weights.sum() == 400
    assert (pool.weights >= 1).all()
    cells = pd.Series(pool.weights[0]).groupby([REAL.table["class"], REAL.table["site"]]).mean()
    assert cells["A", "y"] > 3 * cells["A", "x"]


def test_dfr_takes_equally_many_of_every_combination() -> None:
    pool = reweighting.dfr(POOL, np.random.default_rng(0))
    counts = pd.DataFrame(pool.weights.T).groupby(POOL.combinations).sum()
    assert len(pool.weights) == reweighting.BAGS
    assert set(counts.to_numpy().ravel()) == {8}, "that of six rows too, some of them twice"


def test_group_dro_lowers_the_worst_combinations_loss() -> None:
    worst = []
    for method in (reweighting.plain, reweighting.group_dro):
        pool = method(POOL, np.random.default_rng(0))
        planes = pool.solver(pool.rows, pool.balanced(pool.weights), np.array([0.1]))
        loss = losses(pool.rows.scores(planes), pool.rows.targets)[0][0]
        worst.append(pd.Series(loss).groupby(pool.combinations).mean().max())
    assert worst[1] < 0.8 * worst[0]


@pytest.mark.parametrize("method", [reweighting.mixup, reweighting.lisa])
def test_mixtures_stay_in_their_fold_and_only_train(method: reweighting.Method) -> None:
    """P5: no mixture carries a validation row into training; originals only validate."""
    pool = method(POOL, np.random.default_rng(0))
    n = len(REAL.table)
    assert pool.weights[0, :n].sum() == 0
    assert not pool.checks[n:].any()
    for fold in range(4):
        parents = POOL.rows.x[POOL.folds == fold]
        mixed = pool.rows.x[n:][pool.folds[n:] == fold]
        assert (mixed <= parents.max(axis=0) + 1e-5).all()
        assert (mixed >= parents.min(axis=0) - 1e-5).all()
    assert pool.targets.sum(axis=1) == pytest.approx(np.ones(len(pool.targets)))
    assert tuned(pool).reason == ""


def test_lisa_mixes_across_sites_or_across_classes() -> None:
    pool = reweighting.lisa(POOL, np.random.default_rng(0))
    mixed = pool.targets[len(REAL.table) :].max(axis=1) < 1
    assert 0.2 < mixed.mean() < 0.6, "about half keep their class"


def test_coral_takes_the_site_away_but_not_the_class() -> None:
    """Site z has one class; training's map for z is applied to the class that it never had."""
    found = Coral.fit(REAL, OVER)
    moved, table = found.apply(TESTS["unseen"]), TESTS["unseen"].table
    means = pd.DataFrame(moved).groupby([table["class"], table["site"]]).mean()
    assert abs(means.loc[("A", "z"), 1] - means.loc[("B", "x"), 1]) < 1.0, "6 apart before"
    assert 1 < means.loc[("B", "x"), 0] - means.loc[("A", "z"), 0] < 3.5, "2 apart, known from 6 rows of B in x"
    before, after = (x[REAL.table["site"] == "y"][:, 2].std() for x in (REAL.features, found.apply(REAL)))
    assert before > 2.5
    assert after < 2.2
    new = TESTS["unseen"].assign(site="new")
    np.testing.assert_array_equal(found.apply(new), new.features)


def test_only_the_transductive_arm_needs_other_test_rows() -> None:
    """P5: with half of the test rows moved far away, what an inductive arm says of the others stays as it was."""
    half = {split: np.arange(len(rows)) % 2 == 0 for split, rows in TESTS.items()}
    far = {split: Embedded(rows.features + 50.0 * half[split][:, None], rows.table) for split, rows in TESTS.items()}
    changed = []
    for arm, other in zip(arms(TESTS), arms(far)):
        plain = (rows["unseen"].features for rows in (TESTS, far))
        moved = [(each.tests or {}).get("unseen", x) for each, x in zip((arm, other), plain)]
        rest = ~half["unseen"]
        same = np.array_equal(moved[0][rest], moved[1][rest]) and np.array_equal(arm.embeddings, other.embeddings)
        changed += [] if same else [(arm.name, arm.panel)]
    assert changed == [("site_centred", "transductive")]


def arms(tests: dict[str, Embedded]) -> list[Arm]:
    return arms_of(Material(REAL, SYNTHETIC, tests, OVER, oracle=made("o", UNSEEN)))


@pytest.mark.parametrize("name", [arm.name for arm in arms(TESTS)])
def test_planted_test_rows_are_refused_in_every_arm(name: str) -> None:
    """P5: whichever arm a test patient is smuggled into, the comparison stops."""
    arm = next(arm for arm in arms(TESTS) if arm.name == name)
    table = arm.table.copy()
    table.loc[table.index[-1], "patient"] = TESTS["unseen"].table["patient"].iloc[0]
    planted = Arm(arm.name, Embedded(arm.embeddings, table), arm.method, arm.panel, arm.trains, arm.tests)
    with pytest.raises(MediError, match=f"trains in arm {name} and tests in unseen"):
        evaluate([planted], TESTS, seed=0)


@pytest.fixture(scope="module")
def compared() -> tuple[pd.DataFrame, pd.DataFrame]:
    tables = study_arms(REAL, SYNTHETIC, TESTS, over=OVER, seed=0, seeds=(0, 1), oracle=made("o", UNSEEN))
    return tables["utility"], tables["curves"]


@pytest.mark.slow
def test_everything_is_compared_in_both_panels(compared: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    table, _ = compared
    overall = table[(table["metric"] == "balanced_accuracy") & (table["scope"] == "all")]
    names = {arm.name for arm in arms(TESTS)}
    assert set(overall["arm"]) == names
    assert set(overall.loc[overall["panel"] == "transductive", "arm"]) == {"site_centred"}
    assert set(table.loc[table["metric"] == "gap_closed", "arm"]) == names - {"real", "oracle"}
    differences = table[table["metric"] == "balanced_accuracy_difference"]
    pairs = set(zip(differences["arm"], differences["against"]))
    expected = {("medi", name) for name in names - {"medi"}} | {("cls", name) for name in names - {"medi", "cls"}}
    assert pairs == expected, "each synthetic set against every other arm, the reference first"
    assert (differences["p_adjusted"] >= differences["p_value"]).all()
    index = table[table["metric"] == "robustness_index"].set_index("arm")["value"]
    assert index["coral"] > index["real"] + 0.1
    sizes = overall.set_index(["arm", "split"])["n_train"]
    assert sizes["resampled", "seen"] == sizes["medi", "seen"] == 244
    assert sizes["medi_only", "seen"] == 80


@pytest.mark.slow
def test_sets_of_any_name_are_compared_with_every_arm() -> None:
    """Defect: differences were named "a - b", so that a set called "my - model" could not be told apart."""
    sets = {"my - model": SYNTHETIC["cls"], "other": SYNTHETIC["medi"]}
    table = study_arms(REAL, sets, TESTS, over=OVER, seed=0, only=["dfr"])["utility"]
    rows = table[table["metric"] == "balanced_accuracy_difference"]
    expected = {("my - model", name) for name in ("real", "dfr", "other")} | {("other", "real"), ("other", "dfr")}
    assert set(zip(rows["arm"], rows["against"])) == expected
    assert rows["n_synthetic"].eq(rows["arm"].map({name: len(part) for name, part in sets.items()})).all()
    table = study_arms(REAL, sets, TESTS, over=OVER, seed=0, only=["none"], reference="other")["utility"]
    rows = table[table["metric"] == "auroc_difference"]
    assert set(zip(rows["arm"], rows["against"])) == {
        ("other", "real"),
        ("other", "my - model"),
        ("my - model", "real"),
    }
    with pytest.raises(MediError, match="reference 'third' is no synthetic set; there are my - model, other"):
        study_arms(REAL, sets, TESTS, over=OVER, seed=0, reference="third")


@pytest.mark.slow
def test_curves_are_nested_and_end_at_the_whole(compared: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    table, curve = compared
    assert set(curve["arm"]) == {"real", "cls", "medi", "oracle"}
    assert set(curve["x_name"]) == {"ratio", "n_train", "real_per_class", "sites"}
    assert set(curve["seed"]) == {0, 1}
    at = curve[(curve["arm"] == "medi") & (curve["split"] == "unseen") & (curve["metric"] == "balanced_accuracy")]
    ends = at[at["x_name"].isin(["ratio", "sites"])].groupby(["x_name", "seed"])["value"].last().unstack()
    assert (ends.loc["ratio"] == ends.loc["sites"]).all()
    whole = table.set_index(["metric", "arm", "split", "scope"])["value"]
    assert ends.loc["ratio"].mean() == pytest.approx(whole["balanced_accuracy", "medi", "unseen", "all"], abs=0.03)
    alike = SYNTHETIC["medi"].table.assign(origin="real")
    few = [point.rows for point in points(alike, OVER, 0) if point.x_name == "sites"]
    assert all((small <= large).all() for small, large in pairwise(few))


@pytest.mark.slow
def test_classes_that_few_sites_lack_are_no_number() -> None:
    """P7: one random site that has one class."""
    rows = REAL.table["site"].eq("z") | REAL.table["class"].eq("A")
    part = Arm("real", REAL.take(rows.to_numpy()))
    found = curves([part], TESTS, over=OVER, seeds=range(3))
    one = found[(found["x_name"] == "sites") & (found["x"] == 1)]
    assert one["value"].isna().any()
    assert one.loc[one["value"].isna(), "reason"].str.contains("not in these rows").all()


@pytest.mark.slow
def test_broken_material_is_an_error_or_a_reason() -> None:
    broken = REAL.features.copy()
    broken[3] = np.nan
    with pytest.raises(MediError, match="real: 1 embeddings are not finite, first of 'rAx3'"):
        study_arms(Embedded(broken, REAL.table), SYNTHETIC, TESTS, over=OVER, seed=0)
    one = REAL.take(REAL.table["class"].eq("A").to_numpy())
    table = study_arms(one, SYNTHETIC, TESTS, over=OVER, seed=0)["utility"]
    overall = table[(table["metric"] == "balanced_accuracy") & (table["scope"] == "all")].set_index(["arm", "split"])
    assert overall.loc[("real", "unseen"), "reason"] == "real trains on 1 class: no probe"
    assert "no head that could agree" in overall.loc[("medi_filtered", "unseen"), "reason"]
    assert np.isfinite(overall.loc[("medi", "unseen"), "value"])
    alone = study_arms(REAL, {}, TESTS, over=OVER, seed=0, only=["none"])["utility"]
    assert set(alone["arm"]) == {"real", "chance"}
    with pytest.raises(MediError, match=r"arm 'coal' is unknown; known: all, none, unweighted.*did you mean 'coral'"):
        study_arms(REAL, {}, TESTS, over=OVER, seed=0, only=["coal"])
    with pytest.raises(MediError, match="head 'best' is unknown; known: tuned, medi, uni"):
        study_arms(REAL, {}, TESTS, over=OVER, seed=0, head="best")


@pytest.mark.slow
@pytest.mark.parametrize(("head", "other"), [("medi", "unweighted"), ("uni", "class_weights")])
def test_other_heads_take_every_arm_but_group_dro(head: str, other: str) -> None:
    found = arms_of(Material(REAL, {}, TESTS, OVER, head=head))
    names = {"real", other, "combination_weights", "dfr", "mixup", "lisa", "coral", "site_centred"}
    assert {arm.name for arm in found} == names
    few = [arm for arm in found if head == "medi" or arm.name in ("real", "mixup")]
    table = evaluate(few, TESTS, seed=0, head=head)
    assert np.isfinite(table[table["metric"] == "balanced_accuracy"].query("scope == 'all'")["value"]).all()
    with pytest.raises(MediError, match="arm group_dro cannot be made here: head"):
        arms_of(Material(REAL, {}, TESTS, OVER, head=head), ["group_dro"])
    own = Arm("group_dro", REAL, reweighting.group_dro)
    with pytest.raises(MediError, match="group_dro has an objective of its own"):
        evaluate([own], TESTS, seed=0, head=head)


@pytest.mark.slow
def test_stain_arms_embed_what_they_change() -> None:
    cells = [(c, s) for c in phantom.CLASSES[:2] for s in phantom.SITES[:2]]
    train, test = (phantom.fresh(cells, 12, seed=0, stream=name) for name in ("stain train", "stain test"))
    real = embedded(train, COLOUR_TEXTURE)
    done: list[tuple[int, int]] = []
    more = {"medi": test.select(np.arange(12))}
    made = stain_arms(train, real, {"seen": test}, COLOUR_TEXTURE, 0, progress=lambda *at: done.append(at), more=more)
    found = {arm.name: arm for arm in made}
    assert tuple(found) == ("macenko", "medi_macenko", "reinhard", "medi_reinhard", "hed_jitter", "randstainna")
    assert tuple(name for name in found if name not in ("medi_macenko", "medi_reinhard")) == STAIN
    patches = stain_patches(len(train), len(test) + 12, STAIN)
    assert done[-1] == (patches, patches) == (4 * 48 + 2 * (48 + 12), 4 * 48 + 2 * (48 + 12))
    for name in ("macenko", "reinhard"):
        both = found[f"medi_{name}"]
        assert np.array_equal(both.embeddings[:48], found[name].embeddings), "real rows under the same normalisation"
        assert np.array_equal(both.embeddings[48:], found[name].tests["seen"][:12]), "these are the first test patches"
        assert both.tests is found[name].tests
    plain = embed(test, COLOUR_TEXTURE)
    for name in ("macenko", "reinhard"):
        sets = (pd.DataFrame(x[:, :3]) for x in (plain, found[name].tests["seen"]))
        before, after = (x.groupby(test.table["site"]).mean().std().mean() for x in sets)
        assert after < 0.7 * before, "mean red, green and blue of the sites are nearer"
    for name in ("hed_jitter", "randstainna"):
        assert len(found[name].table) == 2 * len(train)
        assert found[name].tests is None
    with pytest.raises(MediError, match="48 training patches for 47 embeddings"):
        stain_arms(train, real.take(np.arange(1, 48)), {"seen": test}, COLOUR_TEXTURE, 0)
