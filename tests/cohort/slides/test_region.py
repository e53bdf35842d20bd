"""A patch of a slide: its name, its pixels, and what is said where it cannot be read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medi.cohort.slides.region import Region, files_of, on_white, read_region
from medi.core.errors import MediError
from pyramids import aperio, generic


def test_names_are_read_back_and_files_are_left_alone() -> None:
    region = Region("a #1/b.svs", 3, 5, 32, 16)
    assert Region.named(str(region)) == region
    assert Region.named("a#1.png") is None
    assert files_of(pd.Series([str(region), "x/a#1.png", "b.png"])).tolist() == ["a #1/b.svs", "x/a#1.png", "b.png"]


def test_pixels_of_the_finest_level_are_the_slides_own(tmp_path: Path) -> None:
    pixels = aperio(tmp_path / "a.svs")
    found = read_region(tmp_path, Region("a.svs", 3, 5, 32, 32))
    assert np.array_equal(np.asarray(found), pixels[5:37, 3:35])


def test_a_coarser_level_is_used_where_it_is_fine_enough(tmp_path: Path) -> None:
    pixels = generic(tmp_path / "a.tif")
    found = read_region(tmp_path, Region("a.tif", 4, 8, 64, 32))
    assert np.array_equal(np.asarray(found), pixels[::2, ::2][4:36, 2:34])
    smaller = read_region(tmp_path, Region("a.tif", 4, 8, 48, 32))
    expected = Image.fromarray(pixels[8:56, 4:52]).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(smaller), np.asarray(expected)), "between levels the finer one is reduced"


def test_what_was_never_scanned_is_white() -> None:
    picture = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    assert np.asarray(on_white(picture)).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    aperio(tmp_path / "a.svs")
    with pytest.raises(ValueError, match=r"a.svs#180,0,32,32 reaches beyond the slide, which has 192 x 128 pixels"):
        read_region(tmp_path, Region("a.svs", 180, 0, 32, 32))
    with pytest.raises(FileNotFoundError):
        read_region(tmp_path, Region("b.svs", 0, 0, 32, 32))
    (tmp_path / "c.svs").write_bytes(b"no slide")
    with pytest.raises(MediError, match=r"c.svs: not readable as a slide"):
        read_region(tmp_path, Region("c.svs", 0, 0, 32, 32))


def test_a_level_that_is_broken_is_named_and_the_slide_is_read_again(tmp_path: Path) -> None:
    whole = tmp_path / "a.svs"
    aperio(whole)
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 4])
    try:
        read_region(tmp_path, Region("a.svs", 0, 0, 128, 64))
        raised = ""
    except (ValueError, MediError) as error:
        raised = str(error)
    assert "a.svs" in raised
    whole.write_bytes(content)
    assert read_region(tmp_path, Region("a.svs", 0, 0, 32, 32)).shape == (32, 32, 3)
