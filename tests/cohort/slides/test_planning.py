"""From slides to a table of patches: where they lie, how many, and what they are called."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import medi
from command_line import Medi, fine, refused
from medi.cohort.slides.manifest import find_slides
from medi.cohort.slides.planning import Field, plan_slides
from medi.cohort.table import Cohort
from pyramids import aperio, coordinates, outlines


def plan(folder: Path, field: Field, **options: object) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    return plan_slides(folder.parent / "slides.csv", folder, folder.parent / "out", field, **options)


def test_tissue_is_found_by_the_rule(folder: Path) -> None:
    """Three of six columns of squares show tissue, whatever the scanner."""
    patches, slides, left_out = plan(folder, Field(32))
    assert slides["patches"].tolist() == [12, 12]
    assert sorted(set(patches["x"].astype(int))) == [0, 32, 64]
    assert not left_out
    assert patches["mpp"].tolist() == pytest.approx([0.499] * 12 + [0.5] * 12)
    half = plan(folder, Field(64, tissue=0.4))[1]
    assert half["patches"].tolist() == [4, 4], "the second column is half glass"


def test_a_stated_resolution_asks_for_as_many_pixels(folder: Path) -> None:
    patches = plan(folder, Field(16, mpp=1.0))[0]
    assert patches["image"][0] == "../slides/a.svs#0,0,32,16"
    assert patches["mpp"].tolist() == pytest.approx([0.998] * 12 + [1.0] * 12)


@pytest.mark.parametrize(
    ("attributes", "side"),
    [({"patch_size_level0": 48, "patch_size": 24}, 48), ({"patch_size": 24, "patch_level": 1}, 48)],
)
def test_coordinates_of_trident_and_clam(folder: Path, attributes: dict[str, int], side: int) -> None:
    places = coordinates(folder, [[0, 0], [5, 7]], **attributes)
    patches = plan(folder, Field(24, places=places))[0]
    assert patches["image"].tolist()[:2] == [f"../slides/a.svs#0,0,{side},24", f"../slides/a.svs#5,7,{side},24"]
    wider = plan(folder, Field(16, mpp=1.0, places=coordinates(folder, [[40, 40]], **attributes)))[0]
    assert wider["image"][0] == "../slides/a.svs#48,48,32,16", "another field around the same middle"


def test_outlines_of_qupath_choose_and_name_squares(folder: Path) -> None:
    places = outlines(folder)
    patches = plan(folder, Field(32, places=places))[0]
    first = patches[patches["slide"] == "a"]
    assert list(zip(first["x"], first["y"])) == [("32", "0"), ("0", "32"), ("32", "32")]
    assert set(patches["annotation"]) == {"Tumour"}


@pytest.mark.slow
def test_at_most_so_many_of_a_slide_the_same_for_the_same_seed_p3(folder: Path) -> None:
    some = plan(folder, Field(32, most=5))[0]
    assert some.groupby("slide").size().tolist() == [5, 5]
    assert some["image"].tolist() == plan(folder, Field(32, most=5), workers=2)[0]["image"].tolist()
    assert some["image"].tolist() != plan(folder, Field(32, most=5, seed=1))[0]["image"].tolist()


def trident(folder: Path) -> Path:
    return coordinates(folder, [[0, 0], [32, 64]], patch_size=32, patch_size_level0=32, level0_width=192)


def clam(folder: Path) -> Path:
    return coordinates(folder, [[0, 0], [32, 64]], patch_size=16, patch_level=1, level_dim=(96, 64))


@pytest.mark.slow
@pytest.mark.parametrize(("places", "count"), [(None, 24), (clam, 4), (trident, 4), (outlines, 6)])
def test_from_slides_to_a_packed_cohort_and_its_audit_p2(
    medi: Medi, folder: Path, places: Callable[[Path], Path] | None, count: int
) -> None:
    """The commands of docs/how-to/slides.md; the pixels are those that another program reads."""
    where = () if places is None else ("--places", places(folder))
    source = (folder.parent / "slides.csv", "--slides", folder)
    shown = fine(medi("slides", *source, "--size", 32, *where, "--workers", 1, "--out", "s"))
    assert f"{count} patches of 32 px from 2 slides" in shown
    assert "the headers differ in scanner, vendor, scan_year" in shown
    about = ("--label", "diagnosis", "--patient", "case", "--attributes", "vendor")
    fine(medi("pack", "s/patches.parquet", *about, "--size", 32, "--out", "packed", "--workers", 1))
    assert f"{count} patches, 2 slides, 2 patients, 2 classes" in fine(medi("audit", "packed", "--out", "audit"))
    packed = Cohort.load(Path("packed"))
    rows = packed.table[packed.table["slide"] == "a"]
    whole = tifffile.imread(folder / "a.svs")
    for row, x, y in zip(rows.index, rows["x"].astype(int), rows["y"].astype(int)):
        assert np.array_equal(packed.images[[row]][0], whole[y : y + 32, x : x + 32])
    assert set(packed.table["vendor"]) == {"aperio", "generic-tiff"}
    assert packed.table["mpp"].astype(float).max() == pytest.approx(0.5)


def test_a_folder_of_slides_needs_no_table(folder: Path) -> None:
    patches, _, _ = plan_slides(folder, folder, folder.parent / "out", Field(32))
    assert set(patches["slide"]) == {"a", "b"}
    cohort = medi.read(folder.parent / "out" / "patches.parquet", label="vendor", attributes=["objective"])
    assert len(cohort) == 24


def test_slides_of_one_name_in_two_folders_stay_two(folder: Path) -> None:
    """Defect: both were one slide, with sample ids that occur twice."""
    (folder / "a.svs").unlink()
    for site in ("rome", "oslo"):
        (folder / site).mkdir()
        aperio(folder / site / "a.svs")
    patches, _, _ = plan_slides(folder, folder, folder.parent / "out", Field(32))
    assert set(patches["slide"]) == {"rome/a", "oslo/a", "b"}
    assert patches["sample_id"].is_unique


def test_slides_of_one_name_and_two_suffixes_stay_two_and_hidden_files_are_none(tmp_path: Path) -> None:
    """Defect: both were called a, with sample ids that occur twice; copies by macOS brought ._a.svs."""
    for name in ("a.svs", "a.tif", "._a.svs", "b.ndpi"):
        (tmp_path / name).touch()
    assert [slide.called for slide in find_slides(tmp_path)] == ["a.svs", "a.tif", "b"]


@pytest.mark.slow
def test_another_table_of_patches_is_not_overwritten_p15(medi: Medi, folder: Path) -> None:
    fine(medi("slides", folder, "--size", 32, "--out", "s", "--workers", 1))
    before = Path("s/patches.parquet").read_bytes()
    refused(medi("slides", folder, "--size", 16, "--out", "s"), "size", "medi slides")
    assert Path("s/patches.parquet").read_bytes() == before
    fine(medi("slides", folder, "--size", 32, "--out", "s", "--workers", 1))
