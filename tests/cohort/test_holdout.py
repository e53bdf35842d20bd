"""Hold-out: patients never split (P5), combinations held out as promised, a certificate that notices any change."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medi.cohort import phantom
from medi.cohort.certificate import verify
from medi.cohort.holdout import Holdout, design
from medi.cohort.rule import Rule
from medi.cohort.schema import Schema
from medi.cohort.table import SPLITS
from medi.core import seeds
from medi.core.errors import MediError
from shared_data import TCGA


def cohort(seed: int, patients: int = 120, classes: int = 3, sites: int = 4, mixed: float = 0.1) -> pd.DataFrame:
    """Patients with one or two slides of several patches; some have patches of two classes, some sites are unknown."""
    g = seeds.generator("test cohort", seed)
    rows = []
    for p in range(patients):
        site, own = int(g.integers(sites)), int(g.integers(classes))
        for s in range(int(g.integers(1, 3))):
            for _ in range(int(g.integers(3, 9))):
                label = int(g.integers(classes)) if g.random() < mixed else own
                rows.append((f"c{label}", f"p{p}", f"p{p}s{s}", f"h{site}" if site or s else "", g.choice(["f", "m"])))
    table = pd.DataFrame(rows, columns=["class", "patient", "slide", "site", "sex"])
    return table.assign(sample_id=[f"x{i}" for i in range(len(table))])


def schema_of(table: pd.DataFrame) -> Schema:
    return Schema.infer(table, ["site", "sex"])


def designed(seed: int, rule: Rule | None = None) -> tuple[pd.DataFrame, Holdout]:
    table = cohort(seed)
    found = design(table, schema_of(table), rule, seed)
    return found.apply(table), found


@pytest.mark.parametrize("seed", range(8))
def test_no_patient_or_slide_is_on_two_sides_p5(seed: int) -> None:
    table, _ = designed(seed)
    side = table["split"].replace({"reserve": "train", "test_seen": "test", "test_unseen": "test"})
    assert (side.groupby(table["patient"]).nunique() == 1).all()
    assert (side.groupby(table["slide"]).nunique() == 1).all()


@pytest.mark.parametrize("seed", range(8))
def test_held_out_combinations_have_no_training_row_p5(seed: int) -> None:
    table, found = designed(seed)
    held = {tuple(c) for c in found.certificate["held_out"]}
    trained = table[table["split"].isin(["train", "validation", "reserve", "test_seen"])]
    assert not held & set(zip(trained["class"], trained["site"]))
    unseen = table[table["split"] == "test_unseen"]
    assert held <= set(zip(unseen["class"], unseen["site"])) == set(found.held_out)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.45])
def test_random_rule_reaches_the_rate_exactly_and_keeps_every_level(seed: int, rate: float) -> None:
    table, found = designed(seed, Rule(rate=rate, min_patients=3))
    known = table[table["site"] != ""]
    assert len(found.certificate["held_out"]) == round(rate * len(known.groupby(["class", "site"])))
    trained = table[table["split"] == "train"]
    for column in ("class", "site"):
        assert (trained[trained[column] != ""].groupby(column)["patient"].nunique() >= 3).all()
        assert set(trained[column]) | {""} == set(table[column]) | {""}


@pytest.mark.parametrize("seed", range(4))
def test_sharing_and_reserve_never_empty_a_training_combination(seed: int) -> None:
    table, found = designed(seed, Rule(test_seen=0.4, validation=0.3, reserve=0.3))
    inside = set(zip(table["class"], table["site"])) - set(found.held_out)
    trained = table[table["split"] == "train"]
    assert {c for c in inside if c[1]} == {c for c in zip(trained["class"], trained["site"]) if c[1]}
    reserved = table[table["split"] == "reserve"]
    assert len(reserved)
    assert set(reserved["slide"]) <= set(trained["slide"])
    kept = trained.groupby("slide").size()
    assert all(number < kept[slide] for slide, number in reserved.groupby("slide").size().items())


@pytest.mark.slow
def test_shares_are_reached_where_patients_are_plenty() -> None:
    table = cohort(3, patients=600, mixed=0.0)
    found = design(table, schema_of(table), Rule(test_seen=0.2, validation=0.1, reserve=0.05), 0)
    split = found.apply(table)
    remaining = split[split["split"].isin(["train", "validation", "reserve"]) | ~split["patient"].isin(
        split["patient"][split["split"] == "test_unseen"])]  # fmt: skip
    patients = remaining.groupby("split")["patient"].nunique()
    every = remaining["patient"].nunique()
    assert patients["test_seen"] == round(0.2 * every)
    assert patients["validation"] == round(0.1 * every)
    rows = split["split"].value_counts()
    assert rows["reserve"] == round(0.05 * (rows["reserve"] + rows["train"]))


@pytest.mark.slow
def test_the_same_design_for_any_order_of_the_rows_p3() -> None:
    table = cohort(1)
    found = design(table, schema_of(table), seed=5)
    shuffled = design(table.sample(frac=1, random_state=0), schema_of(table), seed=5)
    assert shuffled.certificate == found.certificate
    assert found.apply(table)["split"].equals(shuffled.apply(table)["split"])
    assert design(table, schema_of(table), seed=6).certificate["ids"] != found.certificate["ids"]


def test_unknown_levels_stay_trainable() -> None:
    table = cohort(2, mixed=0.0)
    lonely = table["patient"].isin(table["patient"].unique()[:20])
    table.loc[lonely, "site"] = ""
    found = design(table, schema_of(table), Rule(test_seen=0.0, validation=0.0, reserve=0.0), 0)
    assert set(found.apply(table).loc[lonely, "split"]) == {"train"}
    assert all(site for _, site in found.held_out)


def test_whole_levels_and_named_combinations() -> None:
    table = cohort(4)
    hospital = design(table, schema_of(table), Rule.levels("site", ["h1"]), 0).apply(table)
    assert set(hospital["split"][hospital["site"] == "h1"]) == {"test_unseen"}
    named = design(table, schema_of(table), Rule("named", held=(("c0", "h1"), ("c1", "h2"))), 0)
    assert {("c0", "h1"), ("c1", "h2")} == {tuple(c) for c in named.certificate["held_out"]}
    assert verify(named.apply(table), named.certificate) == []


def test_combinations_that_lose_all_patients_count_as_unseen_p5() -> None:
    """Patient a alone has (c1, h0): holding out (c0, h0) empties it, and its patches must not pass for seen ones."""
    rows = [("c0", "a", "h0"), ("c1", "a", "h0"), ("c0", "b", "h1"), ("c1", "b", "h1"), ("c0", "c", "h1")]
    table = pd.DataFrame(rows, columns=["class", "patient", "site"]).assign(slide=lambda t: t["patient"])
    table["sample_id"] = [str(i) for i in range(len(table))]
    found = design(table, Schema.infer(table, ["site"]), Rule("named", held=(("c0", "h0"),)), 0)
    assert found.certificate["emptied"] == [["c1", "h0"]]
    assert list(found.split[:2]) == ["test_unseen", "test_unseen"]


@pytest.mark.slow
def test_site_folds_hold_out_every_site_once_with_all_classes() -> None:
    table = cohort(5, patients=400, sites=12)
    folds = [design(table, schema_of(table), Rule("sites", ("site",), folds=3, fold=f), 0) for f in range(3)]
    sites = [site for fold in folds for (site,) in fold.held_out]
    assert sorted(sites) == sorted(set(table["site"]) - {""})
    for fold in folds:
        unseen = fold.apply(table).query("split == 'test_unseen'")
        share = unseen["class"].value_counts() / table["class"].value_counts()
        assert share.between(0.2, 0.5).all()


CHANGES = {
    "moved": lambda t: t.assign(split=t["split"].where(t["sample_id"] != "x7", "reserve" if t["split"][7] != "reserve"
                                                       else "train")),
    "relabelled": lambda t: t.assign(**{"class": t["class"].where(t["sample_id"] != "x7", "c9")}),
    "attribute changed": lambda t: t.assign(sex=t["sex"].where(t["sample_id"] != "x7", "?")),
    "dropped": lambda t: t.drop(index=7),
    "added": lambda t: pd.concat([t, t.iloc[[7]].assign(sample_id="new")], ignore_index=True),
    "renamed": lambda t: t.assign(sample_id=t["sample_id"].replace("x7", "y7")),
    "other patient": lambda t: t.assign(patient=t["patient"].where(t["sample_id"] != "x7", "p119")),
    "two swapped": lambda t: t.assign(**{"class": t["class"].where(~t["sample_id"].isin(["x0", "x7"]), "c1")}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_one_changed_row_breaks_the_certificate(change: str) -> None:
    table, found = designed(0)
    assert verify(table, found.certificate) == []
    assert verify(table.sample(frac=1, random_state=1), found.certificate) == []
    assert verify(CHANGES[change](table), found.certificate) != []


def test_verify_sees_leaks_without_the_hashes() -> None:
    """A forged certificate whose hashes fit still fails on the facts."""
    table, found = designed(0)
    held = (table["split"] == "test_unseen").to_numpy()
    leaked = table.assign(split=np.where(held & (np.arange(len(table)) == np.argmax(held)), "train", table["split"]))
    problems = verify(leaked, found.certificate)
    assert any("on two sides" in problem for problem in problems)
    assert any("held-out combinations outside" in problem for problem in problems)
    thin = table.assign(split=table["split"].where(table["class"] != "c0", "test_seen"))
    assert any("class 'c0' keeps only 0" in problem for problem in verify(thin, found.certificate))
    assert verify(table.drop(columns="split"), found.certificate) == ["the table lacks the columns split"]
    assert "is none of" in verify(table.assign(split="tset"), found.certificate)[0]


def test_id_hashes_are_sha256_of_sorted_lines() -> None:
    table, found = designed(0)
    for name in SPLITS:
        lines = "\n".join(sorted(table["sample_id"][table["split"] == name]))
        assert found.certificate["ids"][name] == hashlib.sha256(lines.encode()).hexdigest()


def test_saved_and_loaded(tmp_path: Path) -> None:
    table, found = designed(0)
    again = Holdout.load(found.save(tmp_path))
    assert again.table.equals(found.table)
    assert verify(again.apply(table.drop(columns="split")), again.certificate) == []
    with pytest.raises(MediError, match="is not in this hold-out"):
        found.apply(table.assign(sample_id=table["sample_id"] + "!"))


@pytest.mark.slow
def test_a_saved_cohort_has_its_holdout(tmp_path: Path) -> None:
    """Defect: of a packed cohort, or of one saved from Python, "certificate.json: no such file" was all there was."""
    tissue = phantom.cohort(0, 32, 30)
    split = tissue.hold_out(rate=0.1, seed=0)
    found = Holdout.load(split.save(tmp_path / "split"))
    assert found.certificate["ids"] == split.holdout.certificate["ids"]
    assert found.apply_to(tissue).holdout.table.equals(split.holdout.table)
    for folder in (tissue.save(tmp_path / "whole"), tmp_path):
        with pytest.raises(MediError, match="no hold-out here; `medi holdout`"):
            Holdout.load(folder)
    split.pack(tmp_path / "split", 32)
    with pytest.raises(MediError, match="another split"):
        tissue.pack(tmp_path / "split", 32)


def test_the_class_alone_leaves_patients_to_hold_out() -> None:
    table, schema = cohort(0), Schema.infer(cohort(0), [])
    with pytest.raises(MediError, match=r"no attribute is known.*--rate 0"):
        design(table, schema, Rule(rate=0.9, min_patients=60))
    assert not design(table, schema, Rule(rate=0)).held_out


@pytest.mark.slow
def test_infeasible_rate_says_what_is_feasible() -> None:
    """A 3 x 4 grid of one-class patients keeps at least max(3, 4) combinations, so at most 8 can be held out."""
    grid = [(f"c{c}", f"h{h}") for c in range(3) for h in range(4)]
    table = pd.DataFrame(grid * 2, columns=["class", "site"])
    table = table.assign(patient=[f"p{i}" for i in range(24)], slide=[f"s{i}" for i in range(24)])
    table["sample_id"] = table["slide"]
    schema = Schema.infer(table, ["site"])
    bare = {"test_seen": 0.0, "validation": 0.0, "reserve": 0.0}
    for seed in range(5):  # most greedy orders stop short of 8: the exact search must find it
        found = design(table, schema, Rule(rate=8 / 12, **bare), seed)
        assert len(found.certificate["held_out"]) == 8
        assert verify(found.apply(table), found.certificate) == []
    with pytest.raises(MediError, match="only 8 were found"):
        design(table, schema, Rule(rate=0.75, **bare), 0)


@pytest.mark.slow
def test_degenerate_tables_work_or_say_why() -> None:
    table = cohort(6)
    one = table.assign(site="h0")
    with pytest.raises(MediError, match=r"only one site \(h0\): nothing to hold out"):
        design(one, Schema.infer(one, ["site"]), seed=0)
    lost = table.assign(site="")
    with pytest.raises(MediError, match="no row has known levels of class, site"):
        design(lost, Schema.infer(lost, ["site"]), seed=0)
    many = pd.DataFrame({"class": ["a", "b"] * 50_000, "site": [f"h{i}" for i in range(100_000)]})
    many["patient"] = many["slide"] = many["sample_id"] = many["site"]
    with pytest.raises(MediError, match="only 0 were found"):
        design(many, Schema.infer(many, ["site"]), seed=0)


MIXED = [("c0", "h1"), ("c1", "h2"), ("c2", "h3")]


@pytest.mark.parametrize("seed", range(4))
def test_held_out_patches_of_training_patients_are_set_aside_p5(seed: int) -> None:
    """Where every patient shows every class nothing would be left: patients are shared first, patches then."""
    table = cohort(seed, mixed=0.7)
    rule = Rule("named", held=tuple(MIXED), set_aside=True, test_seen=0.3, validation=0.1)
    found = design(table, schema_of(table), rule, seed)
    split = found.apply(table)
    assert verify(split, found.certificate) == []
    inside = pd.Series(list(zip(split["class"], split["site"]))).isin(MIXED)
    assert set(split["split"][inside]) == {"test_unseen", "set_aside"}
    assert not split["split"][~inside].isin(["test_unseen", "set_aside"]).any()
    tests = set(split["patient"][split["split"].isin(["test_seen", "test_unseen"])])
    assert not tests & set(split["patient"][~split["split"].isin(["test_seen", "test_unseen"])])
    assert (split["split"] == "train").sum() > 0.4 * len(split)
    moved = split.assign(split=split["split"].replace({"set_aside": "train"}))
    assert any("outside test_unseen and set_aside" in problem for problem in verify(moved, found.certificate))
    stolen = split.copy()
    stolen.loc[stolen.index[stolen["split"] == "test_unseen"][0], "split"] = "set_aside"
    assert any("patient(s) on two sides" in problem for problem in verify(stolen, found.certificate))


def test_a_certificate_from_before_patches_were_set_aside_still_holds() -> None:
    table, found = designed(0)
    old = {
        k: {n: x for n, x in v.items() if n != "set_aside"} if isinstance(v, dict) else v
        for k, v in found.certificate.items()
    }
    assert "set_aside" not in old["rows"]
    assert verify(table, old) == []


def test_setting_aside_needs_named_combinations_and_patients_who_test() -> None:
    with pytest.raises(MediError, match="named combinations only"):
        Rule(set_aside=True)
    with pytest.raises(MediError, match="share of the patients must test"):
        Rule("named", held=(("c0", "h1"),), set_aside=True, test_seen=0.0)


def test_classes_that_lose_their_training_patients_are_named() -> None:
    table = cohort(7, mixed=0.0).query("not (`class` == 'c0' and site != 'h1')")
    found = design(table, schema_of(table), Rule.levels("site", ["h1"]), 0)
    assert found.certificate["untrained_classes"] == ["c0"]
    with pytest.raises(MediError, match="nothing is left to train on"):
        design(table.query("site == 'h1'"), schema_of(table), Rule.levels("site", ["h1"]), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(patient=t["patient"].where(t["patient"] != "p3", "")), "has no patient"),
        (lambda t: t.assign(slide="one"), "belongs to the patients"),
        (lambda t: t.assign(sample_id="x"), "occurs twice"),
        (lambda t: t.drop(columns="slide"), "needs the columns slide"),
    ],
)
def test_broken_tables_give_one_clear_error(change, message: str) -> None:  # type: ignore[no-untyped-def]
    table = cohort(0)
    with pytest.raises(MediError, match=message):
        design(change(table), schema_of(table), seed=0)


def test_broken_rules_give_one_clear_error() -> None:
    table = cohort(0)
    for wrong in (
        {"rate": 1.2},
        {"validation": -0.1},
        {"min_patients": 0},
        {"kind": "named"},
        {"fold": 5, "kind": "sites"},
    ):
        with pytest.raises(MediError):
            Rule(**wrong)
    for rule in (Rule.levels("site", ["nowhere"]), Rule("sites", ("site",), folds=50), Rule(over=("nothing",))):
        with pytest.raises(MediError):
            design(table, schema_of(table), rule, 0)


def published(name: str) -> set[str]:
    return set(pd.read_csv(TCGA / f"published_{name}.csv", dtype=str, keep_default_na=False)["slide_submitter_id"])


@pytest.mark.slow
def test_published_split_is_rebuilt_slide_for_slide(slides: pd.DataFrame) -> None:
    found = design(slides, Schema.infer(slides, ["site", "gender", "race"]), Rule.published(), 0)
    split = found.apply(slides)
    train, held = split[split["split"] == "train"], split[split["split"] == "test_unseen"]
    assert (len(train), len(held)) == (7061, 1665)
    assert (train["site"].nunique(), held["site"].nunique()) == (398, 228)
    assert set(train["slide"]) == published("train")
    assert set(held["slide"]) == published("holdout")
    assert verify(split, found.certificate) == []


@pytest.mark.slow
def test_site_codes_cannot_be_held_out_but_hospitals_can(slides: pd.DataFrame) -> None:
    with pytest.raises(MediError, match="only 0 were found"):
        design(slides, Schema.infer(slides, ["site"]), seed=0)
    codes = pd.read_csv(TCGA / "tissue_source_sites.tsv", sep="\t", dtype=str, keep_default_na=False)
    hospital = slides.assign(site=slides["site"].map(codes.set_index("TSS Code")["Source Site"]))
    found = design(hospital, Schema.infer(hospital, ["site"]), Rule(min_patients=2), 0)
    assert len(found.certificate["held_out"]) == round(0.3 * found.certificate["combinations"])
    assert verify(found.apply(hospital), found.certificate) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "sitess"}, "kind is 'sitess'; input should be 'random', 'named', 'sites' or 'published'"),
        ({"rate": "many"}, "rate is 'many'"),
        ({"raet": 0.3}, "unexpected keyword argument 'raet'; its settings are kind, over, rate"),
    ],
)
def test_a_rule_is_checked_where_it_is_made(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(MediError, match=words):
        Rule(**wrong)  # type: ignore[arg-type]


def test_what_a_small_reserve_is_told_helps() -> None:
    """The remedy of the caution is tried: with it the test for memorisation can run."""
    table = pd.DataFrame({"sample_id": [f"s{i}" for i in range(400)], "class": np.repeat(["a", "b"] * 25, 8)})
    table = table.assign(site=np.repeat(["x", "y"], 200), slide=[f"w{i // 8}" for i in range(400)])
    table = table.assign(patient=table["slide"], sex="f")
    rule = Rule(test_seen=0.2, validation=0.0, reserve=0.01, rate=0.25, min_patients=1)
    first = design(table, schema_of(table), rule, 0)
    said = next(line for line in first.cautions() if "reserved" in line)
    share = float(said.split("--reserve ")[1].split(" ")[0])
    assert share == first.reserve_needed()
    again = design(table, schema_of(table), replace(rule, reserve=share), 0)
    assert not [line for line in again.cautions() if "reserved" in line]
    alone = table.assign(slide=table["sample_id"], patient=table["sample_id"])
    told = design(alone, schema_of(alone), replace(rule, reserve=share), 0).cautions()
    assert any(
        "0 training patches are reserved" in line and "if the table has a column of the slide" in line for line in told
    )
