"""Class folders and name patterns."""

from collections.abc import Callable
from pathlib import Path

import pytest

from medi.cohort import readers
from medi.core.errors import MediError
from shared_data import SHARED, real


def test_first_folder_is_the_class(tmp_path: Path, draw: Callable[..., Path]) -> None:
    for name in ("tumor/b.png", "tumor/deep/a.JPG", "normal/a.tif", "normal/.hidden.png"):
        draw(name)
    (tmp_path / "tumor" / "readme.txt").write_text("no image")
    cohort = readers.read(tmp_path)
    assert cohort.table["image"].tolist() == ["normal/a.tif", "tumor/b.png", "tumor/deep/a.JPG"]
    assert cohort.table["class"].tolist() == ["normal", "tumor", "tumor"]
    assert cohort.table["patient"].is_unique, "P5: nothing says that two images share a patient"
    assert cohort.info["reader"] == "folder"


def test_pattern_groups_become_columns(tmp_path: Path, draw: Callable[..., Path]) -> None:
    for name in ("x/NA_p01_s1_0.png", "x/02_p01_s1_1.png", "y/NA_p02_s2_0.png"):
        draw(name)
    pattern = r"(?P<label>\w+)/(?P<site>\w\w)_(?P<patient>p\d+)_(?P<slide>s\d+)"
    cohort = readers.read(tmp_path, "folder", pattern=pattern)
    assert [a.name for a in cohort.schema.attributes] == ["site"]
    assert readers.read(tmp_path, "folder", pattern=pattern.replace("label", "class")).digest() == cohort.digest()
    assert cohort.schema.attribute("site").levels == ("02", "NA"), "P6"
    assert cohort.table["patient"].tolist() == ["p01", "p01", "p02"]


def test_unmatched_names_are_an_error_or_a_listed_skip(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw("a/x_1.png"), draw("a/odd.png")
    with pytest.raises(MediError, match=r"a/odd.png: not of the form"):
        readers.read(tmp_path, "folder", pattern=r"(?P<label>\w)/x_(?P<site>\d)")
    cohort = readers.read(tmp_path, "folder", pattern=r"(?P<label>\w)/x_(?P<site>\d)", on_error="skip")
    assert len(cohort) == 1
    assert any("left out, not of the form" in note for note in cohort.info["notes"])
    with pytest.raises(MediError, match="no image path is of the form"):
        readers.read(tmp_path, "folder", pattern=r"(?P<label>zzz)", on_error="skip")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"(?P<label>", "no regular expression"),
        (r"\d+", "needs named groups"),
        (r"(a)(?P<x>b)", "needs named groups"),
        (r"(?P<split>\w+)", "'split' is a reserved name"),
    ],
)
def test_bad_patterns(tmp_path: Path, draw: Callable[..., Path], pattern: str, message: str) -> None:
    draw("a/b.png")
    with pytest.raises(MediError, match=message):
        readers.read(tmp_path, "folder", pattern=pattern)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(MediError, match="no images here"):
        readers.read(tmp_path, "folder")
    with pytest.raises(MediError, match="no such folder"):
        readers.read(tmp_path / "none", "folder")
    with pytest.raises(MediError, match="no such file or folder"):
        readers.read(tmp_path / "none")
    with pytest.raises(MediError, match="no reader 'wsi'"):
        readers.read(tmp_path, "wsi")


def test_folder_links_are_not_followed(tmp_path: Path, draw: Callable[..., Path]) -> None:
    draw("a/b.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(readers.read(tmp_path, "folder")) == 1


@real
def test_camelyon17_is_one_call() -> None:
    cohort = readers.read(SHARED / "camelyon17", "folder", pattern=r"domain_(?P<hospital>\d)_")
    assert len(cohort) == 25
    assert cohort.schema.attribute("hospital").levels == ("0", "1", "2", "3", "4")
    assert cohort.table["hospital"].value_counts().eq(5).all()
    assert cohort.schema.classes.levels == ()
    assert "25 rows have no class" in cohort.info["notes"]
