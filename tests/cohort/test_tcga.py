"""TCGA metadata: barcodes, study names, hospitals, clinical joins (P6: `NA` is a site, `02` is not 2)."""

import pandas as pd
import pytest

from medi.cohort import tcga
from medi.cohort.readers.rows import read_rows
from medi.core.errors import MediError
from shared_data import TCGA, real


def sites(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["TSS Code", "Source Site", "Study Name"])


@pytest.mark.parametrize(
    ("text", "slide", "site", "section", "preparation"),
    [
        ("TCGA-18-5592-01Z-00-DX1", "TCGA-18-5592-01Z-00-DX1", "18", "DX1", "FFPE"),
        ("TCGA-44-2665-01B-06-BS6", "TCGA-44-2665-01B-06-BS6", "44", "BS6", "frozen"),
        ("TCGA-EJ-A46H-01A-03-TSC.jpg", "TCGA-EJ-A46H-01A-03-TSC", "EJ", "TSC", "frozen"),
        ("TCGA-AA-3489-01A-01-MS1", "TCGA-AA-3489-01A-01-MS1", "AA", "MS1", "frozen"),
        ("TCGA-NA-A4QV-01Z-00-DX10", "TCGA-NA-A4QV-01Z-00-DX10", "NA", "DX10", "FFPE"),
        ("a/TCGA-3L-AA1B-01Z-00-DX1.8923A151-A690.svs", "TCGA-3L-AA1B-01Z-00-DX1", "3L", "DX1", "FFPE"),
        ("TCGA-02-0001", "TCGA-02-0001", "02", "", ""),
    ],
)
def test_barcode_p6(text: str, slide: str, site: str, section: str, preparation: str) -> None:
    found = tcga.parse(text)
    assert (found["slide"], found["site_code"], found["section"]) == (slide, site, section)
    assert found["preparation"] == preparation
    assert found["patient"] == slide[:12]


@pytest.mark.parametrize("text", ["", "patient_004_node_1", "TCGA-1-2345", "TCGA-18-55921", "XTCGA"])
def test_no_barcode(text: str) -> None:
    with pytest.raises(MediError, match="no TCGA barcode"):
        tcga.parse(text)


@pytest.mark.parametrize("name", ["LUAD", "TCGA-LUAD", "Lung_adenocarcinoma", "lung adenocarcinoma", " luad "])
def test_abbreviation_and_folder_name_are_one_study(name: str) -> None:
    assert tcga.study(name) == "LUAD"


def test_unknown_study_names_the_known() -> None:
    with pytest.raises(MediError, match="LUAD"):
        tcga.study("Lung")


def test_32_names_and_31_are_told_apart() -> None:
    zenodo = list(tcga.STUDIES.values())
    assert len(zenodo) == 32
    assert tcga.check_classes(zenodo) == []
    hub = [name for name in zenodo if tcga.study(name) not in ("COAD", "READ")] + ["Colorectal_adenocarcinoma"]
    assert len(hub) == 31
    assert "31 names" in tcga.check_classes(hub)[0]


def test_mixed_vocabularies_are_refused() -> None:
    with pytest.raises(MediError, match="both LUAD"):
        tcga.check_classes(["LUAD", "Lung_adenocarcinoma"])
    with pytest.raises(MediError, match="COAD"):
        tcga.check_classes(["Colorectal_adenocarcinoma", "Colon_adenocarcinoma"])


def test_spelling_variants_are_one_hospital() -> None:
    table = sites(
        ("A1", " Asterand", "x"),
        ("A2", "Asterand", "x"),
        ("B1", "ILSBIO", "x"),
        ("B2", "ILSBio", "x"),
        ("C1", "MD Anderson", "x"),
        ("C2", "University of Texas MD Anderson Cancer Center", "x"),
        ("D1", "Mayo Clinic Arizona", "x"),
        ("D2", "Mayo Clinic - Rochester", "x"),
        ("NA", "MSKCC", "x"),
        ("E1", "Unknown", "x"),
    )
    found, every = tcga.hospitals(table), tcga.hospitals(table, aliases=True)
    assert found["A1"] == found["A2"] == "Asterand"
    assert found["B1"] == found["B2"]
    assert found["C1"] != found["C2"], "another name, not another spelling"
    assert every["C1"] == every["C2"]
    assert every["D1"] != every["D2"], "another city, another hospital"
    assert found["NA"] == every["NA"] == "MSKCC"
    assert "E1" not in found


def test_aliases_lead_to_one_key_each() -> None:
    """Following an alias once is enough, and every alias is spelled as the rules leave it."""
    for variant, name in (tcga._ALIASES | tcga._MISSPELT).items():
        assert tcga.hospital_key(variant, aliases=True) == tcga.hospital_key(name, aliases=True) == name


def test_merged_class_betrayed_by_its_sites() -> None:
    table = pd.DataFrame({"site_code": ["AA", "AG", "AG"], "class": "Colon_adenocarcinoma"})
    codes = sites(("AA", "Indivumed", "Colon adenocarcinoma"), ("AG", "Indivumed", "Rectum adenocarcinoma"))
    joined, notes = tcga.add_hospitals(table, codes)
    assert set(joined["hospital"]) == {"Indivumed"}
    assert "2 rows of class COAD come from a site of READ" in notes


def test_site_without_hospital_is_unknown_and_listed_p7() -> None:
    joined, notes = tcga.add_hospitals(
        pd.DataFrame({"site_code": ["AA", "ZZ"], "class": "COAD"}), sites(("AA", "Indivumed", "Colon adenocarcinoma"))
    )
    assert list(joined["hospital"]) == ["Indivumed", ""]
    assert any("ZZ" in note for note in notes)


@pytest.mark.parametrize(
    "columns",
    [
        ["case_submitter_id", "race", "gender", "age_at_index"],
        ["cases.submitter_id", "demographic.race", "demographic.sex_at_birth", "demographic.age_at_index"],
    ],
)
def test_clinical_join_old_and_new_columns(columns: list[str]) -> None:
    clinical = pd.DataFrame(
        [["P1", "white", "male", "61"], ["P1", "white", "male", "61"], ["P2", "'--", "female", "'--"]]
    )
    table = pd.DataFrame({"patient": ["P2", "P1", "P3"]}, index=[4, 7, 9])
    joined, notes = tcga.add_clinical(table, clinical.set_axis(columns, axis=1))
    assert joined[["race", "gender", "age"]].values.tolist() == [
        ["'--", "female", "'--"],
        ["white", "male", "61"],
        [""] * 3,
    ]
    assert list(joined.index) == [4, 7, 9]
    assert notes == ["1 patients have no row in the clinical table"]


def test_clinical_contradiction_is_an_error() -> None:
    clinical = pd.DataFrame(
        {"patient": ["P1", "P1"], "race": ["white", "asian"], "gender": "male", "age_at_index": "61"}
    )
    with pytest.raises(MediError, match=r"contradicts itself on P1"):
        tcga.add_clinical(pd.DataFrame({"patient": ["P1"]}), clinical)
    with pytest.raises(MediError, match="no column for age"):
        tcga.add_clinical(pd.DataFrame({"patient": ["P1"]}), clinical.drop(columns="age_at_index"))


@real
def test_real_site_table_merges_variants() -> None:
    table = read_rows(TCGA / "tissue_source_sites.tsv")
    found = tcga.hospitals(table)
    assert {found[code] for code in ("E9", "F4", "86", "85")} == {"Asterand"}
    assert len(set(found.values())) == 201, "of 231 spellings"
    assert len(set(tcga.hospitals(table, aliases=True).values())) == 171


@pytest.mark.slow
@real
def test_real_names_are_the_published_ones() -> None:
    names = set(read_rows(TCGA / "published_train.csv")["cancer_type"])
    assert names == set(tcga.STUDIES.values())
    projects = set(read_rows(TCGA / "slides.csv")["project_id"])
    assert {tcga.study(project) for project in projects} == set(tcga.STUDIES)
