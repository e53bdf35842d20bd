"""From slides to a packed cohort: places, headers, tables, packing, and what is said of bad input."""

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

import medi
from command_line import Medi, fine, refused
from medi.cohort.slides.header import header_of, mpp_of, year_of
from medi.cohort.slides.planning import Field, plan_slides
from medi.cohort.slides.region import open_slide
from medi.core.errors import MediError
from pyramids import aperio, generic, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two slides of two scanners, and a table of them."""
    slides = tmp_path / "slides"
    slides.mkdir()
    aperio(slides / "a.svs")
    generic(slides / "b.tif")
    pd.DataFrame({"file": ["a", "b.tif"], "case": ["p1", "p2"], "diagnosis": ["A", "B"]}).to_csv(
        tmp_path / "slides.csv", index=False
    )
    return slides


def plan(folder: Path, field: Field, **options: object) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    return plan_slides(folder.parent / "slides.csv", folder, folder.parent / "out", field, **options)


def coordinates(folder: Path, corners: list[list[int]], **attributes: object) -> Path:
    """Coordinates of CLAM or TRIDENT for both slides."""
    places = folder.parent / "coords"
    places.mkdir(exist_ok=True)
    for name in ("a", "b"):
        with h5py.File(places / f"{name}.h5", "w") as file:
            file["coords"] = np.array(corners)
            file["coords"].attrs.update(attributes)
    return places


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


def test_headers_tell_the_scanner_and_no_identity(folder: Path) -> None:
    slides = plan(folder, Field(32))[1].set_index("file")
    assert slides.loc["a", ["vendor", "objective", "jpeg_quality", "scan_year"]].tolist() == [
        "aperio",
        "20",
        "70",
        "2009",
    ]
    assert slides.loc["a", "scanner_software"] == "tifffile.py"
    assert slides.loc["b.tif", ["vendor", "scan_year", "scanner_software"]].tolist() == [
        "generic-tiff",
        "2015",
        "Scan 1.2",
    ]
    assert "SS1302" not in slides.to_csv()
    assert "12/29" not in slides.to_csv()
    with open_slide(folder / "a.svs") as slide:
        assert header_of(slide, keep_ids=True)["scanner"] == "SS1302"
        same = header_of(slide)["scanner"]
    assert len(same) == 8
    aperio(folder / "c.svs", serial="SS9")
    with open_slide(folder / "c.svs") as slide:
        assert header_of(slide)["scanner"] not in ("", same)


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
    ring = [[0, 0], [64, 0], [64, 64], [0, 64], [0, 0]]
    hole = [[0, 0], [32, 0], [32, 32], [0, 32], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [ring, hole]}
    feature = {"type": "Feature", "geometry": shape, "properties": {"classification": {"name": "Tumour"}}}
    places = folder.parent / "outlines"
    places.mkdir()
    for name in ("a", "b"):
        (places / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    patches = plan(folder, Field(32, places=places))[0]
    first = patches[patches["slide"] == "a"]
    assert list(zip(first["x"], first["y"])) == [("32", "0"), ("0", "32"), ("32", "32")]
    assert set(patches["annotation"]) == {"Tumour"}
    (places / "a.geojson").write_text('{"features": [{"geometry": 3}]}')
    with pytest.raises(MediError, match=r"a.geojson: not GeoJSON with polygons"):
        plan(folder, Field(32, places=places))


def test_at_most_so_many_of_a_slide_the_same_for_the_same_seed_p3(folder: Path) -> None:
    some = plan(folder, Field(32, most=5))[0]
    assert some.groupby("slide").size().tolist() == [5, 5]
    assert some["image"].tolist() == plan(folder, Field(32, most=5), workers=2)[0]["image"].tolist()
    assert some["image"].tolist() != plan(folder, Field(32, most=5, seed=1))[0]["image"].tolist()


def test_from_slides_to_a_packed_cohort_by_the_verbs(medi: Medi, folder: Path) -> None:
    shown = fine(medi("slides", folder.parent / "slides.csv", "--slides", folder, "--size", 32, "--out", "s"))
    assert "24 patches of 32 px from 2 slides" in shown
    assert "the headers differ in vendor, scanner, scan_year" in shown
    assert "next: medi audit s/patches.parquet --attributes scan_year" in shown
    fine(
        medi(
            "audit",
            "s/patches.parquet",
            "--label",
            "diagnosis",
            "--patient",
            "case",
            "--attributes",
            "vendor",
            "--out",
            "c",
        )
    )
    fine(medi("pack", "c", "--size", 32, "--out", "packed"))
    from medi.cohort.table import Cohort

    packed = Cohort.load(Path("packed"))
    row = packed.table.index[packed.table["sample_id"] == "a_32_64"][0]
    assert np.array_equal(packed.images[[row]][0], aperio(folder / "again.svs")[64:96, 32:64])
    assert set(packed.table["vendor"]) == {"aperio", "generic-tiff"}
    assert packed.table["mpp"].astype(float).max() == pytest.approx(0.5)


def test_a_folder_of_slides_needs_no_table(folder: Path) -> None:
    patches, _, _ = plan_slides(folder, folder, folder.parent / "out", Field(32))
    assert set(patches["slide"]) == {"a", "b"}
    cohort = medi.read(folder.parent / "out" / "patches.parquet", label="vendor", attributes=["objective"])
    assert len(cohort) == 24


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "slides.csv row 3: 'nowhere': no such slide in the folder; name its path in the folder"),
        ("a", "slides.csv: slide a.svs stands in two rows; leave one out"),
    ],
)
def test_tables_that_do_not_fit_are_refused_by_row(folder: Path, name: str, words: str) -> None:
    table = pd.read_csv(folder.parent / "slides.csv")
    pd.concat([table, pd.DataFrame({"file": [name], "case": ["p"], "diagnosis": ["A"]})]).to_csv(
        folder.parent / "slides.csv", index=False
    )
    with pytest.raises(MediError, match=words):
        plan(folder, Field(32))


def test_coordinates_that_do_not_fit_are_refused(folder: Path) -> None:
    with pytest.raises(
        MediError, match=r"a.svs: 1 of 2 patches of 32 pixels lie outside the slide \(192 x 128 pixels\)"
    ):
        plan(folder, Field(32, places=coordinates(folder, [[0, 0], [170, 0]], patch_size_level0=32)))
    with pytest.raises(MediError, match=r"a.h5: `coords` states neither patch_size_level0 nor patch_size"):
        plan(folder, Field(32, places=coordinates(folder, [[0, 0]])))
    with pytest.raises(MediError, match=r"a.h5: patches of level 4, the slide has 2 levels"):
        plan(folder, Field(32, places=coordinates(folder, [[0, 0]], patch_size=32, patch_level=4)))
    (folder.parent / "coords" / "a.h5").write_bytes(b"nothing")
    with pytest.raises(MediError, match=r"a.h5: not readable as HDF5"):
        plan(folder, Field(32, places=folder.parent / "coords"))
    (folder.parent / "coords" / "a.h5").unlink()
    with pytest.raises(MediError, match=r"a.svs: .*coords has no file of its name \(a.h5, a.geojson"):
        plan(folder, Field(32, places=folder.parent / "coords"))


def test_a_slide_without_a_resolution_or_with_an_impossible_one(folder: Path) -> None:
    write(folder / "b.tif")
    with pytest.raises(
        MediError, match=r"b.tif: its header has no micrometres per pixel; state them in a column `mpp`"
    ):
        plan(folder, Field(32))
    generic(folder / "b.tif", resolution=(72, 72), resolutionunit="INCH")
    with pytest.raises(MediError, match=r"b.tif: its header has 352.778 micrometres per pixel, which no scanner makes"):
        plan(folder, Field(32))
    table = pd.read_csv(folder.parent / "slides.csv").assign(mpp=["", "0.25"])
    table.to_csv(folder.parent / "slides.csv", index=False)
    assert plan(folder, Field(32))[0]["mpp"].max() == pytest.approx(0.499)
    with open_slide(folder / "a.svs") as slide:
        assert mpp_of(slide, "a.svs", None) == pytest.approx(0.499)


def test_a_broken_slide_is_named_or_left_out(medi: Medi, folder: Path) -> None:
    (folder / "b.tif").write_bytes(b"broken")
    source = ("slides", folder.parent / "slides.csv", "--slides", folder, "--size", 32, "--out", "s")
    refused(medi(*source), "b.tif: not readable as a slide", "skip leaves such slides out")
    assert not Path("s/patches.parquet").exists()
    shown = fine(medi(*source, "--on-error", "skip"))
    assert "left out:" in shown
    assert "12 patches of 32 px from 1 slides" in shown
    assert pd.read_csv("s/slides.csv")["reason"].fillna("").str.contains("not readable").tolist() == [False, True]


def test_slides_of_one_name_in_two_folders_stay_two(folder: Path) -> None:
    """Defect: both were one slide, with sample ids that occur twice."""
    (folder / "a.svs").unlink()
    for site in ("rome", "oslo"):
        (folder / site).mkdir()
        aperio(folder / site / "a.svs")
    patches, _, _ = plan_slides(folder, folder, folder.parent / "out", Field(32))
    assert set(patches["slide"]) == {"rome/a", "oslo/a", "b"}
    assert patches["sample_id"].is_unique


def test_another_table_of_patches_is_not_overwritten_p15(medi: Medi, folder: Path) -> None:
    fine(medi("slides", folder, "--size", 32, "--out", "s"))
    before = Path("s/patches.parquet").read_bytes()
    refused(medi("slides", folder, "--size", 16, "--out", "s"), "size", "medi slides")
    assert Path("s/patches.parquet").read_bytes() == before
    fine(medi("slides", folder, "--size", 32, "--out", "s"))


def test_years_are_what_is_left_of_dates() -> None:
    assert [year_of(text) for text in ("2009/12/31", "1/2/19", "31.12.", "")] == ["2009", "2019", "", ""]
