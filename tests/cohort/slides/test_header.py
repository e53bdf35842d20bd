"""What the header of a slide tells, of each kind of slide, and what it keeps to itself."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import ImageCms

from command_line import Medi, fine
from medi.cohort.slides.header import COLUMNS, header_of, mpp_of, year_of
from medi.cohort.slides.opening import open_slide
from medi.cohort.slides.planning import Field, plan_slides
from medi.core.codes import KEY, code_of, key_of
from medi.core.errors import MediError
from pyramids import aperio, dicom, generic, ome

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def told(path: Path) -> dict[str, str]:
    """What a header says, without what it does not."""
    with open_slide(path) as slide:
        return {name: text for name, text in header_of(slide).items() if text}


def test_headers_of_aperio_and_plain_tiff(tmp_path: Path) -> None:
    aperio(tmp_path / "a.svs", iccprofile=PROFILE)
    generic(tmp_path / "b.tif", iccprofile=PROFILE)
    scanned, plain = told(tmp_path / "a.svs"), told(tmp_path / "b.tif")
    assert scanned.pop("icc_profile") == plain.pop("icc_profile") != "", "one profile has one name"
    assert scanned == {
        "vendor": "aperio",
        "scanner": "SS1302",
        "objective": "20",
        "slide_mpp": "0.499",
        "jpeg_quality": "70",
        "scan_year": "2009",
        "scanner_software": "tifffile.py",
    }
    assert plain == {"vendor": "generic-tiff", "slide_mpp": "0.5", "scan_year": "2015", "scanner_software": "Scan 1.2"}


def test_headers_of_ome_and_dicom(tmp_path: Path) -> None:
    ome(tmp_path / "a.ome.tif")
    dicom(tmp_path / "b")
    assert told(tmp_path / "a.ome.tif") == {
        "vendor": "Zeiss",
        "scanner_model": "Axioscan 7",
        "scanner": "4711",
        "objective": "20",
        "slide_mpp": "0.5",
        "scan_year": "2021",
        "scanner_software": "Scan 2.1",
    }
    assert told(tmp_path / "b" / "0.dcm") == {
        "vendor": "Leica Biosystems",
        "scanner_model": "GT450",
        "scanner": "SS12345",
        "objective": "40",
        "slide_mpp": "0.5",
        "scan_year": "2021",
        "scanner_software": "1.0.1",
    }


@pytest.mark.slow
def test_tables_hold_no_serial_number_and_no_date_but_its_year(medi: Medi, folder: Path) -> None:
    """One serial number has one code within a folder of tables, and another one elsewhere."""
    aperio(folder / "c.svs")
    aperio(folder / "d.svs", serial="SS9")
    dicom(folder / "e")
    for out in ("one", "other"):
        fine(medi("slides", folder, "--size", 32, "--out", out, "--workers", 1))
    one, other = (pd.read_csv(f"{out}/slides.csv", dtype=str).set_index("slide_file") for out in ("one", "other"))
    codes = one["scanner"].dropna()
    assert codes["a.svs"] == codes["c.svs"]
    assert codes.nunique() == 3
    assert not set(codes) & set(other["scanner"])
    for text in (one.to_csv(), pd.read_parquet("one/patches.parquet").to_csv()):
        assert not [word for word in ("SS1302", "SS9", "SS12345", "12/29", "0304", "Jane", "MRN1") if word in text]
    kept = plan_slides(folder, folder, folder.parent / "kept", Field(32, keep_ids=True))[1]
    assert set(kept["scanner"]) == {"SS1302", "SS9", "SS12345", ""}
    assert not (folder.parent / "kept" / KEY).exists()


def test_codes_need_the_key_which_is_its_owners_alone(tmp_path: Path) -> None:
    key = key_of(tmp_path)
    assert key_of(tmp_path) == key
    assert (tmp_path / KEY).stat().st_mode & 0o077 == 0
    assert code_of(key, "scanner", "SS1") != code_of(key, "slide", "SS1")
    (tmp_path / KEY).write_text("none")
    with pytest.raises(MediError, match=r"ids.key: not readable as a key .* or delete it"):
        key_of(tmp_path)


def test_of_two_keys_that_are_made_at_once_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: each of two exports wrote with a key of its own, of which one was kept."""
    drawn = []

    def slow(count: int) -> str:
        if not drawn:  # another process makes one meanwhile
            drawn.append("ab" * count)
            drawn.append(key_of(tmp_path).hex())
        return drawn[0] if len(drawn) == 1 else "cd" * count

    monkeypatch.setattr("medi.core.codes.secrets.token_hex", slow)
    assert key_of(tmp_path).hex() == "ab" * 32 == drawn[1]
    assert [path.name for path in tmp_path.iterdir()] == [KEY]


def test_years_are_what_is_left_of_dates() -> None:
    assert [year_of(text) for text in ("2009/12/31", "1/2/19", "31.12.", "")] == ["2009", "2019", "", ""]


@pytest.mark.slow
def test_labels_and_overviews_are_never_read(medi: Medi, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole road, from header to pixels, of slides whose other pictures raise when they are asked for."""
    import openslide
    import tiffslide

    def touched(slide: object) -> None:
        raise AssertionError(f"{slide}: label or overview was read")

    for kind in (openslide.OpenSlide, tiffslide.TiffSlide):
        monkeypatch.setattr(kind, "associated_images", property(touched))
    ome(folder / "c.ome.tif")
    dicom(folder / "d", label=True)
    with open_slide(folder / "d" / "0.dcm") as slide:
        assert slide.properties["openslide.associated.label.width"] == "64"
        with pytest.raises(AssertionError, match="label or overview was read"):
            slide.associated_images["label"]
    fine(medi("slides", folder, "--size", 32, "--out", "s", "--workers", 1))
    fine(medi("pack", "s/patches.parquet", "--label", "vendor", "--size", 32, "--out", "packed", "--workers", 1))


def test_a_size_of_pixels_that_no_scanner_makes_is_refused(folder: Path) -> None:
    generic(folder / "b.tif", resolution=(72, 72), resolutionunit="INCH")
    with open_slide(folder / "b.tif") as slide:
        with pytest.raises(MediError, match=r"b.tif: its header has 352.778 micrometres per pixel, which no scanner"):
            mpp_of(slide, "b.tif", None)
        assert mpp_of(slide, "b.tif", 0.25) == 0.25
    generic(folder / "b.tif", resolution=(20_000, 10_000))
    with open_slide(folder / "b.tif") as slide, pytest.raises(MediError, match=r"are 0.5 x 1 micrometres, not square"):
        mpp_of(slide, "b.tif", None)


def test_every_column_is_told_of(folder: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "slides.md").read_text()
    assert not [name for name in COLUMNS if f"`{name}`" not in text]
