"""PathoROB tables: TCGA and CAMELYON slides, images by template."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medi.cohort import readers
from medi.core.errors import MediError
from shared_data import SHARED, real

HEADER = "subset,slide_id,patch_id,biological_class,medical_center\n"
TCGA = "ID,TCGA-E9-A1R5-01Z-00-DX1,0_0_521,Breast_invasive_carcinoma,Asterand\n"


def write(folder: Path, *rows: str) -> Path:
    path = folder / "pathorob.csv"
    path.write_text(HEADER + "".join(rows))
    return path


def test_tcga_rows(tmp_path: Path) -> None:
    cohort = readers.read(write(tmp_path, TCGA, TCGA.replace("0_0_", "0_1_")))
    row = cohort.table.iloc[0]
    assert (row["sample_id"], row["patient"], row["site_code"]) == (
        "TCGA-E9-A1R5-01Z-00-DX1/0_0_521",
        "TCGA-E9-A1R5",
        "E9",
    )
    assert row["medical_center"] == "Asterand"
    assert cohort.info["root"] == ""


def test_camelyon_patient_from_the_slide_p5(tmp_path: Path) -> None:
    rows = [f"ID,patient_017_node_{n},{n},tumor,RUMC\n" for n in (1, 2)]
    table = readers.read(write(tmp_path, *rows), "pathorob").table
    assert table["patient"].tolist() == ["patient_017"] * 2
    assert table["slide"].nunique() == 2


def test_images_by_template(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw("Breast_invasive_carcinoma/0/TCGA-E9-A1R5-01Z-00-DX1/0_0_521.jpg")
    template = "{biological_class}/0/{slide_id}/{patch_id}.jpg"
    path = write(tmp_path, TCGA)
    cohort = readers.read(path, "pathorob", image=template, mpp=0.5)
    assert (tmp_path / cohort.table["image"][0]).is_file()
    assert cohort.table["mpp"].tolist() == [0.5]
    with pytest.raises(MediError, match=r"line 3: .*no such image file"):
        readers.read(write(tmp_path, TCGA, TCGA.replace("0_0_", "0_9_")), "pathorob", image=template)


def test_bad_tables(tmp_path: Path) -> None:
    with pytest.raises(MediError, match=r"line 3: .* was there already"):
        readers.read(write(tmp_path, TCGA, TCGA), "pathorob")
    (tmp_path / "x.csv").write_text("slide_id\nx\n")
    with pytest.raises(MediError, match="no column subset, patch_id"):
        readers.read(tmp_path / "x.csv", "pathorob")


@real
def test_real_table() -> None:
    cohort = readers.read(SHARED / "tcga" / "pathorob_tcga_4x4.csv")
    table = cohort.table
    assert (len(table), len(cohort.schema.classes.levels), table["slide"].nunique()) == (8160, 4, 272)
    assert len(cohort.schema.attribute("medical_center").levels) == 8
    inside = table[table["subset"] == "ID"]
    assert inside.groupby(["class", "medical_center"]).size().eq(360).all(), "crossed and balanced"
    assert table["site_code"].nunique() == 24
