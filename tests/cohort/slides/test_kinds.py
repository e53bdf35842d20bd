"""Slides of every kind, read by OpenSlide or TiffSlide, give the same pixels (P2)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from medi.cohort.slides.manifest import find_slides
from medi.cohort.slides.opening import open_slide
from medi.cohort.slides.planning import Field, plan_slides
from medi.cohort.slides.region import Region, read_region
from medi.core.errors import MediError
from pyramids import SERIES, aperio, dicom, generic, ome, picture

KINDS: dict[str, Callable[[Path], object]] = {
    "a.tif": generic,
    "a.svs": aperio,
    "a.ome.tif": ome,
    "a/1.dcm": lambda path: dicom(path.parent),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_the_same_pixels_at_every_level_p2(tmp_path: Path, name: str) -> None:
    """Another program reads the plain file; the levels are used, and what lies between two is reduced."""
    KINDS[name](tmp_path / name)
    write = tmp_path / "oracle.tif"
    generic(write)
    with tifffile.TiffFile(write) as file:
        finest, coarser = (page.asarray() for page in file.pages)
    assert np.array_equal(np.asarray(read_region(tmp_path, Region(name, 3, 5, 32, 32))), finest[5:37, 3:35])
    assert np.array_equal(np.asarray(read_region(tmp_path, Region(name, 4, 8, 64, 32))), coarser[4:36, 2:34])
    between = np.asarray(read_region(tmp_path, Region(name, 4, 8, 48, 32)))
    expected = Image.fromarray(finest[8:56, 4:52]).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(between, np.asarray(expected))
    with pytest.raises(ValueError, match="reaches beyond the slide"):
        read_region(tmp_path, Region(name, 170, 0, 32, 32))


def test_all_kinds_stand_in_one_table_with_their_resolution(tmp_path: Path) -> None:
    for name, write in {"a.tif": generic, "b.svs": aperio, "c.ome.tif": ome, "d": dicom}.items():
        write(tmp_path / name)
    patches = plan_slides(tmp_path, tmp_path, tmp_path / "out", Field(16, mpp=1.0))[0]
    found = patches.drop_duplicates("slide").set_index("slide")
    assert found["mpp"].tolist() == pytest.approx([1.0, 0.998, 1.0, 1.0])
    assert found["image"].tolist() == [f"../{file}#0,0,32,16" for file in ("a.tif", "b.svs", "c.ome.tif", "d/0.dcm")]
    assert patches["slide"].value_counts().to_dict() == dict.fromkeys("abcd", 12)


def test_a_series_of_dicom_is_one_slide(tmp_path: Path) -> None:
    """A folder of its own names it; where several lie in one folder their files do. Labels are no slides."""
    dicom(tmp_path / "case 1", label=True)
    dicom(tmp_path / "two", f"{SERIES}.2", ("x0.dcm", "x1.dcm"))
    dicom(tmp_path / "two", f"{SERIES}.3", ("y0.dcm", "y1.dcm"))
    found = find_slides(tmp_path)
    assert [(slide.called, slide.file) for slide in found] == [
        *[("case 1", "case 1/0.dcm"), ("x0", "two/x0.dcm"), ("y0", "two/y0.dcm")]
    ]
    manifest = tmp_path / "slides.csv"
    pd.DataFrame({"slide": ["case 1", "y1.dcm", f"{SERIES}.2"]}).to_csv(manifest, index=False)
    patches, about, _ = plan_slides(manifest, tmp_path, tmp_path / "out", Field(32))
    assert about["slide_file"].tolist() == ["case 1/0.dcm", "two/y0.dcm", "two/x0.dcm"]
    assert patches["sample_id"].tolist()[:2] == ["case 1_0_0", "case 1_32_0"]


def test_channels_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    """As those of fluorescence."""
    ome(tmp_path / "a.ome.tif", picture()[..., 0], photometric="minisblack")
    with pytest.raises(MediError, match=r"a.ome.tif: holds uint8 pixels in the order YX; expected colours \(RGB\)"):
        open_slide(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_an_ome_tiff_that_is_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    """Defect: a tile of JPEG that was cut was filled with grey."""
    ome(tmp_path / "a.ome.tif", compression="jpeg")
    whole = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(MediError, match=r"a.ome.tif: not readable as a slide"):
        open_slide(tmp_path / "a.ome.tif")
