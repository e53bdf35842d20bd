"""Tables with an image column: roles, guesses, templates, and every kind of bad row."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medi.cohort import readers
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from shared_data import SHARED, TCGA, real

HEADER = "image,label,patient,slide,site,age\n"
ROWS = ["a.png,normal,P1,S1,NA,02", "b.png,tumor,P1,S2,X,61", "c.png,tumor,P2,S3,X,"]


@pytest.fixture
def source(tmp_path: Path, draw: Callable[..., Path]) -> Callable[..., Path]:
    """source(*rows): metadata.csv with these rows; a.png, b.png and c.png are there."""
    for name in "abc":
        draw(f"{name}.png")

    def _write(*rows: str) -> Path:
        path = tmp_path / "metadata.csv"
        path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
        return path

    return _write


def notes(cohort: Cohort) -> str:
    return "\n".join(cohort.info["notes"])


def test_guesses_are_right_and_told(source: Callable[..., Path]) -> None:
    cohort = readers.read(source(*ROWS).parent)
    assert cohort.table["class"].tolist() == ["normal", "tumor", "tumor"]
    assert [a.name for a in cohort.schema.attributes] == ["site", "age"]
    assert cohort.schema.attribute("site").levels == ("NA", "X")
    assert cohort.schema.attribute("age").kind == "continuous"
    assert "label from column 'label'" in notes(cohort)
    assert "attributes guessed: site, age" in notes(cohort)
    assert cohort.info["reader"] == "table"
    np.testing.assert_allclose(cohort.schema.encode(cohort.table)["age"], [-1, 1, np.nan])


def test_named_roles_and_template(source: Callable[..., Path], tmp_path: Path) -> None:
    rows = ["a,normal,P1,S1,NA,2", "b,tumor,P1,S2,X,61"]
    cohort = readers.read(source(*rows), "table", image="{image}.png", label="site", attributes=["label"], mpp=0.25)
    assert cohort.table["image"].tolist() == ["a.png", "b.png"]
    assert cohort.table["class"].tolist() == ["NA", "X"]
    assert cohort.table["mpp"].tolist() == [0.25, 0.25]
    with pytest.raises(MediError, match="no column 'nope'"):
        readers.read(source(*rows), "table", image="{nope}.png")


def test_unknown_column_names_the_known(source: Callable[..., Path]) -> None:
    with pytest.raises(MediError, match="no column 'diagnosis' for label; the columns are image, label"):
        readers.read(source(*ROWS), "table", label="diagnosis")
    with pytest.raises(MediError, match="no column scanner"):
        readers.read(source(*ROWS), "table", attributes=["scanner"])
    with pytest.raises(MediError, match="no option 'atributes'"):
        readers.read(source(*ROWS), "table", atributes=["site"])


def test_missing_image_is_an_error_with_its_line_or_a_listed_skip(source: Callable[..., Path]) -> None:
    path = source(*ROWS, "gone.png,tumor,P3,S4,X,50", "gone2.png,tumor,P3,S4,X,50")
    with pytest.raises(MediError, match=r"line 5: .*gone.png \(and 1 more\): no such image file"):
        readers.read(path, "table")
    cohort = readers.read(path, "table", on_error="skip")
    assert cohort.table["image"].tolist() == ["a.png", "b.png", "c.png"]
    assert "left out, no such image file: 2" in notes(cohort)


def test_duplicate_id_names_both_lines(source: Callable[..., Path]) -> None:
    with pytest.raises(MediError, match=r"line 5: sample_id 'a.png' was there already \(metadata.csv line 2\)"):
        readers.read(source(*ROWS, ROWS[0]), "table")


def test_one_image_under_two_ids_p5(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw("a.png")
    path = tmp_path / "t.csv"
    path.write_text("sample_id,image,class\n1,a.png,x\n2,a.png,y\n")
    with pytest.raises(MediError, match=r"line 3: image 'a.png' was there already \(t.csv line 2\)"):
        readers.read(path, "table")


def test_mpp_column_is_numbers_or_empty(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw("a.png"), draw("b.png")
    path = tmp_path / "t.csv"
    path.write_text("image,class,mpp\na.png,x,0.25\nb.png,x,\n")
    np.testing.assert_array_equal(readers.read(path, "table").table["mpp"], [0.25, np.nan])
    for text in ("0.5um", "0", "nan"):
        path.write_text(f"image,class,mpp\na.png,x,0.25\nb.png,x,{text}\n")
        with pytest.raises(MediError, match=f"line 3: mpp '{text}' is no positive number"):
            readers.read(path, "table")


def test_a_word_is_no_list(source: Callable[..., Path]) -> None:
    with pytest.raises(MediError, match="attributes is 'site'; 'str' instances are not allowed"):
        readers.read(source(*ROWS), "table", attributes="site")


def test_a_class_of_tcga_does_not_make_it_tcga(source: Callable[..., Path]) -> None:
    cohort = readers.read(source("a.png,Sarcoma,P1,S1,Unknown,1", ROWS[1]), "table", attributes=["site"])
    assert cohort.schema.attribute("site").levels == ("Unknown", "X"), "P6: as written"
    assert "site_code" not in cohort.table


def test_patient_in_two_classes_is_told(source: Callable[..., Path]) -> None:
    assert "1 patients are in more than one class (P1)" in notes(readers.read(source(*ROWS), "table"))


def test_slide_of_two_patients_is_an_error_p5(source: Callable[..., Path]) -> None:
    with pytest.raises(MediError, match="slide 'S1' belongs to two patients"):
        readers.read(source(*ROWS[:2], "c.png,tumor,P2,S1,X,7"), "table")


def test_unknown_patients_stay_apart_p5(source: Callable[..., Path]) -> None:
    cohort = readers.read(source("a.png,n,,,X,1", "b.png,n,,,X,1", "c.png,t,,S3,Y,1"), "table")
    assert cohort.table["patient"].tolist() == ["a.png", "b.png", "S3"]
    assert "2 images have no patient or slide" in notes(cohort)


def test_one_level_and_all_missing(source: Callable[..., Path]) -> None:
    rows = [row.replace("NA,", "X,") for row in ROWS]
    assert "site has one level (X)" in notes(readers.read(source(*rows), "table", attributes=["site"]))
    empty = [",".join([*row.split(",")[:4], "", ""]) for row in ROWS]
    for name, options in (("site", {}), ("age", {"continuous": ["age"]})):
        with pytest.raises(MediError, match=f"{name} is missing in every row"):
            readers.read(source(*empty), "table", attributes=[name], **options)
    assert not readers.read(source(*empty), "table").schema.attributes, "a guess leaves it out"


def test_mixed_column_names_its_line(source: Callable[..., Path]) -> None:
    with pytest.raises(MediError, match=r"line 3: age 'sixty' is not a number"):
        readers.read(source(ROWS[0], ROWS[1].replace("61", "sixty")), "table", attributes=["age"], continuous=["age"])
    with pytest.raises(MediError, match=r"age 'inf' is not a number"):
        readers.read(source(ROWS[1].replace("61", "inf")), "table", attributes=["age"], continuous=["age"])


def test_declared_missing_is_per_column_p1(source: Callable[..., Path]) -> None:
    cohort = readers.read(source(*ROWS), "table", attributes=["site"], missing=["NA"])
    assert cohort.schema.attribute("site").levels == ("X",)
    assert list(cohort.schema.encode(cohort.table)["site"]) == [-1, 0, 0]
    cohort = readers.read(source(*ROWS), "table", attributes=["site"], missing={"age": ["NA"]})
    assert cohort.schema.attribute("site").levels == ("NA", "X")


@pytest.mark.slow
def test_an_id_is_no_attribute(tmp_path: Path) -> None:
    path = tmp_path / "slides.csv"
    numbers = np.arange(100_000).astype(str)
    pd.DataFrame({"slide": numbers, "class": "a", "uid": numbers}).to_csv(path, index=False)
    with pytest.raises(MediError, match="uid has 100,000 levels"):
        readers.read(path, "table", attributes=["uid"])


def test_levels_that_differ_in_case_are_told(source: Callable[..., Path]) -> None:
    cohort = readers.read(source(ROWS[1], ROWS[2].replace(",X,", ",x ,")), "table", attributes=["site"])
    assert "site: 'X', 'x ' differ only in case or blanks" in notes(cohort)


def test_rare_levels_become_other(source: Callable[..., Path]) -> None:
    cohort = readers.read(source(*ROWS), "table", attributes=["site"], group_rare={"site": 2})
    assert cohort.table["site"].tolist() == ["other", "X", "X"]
    assert "site: 1 levels of fewer than 2 patients became 'other'" in notes(cohort)
    with pytest.raises(MediError, match="level 'other' of its own"):
        readers.read(source(ROWS[0].replace("NA", "other")), "table", attributes=["site"], group_rare={"site": 2})


def test_markup_in_names_is_only_text_p11(source: Callable[..., Path]) -> None:
    cohort = readers.read(source('a.png,<script>,P1,../../S1,"x, ""y""",1', ROWS[1]), "table")
    assert cohort.table["class"].tolist() == ["<script>", "tumor"]
    assert cohort.table["slide"][0] == "../../S1"


def test_classes_keeps_the_named(source: Callable[..., Path]) -> None:
    assert len(readers.read(source(*ROWS), "table", classes=["tumor"])) == 2
    with pytest.raises(MediError, match="class 'cyst' is not here; there are normal, tumor"):
        readers.read(source(*ROWS), "table", classes=["cyst"])


def test_saved_cohort_is_the_same(source: Callable[..., Path], tmp_path: Path) -> None:
    cohort = readers.read(source(*ROWS), "table")
    loaded = Cohort.load(cohort.save(tmp_path / "out"))
    assert loaded.schema == cohort.schema
    assert loaded.digest() == cohort.digest()


@real
def test_ami_br_is_one_call() -> None:
    cohort = readers.read(SHARED / "ami_br", attributes=["domain"])
    assert cohort.table["class"].value_counts().to_dict() == {"normal": 2888, "atypical": 832}
    assert len(cohort.schema.attribute("domain").levels) == 6
    assert cohort.table["slide"].nunique() == 202
    assert cohort.table.groupby(["domain", "class"]).size()["UMCU/Aperio CS2", "normal"] == 516


@real
def test_tcga_fields_is_one_call() -> None:
    cohort = readers.read(SHARED / "tcga_fields", mpp=0.25)
    table = cohort.table
    assert len(cohort) == 44
    assert table["preparation"].value_counts().to_dict() == {"FFPE": 25, "frozen": 19}
    assert set(table["class"][table["preparation"] == "frozen"]) >= {"BLCA", "COAD", "STAD"}
    assert (table["site_code"] == table["tss"]).all()
    assert "[Not Available]" not in cohort.schema.attribute("race").levels
    assert cohort.schema.attribute("age").kind == "continuous"
    assert np.isnan(cohort.schema.encode(table)["age"]).sum() == (table["age"] == "").sum() > 0


@pytest.mark.slow
@real
def test_slides_csv_recovers_the_site_that_pandas_lost_p6() -> None:
    path = TCGA / "slides.csv"
    cohort = readers.read(path, clinical=path, sites=TCGA / "tissue_source_sites.tsv")
    table = cohort.table
    assert (len(table), table["patient"].nunique(), table["site_code"].nunique()) == (8726, 7168, 626)
    assert len(cohort.schema.classes.levels) == 32
    assert (table["site_code"] == "NA").sum() == 11
    assert (table["tissue_source_site"][table["site_code"] == "NA"] == "").all(), "lost in the source"
    assert "'tissue_source_site' disagrees with the barcode in 11 rows" in notes(cohort)
    assert table["preparation"].eq("FFPE").all()
    assert set(cohort.schema.attribute("gender").levels) == {"male", "female"}
    assert "not reported" not in cohort.schema.attribute("race").levels
    assert np.isnan(cohort.schema.encode(table)["age"]).sum() == (table["age_at_index"] == "'--").sum() > 0


@pytest.mark.slow
@real
def test_hospitals_no_longer_determine_the_class() -> None:
    """1 - H(class | attribute) / H(class): 1.00 for codes, about 0.6 for hospitals."""
    path = TCGA / "slides.csv"
    table = readers.read(path, sites=TCGA / "tissue_source_sites.tsv").table

    def told(name: str) -> float:
        joint = pd.crosstab(table[name], table["class"], normalize=True).to_numpy()
        entropy = lambda p: -np.sum(p[p > 0] * np.log(p[p > 0]))  # noqa: E731
        return float(1 - (entropy(joint) - entropy(joint.sum(1))) / entropy(joint.sum(0)))

    assert told("site_code") == pytest.approx(1.0)
    assert told("hospital") == pytest.approx(0.57, abs=0.03)
    lung = {name: set(table["hospital"][table["class"] == f"TCGA-{name}"]) for name in ("LUAD", "LUSC")}
    assert len(lung["LUAD"] & lung["LUSC"]) >= 20


def test_patients_that_are_not_known_are_not_one_person_p5(source: Callable[..., Path]) -> None:
    rows = [row.replace("P1", "unknown").replace("P2", "n/a") for row in ROWS]
    cohort = readers.read(source(*rows), attributes=["site"], missing={"patient": ["unknown", "n/a"]})
    assert cohort.table["patient"].tolist() == ["S1", "S2", "S3"]
    assert "3 images have no patient: their slide stands for it" in notes(cohort)
    assert readers.read(source(*rows), attributes=["site"], missing=["n/a"]).table["patient"].tolist()[2] == "S3"


@pytest.mark.parametrize("path", ["./a.png", ".//a.png", "x/../a.png"])
def test_one_image_under_two_spellings_of_its_path_is_refused_p5(
    source: Callable[..., Path], tmp_path: Path, path: str
) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(MediError, match=r"line 5: image '.*a.png' was there already \(metadata.csv line 2\)"):
        readers.read(source(*ROWS, f"{path},tumor,P9,S9,X,2"), attributes=["site"])
