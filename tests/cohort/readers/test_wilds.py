"""Camelyon17-WILDS: the published columns and paths."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medi.cohort import readers
from medi.core.errors import MediError

HEADER = ",patient,node,x_coord,y_coord,tumor,slide,center,split\n"
ROWS = ["0,004,4,3328,21792,1,0,0,0", "1,004,4,3200,22272,0,0,0,1", "2,042,3,64,96,0,23,2,0"]


@pytest.fixture
def folder(tmp_path: Path, draw: Callable[..., Path]) -> Path:
    for row in ROWS:
        _, patient, node, x, y, *_ = row.split(",")
        draw(f"patches/patient_{patient}_node_{node}/patch_patient_{patient}_node_{node}_x_{x}_y_{y}.png")
    (tmp_path / "metadata.csv").write_text(HEADER + "\n".join(ROWS) + "\n")
    return tmp_path


def test_published_layout(folder: Path) -> None:
    cohort = readers.read(folder)
    assert cohort.info["reader"] == "wilds"
    assert cohort.table["class"].tolist() == ["tumor", "normal", "normal"]
    assert cohort.table["patient"].tolist() == ["004", "004", "042"], "P6: text"
    assert [(a.name, a.levels) for a in cohort.schema.attributes] == [("center", ("0", "2"))]
    assert cohort.table["wilds_split"].tolist() == ["0", "1", "0"]
    assert "split" not in cohort.table, "P5: train and id_val share slides, so they are no split of ours"
    assert all((folder / image).is_file() for image in cohort.table["image"])
    assert readers.read(folder / "metadata.csv").digest() == cohort.digest()


def test_missing_patch_names_its_line(folder: Path) -> None:
    next(folder.rglob("*_x_64_*.png")).unlink()
    with pytest.raises(MediError, match=r"metadata.csv line 4: .*x_64_y_96.png: no such image file"):
        readers.read(folder, "wilds")
    assert len(readers.read(folder, "wilds", on_error="skip")) == 2


def test_bad_tables(folder: Path) -> None:
    path = folder / "metadata.csv"
    path.write_text(HEADER + ROWS[0].replace(",1,0,0,0", ",yes,0,0,0"))
    with pytest.raises(MediError, match="line 2: tumor 'yes', expected 0 or 1"):
        readers.read(folder, "wilds")
    path.write_text(HEADER + ROWS[0] + "\n" + ROWS[0])
    with pytest.raises(MediError, match=r"line 3: .*was there already"):
        readers.read(folder, "wilds")
    path.write_text("patient,node\n1,2\n")
    with pytest.raises(MediError, match="no column x_coord, y_coord"):
        readers.read(folder, "wilds")
