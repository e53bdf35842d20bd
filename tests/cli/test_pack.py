"""The verb pack: crops, tiles, bad images, interruptions."""

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from command_line import Medi, fine, refused
from medi.cohort import packing
from medi.cohort.table import Cohort
from shared_data import SHARED, real


@pytest.mark.slow
def test_bad_images_fail_by_name_or_are_listed(medi: Medi, source: Path) -> None:
    (source.parent / "3.png").write_bytes(b"no image")
    (source.parent / "4.png").unlink()
    refused(medi("audit", source), "line 6")
    shown = fine(medi("audit", source, "--attributes", "site", "--on-error", "skip", "--out", "a"))
    assert "left out, no such image file: 1" in shown
    refused(medi("pack", "a", "--size", "8", "--workers", "1", "--out", "k"), "3.png: no image format")
    shown = fine(medi("pack", "a", "--size", "8", "--workers", "1", "--on-error", "skip", "--out", "k"))
    assert "left out: 3.png" in shown
    assert len(Cohort.load(Path("k"))) == 46


@pytest.mark.slow
def test_interruption_says_how_to_go_on_p12(medi: Medi, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = packing.pack_unit, count()

    def interrupted(*task: Any) -> object:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return whole(*task)

    with monkeypatch.context() as patched:
        patched.setattr(packing, "UNIT", 16)
        patched.setattr(packing, "pack_unit", interrupted)
        code, shown = medi("pack", source, "--size", "8", "--workers", "1", "--out", "k")
        assert code == 130
        last = shown.splitlines()[-1]
        assert last == "medi: stopped packing at 32 of 48 images; the same command goes on where it was"
        fine(medi("pack", source, "--size", "8", "--workers", "1", "--out", "k"))
    assert next(calls) == 4, "only the last unit was left"
    assert len(Cohort.load(Path("k")).images) == 48


@pytest.mark.slow
def test_pack_crops_and_tiles_at_a_resolution_p5(medi: Medi, source: Path) -> None:
    """12-px images of 0.25 um a pixel: 6 px at 0.5, so one crop of 4 px or one tile of 4 and none of 8."""
    common = ["--mpp", "0.25", "--to-mpp", "0.5", "--workers", "1"]
    fine(medi("pack", source, *common, "--size", "3", "--mode", "tile", "--out", "tiles"))
    tiles = Cohort.load(Path("tiles"))
    assert len(tiles) == 4 * 48
    assert set(tiles.table["mpp"]) == {0.5}
    assert tiles.table.groupby("slide")["patient"].nunique().max() == 1
    fine(medi("pack", source, *common, "--size", "4", "--mode", "crop", "--out", "crops"))
    assert Cohort.load(Path("crops")).images[:].shape == (48, 4, 4, 3)
    refused(medi("pack", source, *common, "--size", "8", "--mode", "crop", "--out", "big"), "0.png")
    refused(medi("pack", source, "--to-mpp", "0.5", "--size", "4", "--mode", "crop", "--out", "big"), "mpp")


@pytest.mark.slow
@real
def test_images_without_labels_are_one_command(medi: Medi) -> None:
    """Camelyon17's tiles have a hospital and no class: there is nothing to audit, but they can be packed."""
    pattern = r"domain_(?P<hospital>\d)_"
    fine(medi("pack", SHARED / "camelyon17", "--pattern", pattern, "--size", "64", "--workers", "1", "--out", "k"))
    packed = Cohort.load(Path("k"))
    assert packed.images[:].shape == (25, 64, 64, 3)
    assert packed.schema.attribute("hospital").levels == ("0", "1", "2", "3", "4")
    refused(medi("audit", "k"), "no row has a known class")
