"""Audit: counts against groupby, association against scipy and scikit-learn, undefined is NaN with a reason (P7)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import entropy
from scipy.stats.contingency import association as scipy_association
from sklearn.metrics import normalized_mutual_info_score

import medi
from medi.cohort.association import Rows, associate, tallied
from medi.cohort.audit import Audit, audit
from medi.cohort.patients import too_few
from medi.cohort.schema import Schema
from medi.core import seeds
from medi.core.errors import MediError
from shared_data import TCGA


def cohort(seed: int, n: int = 600, skew: float = 0.5) -> pd.DataFrame:
    """Patches of 60 slides of 40 patients; the class follows the site with probability `skew`; some values missing."""
    g = seeds.generator("test audit", seed)
    slide = g.integers(0, 60, n)
    site = g.integers(0, 5, n)
    label = np.where(g.random(n) < skew, site % 3, g.integers(0, 3, n))
    table = pd.DataFrame({"class": [f"c{i}" for i in label], "site": [f"h{i}" for i in site]})
    table["scanner"] = g.choice(["s1", "s2", ""], n, p=[0.5, 0.3, 0.2])
    table["age"] = [str(40 + 5 * i) if i else "" for i in g.integers(0, 4, n) + label * g.integers(0, 2, n)]
    slides = {"slide": [f"s{i}" for i in slide], "patient": [f"p{i % 40}" for i in slide]}
    return table.assign(sample_id=[str(i) for i in range(n)], **slides)


def audited(table: pd.DataFrame) -> Audit:
    return audit(table, Schema.infer(table, ["site", "scanner", "age"], continuous=["age"]))


def value(table: pd.DataFrame, column: str, **where: str) -> float:
    rows = table[np.logical_and.reduce([table[name] == wanted for name, wanted in where.items()])]
    assert len(rows) == 1
    return rows[column].iloc[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_groupby_at_every_level(seed: int) -> None:
    table = cohort(seed)
    found = audited(table).counts
    for by, attribute in (("class", "site"), ("class", "scanner"), ("site", "scanner")):
        expected = table.groupby([by, attribute]).agg(
            patches=("sample_id", "size"), slides=("slide", "nunique"), patients=("patient", "nunique")
        )
        rows = found[(found["by"] == by) & (found["attribute"] == attribute)].set_index(["group", "level"])
        rows.index.names = expected.index.names
        pd.testing.assert_frame_equal(rows[["patches", "slides", "patients"]].sort_index(), expected, check_dtype=False,
                                      check_index_type=False)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["site", "scanner"])
def test_association_equals_scipy_and_sklearn(seed: int, name: str) -> None:
    table = cohort(seed)
    rows = audited(table).association
    known = table[table[name] != ""]
    grid = pd.crosstab(known[name], known["class"])
    assert value(rows, "cramers_v", attribute=name, unit="patch") == pytest.approx(
        scipy_association(grid.to_numpy(), method="cramer")
    )
    assert value(rows, "nmi", attribute=name, unit="patch") == pytest.approx(
        normalized_mutual_info_score(known["class"], known[name])
    )
    pure = (grid > 0).sum(axis=1) == 1
    assert value(rows, "single_class", attribute=name, unit="patch") == grid[pure].to_numpy().sum() / len(known)
    given = sum(entropy(row) * row.sum() for row in grid.to_numpy()) / len(known)
    assert value(rows, "determination", attribute=name, unit="patch") == pytest.approx(1 - given / entropy(grid.sum()))


@pytest.mark.slow
def test_bias_correction_is_bergsmas_formula_and_unbiased_under_independence() -> None:
    g = seeds.generator("test bergsma")
    corrected, plain = [], []
    for _ in range(40):
        table = cohort(0, n=300).assign(**{"class": g.choice(list("abcd"), 300), "site": g.choice(list("uvwxyz"), 300)})
        data = Rows.of(table, Schema.infer(table, ["site"]))
        row = associate(tallied(data, ("class", "site")), "site", "patch")
        corrected.append(row["cramers_v_corrected"] ** 2)
        plain.append(row["cramers_v"] ** 2)
        grid = pd.crosstab(table["site"], table["class"]).to_numpy()
        phi2 = scipy_association(grid, method="tschuprow") ** 2 * np.sqrt(15)  # chi2 / n
        r, k = 6 - 25 / 299, 4 - 9 / 299
        assert corrected[-1] == pytest.approx(max(0, phi2 - 15 / 299) / min(r - 1, k - 1))
    assert np.mean(corrected) < 0.5 * np.mean(plain)


@pytest.mark.slow
def test_share_of_rows_in_levels_of_one_class() -> None:
    table = cohort(0)
    table["class"] = table["class"].where(table["site"] != "h3", "c1")
    found = value(audited(table).association, "single_class", attribute="site", unit="patch")
    assert found == (table["site"] == "h3").mean() > 0


@pytest.mark.slow
def test_slide_and_patient_units_count_each_once() -> None:
    """Repeating every patch tenfold changes nothing at slide and patient level."""
    table = cohort(1)
    repeated = pd.concat([table] * 10, ignore_index=True).assign(sample_id=[str(i) for i in range(10 * len(table))])
    once, often = audited(table).association, audited(repeated).association
    for unit in ("slide", "patient"):
        pd.testing.assert_frame_equal(once[once["unit"] == unit], often[often["unit"] == unit])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_correlation_ratio_equals_explained_variance(seed: int) -> None:
    table = cohort(seed)
    known = table[table["age"] != ""].assign(age=lambda t: t["age"].astype(float))
    within = known.groupby("class")["age"].transform("mean")
    row = audited(table).continuous.iloc[0]
    assert row["n"] == len(known)
    assert row["eta_squared"] == pytest.approx(within.var() / known["age"].var(), rel=1e-5)
    assert row["eta"] == pytest.approx(np.sqrt(row["eta_squared"]))


@pytest.mark.slow
def test_missingness_per_class() -> None:
    table = cohort(2)
    found = audited(table).missingness
    for name in ("site", "scanner", "age"):
        expected = (table[name] == "").groupby(table["class"]).agg(["sum", "mean"])
        rows = found[found["attribute"] == name].set_index("class")
        assert rows["missing"].to_dict() == expected["sum"].to_dict()
        assert rows["share"].to_dict() == pytest.approx(expected["mean"].to_dict())


@pytest.mark.slow
def test_empty_and_rare_combinations_are_listed() -> None:
    table = cohort(0).query("not (`class` == 'c1' and site == 'h2')")
    few = (table["class"] == "c0") & (table["site"] == "h1")
    table = table[~few | (table["patient"].isin(table.loc[few, "patient"].unique()[:2]))]
    found = audited(table)
    gaps = found.gaps[found.gaps["attribute"] == "site"]
    assert {(row["class"], row["level"], row["kind"], row["patients"]) for row in gaps.to_dict("records")} == {
        ("c1", "h2", "empty", 0),
        ("c0", "h1", "rare", 2),
    }
    assert found.size["combinations"]["site"] == {"combinations": 15, "empty": 1, "rare": 1, "identifiable": 15}


def ceiling(table: pd.DataFrame, *names: str) -> dict[str, float]:
    found = audit(table, Schema.infer(table, list(names))).ceiling
    return dict(zip(found["attribute"], found["balanced_accuracy"]))


@pytest.mark.slow
def test_ceiling_is_one_where_the_attribute_tells_and_chance_where_it_does_not() -> None:
    telling = cohort(0, n=2000, skew=1.0)
    assert ceiling(telling, "site")["site"] == 1.0
    nothing = cohort(0, n=2000, skew=0.0)
    assert ceiling(nothing, "site")["site"] == pytest.approx(1 / 3, abs=0.06)


def test_ceiling_is_not_fooled_by_rare_levels_p9() -> None:
    """An attribute with a level per patient determines the class but predicts nothing about new patients."""
    table = cohort(0)
    label = {p: f"c{seeds.generator('label', p).integers(3)}" for p in table["patient"].unique()}
    table = table.assign(site=table["patient"], **{"class": table["patient"].map(label)})
    found = audit(table, Schema.infer(table, ["site"]))
    assert value(found.association, "determination", attribute="site", unit="patch") == pytest.approx(1.0)
    assert ceiling(table, "site")["site"] < 0.5


@pytest.mark.slow
def test_ceiling_of_two_attributes_sees_what_neither_shows_alone() -> None:
    g = seeds.generator("xor")
    a, b = g.integers(0, 2, 3000), g.integers(0, 2, 3000)
    table = cohort(0, n=3000).assign(site=a.astype(str), scanner=b.astype(str))
    table["class"] = np.where(a ^ b, "yes", "no")
    found = ceiling(table, "site", "scanner")
    assert found["all attributes"] == 1.0
    assert max(found["site"], found["scanner"]) < 0.6


@pytest.mark.slow
def test_alarm_says_what_to_do_and_only_when_due() -> None:
    assert not audited(cohort(0)).alarms
    found = audited(cohort(0, skew=1.0))
    assert len(found.alarms) == 1
    assert "site gives the class away" in found.alarms[0]
    assert "site codes to hospitals" in found.alarms[0]
    assert any(line.startswith("ALARM") for line in found.summary())


@pytest.mark.slow
def test_attributes_that_determine_each_other_are_noted() -> None:
    table = cohort(0)
    table["scanner"] = table["site"].replace({"h0": "a", "h1": "b", "h2": "c", "h3": "d", "h4": "e"})
    found = audited(table)
    assert any("site and scanner cannot be told apart" in note for note in found.notes)
    nested = table.assign(scanner=table["scanner"].replace({"b": "a", "c": "a"}))
    pair = audited(nested).pairs.iloc[0]
    assert pair["second_given_first"] == pytest.approx(1.0)
    assert pair["first_given_second"] < 0.95
    note = "scanner and site cannot be told apart: each site (nearly) belongs to one scanner"
    assert any(found.startswith(note) for found in audited(nested).notes)
    crossed = table.assign(scanner=["a", "b"] * (len(table) // 2))
    assert not any("told apart" in found for found in audited(crossed).notes)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"site": ""}, {"site": "h0"}, {"class": "c0"}])
def test_undefined_is_nan_with_a_reason_p7(change: dict[str, str]) -> None:
    table = cohort(0).assign(**change)
    rows = audited(table).association.query("attribute == 'site' and unit == 'patch'")
    assert rows[["cramers_v", "cramers_v_corrected", "nmi", "determination", "single_class"]].isna().all(axis=None)
    assert rows["reason"].iloc[0]
    if "class" in change:
        assert audited(table).ceiling["balanced_accuracy"].isna().all()
        assert audited(table).continuous["reason"].iloc[0]


@pytest.mark.slow
def test_degenerate_tables_work_or_say_why() -> None:
    many = cohort(0, n=20_000).assign(site=[f"h{i}" for i in range(20_000)])
    assert audited(many).size["combinations"]["site"]["combinations"] == 60_000
    unlabelled = cohort(0)
    unlabelled.loc[:9, "class"] = ""
    found = audited(unlabelled)
    assert found.size["patches"] == 590
    assert "10 rows without a class" in found.notes[0]
    bare = audit(cohort(0), Schema.infer(cohort(0), []))
    assert bare.counts.empty
    assert bare.summary()
    with pytest.raises(MediError, match="no row has a known class"):
        audited(cohort(0).assign(**{"class": ""}))
    with pytest.raises(MediError, match="needs the columns slide"):
        audit(cohort(0).drop(columns="slide"), Schema.infer(cohort(0), ["site"]))


@pytest.mark.slow
def test_the_same_audit_for_any_order_of_the_rows() -> None:
    table = cohort(3)
    first, second = audited(table), audited(table.sample(frac=1, random_state=0).reset_index(drop=True))
    assert json.dumps(first.to_dict(), default=float) == json.dumps(second.to_dict(), default=float)


@pytest.mark.slow
def test_saved_files_open_again(tmp_path: Path) -> None:
    table = cohort(0).replace({"site": {"h0": "St. $x$_{y <b>"}})  # names must not be read as markup (P11)
    found = audited(table)
    found.save(tmp_path)
    content = json.loads((tmp_path / "audit.json").read_text())
    assert content["format_version"] == 2
    assert content["association"][0]["attribute"] == "site"
    assert pd.read_parquet(tmp_path / "counts.parquet")["patches"].tolist() == found.counts["patches"].tolist()
    for name in ("counts.png", "attributes.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    one = audit(table, Schema.infer(table, ["site"]))
    one.save(tmp_path / "one")
    assert sorted(path.suffix for path in (tmp_path / "one").iterdir()).count(".png") == 1


def hospitals(slides: pd.DataFrame) -> pd.DataFrame:
    codes = pd.read_csv(TCGA / "tissue_source_sites.tsv", sep="\t", dtype=str, keep_default_na=False)
    return slides.assign(site=slides["site"].map(codes.set_index("TSS Code")["Source Site"].str.strip()))


@pytest.mark.slow
def test_tcga_site_codes_raise_the_alarm(slides: pd.DataFrame) -> None:
    assert (slides["tissue_source_site"] == "").sum() == 11
    found = audit(slides, Schema.infer(slides, ["site", "gender"]))
    assert {name: found.size[name] for name in ("patches", "slides", "patients", "classes")} == {
        "patches": 8726,
        "slides": 8726,
        "patients": 7168,
        "classes": 32,
    }
    row = found.association.query("attribute == 'site' and unit == 'slide'").iloc[0]
    assert row["levels"] == 626
    assert row["cramers_v"] == pytest.approx(1.0, abs=5e-4)
    assert row["cramers_v_corrected"] == pytest.approx(0.965, abs=5e-4)
    assert row["single_class"] == 1.0
    assert len(found.alarms) == 1
    assert found.size["combinations"]["site"]["empty"] == 20_032 - 626


@pytest.mark.slow
def test_tcga_hospitals_do_not_and_span_lung_classes(slides: pd.DataFrame) -> None:
    found = audit(hospitals(slides), Schema.infer(hospitals(slides), ["site", "gender"]))
    row = found.association.query("attribute == 'site' and unit == 'slide'").iloc[0]
    assert row["determination"] == pytest.approx(0.60, abs=0.01)
    assert not found.alarms
    lung = found.counts.query("by == 'class' and attribute == 'site'").groupby("group")["level"].agg(set)
    assert {"Asterand", "Indivumed"} <= lung["TCGA-LUAD"] & lung["TCGA-LUSC"]


@pytest.mark.slow
def test_a_low_grade_of_few_patients_is_no_all_clear() -> None:
    """Defect: 37 patients in 29 combinations were graded "none" without a word, where thousands are graded "strong"."""
    few = medi.phantom(patches=400, seed=0).audit()
    said = '37 patients are too few to grade site, group well (1.3 in each combination with the class): "none" is no'
    assert [text.startswith(said) for text in few.cautions()] == [True]
    assert few.cautions()[0] in str(few)
    assert few.cautions()[0] in few.summary()
    assert few.cautions()[0] not in few.notes, "an audit of before is the same audit"


@pytest.mark.parametrize(
    ("patients", "grade", "is_told"),
    [(49, "none", True), (49, "caution", True), (49, "strong", False), (50, "none", False), (1, "", False)],
)
def test_when_patients_are_too_few(patients: int, grade: str, is_told: bool) -> None:
    size = {"patients": patients, "combinations": {"site": {"combinations": 12, "empty": 2}}}
    assert bool(too_few(size, {"site": grade})) == is_told
    assert too_few({"patients": 9}, {"site": "none"}) == "", "an audit of version 0.1 says nothing of combinations"
