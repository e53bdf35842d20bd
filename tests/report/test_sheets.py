"""Sheets of real and synthetic patches, a PNG per level that both have; names become safe file names (P11)."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.report.sheets import write_sheets


def cohort(levels: list[str], colour: int) -> Cohort:
    table = pd.DataFrame([(c, level) for level in levels for c in "aab"], columns=["class", "site"])
    table = table.assign(sample_id=[f"s{i}" for i in range(len(table))], patient="", slide="")
    pixels = np.full((len(table), 8, 8, 3), colour, dtype=np.uint8)
    pixels[(table["class"] == "b").to_numpy()] += 50
    return Cohort(table, Schema.infer(table, ["site"]), Pixels.of(pixels))


def test_real_left_synthetic_right_classes_in_turn(tmp_path: Path) -> None:
    real, made = cohort(["../x", "y", "z"], 10), cohort(["../x", "y", "w"], 20)
    paths = write_sheets(real, made, "site", tmp_path)
    assert [path.parent for path in paths] == [tmp_path] * 2
    assert paths[1].name == "y.png"
    assert {path.suffix for path in tmp_path.iterdir()} == {".png"}
    sheet = np.asarray(Image.open(paths[1]))
    assert sheet.shape == (8 * 8 * 2, (2 * 12 * 8 + 12) * 2, 3)
    row = sheet[0, ::16, 0]
    assert row[:4].tolist() == [10, 60, 10, 255]
    right = sheet[0, (12 * 8 + 12) * 2 :: 16, 0]
    assert right[:4].tolist() == [20, 70, 20, 255]


def test_a_sheet_shows_every_slide_before_one_twice(tmp_path: Path) -> None:
    table = pd.DataFrame({"class": "a", "site": "y", "patient": "", "slide": ["s", "s", "s", "t", "u", "t"]})
    table = table.assign(sample_id=[f"s{i}" for i in range(6)])
    pixels = np.stack([np.full((8, 8, 3), 10 * i, dtype=np.uint8) for i in range(6)])
    real = Cohort(table, Schema.infer(table, ["site"]), Pixels.of(pixels))
    (path,) = write_sheets(real, cohort(["y"], 20), "site", tmp_path)
    assert np.asarray(Image.open(path))[0, ::16, 0][:7].tolist() == [0, 30, 40, 10, 50, 20, 255]
