"""What a user may have got wrong: one line that names slide, file or row, and nothing half written (P12)."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tifffile

from command_line import Medi, fine, refused
from pyramids import coordinates, generic, ome, outlines, write

Spoil = Callable[[Path], object]


def rows(folder: Path, *more: str, **columns: object) -> None:
    """Add slides and columns to the table."""
    path = folder.parent / "slides.csv"
    table = pd.concat([pd.read_csv(path), pd.DataFrame({"file": more}, dtype=str)]).assign(**columns)
    table.to_csv(path, index=False)


def at(*corners: list[int], **attributes: object) -> Spoil:
    """Coordinates, by default of a patch of 32 pixels that is there."""
    return lambda folder: coordinates(folder, list(corners) or [[0, 0]], **attributes)


def text(name: str, content: bytes) -> Spoil:
    """A file of places, or of a slide, that holds something else."""

    def put(folder: Path) -> Path:
        path = outlines(folder) / name if name.endswith("json") else coordinates(folder, [[0, 0]]) / name
        path.write_bytes(content)
        return path.parent

    return put


def cut(folder: Path) -> None:
    """The second slide, without its end."""
    (folder / "b.tif").write_bytes((folder / "b.tif").read_bytes()[:-9_000])


SLIDES: dict[str, tuple[Spoil, str]] = {
    "encrypted": (
        lambda folder: (folder / "b.tif").write_bytes(bytes(range(256)) * 99),
        "b.tif: not readable as a slide (Unsupported or missing image file)",
    ),
    "truncated": (cut, "b.tif: not readable as a slide"),
    "no mpp": (
        lambda folder: write(folder / "b.tif"),
        "b.tif: its header has no micrometres per pixel; state them in a column `mpp`",
    ),
    "72 dots": (
        lambda folder: generic(folder / "b.tif", resolution=(72, 72), resolutionunit="INCH"),
        "b.tif: its header has 352.778 micrometres per pixel, which no scanner makes",
    ),
    "no file": (
        lambda folder: (folder / "b.tif").unlink(),
        "slides.csv line 3: 'b.tif': no such slide in the folder; name its path in the folder, or leave it out",
    ),
    "twice": (
        lambda folder: rows(folder, "a.svs"),
        "slides.csv line 4: slide a.svs stands there and at slides.csv line 2; leave one out",
    ),
    "mpp": (
        lambda folder: rows(folder, mpp=["0.5", "half"]),
        "slides.csv line 3: mpp 'half' is no positive number; write micrometres per pixel such as 0.25",
    ),
    "column": (lambda folder: rows(folder, x=[1, 2]), "slides.csv: column 'x' is a name of ours; rename it"),
}
PLACES: dict[str, tuple[Spoil, str]] = {
    "outside": (
        at([0, 0], [170, 0], patch_size_level0=32),
        "a.svs: 1 of 2 patches of 32 pixels lie outside the slide (192 x 128 pixels), the first at (170, 0)",
    ),
    "no side": (at(), "a.h5: `coords` states neither patch_size_level0 nor patch_size with patch_level"),
    "no level": (at(patch_size=32, patch_level=4), "a.h5: patches of level 4, the slide has 2 levels"),
    "another level": (
        at(patch_size=32, patch_level=1, level_dim=(192, 128)),
        "a.h5: was made on a level of 192 x 128 pixels, this slide's has 96 x 64",
    ),
    "another slide": (
        at(patch_size_level0=32, level0_width=999, level0_height=128),
        "a.h5: was made on a level of 999 x 128 pixels, this slide's has 192 x 128",
    ),
    "side 0": (at(patch_size_level0=0), "a.h5: `coords` states patches of 0 pixels"),
    "no number": (
        at(patch_size_level0="wide"),
        "a.h5: invalid literal",
    ),
    "no points": (at([0, 0, 0], patch_size=9), "a.h5: `coords` is int64 [1, 3]; expected finite numbers [n, 2]"),
    "no HDF5": (text("a.h5", b"nothing"), "a.h5: not readable as HDF5"),
    "no GeoJSON": (text("a.geojson", b'{"features": [{"geometry": 3}]}'), "a.geojson: not GeoJSON with polygons"),
    "no JSON": (text("a.geojson", b"\x80"), "a.geojson: not GeoJSON with polygons"),
    "far": (
        text("a.geojson", b'[{"geometry": {"type": "Polygon", "coordinates": [[[500, 0], [600, 0], [600, 9]]]}}]'),
        "a.geojson: its outlines lie outside the slide (192 x 128 pixels), the first point at (500.0, 0.0)",
    ),
    "none": (
        lambda folder: [path.unlink() for path in coordinates(folder, [[0, 0]]).iterdir()] and folder.parent / "coords",
        "a.svs: coords has no file of its name (a.h5, a.geojson ...)",
    ),
}


@pytest.mark.parametrize("name", [*SLIDES, *PLACES])
def test_bad_input_is_one_line_and_writes_nothing_p12(
    medi: Medi, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    spoil, words = (SLIDES | PLACES)[name]
    spoil(folder)
    where = {"json": "outlines"}.get(words.partition(":")[0][-4:], "coords") if name in PLACES else ""
    places = ("--places", where) if where else ()
    source = ("slides", "slides.csv", "--slides", "slides", "--size", 32, *places, "--workers", 1, "--out", "s")
    refused(medi(*source), words)
    assert not Path("s").exists() or not list(Path("s").iterdir())


def test_a_broken_slide_is_left_out_where_that_is_asked_for(medi: Medi, folder: Path) -> None:
    (folder / "b.tif").write_bytes(b"broken")
    source = ("slides", folder.parent / "slides.csv", "--slides", folder, "--size", 32, "--workers", 1, "--out", "s")
    refused(medi(*source), "b.tif: not readable as a slide", "skip leaves such slides out")
    shown = fine(medi(*source, "--on-error", "skip"))
    assert "left out:" in shown
    assert "12 patches of 32 px from 1 slides" in shown
    assert pd.read_csv("s/slides.csv")["reason"].fillna("").str.contains("not readable").tolist() == [False, True]


def test_a_resolution_that_the_header_lacks_is_stated_in_the_table(medi: Medi, folder: Path) -> None:
    write(folder / "b.tif")
    rows(folder, mpp=["", "0.25"])
    fine(medi("slides", folder.parent / "slides.csv", "--slides", folder, "--size", 32, "--workers", 1, "--out", "s"))
    assert sorted(set(pd.read_parquet("s/patches.parquet")["mpp"])) == pytest.approx([0.25, 0.499])


@pytest.mark.slow
@pytest.mark.parametrize(("file", "kind"), [("a.tif", generic), ("a.ome.tif", ome)])
def test_a_level_that_cannot_be_read_stops_the_packing_by_name(
    medi: Medi, folder: Path, file: str, kind: Callable[..., object]
) -> None:
    """The finest level is whole, a tile of the other one is no longer what was written."""
    for path in folder.iterdir():
        path.unlink()
    kind(folder / file, compression="zlib")
    with tifffile.TiffFile(folder / file) as slide, (folder / file).open("rb+") as handle:
        handle.seek(slide.series[0].levels[1].pages[0].dataoffsets[0])
        handle.write(bytes(500))
    places = coordinates(folder, [[0, 0]], patch_size_level0=64)
    fine(medi("slides", folder, "--size", 32, "--places", places, "--workers", 1, "--out", "s"))
    shown = medi("pack", "s/patches.parquet", "--label", "vendor", "--size", 32, "--out", "packed", "--workers", 1)
    refused(shown, f"{file}#0,0,64,32: level 1 of the slide is not readable")
    assert not Path("packed/cohort.json").exists()
