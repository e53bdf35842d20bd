"""TCGA-UT folders: with and without levels, scales from the names, both spellings of a class."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medi.cohort import readers
from medi.core.errors import MediError

A, B = "TCGA-18-5592-01Z-00-DX1", "TCGA-NA-A4QV-01Z-00-DX1"
FROZEN = "TCGA-44-2665-01B-06-BS6"


def test_levels_and_scales(tmp_path: Path, draw: Callable[..., Path]) -> None:
    for level in "015":
        draw(f"Lung_squamous_cell_carcinoma/{level}/{A}/0_0_521.jpg")
    draw(f"Uterine_Carcinosarcoma/0/{B}/1_12_254.jpg")
    cohort = readers.read(tmp_path)
    assert cohort.info["reader"] == "tcga_ut"
    assert cohort.table["mpp"].tolist() == [0.5, 0.5]
    assert cohort.table["scan_mpp"].tolist() == ["0.2457", "0.5039"], "a 40x and a 20x scan"
    assert cohort.table["site_code"].tolist() == ["18", "NA"], "P6"
    assert cohort.table["patient"].tolist() == [A[:12], B[:12]]
    assert "levels found: 0, 1, 5; used: 0" in cohort.info["notes"]
    five = readers.read(tmp_path, "tcga_ut", level="5").table
    assert five["mpp"].tolist() == [1.0]
    assert len(readers.read(tmp_path, "tcga_ut", level="all")) == 4


def test_without_level_folder_and_by_abbreviation(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw(f"LUSC/{A}/0_0_521.jpg"), draw(f"UCS/{B}/0_0_507.jpg"), draw(f"LUAD/{FROZEN}/0_0_507.jpg")
    cohort = readers.read(tmp_path)
    assert cohort.table["level"].eq("0").all()
    assert cohort.table.set_index("class")["preparation"].to_dict() == {"LUAD": "frozen", "LUSC": "FFPE", "UCS": "FFPE"}
    lung = readers.read(tmp_path, "tcga_ut", classes=["Lung_adenocarcinoma", "LUSC"])
    assert lung.schema.classes.levels == ("LUAD", "LUSC")


def test_two_spellings_of_one_class_are_refused(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw(f"LUSC/{A}/0_0_521.jpg"), draw(f"Lung_squamous_cell_carcinoma/{B}/0_0_521.jpg")
    with pytest.raises(MediError, match="both LUSC"):
        readers.read(tmp_path, "tcga_ut")


def test_strange_files_are_named(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw(f"LUSC/{A}/0_0_521.jpg"), draw(f"LUSC/{A}/overview.jpg"), draw("LUSC/notes/0_0_521.jpg")
    with pytest.raises(MediError, match=r"overview.jpg \(and 1 more\): not of the form"):
        readers.read(tmp_path, "tcga_ut")
    assert len(readers.read(tmp_path, "tcga_ut", on_error="skip")) == 1
    with pytest.raises(MediError, match="no patches of level 3; there are 0"):
        readers.read(tmp_path, "tcga_ut", level="3", on_error="skip")
    with pytest.raises(MediError, match="levels 0 to 5"):
        readers.read(tmp_path, "tcga_ut", level="6")


def test_clinical_data_and_hospitals_join(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw(f"images/LUSC/{A}/0_0_521.jpg"), draw(f"images/UCS/{B}/0_0_507.jpg")
    clinical, sites = tmp_path / "clinical.tsv", tmp_path / "sites.tsv"
    clinical.write_text(f"case_submitter_id\trace\tgender\tage_at_index\n{A[:12]}\tnot reported\tmale\t61\n")
    sites.write_text(
        "TSS Code\tSource Site\tStudy Name\n18\tPrincess Margaret\tLung squamous cell carcinoma\n"
        "NA\tUNC \tUterine Carcinosarcoma\n"
    )
    attributes = ["hospital", "gender", "age"]
    cohort = readers.read(
        tmp_path / "images",
        "tcga_ut",
        clinical=clinical,
        sites=sites,
        attributes=attributes,
        continuous=["age"],
    )
    assert cohort.table["hospital"].tolist() == ["Princess Margaret", "UNC"]
    assert list(cohort.schema.encode(cohort.table)["gender"]) == [0, -1]
    with pytest.raises(MediError, match="race is missing in every row"):
        readers.read(tmp_path / "images", "tcga_ut", clinical=clinical, attributes=["race"])
